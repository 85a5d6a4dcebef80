//! The configured folder for compiled code: whether this process may keep code there.

use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::park_timeout;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Access, AtFlags, CWD, FallocateFlags, accessat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::plugin::run::engine;

/// The key that names the folder.
const KEY: &str = "compile_cache";

/// Part of the name of a file that the engine is still writing.
const UNFINISHED: &str = ".wip-";

/// The time that another process may take to write a file: an older one was left behind.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// The time to wait for another process that writes to the cache, which takes milliseconds.
const WRITERS_TIMEOUT: Duration = Duration::from_secs(2);

/// Free bytes that the folder must have: most components compile to less.
const ROOM: u64 = 32 << 20;

/// The remedy for a folder that cannot be written.
pub(crate) const REMEDY: &str = "give the folder and all in it to the gateway's user (chown -R), and see that its disk has room";

/// The remedy for a full disk.
const MAKE_ROOM: &str = "make room on its disk, 32 MiB at least";

/// The configured folders that a process may write to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keep {
    Everywhere,
    /// Those of this user: a command may run as root, and a file or folder of root's would be in the way of the
    /// gateway's user.
    InOwnFolders,
}

impl Keep {
    pub(super) fn is_in(self, folder: &Path) -> bool {
        match self {
            Self::Everywhere => true,
            Self::InOwnFolders => fs::metadata(folder).is_ok_and(|it| is_ours(&it)),
        }
    }
}

/// The folder in which a gateway keeps compiled code. None, with a warning, where it cannot write: code is then kept
/// in the temporary folder, and each start compiles again.
pub(crate) fn to_serve(folder: Option<PathBuf>) -> Option<PathBuf> {
    let folder = folder?;
    if let Err(error) = fs::create_dir_all(&folder) {
        warn_unmakeable(&folder, &error);
        return None;
    }
    let long_ago = SystemTime::now() - WRITE_TIMEOUT;
    remove_unfinished(&folder, |written| written <= long_ago);
    match check_writable(&folder) {
        Ok(()) => Some(folder),
        Err((file, error)) => {
            tracing::warn!(
                target: "config",
                file = %file.display(),
                "{KEY}: nothing is kept in {}, and every start compiles: {} cannot be written: {error}\n  remedy: {}",
                folder.display(), file.display(), remedy(&error)
            );
            None
        }
    }
}

/// As [`to_serve`], for a command that tries what a gateway would do. It may run as root, and root's files would be
/// in the way of the service's user: it makes no folder, and writes only to folders of its own user.
pub(crate) fn to_try(folder: Option<PathBuf>) -> Option<PathBuf> {
    let folder = folder?;
    let nearest = folder.ancestors().find_map(|path| fs::metadata(path).ok());
    if nearest.is_some_and(|metadata| !metadata.is_dir()) {
        let error = io::Error::from(io::ErrorKind::NotADirectory);
        warn_unmakeable(&folder, &error);
        return None;
    }
    let all_ours = fs::metadata(&folder).is_ok_and(|it| is_ours(&it))
        && cache_folders(&folder)
            .iter()
            .all(|inside| fs::metadata(inside).is_ok_and(|it| is_ours(&it)));
    if all_ours {
        to_serve(Some(folder))
    } else {
        None
    }
}

/// Why code that was compiled since this moment is not in the folder, as far as that can be seen, and the remedy. Removes
/// the files that the engine began: while they are there it writes nothing, and no retry could succeed.
pub(crate) fn why_not_kept(folder: &Path, since: SystemTime) -> Option<(String, &'static str)> {
    // Before the removal: unfinished files may have taken the room that is missing.
    let why = check_writable(folder).err();
    remove_unfinished(folder, |written| written >= since);
    why.map(|(file, error)| {
        let why = format!("{} cannot be written: {error}", file.display());
        (why, remedy(&error))
    })
}

fn remedy(error: &io::Error) -> &'static str {
    const { assert!(ROOM == 32 << 20, "the words say so") };
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    if full.contains(&error.kind()) {
        MAKE_ROOM
    } else {
        REMEDY
    }
}

/// Waits for the processes that write to the folder: two cannot write the same file at once. False where it cannot be
/// written at all.
pub(super) fn may_take_it_now(folder: &Path) -> bool {
    let give_up = Instant::now() + WRITERS_TIMEOUT;
    while unfinished_files(folder).next().is_some() && Instant::now() < give_up {
        park_timeout(Duration::from_millis(10));
    }
    check_writable(folder).is_ok()
}

/// Removes files that a process began to write and never finished, because the disk was full or it was killed.
/// `is_left` judges a file by its last write.
fn remove_unfinished(folder: &Path, is_left: impl Fn(SystemTime) -> bool) {
    for file in unfinished_files(folder) {
        let written = file.metadata().and_then(|it| it.modified());
        if written.is_ok_and(&is_left) {
            let _ = fs::remove_file(file.path());
        }
    }
}

fn unfinished_files(folder: &Path) -> impl Iterator<Item = DirEntry> {
    let folders = cache_folders(folder).into_iter();
    let files = folders.flat_map(|inside| fs::read_dir(inside).into_iter().flatten().flatten());
    files.filter(|file| file.file_name().to_string_lossy().contains(UNFINISHED))
}

/// Fails where the disk has no room for compiled code. A file system that cannot tell is taken to have some.
pub(super) fn check_room(folder: &Path) -> io::Result<()> {
    let file = tempfile::tempfile_in(folder)?;
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, ROOM) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn warn_unmakeable(folder: &Path, error: &io::Error) {
    tracing::warn!(
        target: "config",
        "{KEY}: nothing is kept, and every start compiles: the folder {} cannot be made: {error}\n  remedy: write a \
         folder that the gateway's user can make, or make it; CacheDirectory= of systemd makes one",
        folder.display()
    );
}

/// Fails with the folder that cannot be written, and why.
fn check_writable(folder: &Path) -> Result<(), (PathBuf, io::Error)> {
    let inside = cache_folders(folder);
    for folder in [folder.to_owned()].into_iter().chain(inside) {
        let writable = match fs::metadata(&folder) {
            Ok(metadata) if !metadata.is_dir() => Err(io::ErrorKind::NotADirectory.into()),
            _ => accessat(
                CWD,
                &folder,
                Access::WRITE_OK | Access::EXEC_OK,
                AtFlags::EACCESS,
            )
            .map_err(io::Error::from),
        };
        writable.map_err(|error| (folder, error))?;
    }
    check_room(folder).map_err(|error| (folder.to_owned(), error))
}

/// The folders in which the engine writes, of those that exist.
fn cache_folders(folder: &Path) -> Vec<PathBuf> {
    let cache = folder.join(engine::CACHE);
    let modules = cache.join("modules");
    let versions = fs::read_dir(&modules).into_iter().flatten().flatten();
    let versions: Vec<_> = versions.map(|version| version.path()).collect();
    let outer = [cache, modules].into_iter();
    outer
        .filter(|folder| fs::symlink_metadata(folder).is_ok())
        .chain(versions)
        .collect()
}

fn is_ours(metadata: &fs::Metadata) -> bool {
    metadata.uid() == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disk_needs_room_and_no_other_owner() {
        for error in [Errno::NOSPC, Errno::DQUOT] {
            assert_eq!(remedy(&error.into()), MAKE_ROOM);
        }
        assert_eq!(remedy(&Errno::ACCESS.into()), REMEDY);
    }

    #[test]
    fn unfinished_file_is_removed_once_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join(engine::CACHE).join("modules/v");
        fs::create_dir_all(&inside).unwrap();
        let [left, written, kept] =
            ["a.wip-write", "b.wip-write", "c"].map(|name| inside.join(name));
        for path in [&left, &written, &kept] {
            fs::write(path, "code").unwrap();
        }
        for path in [&left, &kept] {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - 2 * WRITE_TIMEOUT)
                .unwrap();
        }
        to_serve(Some(folder.path().to_owned()));
        assert!(!left.exists());
        assert!(written.exists() && kept.exists());
    }
}
