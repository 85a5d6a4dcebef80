//! `lockgate keys`, `sign` and `verify`: the signatures of components.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};

use crate::config;
use crate::net::write_whole;
use crate::plugin;
use crate::signature::{self, PrivateKey, PublicKey, Signature, Trust};

#[derive(Debug, clap::Args)]
pub(super) struct SignOptions {
    /// The component file
    file: PathBuf,
    /// The private key in PEM; `lockgate keys new` makes one
    #[arg(long, value_name = "KEY.pem")]
    key: PathBuf,
    /// The version of the component; `min_version` in the configuration refuses lower ones
    #[arg(long, value_name = "N", default_value_t = 1)]
    version: u32,
}

#[derive(Debug, clap::Args)]
pub(super) struct VerifyOptions {
    /// The component file
    file: PathBuf,
    /// A public key in PEM that counts; may be repeated
    #[arg(long = "key", value_name = "PUB.pem", required = true)]
    keys: Vec<PathBuf>,
    /// The lowest version that counts
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_version: u32,
}

/// Makes a key pair. An existing file is never overwritten.
pub(super) fn new_key(file: &Path) -> Result<()> {
    let private = if file.is_dir() {
        file.join("lockgate.pem")
    } else {
        file.to_owned()
    };
    let public = private.with_extension("pub.pem");
    let key = PrivateKey::generate()?;
    write_new(&private, 0o600, &key.to_pem()?)?;
    let public_half = key.public()?;
    if let Err(error) = write_new(&public, 0o644, &public_half.to_pem()) {
        // The private half is useless alone.
        let _ = fs::remove_file(&private);
        return Err(error);
    }
    super::print(&format!(
        "{}  sign with it, and keep it to yourself\n{}  name it in plugins.NAME.signature.keys\n{}",
        private.display(),
        public.display(),
        public_half.id()
    ))
}

/// Writes FILE.sig, whole or not at all.
pub(super) fn sign(options: &SignOptions) -> Result<()> {
    let key = PrivateKey::read(&options.key)?;
    let component = plugin::read(&options.file)?;
    let signature = Signature::new(&component, options.version, &key)?;
    let path = config::signature_beside(&options.file);
    write_whole(&path, signature.to_text().as_bytes())
        .with_context(|| format!("{} cannot be written", path.display()))?;
    super::print(&format!(
        "{}: {} as version {}",
        path.display(),
        signature.digest,
        signature.version
    ))
}

/// Checks the component's signature; an invalid one is an error.
pub(super) fn verify(options: &VerifyOptions) -> Result<()> {
    let keys = options.keys.iter().map(|path| PublicKey::read(path));
    let trust = Trust {
        keys: keys.collect::<Result<_>>()?,
        min_version: options.min_version,
        max_age: None,
    };
    let component = plugin::read(&options.file)?;
    let signature = signature::read(&config::signature_beside(&options.file))
        .and_then(|file| trust.check(&component, &file))
        .with_context(|| options.file.display().to_string())?;
    super::print(&format!(
        "{}: signed at {} as version {} with the key {}",
        options.file.display(),
        signature.signed_at,
        signature.version,
        signature.key
    ))
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| {
            let remedy = if error.kind() == ErrorKind::AlreadyExists {
                "; a key is never overwritten: name another file, or remove this one first"
            } else if error.kind() == ErrorKind::NotFound {
                "; make its folder first"
            } else {
                ""
            };
            anyhow!("{} cannot be written: {error}{remedy}", path.display())
        })
}
