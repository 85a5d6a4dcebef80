//! Files that are read again while the gateway serves: configuration, components, signatures, certificates. Reading one
//! never blocks on a FIFO, and one kind of stamp tells whether it has changed.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// Largest file in bytes whose content is part of its stamp. Certificates, keys and signatures are smaller; reading a
/// component at every poll would cost too much.
const MAX_STAMPED_BYTES: u64 = 64 << 10;

/// The remedy for a process that may open no more files.
pub(crate) const RAISE_FILES: &str =
    "raise the number of files that the process may open: `ulimit -n`, or LimitNOFILE= of systemd";

/// Time for the second file of a pair to follow the first: a component after its signature, a key after its
/// certificate.
pub(crate) const PAIR: Duration = Duration::from_secs(10);

/// A value that changes when a file is written, replaced, or becomes readable. Two stamps are equal only if nothing has
/// happened between them, even on a file system with coarse times or for a copy that keeps size and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
    /// The SHA-256; none for a larger file, or one that cannot be read.
    content: Option<[u8; 32]>,
}

impl Stamp {
    /// Takes the stamp of a file; none if there is none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match read(path, MAX_STAMPED_BYTES) {
            Ok((_, stamp)) => Some(stamp),
            Err(_) => Some(Self::new(&fs::metadata(path).ok()?, None)),
        }
    }

    fn new(metadata: &Metadata, content: Option<&[u8]>) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mode: metadata.mode() & 0o7777,
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            content: content.map(|content| {
                let digest = digest(&SHA256, content);
                digest.as_ref().try_into().expect("a SHA-256 has 32 bytes")
            }),
        }
    }

    /// The permissions, and what else `chmod` sets.
    pub(crate) fn mode(&self) -> u32 {
        self.mode
    }

    /// Time since the file changed or was put in place; none if the clock was set back since.
    pub(crate) fn age(&self) -> Option<Duration> {
        let (seconds, nanoseconds) = self.changed;
        let changed = Duration::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        now.checked_sub(changed)
    }
}

/// Reads a regular file of at most `longest` bytes. Gives the bytes, and the stamp from before they were read.
///
/// Fails, naming the kind, for anything else: reading a FIFO would wait until somebody writes to it, and a reload with
/// it.
pub(crate) fn read(path: &Path, longest: u64) -> io::Result<(Vec<u8>, Stamp)> {
    check_regular(&fs::metadata(path)?)?;
    let (file, metadata) = open(path)?;
    let mut bytes = Vec::new();
    if metadata.len() <= longest {
        file.take(longest + 1).read_to_end(&mut bytes)?;
    }
    let size = metadata.len().max(bytes.len() as u64);
    if size > longest {
        let longest = match longest >> 20 {
            mib if mib << 20 == longest => format!("{mib} MiB"),
            _ => format!("{longest} bytes"),
        };
        return Err(io::Error::other(format!("it is longer than {longest}")));
    }
    let stamp = Stamp::new(&metadata, (size <= MAX_STAMPED_BYTES).then_some(&bytes));
    Ok((bytes, stamp))
}

/// The remedy for a file that cannot be read, where the system's error tells it; if not, the other.
pub(crate) fn remedy<'a>(error: &io::Error, otherwise: &'a str) -> &'a str {
    if out_of_files(error) {
        RAISE_FILES
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "let the gateway's user read it and enter each folder of its path: `namei -l` shows who may"
    } else {
        otherwise
    }
}

/// Whether the error means that too many files are open.
pub(crate) fn out_of_files(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE]
        .map(|errno| Some(errno.raw_os_error()))
        .contains(&error.raw_os_error())
}

/// Whether the system failed, and may not the next time: nothing is wrong with the file.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    error.raw_os_error().is_some()
}

/// Opens without waiting, and checks again: a FIFO may have replaced the file after the first check.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let no_waiting = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(no_waiting.cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    check_regular(&metadata)?;
    Ok((file, metadata))
}

fn check_regular(metadata: &Metadata) -> io::Result<()> {
    match other_kind(metadata) {
        None => Ok(()),
        Some(kind) => Err(io::Error::other(format!("it is {kind} and not a file"))),
    }
}

/// Names the kind of anything but a regular file; none for a regular file.
pub(crate) fn other_kind(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a folder")
    } else if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn fifo_is_refused_without_waiting() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let fifo = folder.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO is made");
        let error = read(&fifo, 10).expect_err("it is no file").to_string();
        assert_eq!(error, "it is a FIFO and not a file");
        // Also if it comes between the two checks.
        let error = open(&fifo).expect_err("it is no file").to_string();
        assert_eq!(error, "it is a FIFO and not a file");
        assert!(Stamp::of(&fifo).is_some());
        assert!(Stamp::of(&folder.path().join("none")).is_none());
    }

    #[test]
    fn file_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("file");
        fs::write(&path, "12345").expect("the folder can be written");
        assert_eq!(read(&path, 5).expect("it can be read").0, b"12345");
        let error = read(&path, 4).expect_err("it is too long").to_string();
        assert_eq!(error, "it is longer than 4 bytes");
    }

    #[test]
    fn stamp_differs_after_every_change() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (path, next) = (folder.path().join("file"), folder.path().join("next"));
        fs::write(&path, "one").expect("the folder can be written");
        let first = Stamp::of(&path);
        assert_eq!(first, Stamp::of(&path));
        // Another file of the same size and time in its place.
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
        fs::write(&next, "two").expect("the folder can be written");
        let times = FileTimes::new().set_modified(modified.expect("there are times"));
        let file = File::options().write(true).open(&next);
        file.and_then(|file| file.set_times(times))
            .expect("times can be set");
        fs::rename(&next, &path).expect("it can be renamed");
        let second = Stamp::of(&path);
        assert_ne!(first, second);
        // A change of permissions alone.
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
        assert_ne!(second, Stamp::of(&path));
    }
}
