//! A component's code: read from its file when it is whole, known by its digest.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep};
use wasmtime::component::Component;

use crate::signature::Digest;

/// Bytes of the largest component file; Python's are 18 MB.
pub(super) const MAX_COMPONENT: u64 = 64 << 20;

/// The time between two looks at a file that has to be the same in both: a copy under way writes more often.
const LOOK: Duration = Duration::from_millis(75);

/// How long a reload waits for a file that is being written.
const WHOLE: Duration = Duration::from_secs(10);

/// A component as it was read.
pub(super) struct Source {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
    /// How its file looked before it was read; none when it was pulled.
    pub(super) stamp: Option<Stamp>,
}

/// Compiled code; the versions of a plugin that come from one file share it.
pub(super) struct Compiled {
    pub(super) component: Component,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// What of a file changes when it is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    size: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// None when there is no file.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        fs::metadata(path)
            .ok()
            .map(|metadata| Self::from(&metadata))
    }

    /// Whether the file last changed, or was put in its place, longer ago than the time between two looks.
    fn rests(&self) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let (Ok(seconds), Ok(nanoseconds)) = (seconds.try_into(), nanoseconds.try_into()) else {
            return false;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let age = now.map(|now| now.checked_sub(Duration::new(seconds, nanoseconds)));
        matches!(age, Ok(Some(age)) if age >= LOOK)
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Source {
    /// Reads a file as it is now.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let stamp = Stamp::of(path);
        let source = Self::from(read_file(path)?);
        Ok(Self { stamp, ..source })
    }

    /// Reads a file once it is whole: not changed for some time, or the same in two looks, in size, times and content.
    pub(super) async fn read_whole(path: &Path) -> io::Result<Self> {
        let give_up = Instant::now() + WHOLE;
        let mut last = Self::read_elsewhere(path).await?;
        // Who tells of a changed file has looked at it twice already.
        if last.stamp.is_some_and(|stamp| stamp.rests()) && Stamp::of(path) == last.stamp {
            return Ok(last);
        }
        loop {
            sleep(LOOK).await;
            let looked_alike = Stamp::of(path) == last.stamp;
            let now = Self::read_elsewhere(path).await?;
            if looked_alike && (now.stamp, now.digest) == (last.stamp, last.digest) {
                return Ok(now);
            }
            if Instant::now() >= give_up {
                return Err(io::Error::other("it is still being written"));
            }
            last = now;
        }
    }

    async fn read_elsewhere(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || Self::read(&path)).await?
    }
}

impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            digest: Digest::of(&bytes),
            bytes,
            stamp: None,
        }
    }
}

/// The bytes of a component file, unless there are too many.
pub(super) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let size = fs::metadata(path)?.len();
    if size > MAX_COMPONENT {
        return Err(io::Error::other(format!("it has {size} bytes")));
    }
    fs::read(path)
}
