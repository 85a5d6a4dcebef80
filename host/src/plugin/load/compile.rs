//! Compiling a component out of the way of those that serve: by a process of its own, within bounds.

use std::fs::{self, File};
use std::io::{self, PipeReader, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio, exit};
use std::thread::{available_parallelism, park_timeout};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use rayon::{ThreadPool, ThreadPoolBuilder};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use rustix::process::{Resource, Rlimit, Signal};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache;
use super::cache_folder::CacheFolder;
use super::source::{Compiled, Source};
use crate::config;
use crate::plugin::run::address_space::Addressing;
use crate::plugin::run::engine;

/// The word that has the program compile for the one that runs.
pub(crate) const COMMAND: &str = "compile-into";

/// Memory that compiling may take, in bytes: seven times what 12 MB of code take.
const MAX_MEMORY: u64 = 1 << 30;

/// Threads that compile one component: each keeps some MiB, however many cores there are.
const MAX_THREADS: usize = 16;

/// Bytes from which on a component waits for the machine's idle time: what is smaller is compiled in a moment.
const LARGE: u64 = 512 << 10;

/// How long it waits for that, for each KiB: some four times what it takes then.
const IDLE_PER_KIB: Duration = Duration::from_millis(2);

/// How nice compiling is on a busy machine: those that serve get ten times its share.
const NICE: i32 = 10;

/// How much longer than its processor time compiling may take, with the share that leaves it.
const WAITS: u32 = 20;

/// How long the cache may take to tidy up.
const TIDY: Duration = Duration::from_secs(5);

/// How a process ends that has compiled what the cache did not take: its words tell why.
const NOT_KEPT: i32 = 3;

/// Bytes that are read of what a process says when it ends.
const WORDS: u64 = 4 << 10;

/// Compiles components, each in a child process.
pub(crate) struct Compiler {
    /// Where the gateway itself takes up compiled code, or compiles where there can be no child.
    nice: ThreadPool,
    cache: Option<PathBuf>,
    addressing: Addressing,
    /// Without a cache, where a child hands over what it compiled: kept for as long as it takes to load it.
    private: Option<CacheFolder>,
    /// Its other end is closed when nobody waits for anything that is compiled.
    stopped: PipeReader,
}

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error("it is no component that can be compiled: {0}")]
    NoComponent(String),
    #[error("compiling it takes more than {0} s of processor time")]
    TooLong(u64),
    #[error("compiling it takes more than {} MiB of memory", MAX_MEMORY >> 20)]
    TooMuch,
    #[error("there was no processor time to compile it")]
    NoTime,
    #[error("the gateway stopped meanwhile")]
    Stopped,
    /// It could only be compiled once more, by the gateway that serves.
    #[error("{} did not take what was compiled{why}", cache.display())]
    NotKept { cache: PathBuf, why: String },
    #[error(
        "it was not compiled: the process that did it ended with {status}{}",
        said(words)
    )]
    Ended { status: ExitStatus, words: String },
}

/// The last words of a process, behind how it ended. Of a panic, the first line tells where, and the second what.
fn said(words: &str) -> String {
    let mut lines = words.lines().filter(|line| !line.is_empty());
    match (lines.next(), lines.next()) {
        (Some(first), Some(second)) => format!(" and said: {first} {second}"),
        (Some(only), None) => format!(" and said: {only}"),
        (None, _) => String::new(),
    }
}

/// How a child gets its processor time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pace {
    /// While nothing else wants to run.
    Idle,
    /// Always, with a small share of a busy machine.
    Nice,
}

impl Pace {
    /// The word for it on the command line of the child.
    fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Nice => "nice",
        }
    }

    /// Sets it, for this thread and those that it starts. Where the machine refuses, it is compiled all the same.
    fn set(self) {
        let _ = rustix::process::setpriority_process(None, NICE);
        if self == Self::Idle {
            let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
        }
    }

    /// Who has no haste leaves half of the cores to themselves: a thread that wakes finds one that is free.
    fn threads(self, cores: usize) -> usize {
        let threads = match self {
            Self::Idle => cores / 2,
            Self::Nice => cores,
        };
        threads.clamp(1, MAX_THREADS)
    }
}

impl Compiler {
    /// With the folder where compiled code is kept, which is also how a child process hands it over. What compiles ends
    /// when the other end of `stopped` is closed.
    pub(crate) fn start(cache: Option<PathBuf>, stopped: PipeReader) -> Result<Self> {
        let nice = ThreadPoolBuilder::new()
            .thread_name(|_| "compile".into())
            // Of the thread that calls, as Linux has it. Where it is refused it compiles all the same.
            .start_handler(|_| {
                let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
            })
            .build()
            .context("compiling threads")?;
        let private = if cache.is_none() {
            CacheFolder::make()
        } else {
            None
        };
        Ok(Self {
            nice,
            cache,
            addressing: Addressing::Reserved,
            private,
            stopped,
        })
    }

    /// The code that is compiled reaches its memory so.
    pub(crate) fn compiling_for(self, addressing: Addressing) -> Self {
        Self { addressing, ..self }
    }

    /// Where the engine is to look for compiled code, if anywhere.
    pub(crate) fn cache(&self) -> Option<&Path> {
        let private = self.private.as_ref().map(CacheFolder::path);
        self.cache.as_deref().or(private)
    }

    /// Takes milliseconds to seconds: not for a thread that serves.
    pub(crate) fn compile(
        &self,
        engine: &Engine,
        plugin: &config::Plugin,
        source: &Source,
    ) -> Result<Compiled, CompileError> {
        if let Some(cache) = self.cache() {
            ahead(cache, self.addressing, plugin, &source.bytes, &self.stopped)?;
        }
        // Finds what the child has left. Where there can be none, compiles.
        let compiled = self.nice.install(|| Component::new(engine, &source.bytes));
        if let Some(private) = &self.private {
            let _ = fs::remove_dir_all(private.path().join(engine::CACHE).join("modules"));
        }
        Ok(Compiled {
            component: compiled.map_err(|error| CompileError::NoComponent(format!("{error:#}")))?,
            digest: source.digest,
            bytes: source.bytes.clone(),
        })
    }
}

/// Has a child compile a component into the cache: a large one in the machine's idle time, if there is some.
fn ahead(
    cache: &Path,
    addressing: Addressing,
    plugin: &config::Plugin,
    bytes: &[u8],
    stopped: &PipeReader,
) -> Result<(), CompileError> {
    let (name, cpu) = (&plugin.name, plugin.limits.compile);
    let began = SystemTime::now();
    let size = bytes.len() as u64;
    let idle = (size >= LARGE).then(|| {
        let kib = u32::try_from(size >> 10).unwrap_or(u32::MAX);
        (Pace::Idle, IDLE_PER_KIB.saturating_mul(kib))
    });
    let nice = (Pace::Nice, cpu * WAITS);
    for (pace, patience) in idle.into_iter().chain([nice]) {
        match child(cache, addressing, bytes, cpu, pace, patience, stopped) {
            Ok(Some((status, words))) if status.code() == Some(NOT_KEPT) => {
                let why = cache::why_not_kept(cache, began);
                return Err(CompileError::NotKept {
                    cache: cache.to_owned(),
                    why: why.map_or_else(|| said(&words), |why| format!(": {why}")),
                });
            }
            Ok(Some((status, words))) => return judge(status, &words, cpu),
            Ok(None) if !is_open(stopped) => return Err(CompileError::Stopped),
            Ok(None) => tracing::debug!(plugin = name, "no time to compile while {}", pace.word()),
            Err(error) => {
                tracing::warn!(
                    plugin = name,
                    "a component is compiled by the gateway itself, without bounds: \
                     no process can do it: {error:#}"
                );
                return Ok(());
            }
        }
    }
    Err(CompileError::NoTime)
}

/// Runs the child process. What it takes is not of this one: its memory, its locks, and how it may end. Gives how it
/// ended, and what it said; none when that took longer than `patience`, or nobody waits for it.
fn child(
    cache: &Path,
    addressing: Addressing,
    bytes: &[u8],
    cpu: Duration,
    pace: Pace,
    patience: Duration,
    stopped: &PipeReader,
) -> Result<Option<(ExitStatus, String)>> {
    let file = |name| rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).map(File::from);
    let (mut input, mut words) = (file("component")?, file("words")?);
    input.write_all(bytes)?;
    input.rewind()?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("lockgate")
        // Out of reach of a ctrl-c that is meant for the gateway.
        .process_group(0)
        .arg(COMMAND)
        .arg(cache)
        .arg(std::process::id().to_string())
        .arg(cpu.as_secs().to_string())
        .arg(pace.word())
        .arg(addressing.word())
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(words.try_clone()?)
        .spawn()?;
    let over = match &child.stdout {
        Some(output) => closed(output.as_fd(), patience, stopped),
        None => Ok(true),
    };
    if !matches!(over, Ok(true)) {
        child.kill()?;
    }
    let status = child.wait()?;
    if !over? {
        return Ok(None);
    }
    words.rewind()?;
    let mut said = Vec::new();
    words.take(WORDS).read_to_end(&mut said)?;
    Ok(Some((status, String::from_utf8_lossy(&said).into_owned())))
}

/// Waits until the other end of a pipe, on which nothing is said, is closed; not if that of `stopped` is first.
fn closed(pipe: BorrowedFd<'_>, patience: Duration, stopped: &PipeReader) -> Result<bool> {
    let patience = Timespec::try_from(patience)?;
    let mut pipes = [
        PollFd::new(&pipe, PollFlags::IN),
        PollFd::new(stopped, PollFlags::IN),
    ];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut pipes, Some(&patience)))?;
    let [pipe, _] = &pipes;
    Ok(!pipe.revents().is_empty())
}

/// Whether somebody still holds the other end.
fn is_open(pipe: &PipeReader) -> bool {
    let mut pipe = [PollFd::new(pipe, PollFlags::IN)];
    let now = Timespec::default();
    rustix::event::poll(&mut pipe, Some(&now)).is_ok_and(|closed| closed == 0)
}

/// What it means that a child ended so, with these words.
fn judge(status: ExitStatus, words: &str, cpu: Duration) -> Result<(), CompileError> {
    if status.success() {
        return Ok(());
    }
    let words = words.trim_end();
    let signal = |signal: Signal| status.signal() == Some(signal.as_raw());
    Err(if status.code() == Some(1) {
        let error = words.strip_prefix("error: ").unwrap_or(words);
        CompileError::NoComponent(error.to_owned())
    } else if signal(Signal::XCPU) {
        CompileError::TooLong(cpu.as_secs())
    } else if signal(Signal::ABORT) && words.contains("memory allocation of") {
        CompileError::TooMuch
    } else {
        let words = words.to_owned();
        CompileError::Ended { status, words }
    })
}

/// The child process: compiles the component on standard input into a cache, and ends with `parent`, the process that
/// began it.
pub(crate) fn compile_into(
    cache: &Path,
    parent: u32,
    cpu_s: u64,
    pace: Pace,
    addressing: Addressing,
) -> Result<()> {
    // What `top` shows: the program was begun by another name.
    rustix::thread::set_name(c"lockgate")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = rustix::process::getppid().map_or(0, |id| id.as_raw_nonzero().get());
    ensure!(u32::try_from(now) == Ok(parent), "nobody waits for it");
    bound(Resource::Cpu, cpu_s)?;
    // What it can write to, heap and stacks: the engine reserves much more address space than that.
    bound(Resource::Data, MAX_MEMORY)?;
    bound(Resource::Core, 0)?;
    // Where there is less memory than that, the machine takes this process and not the gateway.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    pace.set();
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    // What the cache says when it takes nothing.
    let _ = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_level(false)
        .without_time()
        .try_init();
    let kept = {
        let cores = available_parallelism().map_or(1, usize::from);
        let threads = ThreadPoolBuilder::new()
            .num_threads(pace.threads(cores))
            .build()?;
        let cache = engine::cache(cache)?;
        let engine = engine::to_compile(cache.clone(), addressing)?;
        threads.install(|| Component::new(&engine, &bytes))?;
        cache.cache_hits() + cache.cache_misses() > 0 // a miss counts once it is written
    };
    wait_for_the_cache();
    if !kept {
        exit(NOT_KEPT);
    }
    Ok(())
}

/// Sets what this process may take of something, or leaves it where less is allowed.
fn bound(resource: Resource, most: u64) -> Result<()> {
    let maximum = rustix::process::getrlimit(resource).maximum;
    let current = Some(maximum.map_or(most, |maximum| maximum.min(most)));
    Ok(rustix::process::setrlimit(
        resource,
        Rlimit { current, maximum },
    )?)
}

/// The cache has a thread that removes what is too old or too much, and ends with the engine.
fn wait_for_the_cache() {
    let give_up = Instant::now() + TIDY;
    while fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1)
        && Instant::now() < give_up
    {
        park_timeout(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use super::*;

    #[test]
    fn a_panic_while_compiling_ends_nothing_else() {
        let (stopped, _running) = io::pipe().unwrap();
        let compiler = Compiler::start(None, stopped).unwrap();
        let bug = || resume_unwind(Box::new("a bug"));
        let ended = catch_unwind(AssertUnwindSafe(|| compiler.nice.install(bug)));
        assert!(ended.is_err());
        assert_eq!(compiler.nice.install(|| 1), 1);
    }

    #[test]
    fn who_has_no_haste_leaves_half_of_the_cores() {
        let threads = |pace: Pace| [1, 2, 5, 16, 17, 33, 64].map(|cores| pace.threads(cores));
        assert_eq!(threads(Pace::Idle), [1, 1, 2, 8, 8, 16, 16]);
        assert_eq!(threads(Pace::Nice), [1, 2, 5, 16, 16, 16, 16]);
    }
}
