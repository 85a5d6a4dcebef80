//! A private folder for compiled code, for a gateway whose configuration names none.

use std::env;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::cache::check_room;
use super::functions;
use crate::plugin::run::engine;

/// The prefix of such folders in the temporary one.
const PREFIX: &str = "lockgate-compiled-";

/// From this age on an unlocked folder is abandoned: a younger one may still be in the making.
const ABANDONED: Duration = Duration::from_secs(60);

/// A folder in the temporary one that no other user may write, removed with the gateway.
pub(crate) struct CacheFolder {
    folder: TempDir,
    /// Locked for as long as the gateway lives: an unlocked folder was left by a gateway that was killed.
    _lock: File,
}

impl CacheFolder {
    /// None where no temporary folder can be written.
    pub(crate) fn make() -> Option<Self> {
        let made = Self::try_make().inspect_err(|error| {
            tracing::warn!(
                "components are compiled by the gateway itself, without bounds: \
                 there is no compile_cache to write to, and no temporary folder either: {error}"
            );
        });
        Self::remove_abandoned();
        made.ok()
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn try_make() -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            // The gateway runs the code that is written here.
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        check_room(folder.path())?;
        let lock = File::open(folder.path())?;
        // Where locks do not work, no gateway finds the folder unlocked either.
        let _ = lock.lock();
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// Removes the folders of gateways that were killed, and nothing else.
    fn remove_abandoned() {
        let entries = fs::read_dir(env::temp_dir()).into_iter().flatten();
        for entry in entries.flatten() {
            let is_cache = entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(PREFIX.as_bytes())
                && entry.file_type().is_ok_and(|file_type| file_type.is_dir());
            if is_cache && is_abandoned(&entry.path()).unwrap_or(false) {
                for ours in [engine::CACHE, functions::FOLDER] {
                    let _ = fs::remove_dir_all(entry.path().join(ours));
                }
                // Fails, as it should, if the folder has other content.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// Whether a folder is unlocked, and old enough that its gateway has had the time to lock it.
fn is_abandoned(folder: &Path) -> io::Result<bool> {
    let folder = File::open(folder)?;
    let age = folder.metadata()?.modified()?.elapsed();
    Ok(age.is_ok_and(|age| age >= ABANDONED) && folder.try_lock().is_ok())
}
