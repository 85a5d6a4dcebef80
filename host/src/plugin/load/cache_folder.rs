//! A folder for compiled code that nobody but this gateway may write, where the configuration names none.

use std::env;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::cache::check_room;
use crate::plugin::run::engine;

/// What the names of the gateways' own folders in the temporary one begin with.
const PREFIX: &str = "lockgate-compiled-";

/// Age from which on such a folder is somebody's or nobody's, and not one that is being made.
const ABANDONED: Duration = Duration::from_secs(60);

/// A folder of the gateway's own in the temporary one, gone with it.
pub(crate) struct CacheFolder {
    folder: TempDir,
    /// Open and locked for as long as the gateway lives: whose is not, was left by one that was killed.
    _lock: File,
}

impl CacheFolder {
    /// None where there is nowhere to write.
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
            // Who writes here has code run.
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        check_room(folder.path())?;
        let lock = File::open(folder.path())?;
        // Where there are no locks, nobody finds the folder unlocked either.
        let _ = lock.lock();
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// Removes the folders of those that were killed, and nothing that is not of a gateway.
    fn remove_abandoned() {
        let entries = fs::read_dir(env::temp_dir()).into_iter().flatten();
        for entry in entries.flatten() {
            let is_one = entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(PREFIX.as_bytes())
                && entry.file_type().is_ok_and(|file_type| file_type.is_dir());
            if is_one && is_abandoned(&entry.path()).unwrap_or(false) {
                let _ = fs::remove_dir_all(entry.path().join(engine::CACHE));
                // Not if there is more in it.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// Whether nobody has a folder locked, and has had the time to.
fn is_abandoned(folder: &Path) -> io::Result<bool> {
    let folder = File::open(folder)?;
    let age = folder.metadata()?.modified()?.elapsed();
    Ok(age.is_ok_and(|age| age >= ABANDONED) && folder.try_lock().is_ok())
}
