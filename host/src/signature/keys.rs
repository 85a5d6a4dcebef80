//! Ed25519 keys and the PEM files that hold them, as `openssl genpkey -algorithm ed25519` writes them too.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

use super::{MAX_FILE, digest_of};
use crate::net::watch;

/// A private key. Never shown.
pub(crate) struct PrivateKey(Ed25519KeyPair);

/// A public key, which verifies the signatures of its private key.
#[derive(Debug)]
pub(crate) struct PublicKey {
    id: String,
    info: Vec<u8>,
    key: ParsedPublicKey,
}

impl PrivateKey {
    pub(crate) fn generate() -> Result<Self> {
        Ok(Self(Ed25519KeyPair::generate()?))
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let pem = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let pem = one_section(path, &pem)?;
        let Ok(der) = PrivatePkcs8KeyDer::from_pem_slice(pem) else {
            bail!(
                "{} holds no private key in PEM (PKCS#8); `lockgate keys new FILE` makes one",
                path.display()
            );
        };
        match Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der()) {
            Ok(key) => Ok(Self(key)),
            Err(error) => bail!(
                "{} holds no ed25519 key ({error}); `lockgate keys new FILE` makes one",
                path.display()
            ),
        }
    }

    /// The key as PEM (PKCS#8).
    pub(crate) fn to_pem(&self) -> Result<String> {
        Ok(pem("PRIVATE KEY", self.0.to_pkcs8v1()?.as_ref()))
    }

    pub(crate) fn public(&self) -> Result<PublicKey> {
        PublicKey::from_info(self.0.public_key().as_der()?.as_ref())
    }

    pub(super) fn sign(&self, statement: &[u8]) -> Result<Vec<u8>> {
        Ok(self.0.try_sign(statement)?.as_ref().to_vec())
    }
}

impl PublicKey {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let (pem, _) = watch::read(path, MAX_FILE)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let pem = one_section(path, &pem)?;
        let Ok(info) = SubjectPublicKeyInfoDer::from_pem_slice(pem) else {
            let private = PrivatePkcs8KeyDer::from_pem_slice(pem).is_ok();
            let instead = if private { ", but a private one" } else { "" };
            bail!("{} holds no public key in PEM{instead}", path.display());
        };
        Self::from_info(&info).with_context(|| format!("{} holds no ed25519 key", path.display()))
    }

    fn from_info(info: &[u8]) -> Result<Self> {
        Ok(Self {
            id: digest_of(info),
            key: ParsedPublicKey::new(&ED25519, info)?,
            info: info.to_vec(),
        })
    }

    /// `sha256:` and the digest of the key's SubjectPublicKeyInfo.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The key as PEM (SubjectPublicKeyInfo).
    pub(crate) fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &self.info)
    }

    pub(super) fn verifies(&self, statement: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(statement, signature).is_ok()
    }
}

/// The text of a PEM file without its byte order mark. Fails on more than one section: a second key would be ignored
/// in silence.
fn one_section<'a>(path: &Path, pem: &'a [u8]) -> Result<&'a [u8]> {
    let file = path.display();
    if pem.starts_with(&[0xff, 0xfe]) || pem.starts_with(&[0xfe, 0xff]) {
        bail!(
            "{file} is written in UTF-16, and PEM is ASCII; convert it: `iconv -f UTF-16 -t UTF-8`"
        );
    }
    let pem = pem.strip_prefix(b"\xef\xbb\xbf").unwrap_or(pem);
    let text = String::from_utf8_lossy(pem);
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
        bail!(
            "{file} holds an encrypted key, and nobody is asked for its passphrase; decrypt it: \
             `openssl pkey -in {file} -out {file}.new`"
        );
    }
    let sections = text.matches("-----BEGIN ").count();
    if sections > 1 {
        bail!(
            "{file} holds {sections} keys or certificates, and is to hold one key; write each to a file of its own"
        );
    }
    Ok(pem)
}

/// A PEM section. Both kinds of keys have at most 48 bytes, and so one line.
fn pem(label: &str, der: &[u8]) -> String {
    let line = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{line}\n-----END {label}-----\n")
}
