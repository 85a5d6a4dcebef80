//! A file of lines that follows its path: whoever moves it away, by hand or by logrotate, gets a new one at the next
//! write. It renames itself at a size.
//!
//! Two processes may write to it, as in an upgrade: each appends, and finds by the path whether the other has renamed
//! the file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::config::LogFile;
use crate::net::followed;

/// Permissions of a new file: its lines name clients, which are nobody else's business.
const MODE: u32 = 0o640;

pub(super) struct RotatedFile {
    config: LogFile,
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    size: u64,
    end: End,
}

/// What the file ends with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// A whole line: the next one may go to another file.
    Line,
    /// A part of one, of which the rest is about to come.
    Part,
    /// A part of one, of which the rest could not be written, and which could not be cut off.
    Torn,
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
            end: End::Line,
        })
    }

    /// Opens the file at the path anew, if that is another one by now, and renames a full one. Gives whether it writes
    /// to another file then.
    fn follow(&mut self, more: u64) -> io::Result<bool> {
        let now = fs::metadata(&self.config.path);
        let is_same = now.is_ok_and(|now| (now.dev(), now.ino()) == self.identity);
        let full = |limit: u64| self.size > 0 && self.size + more > limit;
        if is_same {
            if self.end == End::Torn || !self.config.rotate_at.is_some_and(full) {
                return Ok(false);
            }
            self.rename()?;
        }
        let (file, found) = open(&self.config)?;
        if !found.is_file() {
            return Ok(false);
        }
        self.identity = (found.dev(), found.ino());
        (self.file, self.size) = (file, found.len());
        Ok(true)
    }

    /// Cuts off the last bytes written, the part of a line for which a disk had room: nobody is to read half a line. Gives
    /// whether they are gone; they stay if another process has appended a line behind them.
    fn cut(&mut self, part: u64) -> io::Result<bool> {
        let end = self.file.stream_position()?;
        if self.file.metadata()?.len() != end {
            return Ok(false);
        }
        self.file.set_len(end.saturating_sub(part))?;
        Ok(true)
    }

    fn rename(&self) -> io::Result<()> {
        let path = followed(&self.config.path)?;
        let numbered = |number: u32| {
            let mut path = path.clone().into_os_string();
            path.push(format!(".{number}"));
            PathBuf::from(path)
        };
        for number in (1..self.config.keep).rev() {
            // There may be fewer yet.
            let _ = fs::rename(numbered(number), numbered(number + 1));
        }
        fs::rename(&path, numbered(1))
    }
}

/// The bytes of the whole lines at the beginning.
fn whole_lines(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|byte| *byte == b'\n');
    last.map_or(0, |last| last + 1)
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
    /// After an error the caller gives its line up, and begins its next write with the end of it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What cannot be renamed or made anew, as on a full disk, goes on as it is.
        if self.end != End::Part && self.follow(bytes.len() as u64).unwrap_or(false) {
            let end = std::mem::replace(&mut self.end, End::Line);
            if end == End::Torn && bytes == b"\n" {
                // The torn line stays behind in the other file: a removed one keeps its room on the disk while it is
                // open, so that waiting for room to end the line would be for ever.
                return Ok(1);
            }
        }
        match self.file.write(bytes) {
            Ok(written) => {
                let gone = bytes.get(..written).unwrap_or_default();
                let part = written - whole_lines(gone);
                // A short write is that of a disk without more room.
                let is_torn = written < bytes.len() && part > 0 && self.end != End::Part;
                let is_cut = is_torn && self.cut(part as u64).unwrap_or(false);
                let kept = if is_cut { written - part } else { written };
                self.size += kept as u64;
                if is_cut && kept == 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let is_whole = is_cut || part == 0;
                self.end = if is_whole { End::Line } else { End::Part };
                Ok(kept)
            }
            Err(error) => {
                if self.end == End::Part && error.kind() != io::ErrorKind::Interrupted {
                    self.end = End::Torn;
                }
                Err(error)
            }
        }
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
    fn full_file_that_a_link_leads_to_is_renamed_where_it_is() {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("real")).unwrap();
        let link = folder.path().join("access.log");
        std::os::unix::fs::symlink("real/lines", &link).unwrap();
        let mut file = file(&folder, Some(4));
        for line in ["one\n", "two\n"] {
            file.write_all(line.as_bytes()).unwrap();
        }
        assert!(link.is_symlink());
        assert_eq!(read(&folder, "real/lines.1").as_deref(), Some("one\n"));
        assert_eq!(read(&folder, "real/lines").as_deref(), Some("two\n"));
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

    /// Of a file that takes no more bytes.
    fn full() -> File {
        OpenOptions::new().write(true).open("/dev/full").unwrap()
    }

    #[test]
    fn removed_file_is_made_anew_after_a_line_that_a_full_disk_has_torn() {
        let folder = TempDir::new().unwrap();
        let mut file = file(&folder, None);
        file.write_all(b"one\ntw").unwrap();
        file.file = full();
        let error = file.write(b"o\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        // The same file is waited for.
        file.write(b"\n").unwrap_err();
        fs::remove_file(folder.path().join("access.log")).unwrap();
        assert_eq!(file.write(b"\n").unwrap(), 1);
        file.write_all(b"three\n").unwrap();
        assert_eq!(read(&folder, "access.log").as_deref(), Some("three\n"));
    }

    #[test]
    fn torn_line_is_ended_in_its_file_once_there_is_room() {
        let folder = TempDir::new().unwrap();
        let mut file = file(&folder, Some(4));
        file.write_all(b"tor").unwrap();
        let whole = std::mem::replace(&mut file.file, full());
        file.write(b"n\n").unwrap_err();
        file.file = whole;
        file.write_all(b"\n").unwrap();
        file.write_all(b"two\n").unwrap();
        assert_eq!(read(&folder, "access.log.1").as_deref(), Some("tor\n"));
        assert_eq!(read(&folder, "access.log").as_deref(), Some("two\n"));
    }

    #[test]
    fn part_of_a_line_is_cut_off_unless_another_process_has_appended() {
        let folder = TempDir::new().unwrap();
        let mut file = file(&folder, None);
        file.write_all(b"one\ntw").unwrap();
        assert!(file.cut(2).unwrap());
        assert_eq!(read(&folder, "access.log").as_deref(), Some("one\n"));
        file.write_all(b"tw").unwrap();
        let path = folder.path().join("access.log");
        let mut other = OpenOptions::new().append(true).open(path).unwrap();
        other.write_all(b"other\n").unwrap();
        assert!(!file.cut(2).unwrap());
        let whole = read(&folder, "access.log");
        assert_eq!(whole.as_deref(), Some("one\ntwother\n"));
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
