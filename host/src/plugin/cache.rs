//! The folder of compiled code that the configuration names: whether this process may keep something there.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::geteuid;

use super::engine;
use crate::config::{Fault, Faults};

/// The key that names it.
const KEY: &str = "compile_cache";

/// What lets a gateway keep compiled code.
pub(super) const REMEDY: &str = "give the folder and all in it to the gateway's user (chown -R), and see that its disk has room";

/// Where a gateway keeps compiled code: none, which is said, where it cannot write. The temporary folder serves then, and
/// each start compiles again.
pub(super) fn to_serve(folder: Option<PathBuf>) -> Result<Option<PathBuf>, Faults> {
    let Some(folder) = folder else {
        return Ok(None);
    };
    fs::create_dir_all(&folder).map_err(|error| unmakeable(&folder, &error))?;
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
pub(super) fn to_try(folder: Option<PathBuf>) -> Result<Option<PathBuf>, Faults> {
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
