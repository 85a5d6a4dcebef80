//! API keys: made by `lockgate keys api new`, kept as keyed hashes. Pure: the text of the file is given.
//!
//! A key is `PREFIX.SECRET`: the prefix finds it, the secret has 256 random bits and stands nowhere else. So a fast hash
//! is enough, and its key, which is the file's own, makes the hashes of two files incomparable.

mod table;
#[cfg(test)]
mod tests;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::fill;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub(crate) use self::table::{BadTable, Table};

/// Bytes of a secret, and of the key of the hashes.
const SECRET_BYTES: usize = 32;

/// Random bytes of a prefix, enough for prefixes that nobody has to compare.
const PREFIX_BYTES: usize = 9;

/// The beginning of every key, by which scanners for leaked secrets know it.
pub(crate) const BRAND: &str = "lk_";

/// Longest key that is looked at. A key has 58 characters.
const MAX_KEY: usize = 128;

/// The names of the values that handlers learn of a key: its id, its name and its plan. They are the gateway's own.
pub(crate) const OWN_VALUES: [&str; 3] = ["api_key_id", "api_key_name", "usage_plan"];

/// Whether a value of this name says what the gateway knows of a key.
pub(crate) fn is_own_value(name: &str) -> bool {
    OWN_VALUES.contains(&name)
}

/// A new key. It is shown once.
pub(crate) struct NewKey {
    pub(crate) prefix: String,
    /// Prefix and secret: what a client presents.
    pub(crate) text: String,
}

/// One key of a table, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) prefix: String,
    /// The principal of its connections.
    pub(crate) name: String,
    /// The usage plan; none takes the authorizer's.
    pub(crate) plan: Option<String>,
    /// The day it was made, as in `2026-11-26`.
    pub(crate) made: String,
    /// The HMAC-SHA-256 of the whole key.
    hash: [u8; 32],
}

impl NewKey {
    /// Makes a key. Fails if the system gives no random bytes.
    pub(crate) fn generate() -> Result<Self, BadTable> {
        let mut prefix = [0; PREFIX_BYTES];
        let mut secret = [0; SECRET_BYTES];
        fill(&mut prefix).map_err(|_| BadTable::NoRandom)?;
        fill(&mut secret).map_err(|_| BadTable::NoRandom)?;
        let prefix = format!("{BRAND}{}", URL_SAFE_NO_PAD.encode(prefix));
        Ok(Self {
            text: format!("{prefix}.{}", URL_SAFE_NO_PAD.encode(secret)),
            prefix,
        })
    }
}

impl Table {
    /// The record of a key that a client presents; none if there is no such key. The time that this takes tells nothing
    /// about the secrets: hashes are compared in constant time.
    pub(crate) fn find(&self, presented: &str) -> Option<&Record> {
        if presented.len() > MAX_KEY {
            return None;
        }
        let (prefix, _) = presented.split_once('.')?;
        let record = self.get(prefix);
        let hash = record.map_or(&[0; 32], |record| &record.hash);
        let is_right = hmac::verify(self.key(), presented.as_bytes(), hash).is_ok();
        record.filter(|_| is_right)
    }
}
