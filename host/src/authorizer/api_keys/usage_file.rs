//! The file with the use of API keys.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::auth::Unsaved;
use crate::net::{followed, watch, write_private};

/// Longest file in bytes; an entry has some 60.
const LONGEST: u64 = 8 << 20;

/// The use of a period.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Saved {
    /// The first day of the period, counted from 1970-01-01.
    pub(super) begins: i64,
    pub(super) used: u64,
}

pub(super) type SavedByPrefix = HashMap<String, Saved>;

/// The reason why the use in a file is not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadUsage {
    /// Nothing is wrong with what it holds, as far as is known.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("it is empty")]
    Empty,
    #[error("it is broken: {0}")]
    Broken(io::Error),
}

impl BadUsage {
    pub(super) fn remedy(&self, file: &Path) -> String {
        match self {
            Self::Unreadable(error) => {
                watch::remedy(error, "let the gateway's user read it").to_owned()
            }
            Self::Empty | Self::Broken(_) => format!(
                "stop the gateway, and put {} from a backup in its place; without one, the quotas of this period begin anew",
                file.display()
            ),
        }
    }
}

/// Reads the use in a file; none if there is no file.
pub(super) fn read(file: &Path) -> Result<Option<SavedByPrefix>, BadUsage> {
    match watch::read(file, LONGEST) {
        Ok((bytes, _)) if bytes.is_empty() => Err(BadUsage::Empty),
        Ok((bytes, _)) => {
            let saved = serde_json::from_slice(&bytes);
            saved.map_err(|error| BadUsage::Broken(error.into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if watch::is_passing(&error) => Err(BadUsage::Unreadable(error)),
        Err(error) => Err(BadUsage::Broken(error)),
    }
}

/// As [`read`], under the file's lock. A broken file is set aside, in the place of one that was before, with a warning.
pub(super) fn read_or_set_aside(file: &Path) -> io::Result<Option<SavedByPrefix>> {
    let bad = match read(file) {
        Ok(saved) => return Ok(saved),
        Err(BadUsage::Unreadable(error)) => return Err(error),
        Err(bad @ (BadUsage::Empty | BadUsage::Broken(_))) => bad,
    };
    let file = &followed(file)?;
    let mut aside = file.as_os_str().to_owned();
    aside.push(".broken");
    let aside = PathBuf::from(aside);
    fs::rename(file, &aside)?;
    let (remedy, aside) = (bad.remedy(file), aside.display());
    tracing::warn!(
        file = %file.display(), set_aside = %aside,
        "the use of API keys is lost, as far as this process does not know it: {bad}\n  remedy: {remedy}"
    );
    Ok(None)
}

/// Writes the use, whole or not at all.
pub(super) fn write(file: &Path, saved: &SavedByPrefix) -> io::Result<()> {
    write_private(file, serde_json::to_string(saved)?.as_bytes())
}

impl From<&Saved> for Unsaved {
    fn from(saved: &Saved) -> Self {
        Self {
            begins: saved.begins,
            used: saved.used,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_over_its_bound_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("keys.toml.usage");
        let longest = usize::try_from(LONGEST).expect("it fits");
        let mut text = format!("{{}}{}", " ".repeat(longest - 2));
        fs::write(&file, &text).expect("it can be written");
        assert!(read(&file).is_ok_and(|saved| saved.is_some()));
        text.push(' ');
        fs::write(&file, &text).expect("it can be written");
        let error = read(&file).expect_err("it is too long");
        assert!(error.to_string().contains("longer than 8 MiB"), "{error}");
    }
}
