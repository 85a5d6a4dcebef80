//! The file of API keys. Only its owner may read it.

use std::io;
use std::path::Path;

use crate::auth::api_keys::{BadTable, Table};
use crate::net::{Exposed, Secrecy, watch, write_private};

/// Longest file in bytes: the most keys, with long names.
const LONGEST: u64 = 8 << 20;

/// The reason why a file of API keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadFile {
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    #[error(transparent)]
    Exposed(#[from] Exposed),
    #[error("it is not text")]
    NoText,
    #[error("{0}")]
    Bad(BadTable),
}

impl BadFile {
    pub(crate) fn remedy(&self, file: &Path) -> String {
        match self {
            Self::Unreadable(error) => watch::remedy(
                error,
                "make it with `lockgate keys api new NAME --file FILE`, or correct the path",
            )
            .to_owned(),
            Self::Exposed(exposed) => format!(
                "{}; if others have read it, make new keys",
                exposed.remedy(file)
            ),
            Self::NoText | Self::Bad(_) => {
                "correct that, restore the file, or name one that `lockgate keys api new` made"
                    .to_owned()
            }
        }
    }

    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Unreadable(error) if watch::is_passing(error))
    }
}

/// Reads the keys of a file.
pub(crate) fn read_api_keys(file: &Path) -> Result<Table, BadFile> {
    let (bytes, stamp) = watch::read(file, LONGEST).map_err(BadFile::Unreadable)?;
    Secrecy::Owner.check(stamp.mode())?;
    let text = str::from_utf8(&bytes).map_err(|_| BadFile::NoText)?;
    Table::parse(text).map_err(BadFile::Bad)
}

/// Writes the keys, whole or not at all.
pub(crate) fn write_api_keys(file: &Path, table: &Table) -> io::Result<()> {
    write_private(file, table.to_text().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_over_its_bound_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("keys.toml");
        let mut text = Table::empty().to_text();
        let longest = usize::try_from(LONGEST).expect("it fits");
        text.push_str(&"#".repeat(longest - text.len()));
        write_private(&file, text.as_bytes()).expect("it can be written");
        assert!(read_api_keys(&file).is_ok());
        text.push('#');
        write_private(&file, text.as_bytes()).expect("it can be written");
        let error = read_api_keys(&file).expect_err("it is too long");
        assert!(error.to_string().contains("longer than 8 MiB"), "{error}");
    }
}
