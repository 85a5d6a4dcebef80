//! A secret that signs, and the key that is derived of it for a day, a region and a service.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};

use super::TERMINATOR;

/// The secret of an access key. Keeps the derived key of the last scope that verified: clients of one backend share it.
pub(crate) struct SigningKey {
    secret: Box<str>,
    last: Mutex<Option<Derived>>,
}

#[derive(Clone)]
struct Derived {
    date: Box<str>,
    region: Box<str>,
    key: Arc<Key>,
}

impl SigningKey {
    pub(crate) fn new(secret: &str) -> Self {
        Self {
            secret: secret.into(),
            last: Mutex::new(None),
        }
    }

    /// Whether this secret has signed a message, under a scope of date, region and service. Takes the same time wherever
    /// the tag differs.
    pub(super) fn has_signed(
        &self,
        (date, region, service): (&str, &str, &str),
        message: &[u8],
        tag: &[u8],
    ) -> bool {
        let last = self
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let kept = last.filter(|last| *last.date == *date && *last.region == *region);
        if let Some(kept) = kept {
            return hmac::verify(&kept.key, message, tag).is_ok();
        }
        let key = self.derive(date, region, service);
        let has_signed = hmac::verify(&key, message, tag).is_ok();
        // Only then: a stranger who knows the id must not replace the key that is in use.
        if has_signed {
            let derived = Derived {
                date: date.into(),
                region: region.into(),
                key: Arc::new(key),
            };
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(derived);
        }
        has_signed
    }

    fn derive(&self, date: &str, region: &str, service: &str) -> Key {
        let first = Key::new(HMAC_SHA256, format!("AWS4{}", self.secret).as_bytes());
        [date, region, service, TERMINATOR]
            .iter()
            .fold(first, |key, part| {
                Key::new(HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
            })
    }
}

/// Shows nothing of the secret.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
