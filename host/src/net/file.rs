//! Files that are read by others while they are replaced.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};
use rustix::io::Errno;

/// The permissions of a file that others may read, as far as the umask lets them.
const PUBLIC: u32 = 0o666;

/// The permissions of a file with secrets.
const PRIVATE: u32 = 0o600;

/// Longest wait for a lock. Whoever has one writes a file, and is done in the time of a disk.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between two attempts to lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The most links that lead from one to the next, as the kernel has it.
const MAX_LINKS: usize = 40;

/// Writes a file whole or not at all, also if the machine loses its power: a temporary file beside it takes its place once
/// it is on the disk. A link stays one, and what it leads to is written. Waits for the disk. The umask decides who may read
/// the file.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, PUBLIC)
}

/// As [`write_whole`], for a file that nobody but its owner may read. The owner stays: root may change the gateway's
/// files, and the gateway reads them.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, PRIVATE)
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let path = &followed(path)?;
    let folder = folder_of(path);
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

/// The path of the file that links lead to, whether or not it is there: whoever replaces a file by renaming another one
/// would put it in the place of a link.
pub(crate) fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = folder_of(&path).join(next),
            // The kernel gives `EINVAL` for what is no link.
            Err(_) => return Ok(path),
        }
    }
    Err(Errno::LOOP.into())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// Keeps room on the disk for so many bytes behind the end of a file. False where the file system keeps none.
pub(crate) fn keep_room(file: &File, bytes: u64) -> io::Result<bool> {
    let end = file.metadata()?.len();
    match fallocate(file, FallocateFlags::KEEP_SIZE, end, bytes) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Keeps other processes from changing a file that several read, change and write back. Waits for the one that does.
///
/// The file itself is locked, so that whoever may change it can lock it, and nobody else. Until there is one, its folder is.
pub(crate) fn lock(path: &Path) -> io::Result<File> {
    let path = &followed(path)?;
    loop {
        let lock = match open_to_lock(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => File::open(folder_of(path))?,
            opened => opened?,
        };
        lock_opened(&lock)?;
        // Whoever had the lock has put another file in its place.
        let (locked, now) = (lock.metadata()?, fs::metadata(path));
        let is_right = match now {
            Ok(now) => (now.dev(), now.ino()) == (locked.dev(), locked.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => locked.is_dir(),
            Err(error) => return Err(error),
        };
        if is_right {
            return Ok(lock);
        }
    }
}

/// Locks an open file or folder. Who may read it can lock it, too, and keep the lock: nobody waits for ever.
pub(crate) fn lock_opened(file: &File) -> io::Result<()> {
    let end = Instant::now() + LOCK_TIMEOUT;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < end => park_timeout(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => {
                let why = "another process has kept it locked for 10 s: `lsof` shows which";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            locked => return Ok(locked?),
        }
    }
}

/// NFS locks only what is open to be written.
fn open_to_lock(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    match opened {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(path),
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

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
    fn what_links_lead_to_is_replaced_and_the_links_stay() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let real = folder.path().join("real");
        fs::create_dir(&real).expect("it can be made");
        let (link, far) = (folder.path().join("keys"), folder.path().join("far"));
        symlink("real/next", &link).expect("it can be made");
        symlink("keys", real.join("next")).expect("it can be made");
        symlink(&link, &far).expect("it can be made");
        for content in ["first", "second"] {
            let _lock = lock(&far).expect("nobody has it");
            write_private(&far, content.as_bytes()).expect("it can be written");
            let written = fs::symlink_metadata(real.join("keys")).expect("it is there");
            assert!(written.is_file());
            assert!([&link, &far].iter().all(|link| link.is_symlink()));
            assert_eq!(fs::read_to_string(&link).expect("it is there"), content);
        }
        let ring = folder.path().join("ring");
        symlink("ring", &ring).expect("it can be made");
        assert!(write_whole(&ring, b"").is_err());
        assert!(lock(&ring).is_err());
    }

    #[test]
    fn lock_of_a_file_is_held_by_one_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("keys");
        let is_free = |path: &Path| {
            let other = File::open(path).expect("it is there");
            flock(&other, FlockOperation::NonBlockingLockExclusive).is_ok()
        };
        let first = lock(&path).expect("nobody has it");
        assert!(!is_free(folder.path()), "there is no file yet");
        write_private(&path, b"1").expect("it can be written");
        drop(first);
        assert!(is_free(folder.path()));
        let second = lock(&path).expect("nobody has it");
        assert!(!is_free(&path));
        drop(second);
        assert!(is_free(&path));
        assert_eq!(fs::read_dir(&folder).expect("it is there").count(), 1);
    }

    #[test]
    fn lock_that_another_keeps_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let keeping = File::open(folder.path()).expect("it is there");
        flock(&keeping, FlockOperation::LockExclusive).expect("nobody has it");
        let error = lock(&folder.path().join("keys")).expect_err("another has it");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn changes_of_many_at_once_are_all_made() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("count");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..8 {
                        let _lock = lock(&path).expect("it can be had");
                        let before = fs::read_to_string(&path).unwrap_or_default();
                        write_private(&path, format!("{before}x").as_bytes()).expect("it can");
                    }
                });
            }
        });
        let after = fs::read_to_string(&path).expect("it is there");
        assert_eq!(after, "x".repeat(32));
    }
}
