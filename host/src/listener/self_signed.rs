//! Certificates that no authority has signed, for development: made at start, and short-lived, as browsers want them of
//! pages that know them by their digests.

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use time::{Duration, OffsetDateTime};

use super::certificate::Certificate;

/// Time until it expires, and the part of its life that lies before it was made: clocks differ. A browser takes the digest
/// of a certificate that lives for 14 days at most (W3C WebTransport, custom certificate requirements).
const LIFE: Duration = Duration::days(13);
const BEFORE: Duration = Duration::hours(12);

impl Certificate {
    /// Makes a certificate for this machine's loopback names, which no client trusts by itself.
    pub(crate) fn self_signed() -> Result<Self> {
        Self::self_signed_at(OffsetDateTime::now_utc()).context("self-signed certificate")
    }

    fn self_signed_at(now: OffsetDateTime) -> Result<Self> {
        let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let mut params = CertificateParams::new(names)?;
        params.not_before = now - BEFORE;
        params.not_after = now + LIFE;
        // ECDSA on P-256: browsers take no digest of a certificate with an RSA key.
        let key = KeyPair::generate()?;
        let made = params.self_signed(&key)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        Self::made(made.der().clone(), &key)
    }

    /// Whether it was made at start and has lived for half of its time: another takes its place then.
    pub(crate) fn is_half_over(&self, now: i64) -> bool {
        let left = self.not_after.saturating_sub(now);
        self.files.is_none() && left < self.not_after.saturating_sub(self.not_before) / 2
    }

    /// The SHA-256 digest by which a page knows a certificate that was made at start; none of another one.
    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        let der = self.certified.cert.first()?;
        self.files.is_none().then(|| sha256(der))
    }

    /// The SHA-256 digest of its public key, with the key's kind.
    pub(crate) fn key_digest(&self) -> Option<[u8; 32]> {
        Some(sha256(&self.certified.key.public_key()?))
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest(&SHA256, bytes);
    digest.as_ref().try_into().expect("it has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_certificate_is_for_this_machine_and_one_that_pages_may_know_by_its_digest() {
        let now = OffsetDateTime::now_utc();
        let certificate = Certificate::self_signed_at(now).expect("it can be made");
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(certificate.covers(host), "{host}");
        }
        let (from, to) = (certificate.not_before, certificate.not_after);
        assert!(from < now.unix_timestamp() && to - from <= 14 * 86_400);
        assert!(certificate.digest().is_some());
        for (days, is_half_over) in [(0, false), (6, false), (7, true), (30, true)] {
            let then = now.unix_timestamp() + days * 86_400;
            assert_eq!(certificate.is_half_over(then), is_half_over, "{days}");
        }
    }
}
