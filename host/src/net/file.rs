//! Files that are read by others while they are replaced.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

/// The permissions of a file that others may read, as far as the umask lets them.
const PUBLIC: u32 = 0o666;

/// The permissions of a file with secrets.
const PRIVATE: u32 = 0o600;

/// Writes a file whole or not at all, also if the machine loses its power: a temporary file beside it takes its place once
/// it is on the disk. Waits for the disk. The umask decides who may read it.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, PUBLIC)
}

/// As [`write_whole`], for a file that nobody but its owner may read. The owner stays: root may change the gateway's
/// files, and the gateway reads them.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, PRIVATE)
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let mut unfinished = tempfile::Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)?;
    unfinished.write_all(content)?;
    if mode == PRIVATE
        && let Ok(before) = fs::metadata(path)
    {
        // Only root may give a file away. Another user who writes here becomes its owner.
        let _ = fchown(unfinished.as_file(), Some(before.uid()), Some(before.gid()));
    }
    unfinished.as_file().sync_all()?;
    unfinished.persist(path)?;
    // The file is in its place whatever comes of this, and a caller would write it again.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Opens a file to read and to add to, or makes it, its owner's alone. A pipe or a device in its place is refused, and not
/// waited for.
pub(crate) fn open_to_add(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(PRIVATE);
    let no_wait = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = options.custom_flags(no_wait).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    Ok(file)
}

/// Keeps other processes from changing a file that several read, change and write back. Waits for the one that does. The
/// lock is a file of its own beside it, since the file itself is replaced.
pub(crate) fn lock_beside(path: &Path) -> io::Result<File> {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE);
    let file = options.open(PathBuf::from(lock))?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (path, usual) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&usual, "").expect("it can be written");
        for content in ["first", "second"] {
            write_whole(&path, content.as_bytes()).expect("it can be written");
            assert_eq!(fs::read_to_string(&path).expect("it is there"), content);
        }
        let mode = |path| fs::metadata(path).expect("it is there").permissions();
        assert_eq!(mode(&path), mode(&usual));
        assert_eq!(fs::read_dir(&folder).expect("it is there").count(), 2);
        let nowhere = folder.path().join("none").join("a");
        assert!(write_whole(&nowhere, b"").is_err());
    }

    #[test]
    fn private_file_is_its_owners_alone_and_stays_so() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("keys");
        for content in ["first", "second"] {
            write_private(&path, content.as_bytes()).expect("it can be written");
            let metadata = fs::metadata(&path).expect("it is there");
            assert_eq!(metadata.permissions().mode() & 0o7777, PRIVATE);
            // Root gives it to somebody else, who still has it after the next change.
            if std::os::unix::fs::chown(&path, Some(12_345), None).is_ok() {
                write_private(&path, b"third").expect("it can be written");
                assert_eq!(fs::metadata(&path).expect("it is there").uid(), 12_345);
            }
        }
    }

    #[test]
    fn lock_beside_a_file_is_held_by_one() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("keys");
        let lock = lock_beside(&path).expect("nobody has it");
        let other = File::open(folder.path().join("keys.lock")).expect("it is there");
        let attempt = || flock(&other, FlockOperation::NonBlockingLockExclusive);
        assert!(attempt().is_err());
        drop(lock);
        assert!(attempt().is_ok());
    }
}
