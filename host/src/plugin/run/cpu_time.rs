//! Processor time is charged here: `limits.cpu_ms` counts that of a guest's polls, on whichever threads they run.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::UpdateDeadline;

thread_local! {
    /// The thread time at which the polled call has used up its budget; none on threads that run no guest.
    static BUDGET_END: Cell<Option<Duration>> = const { Cell::new(None) };
    /// Whether that call yielded at a tick, instead of waiting for something.
    static YIELDED: Cell<bool> = const { Cell::new(false) };
    /// The thread time at which the deadline of that call would pass if it went on without a wait.
    static DEADLINE: Cell<Option<Duration>> = const { Cell::new(None) };
    /// The kernel's account of this thread (proc_pid_schedstat(5)); none where the kernel or its `/proc` has none.
    static ACCOUNT: Option<File> = File::open("/proc/thread-self/schedstat").ok();
}

/// One poll of a call, and the start of its charge.
pub(crate) struct Charge {
    started: Duration,
}

/// The cost of a poll.
pub(crate) struct Charged {
    pub(crate) time: Duration,
    /// The guest yielded at a tick, instead of waiting for something.
    pub(crate) yielded: bool,
}

impl Charge {
    /// Begins the charge of a poll on this thread. The guest is interrupted once it has used `cpu`; `deadline` is what
    /// is left of the time that it may compute and wait in host calls.
    pub(crate) fn begin(cpu: Duration, deadline: Duration) -> Self {
        let started = thread_time();
        BUDGET_END.set(Some(started + cpu));
        DEADLINE.set(Some(started + deadline));
        YIELDED.set(false);
        Self { started }
    }

    /// Ends the charge of the poll.
    pub(crate) fn end(self) -> Charged {
        BUDGET_END.set(None);
        DEADLINE.set(None);
        Charged {
            time: thread_time().saturating_sub(self.started),
            yielded: YIELDED.get(),
        }
    }
}

/// What is left of the time that the call which is polled may compute and wait in host calls; none within its first poll, which
/// is not measured.
pub(crate) fn time_left() -> Option<Duration> {
    let deadline = DEADLINE.get()?;
    Some(deadline.saturating_sub(thread_time()))
}

/// The processor time of this thread. It leaves out the time that other threads had the processor, so that a busy
/// machine cuts off no call. The read is a system call: only calls that outlive their first tick pay for it, and those of
/// costly plugins.
pub(super) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.try_into()
        .expect("a thread has run for a positive time")
}

/// The time for which this thread has been ready to run while others had its processor; zero where the kernel keeps no
/// account of it.
pub(super) fn thread_delay() -> Duration {
    let mut text = [0; 64];
    let nanoseconds = ACCOUNT.with(|account| {
        let length = account.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = str::from_utf8(text.get(..length)?).ok()?;
        text.split_ascii_whitespace().nth(1)?.parse().ok()
    });
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// Decides at each tick: a guest that has used up its budget is interrupted, any other yields.
pub(crate) fn tick() -> UpdateDeadline {
    if BUDGET_END.get().is_some_and(|until| thread_time() >= until) {
        return UpdateDeadline::Interrupt;
    }
    YIELDED.set(true);
    UpdateDeadline::Yield(1)
}
