//! The certificates of the authorities by which a server is judged that the gateway connects to.

use std::path::Path;

use reqwest::Certificate;

use super::watch::{self, Stamp};

/// Bytes of the file.
const MAX_BYTES: u64 = 1 << 20;

/// The certificates of a file, PEM; at least one.
pub(crate) struct Authorities {
    pub(crate) certificates: Vec<Certificate>,
    /// The file as it was read.
    pub(crate) stamp: Stamp,
}

/// The reason why there are none.
pub(crate) struct NoAuthorities {
    pub(crate) message: String,
    pub(crate) remedy: &'static str,
    /// The system failed, and may not the next time.
    pub(crate) is_passing: bool,
}

impl Authorities {
    pub(crate) fn read(file: &Path) -> Result<Self, NoAuthorities> {
        let otherwise = "name a PEM file with the authority's certificates";
        let (bytes, stamp) = watch::read(file, MAX_BYTES).map_err(|error| NoAuthorities {
            message: format!("{} cannot be read: {error}", file.display()),
            remedy: watch::remedy(&error, otherwise),
            is_passing: watch::is_passing(&error),
        })?;
        match Certificate::from_pem_bundle(&bytes) {
            Ok(certificates) if !certificates.is_empty() => Ok(Self {
                certificates,
                stamp,
            }),
            Ok(_) | Err(_) => Err(NoAuthorities {
                message: format!("{} holds no certificate", file.display()),
                remedy: otherwise,
                is_passing: false,
            }),
        }
    }
}
