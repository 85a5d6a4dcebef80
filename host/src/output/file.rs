//! A file of lines that follows its path: whoever moves it away, by hand or by logrotate, gets a new one at the next
//! write. It renames itself at a size.
//!
//! Two processes may write to it, as in an upgrade: each appends, and finds by the path whether the other has renamed
//! the file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::config::LogFile;

/// Permissions of a new file: its lines name clients, which are nobody else's business.
const MODE: u32 = 0o640;

pub(super) struct RotatedFile {
    config: LogFile,
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    size: u64,
    /// Between lines: the file may be renamed.
    is_between_lines: bool,
}

impl RotatedFile {
    /// Opens the file to append, or makes it. Fails if something else is in its place.
    pub(super) fn open(config: &LogFile) -> Result<Self> {
        let shown = config.path.display();
        let (file, found) = open(config).with_context(|| shown.to_string())?;
        if !found.is_file() {
            bail!("{shown} is no file");
        }
        Ok(Self {
            config: config.clone(),
            file,
            identity: (found.dev(), found.ino()),
            size: found.len(),
            is_between_lines: true,
        })
    }

    /// Opens the file at the path anew, if that is another one by now, and renames a full one.
    fn follow(&mut self, more: u64) -> io::Result<()> {
        let now = fs::metadata(&self.config.path);
        let is_same = now.is_ok_and(|now| (now.dev(), now.ino()) == self.identity);
        let full = |limit: u64| self.size > 0 && self.size + more > limit;
        if is_same {
            if !self.config.rotate_at.is_some_and(full) {
                return Ok(());
            }
            self.rename()?;
        }
        let (file, found) = open(&self.config)?;
        if found.is_file() {
            self.identity = (found.dev(), found.ino());
            (self.file, self.size) = (file, found.len());
        }
        Ok(())
    }

    fn rename(&self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut path = self.config.path.clone().into_os_string();
            path.push(format!(".{number}"));
            PathBuf::from(path)
        };
        for number in (1..self.config.keep).rev() {
            // There may be fewer yet.
            let _ = fs::rename(numbered(number), numbered(number + 1));
        }
        fs::rename(&self.config.path, numbered(1))
    }
}

/// Opens the file to append. A FIFO without a reader is an error, and nobody waits for one.
fn open(config: &LogFile) -> io::Result<(File, fs::Metadata)> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .custom_flags(nonblocking)
        .open(&config.path)?;
    let found = file.metadata()?;
    Ok((file, found))
}

impl Write for RotatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_between_lines {
            // What cannot be renamed or made anew, as on a full disk, goes on as it is.
            let _ = self.follow(bytes.len() as u64);
        }
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        let gone = bytes.get(..written).unwrap_or_default();
        self.is_between_lines = gone.ends_with(b"\n");
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn file(folder: &TempDir, rotate_at: Option<u64>) -> RotatedFile {
        let path = folder.path().join("access.log");
        RotatedFile::open(&LogFile {
            path,
            rotate_at,
            keep: 2,
        })
        .unwrap()
    }

    fn read(folder: &TempDir, name: &str) -> Option<String> {
        fs::read_to_string(folder.path().join(name)).ok()
    }

    #[test]
    fn full_file_is_renamed_and_the_oldest_is_dropped() {
        let folder = TempDir::new().unwrap();
        let mut file = file(&folder, Some(10));
        for line in [
            "one one\n",
            "two two\n",
            "3\n",
            "four four\n",
            "five five\n",
        ] {
            assert_eq!(file.write(line.as_bytes()).unwrap(), line.len());
        }
        let content = ["access.log", "access.log.1", "access.log.2", "access.log.3"];
        assert_eq!(
            content.map(|name| read(&folder, name)),
            [
                Some("five five\n".into()),
                Some("four four\n".into()),
                Some("two two\n3\n".into()),
                None
            ]
        );
    }

    #[test]
    fn moved_file_is_made_anew_and_a_line_is_never_split() {
        let folder = TempDir::new().unwrap();
        let mut file = file(&folder, None);
        file.write_all(b"one\ntw").unwrap();
        fs::rename(folder.path().join("access.log"), folder.path().join("old")).unwrap();
        file.write_all(b"o\n").unwrap();
        file.write_all(b"three\n").unwrap();
        assert_eq!(read(&folder, "old").as_deref(), Some("one\ntwo\n"));
        assert_eq!(read(&folder, "access.log").as_deref(), Some("three\n"));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let path = PathBuf::from("/dev/null");
        let config = LogFile {
            path,
            rotate_at: None,
            keep: 1,
        };
        let error = RotatedFile::open(&config).err().unwrap();
        assert_eq!(error.to_string(), "/dev/null is no file");
    }
}
