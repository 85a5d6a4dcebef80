//! A ticket: `NAME.PLAN.EXPIRES.SIGNATURE`. It expires at a time in seconds since 1970; the signature is the HMAC-SHA-256 of all before
//! it, in hexadecimal. The name may have dots. Any language makes one, and so does a shell:
//!
//! ```console
//! $ ticket=ada.gold.$(date -d '+5 minutes' +%s)
//! $ echo "$ticket.$(printf %s "$ticket" | openssl dgst -sha256 -hmac "$TICKET_SECRET" -r | cut -d ' ' -f 1)"
//! ```

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

#[derive(Debug, PartialEq, Eq)]
pub struct Ticket<'a> {
    pub name: &'a str,
    pub plan: &'a str,
    /// Seconds since 1970.
    pub expires_s: u64,
}

impl<'a> Ticket<'a> {
    /// Reads a ticket that was signed with this secret. None for any other text.
    pub fn read(text: &'a str, secret: &[u8]) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        mac.update(signed.as_bytes());
        // In constant time: the time of an answer tells nothing of the right signature.
        mac.verify_slice(&from_hex(signature)?).ok()?;
        let (rest, expires) = signed.rsplit_once('.')?;
        let (name, plan) = rest.rsplit_once('.')?;
        Some(Self {
            name,
            plan,
            expires_s: expires.parse().ok()?,
        })
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<_>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks();
    let bytes = pairs
        .iter()
        .map(|[high, low]| u8::try_from(high << 4 | low).ok());
    if rest.is_empty() {
        bytes.collect()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"for development only";
    const TICKET: &str =
        "ada.gold.1767225660.7f75f0703c22b4e10892f25783d02c2cf45374debc69dc7fecc1ca645377fbee";

    #[test]
    fn ticket_that_openssl_signed_is_read() {
        let ticket = Ticket {
            name: "ada",
            plan: "gold",
            expires_s: 1_767_225_660,
        };
        assert_eq!(Ticket::read(TICKET, SECRET), Some(ticket));
    }

    #[test]
    fn any_other_text_is_no_ticket() {
        assert_eq!(Ticket::read(TICKET, b"another secret"), None);
        for place in 0..TICKET.len() {
            let mut bytes = TICKET.as_bytes().to_vec();
            bytes[place] ^= 1;
            let text = String::from_utf8(bytes).unwrap();
            assert_eq!(Ticket::read(&text, SECRET), None, "{text}");
            assert_eq!(Ticket::read(&TICKET[..place], SECRET), None);
        }
        for text in ["", ".", "...", "ada", "ada.gold.1767225660.", "é.é.é.é"] {
            assert_eq!(Ticket::read(text, SECRET), None, "{text}");
        }
    }
}
