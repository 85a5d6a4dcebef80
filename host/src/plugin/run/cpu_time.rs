//! The charging of processor time: `limits.cpu_ms` counts what a guest's polls had of it, on whichever thread.

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::UpdateDeadline;

thread_local! {
    /// What this thread's clock may show while the call that it polls runs; none on threads that are not a guest's.
    static RUN_UNTIL: Cell<Option<Duration>> = const { Cell::new(None) };
    /// Whether that call stopped at a tick, rather than to wait for something.
    static YIELDED: Cell<bool> = const { Cell::new(false) };
}

/// One poll of a call, whose processor time is charged to it.
pub(crate) struct Charge {
    started: Duration,
}

/// What a poll has cost.
pub(crate) struct Charged {
    pub(crate) time: Duration,
    /// The guest stopped at a tick, rather than to wait for something.
    pub(crate) yielded: bool,
}

impl Charge {
    /// A poll begins on this thread. It is interrupted once it has had `left`.
    pub(crate) fn begin(left: Duration) -> Self {
        let started = thread_time();
        RUN_UNTIL.set(Some(started + left));
        YIELDED.set(false);
        Self { started }
    }

    /// The poll is over.
    pub(crate) fn end(self) -> Charged {
        RUN_UNTIL.set(None);
        Charged {
            time: thread_time().saturating_sub(self.started),
            yielded: YIELDED.get(),
        }
    }
}

/// The processor time that this thread has had. Time during which others had the processor is not in it, so that a
/// busy machine cuts no call off. Reading it is a system call: for calls that outlive their first tick only.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.try_into()
        .expect("a thread has run for a positive time")
}

/// What a guest does when the epoch has passed its deadline: runs out of its budget, or lets others run.
pub(crate) fn tick() -> UpdateDeadline {
    if RUN_UNTIL.get().is_some_and(|until| thread_time() >= until) {
        return UpdateDeadline::Interrupt;
    }
    YIELDED.set(true);
    UpdateDeadline::Yield(1)
}
