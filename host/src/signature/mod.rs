//! Detached signatures of components: each names the key that answers for a component, and the version.
//!
//! The signature of `chat.wasm` is the text file `chat.wasm.sig`, written by `lockgate sign`:
//!
//! ```toml
//! # lockgate component signature 1
//! digest = "sha256:…"                       # of the component
//! version = 3
//! signed_at = "2026-11-24T21:05:00Z"
//! key = "sha256:…"                          # of the public key's SubjectPublicKeyInfo (DER)
//! signature = "…"                           # ed25519, base64
//! ```
//!
//! The signed statement is the text of the five lines before the last, newlines included. Its first line tells it
//! from everything else that a key may sign. A file has one spelling: a file that differs by a byte from the output
//! of `lockgate sign` is refused. Knows neither components nor the configuration.

mod keys;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::net::watch;
pub(crate) use keys::{PrivateKey, PublicKey};

/// Bytes of the longest signature or public key file that is read; real ones have about 330 and 120.
const MAX_FILE: u64 = 4_096;

/// The first line of a signature file, and of the statement.
const TITLE: &str = "# lockgate component signature 1";

/// A well-formed signature file; whether it is true is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    /// The digest of the component, as [`digest_of`] writes it.
    pub(crate) digest: String,
    pub(crate) version: u32,
    /// RFC 3339, UTC.
    pub(crate) signed_at: String,
    /// The [`PublicKey::id`] of the key that made it.
    pub(crate) key: String,
    signature: Vec<u8>,
}

/// The trust of a configuration: the keys whose signatures count, and their bounds.
pub(crate) struct Trust {
    pub(crate) keys: Vec<PublicKey>,
    /// The oldest version that may run.
    pub(crate) min_version: u32,
    /// The time that a signature counts; none for ever.
    pub(crate) max_age: Option<Duration>,
}

/// The reason why a component is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untrusted {
    #[error("it is not signed: there is no file {}", .0.display())]
    Unsigned(PathBuf),
    #[error("it was loaded when no signature was asked for")]
    Unjudged,
    #[error("its signature {} cannot be read: {}", .0.display(), .1)]
    /// With the reason and the remedy.
    Unreadable(PathBuf, String, &'static str),
    #[error("its signature file is not as `lockgate sign` wrote it: {0}")]
    Malformed(String),
    #[error("it was signed with the key {0}, which is none of those that count")]
    UnknownKey(String),
    #[error(
        "its signature file was tampered with: the signature does not fit what stands above it"
    )]
    Forged,
    #[error("it is not the component that was signed: that one is {signed}, this one {found}")]
    OtherComponent { signed: String, found: String },
    #[error("it is version {version}, and the oldest that may run is {oldest}")]
    OldVersion { version: u32, oldest: u32 },
    #[error(
        "it was signed at {signed_at}, longer ago than signature.max_age_days allows, which is {days}"
    )]
    Expired { signed_at: String, days: u64 },
}

/// The SHA-256 of a component, or of other content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let digest = digest::digest(&SHA256, bytes);
        Self(digest.as_ref().try_into().expect("a SHA-256 has 32 bytes"))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// `sha256:` and the hexadecimal digits, the form used everywhere.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The digest of some bytes, as text.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// Reads a signature file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Untrusted> {
    let path = path.to_owned();
    match watch::read(&path, MAX_FILE) {
        Ok((bytes, _)) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Untrusted::Unsigned(path)),
        Err(error) => {
            let remedy = watch::remedy(&error, "copy the signature file there unchanged");
            Err(Untrusted::Unreadable(path, error.to_string(), remedy))
        }
    }
}

impl Trust {
    /// Checks a component against its signature file, and gives the signature.
    pub(crate) fn check(&self, component: &[u8], file: &[u8]) -> Result<Signature, Untrusted> {
        let signature = Signature::parse(file)?;
        let key = self.key_of(&signature)?;
        if !key.verifies(signature.statement().as_bytes(), &signature.signature) {
            return Err(Untrusted::Forged);
        }
        let found = digest_of(component);
        if found != signature.digest {
            return Err(Untrusted::OtherComponent {
                signed: signature.digest,
                found,
            });
        }
        self.admit(&signature)?;
        Ok(signature)
    }

    /// Checks whether a signature that was found true still counts, by its key, its version and its time.
    pub(crate) fn admit(&self, signature: &Signature) -> Result<(), Untrusted> {
        self.key_of(signature)?;
        if signature.version < self.min_version {
            return Err(Untrusted::OldVersion {
                version: signature.version,
                oldest: self.min_version,
            });
        }
        match self.max_age {
            Some(max_age) if signature.age()? > max_age => Err(Untrusted::Expired {
                signed_at: signature.signed_at.clone(),
                days: max_age.as_secs() / 86_400,
            }),
            Some(_) | None => Ok(()),
        }
    }

    fn key_of(&self, signature: &Signature) -> Result<&PublicKey, Untrusted> {
        let key = self.keys.iter().find(|key| key.id() == signature.key);
        key.ok_or_else(|| Untrusted::UnknownKey(signature.key.clone()))
    }
}

impl Signature {
    /// Signs a component as this version, now.
    pub(crate) fn new(component: &[u8], version: u32, key: &PrivateKey) -> anyhow::Result<Self> {
        let now = OffsetDateTime::now_utc().replace_nanosecond(0)?;
        Self::signed_at(component, version, key, now)
    }

    fn signed_at(
        component: &[u8],
        version: u32,
        key: &PrivateKey,
        at: OffsetDateTime,
    ) -> anyhow::Result<Self> {
        let mut signature = Self {
            digest: digest_of(component),
            version,
            signed_at: at.format(&Rfc3339)?,
            key: key.public()?.id().to_owned(),
            signature: Vec::new(),
        };
        signature.signature = key.sign(signature.statement().as_bytes())?;
        Ok(signature)
    }

    /// Parses a signature file, and checks nothing but its form.
    pub(crate) fn parse(file: &[u8]) -> Result<Self, Untrusted> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct SignatureFile {
            digest: String,
            version: u32,
            signed_at: String,
            key: String,
            signature: String,
        }
        let text = str::from_utf8(file).map_err(|error| Untrusted::Malformed(error.to_string()))?;
        let fields: SignatureFile = toml::from_str(text)
            .map_err(|error| Untrusted::Malformed(error.message().to_owned()))?;
        let signature = STANDARD
            .decode(fields.signature)
            .map_err(|error| Untrusted::Malformed(format!("signature: {error}")))?;
        let signature = Self {
            digest: fields.digest,
            version: fields.version,
            signed_at: fields.signed_at,
            key: fields.key,
            signature,
        };
        if signature.to_text() != text {
            return Err(Untrusted::Malformed("its text was changed".into()));
        }
        Ok(signature)
    }

    /// The text of the signature file.
    pub(crate) fn to_text(&self) -> String {
        let signature = STANDARD.encode(&self.signature);
        format!("{}signature = \"{signature}\"\n", self.statement())
    }

    /// The text that is signed.
    fn statement(&self) -> String {
        let Self {
            digest,
            version,
            signed_at,
            key,
            signature: _,
        } = self;
        format!(
            "{TITLE}\ndigest = {digest:?}\nversion = {version}\nsigned_at = {signed_at:?}\nkey = {key:?}\n"
        )
    }

    /// The age of the signature; zero, if its clock was ahead of ours.
    fn age(&self) -> Result<Duration, Untrusted> {
        let at = OffsetDateTime::parse(&self.signed_at, &Rfc3339)
            .map_err(|error| Untrusted::Malformed(format!("signed_at: {error}")))?;
        Ok((OffsetDateTime::now_utc() - at)
            .try_into()
            .unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
