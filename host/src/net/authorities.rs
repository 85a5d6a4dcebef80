//! The certificates of the authorities by which a server is judged that the gateway connects to.

use std::path::Path;

use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::tls;
use super::watch::{self, Stamp};

/// Bytes of the file.
const MAX_BYTES: u64 = 1 << 20;

/// The authorities of a file, PEM; at least one.
pub(crate) struct Authorities {
    config: ClientConfig,
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
        let unusable = |what: String| NoAuthorities {
            message: format!("{} {what}", file.display()),
            remedy: otherwise,
            is_passing: false,
        };
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let certificates = read.unwrap_or_default();
        if certificates.is_empty() {
            return Err(unusable("holds no certificate".to_owned()));
        }
        let config = tls::trusting(certificates);
        let unfit = |error| unusable(format!("holds a certificate that cannot be used: {error}"));
        Ok(Self {
            config: config.map_err(unfit)?,
            stamp,
        })
    }

    /// TLS with servers of these authorities, which are asked for these protocols, in the terms of ALPN.
    pub(crate) fn tls(&self, protocols: &[&str]) -> ClientConfig {
        let mut config = self.config.clone();
        let protocols = protocols.iter();
        config.alpn_protocols = protocols.map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use lockgate_tests::Certificate as Issued;

    use super::*;

    #[test]
    fn file_over_its_bound_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("ca.pem");
        let longest = usize::try_from(MAX_BYTES).expect("it fits");
        let mut text = Issued::new().certificate_pem;
        text.push_str(&" ".repeat(longest - text.len()));
        fs::write(&file, &text).expect("it can be written");
        assert!(Authorities::read(&file).is_ok());
        text.push(' ');
        fs::write(&file, &text).expect("it can be written");
        let unread = Authorities::read(&file).err().expect("it is too long");
        assert!(
            unread.message.contains("longer than 1 MiB"),
            "{}",
            unread.message
        );
        assert!(!unread.is_passing);
    }
}
