//! A component's code: read from its file when it is whole, known by its digest, compiled out of the way.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use rayon::{ThreadPool, ThreadPoolBuilder};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use rustix::process::Signal;
use tempfile::TempDir;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::time::{Instant, sleep};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::engine;
use crate::signature::Digest;

/// Bytes of the largest component file; Python's are 18 MB.
pub(super) const MAX_COMPONENT: u64 = 64 << 20;

/// The time between two looks at a file that has to be the same in both: a copy under way writes more often.
const LOOK: Duration = Duration::from_millis(75);

/// How long a reload waits for a file that is being written.
const WHOLE: Duration = Duration::from_secs(10);

/// The word that has the program compile for the one that runs.
pub(crate) const COMMAND: &str = "compile-into";

/// Bytes from which on a child compiles, in the machine's idle time: what is smaller is done in a moment.
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

/// Compiles out of the way of those that serve: large components in a child process, all else on threads of its own.
pub(super) struct Compiler {
    /// Run always, with a small share of a busy machine.
    nice: ThreadPool,
    cache: Option<PathBuf>,
    /// Without a cache, where a child hands over what it compiled: kept for as long as it takes to load it.
    private: Option<TempDir>,
}

impl Compiler {
    /// With the folder where compiled code is kept, which is also how a child process hands it over.
    pub(super) fn start(cache: Option<PathBuf>) -> Result<Self> {
        let nice = ThreadPoolBuilder::new()
            .thread_name(|_| "compile".into())
            // Of the thread that calls, as Linux has it. Where it is refused it compiles all the same.
            .start_handler(|_| {
                let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
            })
            .build()
            .context("compiling threads")?;
        let private = if cache.is_none() {
            private_folder()
        } else {
            None
        };
        Ok(Self {
            nice,
            cache,
            private,
        })
    }

    /// Where the engine is to look for compiled code, if anywhere.
    pub(super) fn cache(&self) -> Option<&Path> {
        let private = self.private.as_ref().map(TempDir::path);
        self.cache.as_deref().or(private)
    }

    /// Takes milliseconds to seconds: not for a thread that serves.
    pub(super) fn compile(&self, engine: &Engine, source: &Source) -> wasmtime::Result<Compiled> {
        let size = source.bytes.len() as u64;
        if size >= LARGE
            && let Err(error) = self.ahead(&source.bytes)
        {
            tracing::debug!("a component is compiled by the gateway itself: {error:#}");
        }
        // Finds what the child has left, and otherwise compiles.
        let compiled = self.nice.install(|| Component::new(engine, &source.bytes));
        if let Some(folder) = &self.private {
            let _ = fs::remove_dir_all(folder.path().join("modules"));
        }
        Ok(Compiled {
            component: compiled?,
            digest: source.digest,
            size,
        })
    }

    /// Has a process of its own compile a component into the cache, in the machine's idle time. What it takes is not of
    /// this process: its memory, its locks, and how it may end.
    fn ahead(&self, bytes: &[u8]) -> Result<()> {
        let cache = self.cache().context("there is no folder for it")?;
        let input = rustix::fs::memfd_create("component", MemfdFlags::CLOEXEC)?;
        let mut input = File::from(input);
        input.write_all(bytes)?;
        input.rewind()?;
        let mut child = Command::new("/proc/self/exe")
            .arg(COMMAND)
            .arg(cache)
            .arg(std::process::id().to_string())
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("no process for it")?;
        let patience = IDLE_PER_KIB * u32::try_from(bytes.len() >> 10)?;
        let over = match &child.stdout {
            Some(output) => closed(output.as_fd(), patience),
            None => Ok(false),
        };
        if !matches!(over, Ok(true)) {
            child.kill()?;
        }
        let status = child.wait()?;
        ensure!(over?, "the machine was never idle");
        ensure!(status.success(), "its process ended with {status}");
        tracing::debug!("a component was compiled by a process of its own");
        Ok(())
    }
}

/// A folder in the temporary one, gone with the gateway; none where there is nowhere to write.
fn private_folder() -> Option<TempDir> {
    tempfile::Builder::new()
        .prefix("lockgate-")
        // Who writes here has code run.
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .inspect_err(|error| {
            tracing::warn!(
                "large components are compiled by the gateway itself: \
                 there is no compile_cache, and no temporary folder to write to: {error}"
            );
        })
        .ok()
}

/// Waits until the other end of a pipe, on which nothing is said, is closed.
fn closed(pipe: BorrowedFd<'_>, patience: Duration) -> Result<bool> {
    let patience = Timespec::try_from(patience)?;
    let mut pipe = [PollFd::new(&pipe, PollFlags::IN)];
    let closed = rustix::io::retry_on_intr(|| rustix::event::poll(&mut pipe, Some(&patience)))?;
    Ok(closed > 0)
}

/// The child process: compiles the component on standard input into a cache.
///
/// It runs only while nothing else wants to, and ends with `parent`, the process that began it.
pub(crate) fn compile_into(cache: &Path, parent: u32) -> Result<()> {
    // Inherited by the threads to come. Where they are refused it compiles all the same.
    let _ = rustix::process::setpriority_process(None, NICE);
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = rustix::process::getppid().map_or(0, |id| id.as_raw_nonzero().get());
    ensure!(u32::try_from(now) == Ok(parent), "nobody waits for it");
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    let engine = engine::start(Some(cache))?;
    Component::new(&engine, &bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use lockgate_tests::Guest;

    use super::*;

    #[test]
    fn a_panic_while_compiling_ends_nothing_else() {
        let compiler = Compiler::start(None).unwrap();
        let bug = || resume_unwind(Box::new("a bug"));
        let ended = catch_unwind(AssertUnwindSafe(|| compiler.nice.install(bug)));
        assert!(ended.is_err());
        let engine = engine::start(compiler.cache()).unwrap();
        let source = Source::read(Guest::Probe.path()).unwrap();
        assert!(compiler.compile(&engine, &source).is_ok());
    }
}
