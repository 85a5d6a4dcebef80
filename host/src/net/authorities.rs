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
        assert_eq!(
            Authorities::read(&file)
                .map(|read| read.certificates.len())
                .ok(),
            Some(1)
        );
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
