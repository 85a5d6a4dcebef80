//! The folder of compiled code that the configuration names: whether this process may keep something there.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Access, AtFlags, CWD, FallocateFlags, accessat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::config::{Fault, Faults};
use crate::plugin::run::engine;

/// The key that names it.
const KEY: &str = "compile_cache";

/// In the name of a file that the engine is writing.
const UNFINISHED: &str = ".wip-";

/// How long another process may take to write one.
const WRITTEN_BY_THEN: Duration = Duration::from_secs(60);

/// Bytes that there has to be room for: most components are compiled to less.
const ROOM: u64 = 32 << 20;

/// What lets a gateway keep compiled code.
pub(crate) const REMEDY: &str = "give the folder and all in it to the gateway's user (chown -R), and see that its disk has room";

/// In which folders something is kept that the configuration names for that.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keep {
    Everywhere,
    /// In this user's own, by a command that may run as root: what root has made there, or the folder itself, would be in the
    /// way of the gateway's user.
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

/// Where a gateway keeps compiled code: none, which is said, where it cannot write. The temporary folder serves then, and
/// each start compiles again.
pub(crate) fn to_serve(folder: Option<PathBuf>) -> Result<Option<PathBuf>, Faults> {
    let Some(folder) = folder else {
        return Ok(None);
    };
    fs::create_dir_all(&folder).map_err(|error| unmakeable(&folder, &error))?;
    let long_ago = SystemTime::now() - WRITTEN_BY_THEN;
    remove_unfinished(&folder, |written| written <= long_ago);
    Ok(match check_writable(&folder) {
        Ok(()) => Some(folder),
        Err((file, error)) => {
            tracing::warn!(
                target: "config",
                file = %file.display(),
                "{KEY}: nothing is kept in {}, and every start compiles: {} cannot be written: {error}\n  remedy: {REMEDY}",
                folder.display(), file.display()
            );
            None
        }
    })
}

/// As [`to_serve`], for a command that tries what a gateway would do: it may run as root, and what it kept would be in the
/// way of the service's user. It makes no folder, and writes only to what is its own user's.
pub(crate) fn to_try(folder: Option<PathBuf>) -> Result<Option<PathBuf>, Faults> {
    let Some(folder) = folder else {
        return Ok(None);
    };
    let there = folder
        .ancestors()
        .find_map(|place| fs::metadata(place).ok());
    if there.is_some_and(|metadata| !metadata.is_dir()) {
        let error = io::Error::from(io::ErrorKind::NotADirectory);
        return Err(unmakeable(&folder, &error));
    }
    let all_ours = fs::metadata(&folder).is_ok_and(|it| is_ours(&it))
        && folders(&folder)
            .iter()
            .all(|inside| fs::metadata(inside).is_ok_and(|it| is_ours(&it)));
    if all_ours {
        to_serve(Some(folder))
    } else {
        Ok(None)
    }
}

/// Why what was compiled from this moment on is not in the folder, as far as that can be seen. What the engine began to
/// write goes: where it is, the engine writes nothing, and nothing could be tried again.
pub(crate) fn why_not_kept(folder: &Path, since: SystemTime) -> Option<String> {
    // What was begun has taken the room that is missing.
    let why = check_writable(folder).err();
    remove_unfinished(folder, |written| written >= since);
    why.map(|(file, error)| format!("{} cannot be written: {error}", file.display()))
}

/// Removes files that somebody began to write and never finished, on a full disk or when it was killed, by when they were
/// written last.
fn remove_unfinished(folder: &Path, is_left: impl Fn(SystemTime) -> bool) {
    for inside in folders(folder) {
        let files = fs::read_dir(inside).into_iter().flatten().flatten();
        for file in files {
            let unfinished = file.file_name().to_string_lossy().contains(UNFINISHED);
            let written = file.metadata().and_then(|it| it.modified());
            if unfinished && written.is_ok_and(&is_left) {
                let _ = fs::remove_file(file.path());
            }
        }
    }
}

/// Fails where there is no room for what a component is compiled to. A file system that cannot tell has some.
pub(super) fn check_room(folder: &Path) -> io::Result<()> {
    let file = tempfile::tempfile_in(folder)?;
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, ROOM) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn unmakeable(folder: &Path, error: &io::Error) -> Faults {
    Faults(vec![Fault {
        key: KEY.into(),
        message: format!("the folder {} cannot be made: {error}", folder.display()),
        remedy: "write a folder that the gateway's user can make, or make it; CacheDirectory= of systemd makes one"
            .into(),
    }])
}

/// What cannot be written, and why.
fn check_writable(folder: &Path) -> Result<(), (PathBuf, io::Error)> {
    let inside = folders(folder);
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

/// The folders in which the engine writes, as far as they are there.
fn folders(folder: &Path) -> Vec<PathBuf> {
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
    fn file_that_was_never_finished_is_removed_once_it_is_old() {
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
            file.set_modified(SystemTime::now() - 2 * WRITTEN_BY_THEN)
                .unwrap();
        }
        to_serve(Some(folder.path().to_owned())).unwrap();
        assert!(!left.exists());
        assert!(written.exists() && kept.exists());
    }
}
