//! The file of API keys: TOML, written by the commands alone.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand::fill;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::{NewKey, Record, SECRET_BYTES};

/// Limit of keys in a file.
pub(crate) const MAX_KEYS: usize = 20_000;

/// The first lines of the file.
const HEAD: &str = "\
# API keys of Lockgate: `lockgate keys api new` adds to it, `list` shows it, `revoke` takes from it.
# It has hashes of the keys, and the secret of these hashes. Only the gateway's user may read it.
";

/// The reason why a file holds no API keys, or takes no other one. It holds nothing of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadTable {
    /// What is wrong, and in which line if that is known.
    #[error("it is no file of API keys{}: {what}", line.map(|line| format!(", by line {line}")).unwrap_or_default())]
    Malformed {
        line: Option<usize>,
        what: &'static str,
    },
    #[error("its key {0} is damaged")]
    Damaged(String),
    #[error("it has more than {MAX_KEYS} keys")]
    TooMany,
    #[error("a key is called {0:?} already")]
    SameName(String),
    #[error("no key is called {0:?}, and none has that prefix")]
    Unknown(String),
    #[error("the system gives no random bytes")]
    NoRandom,
}

/// The keys of a file, by prefix.
#[derive(Clone)]
pub(crate) struct Table {
    /// The key of the hashes.
    secret: [u8; SECRET_BYTES],
    key: hmac::Key,
    records: BTreeMap<String, Record>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WrittenTable {
    secret: String,
    #[serde(default)]
    keys: BTreeMap<String, WrittenRecord>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WrittenRecord {
    name: String,
    plan: Option<String>,
    made: String,
    hash: String,
}

impl Table {
    /// A table without keys, with a secret of its own. Fails if the system gives no random bytes.
    pub(crate) fn new() -> Result<Self, BadTable> {
        let mut secret = [0; SECRET_BYTES];
        fill(&mut secret).map_err(|_| BadTable::NoRandom)?;
        Ok(Self::with(secret, BTreeMap::new()))
    }

    /// A table without keys that gets none.
    pub(crate) fn empty() -> Self {
        Self::with([0; SECRET_BYTES], BTreeMap::new())
    }

    fn with(secret: [u8; SECRET_BYTES], records: BTreeMap<String, Record>) -> Self {
        Self {
            key: hmac::Key::new(HMAC_SHA256, &secret),
            secret,
            records,
        }
    }

    /// Reads the text of a file.
    pub(crate) fn parse(text: &str) -> Result<Self, BadTable> {
        let written: WrittenTable =
            toml::from_str(text).map_err(|error| malformed(text, &error))?;
        if written.keys.len() > MAX_KEYS {
            return Err(BadTable::TooMany);
        }
        let secret = decode(&written.secret).ok_or(BadTable::Malformed {
            line: None,
            what: "its secret is damaged",
        })?;
        let records = written.keys.into_iter().map(|(prefix, written)| {
            let hash = decode(&written.hash);
            let record = Record {
                prefix: prefix.clone(),
                name: written.name,
                plan: written.plan,
                made: written.made,
                hash: hash.ok_or_else(|| BadTable::Damaged(prefix.clone()))?,
            };
            Ok::<_, BadTable>((prefix, record))
        });
        Ok(Self::with(secret, records.collect::<Result<_, _>>()?))
    }

    /// The text of the file.
    pub(crate) fn to_text(&self) -> String {
        let keys = self.records.values().map(|record| {
            let written = WrittenRecord {
                name: record.name.clone(),
                plan: record.plan.clone(),
                made: record.made.clone(),
                hash: URL_SAFE_NO_PAD.encode(record.hash),
            };
            (record.prefix.clone(), written)
        });
        let written = WrittenTable {
            secret: URL_SAFE_NO_PAD.encode(self.secret),
            keys: keys.collect(),
        };
        let table = toml::to_string(&written).expect("texts and tables are TOML");
        format!("{HEAD}{table}")
    }

    /// Adds a key under a name that no other has.
    pub(crate) fn add(
        &mut self,
        key: &NewKey,
        name: &str,
        plan: Option<&str>,
        made: &str,
    ) -> Result<(), BadTable> {
        if self.records.values().any(|record| record.name == name) {
            return Err(BadTable::SameName(name.to_owned()));
        }
        if self.records.len() >= MAX_KEYS {
            return Err(BadTable::TooMany);
        }
        let hash = hmac::sign(&self.key, key.text.as_bytes());
        let record = Record {
            prefix: key.prefix.clone(),
            name: name.to_owned(),
            plan: plan.map(str::to_owned),
            made: made.to_owned(),
            hash: hash.as_ref().try_into().expect("a SHA-256 has 32 bytes"),
        };
        self.records.insert(key.prefix.clone(), record);
        Ok(())
    }

    /// Removes the key of this name or prefix, and gives it.
    pub(crate) fn remove(&mut self, wanted: &str) -> Result<Record, BadTable> {
        let mut records = self.records.values();
        let found = records.find(|record| record.name == wanted || record.prefix == wanted);
        let prefix = found.map(|record| record.prefix.clone());
        let removed = prefix.and_then(|prefix| self.records.remove(&prefix));
        removed.ok_or_else(|| BadTable::Unknown(wanted.to_owned()))
    }

    pub(super) fn get(&self, prefix: &str) -> Option<&Record> {
        self.records.get(prefix)
    }

    pub(super) fn key(&self) -> &hmac::Key {
        &self.key
    }

    /// All keys, by prefix.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }
}

/// What is wrong with a text. The parser's own words may hold something of it.
fn malformed(text: &str, error: &toml::de::Error) -> BadTable {
    let before = error.span().and_then(|span| text.get(..span.start));
    let message = error.message();
    let what = match () {
        () if message.starts_with("duplicate key") => "a key or a field stands there twice",
        () if message.starts_with("missing field") => {
            "a field is missing; it has secret, and each key name, made and hash"
        }
        () if message.starts_with("unknown field") => {
            "a field is unknown; it has secret, and each key name, plan, made and hash"
        }
        () if message.starts_with("invalid type") => "a value is of another type",
        () => "that is no TOML",
    };
    BadTable::Malformed {
        line: before.map(|before| before.matches('\n').count() + 1),
        what,
    }
}

fn decode(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// Shows the number of keys alone.
impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table of {} keys", self.records.len())
    }
}
