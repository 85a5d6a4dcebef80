//! A component's code: read from its file when it is whole, known by its digest.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use wasmtime::component::Component;

use crate::net::watch::{self, Stamp};
use crate::signature::Digest;

/// Bytes of the largest component file; Python's are 18 MB.
pub(crate) const MAX_COMPONENT: u64 = 64 << 20;

/// The time between two looks at a file that has to be the same in both: a copy under way writes more often.
const LOOK: Duration = Duration::from_millis(75);

/// How long a reload waits for a file that is being written.
const WHOLE: Duration = Duration::from_secs(10);

/// A component as it was read.
pub(crate) struct Source {
    pub(crate) bytes: Bytes,
    pub(crate) digest: Digest,
    /// How its file looked before it was read; none when it was pulled.
    pub(crate) stamp: Option<Stamp>,
}

/// Compiled code; the versions of a plugin that come from one file share it.
pub(crate) struct Compiled {
    pub(crate) component: Component,
    pub(crate) digest: Digest,
    /// What it was compiled from. A process that takes over compiles it again.
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

    /// Reads a file once it is whole: not changed for some time, or the same in two looks, in size, times and content.
    pub(crate) async fn read_whole(path: &Path) -> io::Result<Self> {
        let give_up = Instant::now() + WHOLE;
        let mut last = Self::read_elsewhere(path).await?;
        // Who tells of a changed file has looked at it twice already.
        let age = last.stamp.and_then(|stamp| stamp.age());
        if age.is_some_and(|age| age >= LOOK) && Stamp::of(path) == last.stamp {
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
            bytes: bytes.into(),
            stamp: None,
        }
    }
}
