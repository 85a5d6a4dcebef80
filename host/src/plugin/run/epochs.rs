//! Epochs: an epoch begins soon after each deadline was set, and none begins while no guest runs.
//!
//! A guest is interrupted at the first epoch that begins after its deadline was set. A clock that ticked all the time
//! would use a hundredth of a core in a gateway that does nothing, so each deadline asks for one tick ([`want`]). A
//! call that outlives it is polled with ticks that go on ([`keep`]): the engine sets the next deadline inside the poll,
//! where nothing can be asked for.
//!
//! [`want`]: Epochs::want
//! [`keep`]: Epochs::keep
//!
//! ```text
//!            a call                                        the epoch thread
//!
//!   (1) reads the epoch E, its deadline is E + 1           the timer ends
//!   (2) armed?                                         (4) armed = false
//!        yes ─▶ nothing to do                          (5) kept > 0 ─▶ as (2), (3)
//!   (3)  no  ─▶ armed = true; if it was false,         (6) the epoch grows
//!               start the timer
//! ```
//!
//! **Invariant.** While `armed` is true the timer runs, or is about to be started by the thread that set it.
//!
//! **After a `want` an epoch begins that its deadline does not know.** The call read `armed` as true, or made it so. A
//! later (4) ends that, and (6) follows. Had the call read the epoch of that (6) already, the fences of both sides (after
//! (1), before (6)) would have had it read the `armed` of (4), or a later one.
//!
//! **While a `keep` is held the timer runs.** `keep` counts, then does (2). The thread does (4), then reads the count. All
//! four are `SeqCst`: the thread sees the count, or `keep` sees `armed` false and starts the timer.
//!
//! **Cost.** A call reads a flag that is written twice a tick at most.
//!
//! `tests/loom/epochs.rs` has loom try all interleavings of this file.

use std::sync::atomic::Ordering;

use super::sync::{AtomicBool, AtomicU32, fence};

/// A timer that ends one tick after its start. It is started again only after it has ended.
pub(crate) trait Timer {
    fn start(&self);
}

pub(crate) struct Epochs<T: Timer> {
    armed: AtomicBool,
    /// Polls that need one tick after the other.
    kept: AtomicU32,
    pub(super) timer: T,
}

/// Ticks go on until this is dropped.
pub(crate) struct Kept<'epochs, T: Timer>(&'epochs Epochs<T>);

impl<T: Timer> Epochs<T> {
    pub(super) fn new(timer: T) -> Self {
        Self {
            armed: AtomicBool::default(),
            kept: AtomicU32::default(),
            timer,
        }
    }

    /// Has an epoch begin within a tick. To be called once a deadline is set.
    pub(crate) fn want(&self) {
        fence(Ordering::Acquire);
        self.arm();
    }

    /// Has one epoch begin after the other, a tick apart. To be called before a poll that may set deadlines.
    pub(crate) fn keep(&self) -> Kept<'_, T> {
        self.kept.fetch_add(1, Ordering::SeqCst);
        self.arm();
        Kept(self)
    }

    /// Begins an epoch by `advance`, once the timer has ended.
    pub(super) fn tick(&self, advance: impl FnOnce()) {
        self.armed.swap(false, Ordering::SeqCst);
        if self.kept.load(Ordering::SeqCst) > 0 {
            self.arm();
        }
        fence(Ordering::Release);
        advance();
    }

    /// Whether a tick is due.
    #[cfg(test)]
    pub(super) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::SeqCst)
    }

    fn arm(&self) {
        // Most calls find it armed, and write nothing.
        if !self.armed.load(Ordering::SeqCst) && !self.armed.swap(true, Ordering::SeqCst) {
            self.timer.start();
        }
    }
}

impl<T: Timer> Drop for Kept<'_, T> {
    fn drop(&mut self) {
        self.0.kept.fetch_sub(1, Ordering::Release);
    }
}
