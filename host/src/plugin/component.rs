//! A component's code: read from its file when it is whole, known by its digest, compiled out of the way.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::time::{Instant, sleep};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::signature::Digest;

/// Bytes of the largest component file; Python's are 18 MB.
pub(super) const MAX_COMPONENT: u64 = 64 << 20;

/// The time between two looks at a file that has to be the same in both: a copy under way writes more often.
const LOOK: Duration = Duration::from_millis(75);

/// How long a reload waits for a file that is being written.
const WHOLE: Duration = Duration::from_secs(10);

/// Bytes from which on compiling is left to the machine's idle time: what is smaller is done in a moment.
const LARGE: u64 = 512 << 10;

/// How long compiling may wait for the machine to be idle, for each KiB of a component: some ten times what it takes
/// then.
const IDLE_PER_KIB: Duration = Duration::from_millis(2);

/// How nice the threads are that compile on a busy machine: those that serve get ten times their share.
const NICE: i32 = 10;

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

/// Compiles on threads of its own, out of the way of those that serve.
pub(super) struct Compiler {
    /// Run while no other thread of the machine wants to: who serves does not notice them. For large components.
    idle: ThreadPool,
    /// Run always, with a small share of a busy machine.
    nice: ThreadPool,
}

impl Compiler {
    pub(super) fn start() -> Result<Self> {
        // Both of the thread that calls, as Linux has it. Where they are refused it compiles all the same.
        let be_idle = |_| {
            let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
        };
        let be_nice = |_| {
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        };
        Ok(Self {
            idle: threads(be_idle)?,
            nice: threads(be_nice)?,
        })
    }

    /// Takes milliseconds to seconds: not for a thread that serves.
    pub(super) fn compile(&self, engine: &Engine, source: Source) -> wasmtime::Result<Compiled> {
        let source = Arc::new(source);
        let size = source.bytes.len() as u64;
        let at_leisure = (size >= LARGE).then(|| self.at_leisure(engine, &source));
        let component = match at_leisure.flatten() {
            Some(component) => component?,
            None => self
                .nice
                .install(|| Component::new(engine, &source.bytes))?,
        };
        Ok(Compiled {
            component,
            digest: source.digest,
            size,
        })
    }

    /// Compiles in the machine's idle time. None when that is not enough: on a machine that is never idle it would take
    /// for ever.
    fn at_leisure(
        &self,
        engine: &Engine,
        source: &Arc<Source>,
    ) -> Option<wasmtime::Result<Component>> {
        let (done, compiled) = mpsc::channel();
        self.idle.spawn({
            // What nobody waits for any more is not begun.
            let (source, engine) = (Arc::downgrade(source), engine.clone());
            move || {
                if let Some(source) = source.upgrade() {
                    let _ = done.send(Component::new(&engine, &source.bytes));
                }
            }
        });
        let kib = u32::try_from(source.bytes.len() >> 10).ok()?;
        compiled.recv_timeout(IDLE_PER_KIB * kib).ok()
    }
}

fn threads(start: impl Fn(usize) + Send + Sync + 'static) -> Result<ThreadPool> {
    ThreadPoolBuilder::new()
        .thread_name(|_| "compile".into())
        .start_handler(start)
        // Ends what panicked and not the process: who waits for it is told by the end of the channel.
        .panic_handler(|_| ())
        .build()
        .context("compiling threads")
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use lockgate_tests::Guest;

    use super::super::engine;
    use super::*;

    #[test]
    fn compiles_on_a_machine_that_is_never_idle() {
        let compiler = Compiler::start().unwrap();
        let engine = engine::start(None).unwrap();
        let threads = compiler.idle.current_num_threads();
        let busy = Arc::new(Barrier::new(threads + 1));
        for _ in 0..threads {
            let busy = Arc::clone(&busy);
            compiler.idle.spawn(move || {
                busy.wait();
            });
        }
        // A custom section makes any component a large one.
        let mut bytes = Source::read(Guest::Probe.path()).unwrap().bytes;
        bytes.extend([0, 0x80, 0x80, 0x40, 1, b'x']); // of 1 MiB, by the name of x
        bytes.resize(bytes.len() + (1 << 20) - 2, 0);
        let source = Source::from(bytes);
        let digest = source.digest;
        let compiled = compiler.compile(&engine, source).unwrap();
        assert_eq!(compiled.digest, digest);
        busy.wait();
    }

    #[test]
    fn a_panic_of_a_compiling_thread_ends_nothing_else() {
        let compiler = Compiler::start().unwrap();
        for pool in [&compiler.idle, &compiler.nice] {
            let (begun, panicking) = mpsc::channel::<()>();
            pool.spawn(move || {
                let _begun = begun;
                std::panic::resume_unwind(Box::new("a bug"));
            });
            assert!(panicking.recv().is_err());
        }
        let engine = engine::start(None).unwrap();
        let source = Source::read(Guest::Probe.path()).unwrap();
        assert!(compiler.compile(&engine, source).is_ok());
    }
}
