//! Compiles components in a child process, within bounds and out of the way of the threads that serve.

use std::fs::{self, File};
use std::io::{self, PipeReader, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitStatus, Stdio, exit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, available_parallelism, park_timeout};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use rayon::{ThreadPool, ThreadPoolBuilder};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use rustix::process::{Resource, Rlimit, Signal};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadId, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache;
use super::compile_error::{CompileError, quoted};
use super::functions::{self, Functions};
use super::source::{Compiled, Source};
use super::temporary_folder::CacheFolder;
use crate::config;
use crate::net::watch::out_of_files;
use crate::plugin::run::address_space::Addressing;
use crate::plugin::run::engine;
use crate::signature::digest_of;

/// The hidden subcommand by which the program becomes the child that compiles.
pub(crate) const COMMAND: &str = "compile-into";

/// Bytes of memory that compiling may take: seven times the need of 12 MB of code.
pub(super) const MAX_MEMORY: u64 = 1 << 30;

/// Threads that compile one component, however many cores there are: each keeps some MiB.
const MAX_THREADS: usize = 16;

/// Components from this size on are compiled in the machine's idle time; smaller ones take a moment.
const LARGE: u64 = 512 << 10;

/// The wait for idle time, for each KiB of the component: some four times the time that compiling takes then.
const IDLE_PER_KIB: Duration = Duration::from_millis(2);

/// The niceness of compiling on a busy machine: the threads that serve get ten times its share.
const NICE: i32 = 10;

/// How many times its processor time compiling may last, with the share that this niceness leaves it.
const PATIENCE: u32 = 20;

/// The time that the cache may take to tidy up.
const TIDY: Duration = Duration::from_secs(5);

/// The exit code of a child whose code the cache did not take: its output says why.
const NOT_KEPT: i32 = 3;

/// The time that a child may take to say that it hurries.
const GRACE: Duration = Duration::from_secs(1);

/// Bytes that are read of the output of a child.
const MAX_OUTPUT: u64 = 4 << 10;

/// Compiles components, each in a child process.
pub(crate) struct Compiler {
    /// The threads on which the gateway loads compiled code, or compiles where no child can run.
    nice: ThreadPool,
    cache: Option<PathBuf>,
    addressing: Addressing,
    /// Without a cache, the folder in which a child hands over its code, kept until it is loaded; for an author, that of
    /// the functions too.
    private: Option<CacheFolder>,
    /// The other end is closed when the gateway stops: no compiled code is awaited any more.
    stopped: PipeReader,
    waits: Waits,
    /// Whether compiling could take time from clients.
    serves: AtomicBool,
}

/// Who waits for compiled code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Clients of a gateway, which come first once it serves.
    Clients,
    /// The author of a plugin, after each save: compiling comes first, and most functions are those of the last save.
    Author,
}

/// How a child gets its processor time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pace {
    /// As fast as it can: nothing serves yet.
    Full,
    /// Only while the machine is idle, for a while; then as `Nice`.
    Idle,
    /// Always, with a small share of a busy machine.
    Nice,
}

impl Pace {
    /// Its name on the command line of the child.
    fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Idle => "idle",
            Self::Nice => "nice",
        }
    }

    /// Sets the priority of this thread and of those that it starts. Where the machine refuses, compiling goes on at
    /// the old one.
    fn set(self) {
        if self == Self::Full {
            return;
        }
        if self == Self::Idle {
            let _ = set_policy(thread_native_id(), NormalThreadSchedulePolicy::Idle);
        }
        // After the policy, which resets it.
        let _ = rustix::process::setpriority_process(None, NICE);
    }

    /// The threads to compile with. In idle time half of the cores stay free, so that a thread that wakes finds one.
    fn threads(self, cores: usize) -> usize {
        let threads = match self {
            Self::Idle => cores / 2,
            Self::Full | Self::Nice => cores,
        };
        threads.clamp(1, MAX_THREADS)
    }
}

impl Compiler {
    /// Keeps compiled code in `cache`, through which a child process also hands it over. Compiling ends when the
    /// other end of `stopped` is closed.
    pub(crate) fn start(cache: Option<PathBuf>, stopped: PipeReader, waits: Waits) -> Result<Self> {
        let nice = ThreadPoolBuilder::new()
            .thread_name(|_| "compile".into())
            // On Linux this is the priority of the calling thread. Where it is refused, compiling goes on at the old
            // one.
            .start_handler(|_| {
                let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
            })
            .build()
            .context("compiling threads")?;
        let private = if cache.is_none() || waits == Waits::Author {
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
            waits,
            serves: AtomicBool::new(false),
        })
    }

    /// Has what is compiled from now on leave the processor to those that serve.
    pub(crate) fn serve(&self) {
        self.serves.store(true, Ordering::Relaxed);
    }

    /// Sets how compiled code addresses its memory.
    pub(crate) fn compiling_for(self, addressing: Addressing) -> Self {
        Self { addressing, ..self }
    }

    /// The folder in which the engine looks for compiled code.
    pub(crate) fn cache(&self) -> Option<&Path> {
        let private = self.private.as_ref().map(CacheFolder::path);
        self.cache.as_deref().or(private)
    }

    /// Compiles a component, which takes milliseconds to seconds: not for a thread that serves.
    pub(crate) fn compile(
        &self,
        engine: &Engine,
        plugin: &config::Plugin,
        source: &Source,
    ) -> Result<Compiled, CompileError> {
        if let Some(cache) = self.cache() {
            let compilation = Compilation {
                bytes: &source.bytes,
                cpu: plugin.limits.compile,
                addressing: self.addressing,
                cache,
                functions: self.functions(&plugin.name),
                stopped: &self.stopped,
            };
            let size = source.bytes.len() as u64;
            let run = || compilation.run(&plugin.name, self.paces(size, plugin.limits.compile));
            match run() {
                // They may be what ended it, and would end each further one.
                Err(error @ CompileError::Ended { .. }) if compilation.forget_functions() => {
                    tracing::info!(
                        plugin = plugin.name,
                        "compiling it again, without the functions of the last build: {error}"
                    );
                    run()
                }
                ran => ran,
            }?;
        }
        // Finds the code that a child has left in the cache. Where no child could run, compiles.
        let compiled = self.nice.install(|| Component::new(engine, &source.bytes));
        if let (None, Some(private)) = (&self.cache, &self.private) {
            let _ = fs::remove_dir_all(private.path().join(engine::CACHE).join("modules"));
        }
        Ok(Compiled {
            component: compiled.map_err(|error| CompileError::NoComponent(format!("{error:#}")))?,
            digest: source.digest,
            bytes: source.bytes.clone(),
        })
    }

    /// The file of the functions of a plugin that its author changes.
    fn functions(&self, plugin: &str) -> Option<PathBuf> {
        let folder = match self.waits {
            Waits::Author => self.private.as_ref()?.path().join(functions::FOLDER),
            Waits::Clients => return None,
        };
        Some(folder.join(digest_of(plugin.as_bytes())))
    }

    /// The paces to compile a component at. A large one takes idle time first, if the machine has any; the child that
    /// does so hurries in the end, and another begins again only where it may not.
    fn paces(&self, bytes: u64, cpu: Duration) -> impl Iterator<Item = Patience> + use<> {
        let most = cpu * PATIENCE;
        let serves = self.waits == Waits::Clients && self.serves.load(Ordering::Relaxed);
        let idle = (serves && bytes >= LARGE).then(|| (Pace::Idle, idle_time(bytes) + GRACE));
        let last = if serves { Pace::Nice } else { Pace::Full };
        idle.into_iter().chain([(last, most)])
    }
}

/// The wait for idle time.
fn idle_time(bytes: u64) -> Duration {
    let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
    IDLE_PER_KIB.saturating_mul(kib)
}

/// A pace, and the time that the child may take.
type Patience = (Pace, Duration);

/// A component for a child to compile, and what the child needs for it.
struct Compilation<'a> {
    bytes: &'a [u8],
    /// The processor time that it may take.
    cpu: Duration,
    addressing: Addressing,
    cache: &'a Path,
    functions: Option<PathBuf>,
    stopped: &'a PipeReader,
}

impl Compilation<'_> {
    /// Has a child compile into the cache, at each of the paces until one has the time.
    fn run(
        &self,
        plugin: &str,
        paces: impl IntoIterator<Item = Patience>,
    ) -> Result<(), CompileError> {
        let began = SystemTime::now();
        for (pace, patience) in paces {
            let mut ran = self.run_child(pace, patience);
            if matches!(&ran, Ok(Some((status, _))) if status.code() == Some(NOT_KEPT))
                && cache::may_take_it_now(self.cache)
            {
                // Another gateway may have stored the same code at that moment.
                ran = self.run_child(pace, patience);
            }
            match ran {
                Ok(Some((status, output))) if status.code() == Some(NOT_KEPT) => {
                    let why = cache::why_not_kept(self.cache, began);
                    let (why, remedy) = why.map_or_else(
                        || (quoted(&output), cache::REMEDY),
                        |(why, remedy)| (format!(": {why}"), remedy),
                    );
                    return Err(CompileError::NotKept {
                        cache: self.cache.to_owned(),
                        why,
                        remedy,
                    });
                }
                Ok(Some((status, output))) => {
                    return CompileError::judge(status, &output, self.cpu);
                }
                Ok(None) if !is_open(self.stopped) => return Err(CompileError::Stopped),
                Ok(None) => tracing::debug!(plugin, "no time to compile while {}", pace.word()),
                Err(error) if out_of_files(&error) => return Err(CompileError::NoFiles(error)),
                Err(error) => {
                    tracing::warn!(
                        plugin,
                        "a component is compiled by the gateway itself, without bounds: \
                         no process can do it: {error}"
                    );
                    return Ok(());
                }
            }
        }
        Err(CompileError::NoTime)
    }

    /// Removes the functions of the last compilation. False if there were none.
    fn forget_functions(&self) -> bool {
        let file = self.functions.as_ref();
        file.is_some_and(|file| fs::remove_file(file).is_ok())
    }

    /// Runs the child process, so that the memory, locks and crashes of a compilation are not the gateway's. Gives the
    /// status and the output of the child; none when it took longer than `patience`, or the gateway stops.
    fn run_child(
        &self,
        pace: Pace,
        patience: Duration,
    ) -> io::Result<Option<(ExitStatus, String)>> {
        let file = |name| rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).map(File::from);
        let (mut input, mut output) = (file("component")?, file("output")?);
        input.write_all(self.bytes)?;
        input.rewind()?;
        let mut child = Command::new("/proc/self/exe")
            .arg0("lockgate")
            // Out of reach of a ctrl-c that is meant for the gateway.
            .process_group(0)
            .arg(COMMAND)
            .arg(self.cache)
            .arg(std::process::id().to_string())
            .arg(self.cpu.as_secs().to_string())
            .arg(pace.word())
            .arg(self.addressing.word())
            .args(&self.functions)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(output.try_clone()?)
            .spawn()?;
        let over = match &mut child.stdout {
            Some(pipe) => wait_for_child(pipe, patience, self.cpu * PATIENCE, self.stopped),
            None => Ok(true),
        };
        if !matches!(over, Ok(true)) {
            child.kill()?;
        }
        let status = child.wait()?;
        if !over? {
            return Ok(None);
        }
        output.rewind()?;
        let mut read = Vec::new();
        output.take(MAX_OUTPUT).read_to_end(&mut read)?;
        Ok(Some((status, String::from_utf8_lossy(&read).into_owned())))
    }
}

/// Waits until the child has closed its end of a pipe, and for `longer` once it says there that it hurries. False if it
/// has not closed it by then, or if the other end of `stopped` is closed.
fn wait_for_child(
    pipe: &mut ChildStdout,
    patience: Duration,
    longer: Duration,
    stopped: &PipeReader,
) -> io::Result<bool> {
    if !wait_for(pipe.as_fd(), patience, stopped)? {
        return Ok(false);
    }
    let hurries = pipe.read(&mut [0])? > 0;
    Ok(!hurries || wait_for(pipe.as_fd(), longer, stopped)?)
}

/// Waits until the other end of a pipe is written to or closed. False if `patience` ends first, or the other end of
/// `stopped` is closed.
fn wait_for(pipe: BorrowedFd<'_>, patience: Duration, stopped: &PipeReader) -> io::Result<bool> {
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    let mut pipes = [
        PollFd::new(&pipe, PollFlags::IN),
        PollFd::new(stopped, PollFlags::IN),
    ];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut pipes, Some(&patience)))?;
    let [pipe, _] = &pipes;
    Ok(!pipe.revents().is_empty())
}

/// Whether the other end of a pipe is open.
fn is_open(pipe: &PipeReader) -> bool {
    let mut pipe = [PollFd::new(pipe, PollFlags::IN)];
    let now = Timespec::default();
    rustix::event::poll(&mut pipe, Some(&now)).is_ok_and(|closed| closed == 0)
}

/// The child process: compiles the component on standard input into a cache. It ends with `parent`, the gateway that
/// started it. Functions that the file `functions` has are not compiled again, and those of this component are in it
/// afterwards.
pub(crate) fn compile_into(
    cache: &Path,
    parent: u32,
    cpu_s: u64,
    pace: Pace,
    addressing: Addressing,
    functions: Option<&Path>,
) -> Result<()> {
    // The name that `top` shows, since the program was started as `exe`.
    rustix::thread::set_name(c"lockgate")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = rustix::process::getppid().map_or(0, |id| id.as_raw_nonzero().get());
    ensure!(u32::try_from(now) == Ok(parent), "nobody waits for it");
    bound(Resource::Cpu, cpu_s)?;
    // Bounds heap and stacks alone: the engine reserves much more address space than that.
    bound(Resource::Data, MAX_MEMORY)?;
    bound(Resource::Core, 0)?;
    // If memory runs out, the kernel kills this process and not the gateway.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    let idle = IdleThreads::default();
    idle.add_this();
    // Its thread is started before the pace is set, so that it runs in time.
    let hurry = (pace == Pace::Idle).then(|| idle.hurry_after(idle_time(bytes.len() as u64)));
    pace.set();
    // Shows the warnings of a cache that takes nothing.
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
            .start_handler(move |_| idle.add_this())
            .build()?;
        let cache = engine::cache(cache)?;
        let functions = functions.map(|file| Arc::new(Functions::read(file.to_owned())));
        let known = functions.clone().map(|functions| functions as _);
        let engine = engine::to_compile(cache.clone(), addressing, known)?;
        threads.install(|| Component::new(&engine, &bytes))?;
        if let Some(functions) = functions {
            // Without the file the next compilation takes as long.
            let _ = functions.write();
        }
        cache.cache_hits() + cache.cache_misses() > 0 // a miss counts once it is written
    };
    drop(hurry);
    wait_for_the_cache();
    if !kept {
        exit(NOT_KEPT);
    }
    Ok(())
}

/// The threads that compile in idle time.
#[derive(Clone, Default)]
struct IdleThreads(Arc<Mutex<Vec<ThreadId>>>);

impl IdleThreads {
    fn add_this(&self) {
        self.lock().push(thread_native_id());
    }

    /// Gives them the policy of others after this time, unless the sender is dropped before, and says so on standard
    /// output. They keep their niceness. Where the machine does not allow it, they stay as they are: it takes a privilege,
    /// or `RLIMIT_NICE`.
    fn hurry_after(&self, time: Duration) -> mpsc::Sender<()> {
        let (compiling, over) = mpsc::channel();
        let threads = self.clone();
        thread::spawn(move || {
            if over.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
                let hurry = |id: &ThreadId| set_policy(*id, NormalThreadSchedulePolicy::Other);
                if threads.lock().iter().try_for_each(hurry).is_ok() {
                    let _ = rustix::io::write(io::stdout(), b".");
                }
            }
        });
        compiling
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ThreadId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the policy of a thread, and the niceness of this one to the least urgent that goes with it.
fn set_policy(
    id: ThreadId,
    policy: NormalThreadSchedulePolicy,
) -> Result<(), thread_priority::Error> {
    let policy = ThreadSchedulePolicy::Normal(policy);
    set_thread_priority_and_policy(id, ThreadPriority::Min, policy)
}

/// Lowers a resource limit of this process, or leaves it where it is lower already.
fn bound(resource: Resource, most: u64) -> Result<()> {
    let maximum = rustix::process::getrlimit(resource).maximum;
    let current = Some(maximum.map_or(most, |maximum| maximum.min(most)));
    Ok(rustix::process::setrlimit(
        resource,
        Rlimit { current, maximum },
    )?)
}

/// Waits for the thread of the cache that removes old and surplus code: it ends with the engine.
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
    fn panic_while_compiling_leaves_the_threads_running() {
        let (stopped, _running) = io::pipe().unwrap();
        let compiler = Compiler::start(None, stopped, Waits::Clients).unwrap();
        let bug = || resume_unwind(Box::new("a bug"));
        let ended = catch_unwind(AssertUnwindSafe(|| compiler.nice.install(bug)));
        assert!(ended.is_err());
        assert_eq!(compiler.nice.install(|| 1), 1);
    }

    #[test]
    fn compiling_in_idle_time_leaves_half_of_the_cores() {
        let threads = |pace: Pace| [1, 2, 5, 16, 17, 33, 64].map(|cores| pace.threads(cores));
        assert_eq!(threads(Pace::Idle), [1, 1, 2, 8, 8, 16, 16]);
        assert_eq!(threads(Pace::Nice), [1, 2, 5, 16, 16, 16, 16]);
        assert_eq!(threads(Pace::Full), [1, 2, 5, 16, 16, 16, 16]);
    }
}
