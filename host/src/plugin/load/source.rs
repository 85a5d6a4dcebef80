//! The bytes of a component, read from its file once that is whole, and identified by their digest.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use wasmtime::component::Component;

use crate::net::watch::{self, Stamp};
use crate::signature::Digest;

/// Bytes of the largest component file; Python components have 18 MB.
pub(crate) const MAX_COMPONENT: u64 = 64 << 20;

/// The time between two reads that must agree: a copy under way writes more often.
const REREAD_AFTER: Duration = Duration::from_millis(75);

/// The time that a reload waits for a file that is being written.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A component as it was read or pulled.
pub(crate) struct Source {
    pub(crate) bytes: Bytes,
    pub(crate) digest: Digest,
    /// The size and times of its file before the read; none when it was pulled.
    pub(crate) stamp: Option<Stamp>,
}

/// Compiled code. All versions of a plugin that come from one file share it.
pub(crate) struct Compiled {
    pub(crate) component: Component,
    pub(crate) digest: Digest,
    /// The component itself: a process that takes over compiles it again.
    pub(crate) bytes: Bytes,
}

impl Source {
    /// Reads a file as it is now.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let (bytes, stamp) = watch::read(path, MAX_COMPONENT)?;
        Ok(Self {
            stamp: Some(stamp),
            ..Self::from(bytes)
        })
    }

    /// Reads a file once it is whole: unchanged for some time, or the same in two reads by size, times and content.
    pub(crate) async fn read_whole(path: &Path) -> io::Result<Self> {
        let give_up = Instant::now() + WHOLE_TIMEOUT;
        let mut last = Self::read_elsewhere(path).await?;
        // A file that has been left alone for long enough is whole: no second read.
        let age = last.stamp.and_then(|stamp| stamp.age());
        if age.is_some_and(|age| age >= REREAD_AFTER) && Stamp::of(path) == last.stamp {
            return Ok(last);
        }
        loop {
            sleep(REREAD_AFTER).await;
            let stamp_unchanged = Stamp::of(path) == last.stamp;
            let now = Self::read_elsewhere(path).await?;
            if stamp_unchanged && (now.stamp, now.digest) == (last.stamp, last.digest) {
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
            bytes: bytes.into(),
            stamp: None,
        }
    }
}
