//! The folder of compiled code that the configuration names: whether this process may keep something there.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::geteuid;

use crate::config::{Fault, Faults};
use crate::plugin::run::engine;

/// The key that names it.
const KEY: &str = "compile_cache";

/// In the name of a file that the engine is writing.
const UNFINISHED: &str = ".wip-";

/// How long another process may take to write one.
const WRITTEN_BY_THEN: Duration = Duration::from_secs(60);

/// What lets a gateway keep compiled code.
pub(crate) const REMEDY: &str = "give the folder and all in it to the gateway's user (chown -R), and see that its disk has room";

/// Where a gateway keeps compiled code: none, which is said, where it cannot write. The temporary folder serves then, and
/// each start compiles again.
pub(crate) fn to_serve(folder: Option<PathBuf>) -> Result<Option<PathBuf>, Faults> {
    let Some(folder) = folder else {
        return Ok(None);
    };
    fs::create_dir_all(&folder).map_err(|error| unmakeable(&folder, &error))?;
    remove_unfinished(&folder);
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

/// Removes files that somebody began to write and never finished, on a full disk or when it was killed: the engine writes
/// nothing where one is.
fn remove_unfinished(folder: &Path) {
    for inside in folders(folder) {
        let files = fs::read_dir(inside).into_iter().flatten().flatten();
        for file in files {
            let unfinished = file.file_name().to_string_lossy().contains(UNFINISHED);
            let age = file.metadata().and_then(|it| it.modified());
            let age = age.ok().and_then(|modified| modified.elapsed().ok());
            if unfinished && age.is_some_and(|age| age >= WRITTEN_BY_THEN) {
                let _ = fs::remove_file(file.path());
            }
        }
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
    Ok(())
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
    use std::time::SystemTime;

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
