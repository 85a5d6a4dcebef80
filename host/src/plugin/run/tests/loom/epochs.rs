//! The epochs over loom.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::sync::atomic::{AtomicBool, AtomicU64};

use super::{check, spawn, sync};

#[path = "../../epochs.rs"]
#[expect(
    clippy::duplicate_mod,
    reason = "the same protocol over other locks and atomics"
)]
#[allow(dead_code, reason = "a test of the thread asks whether it sleeps")]
mod over_loom;

use over_loom::{Epochs, Timer};

/// A timer that may end at any time after its start.
#[derive(Default)]
struct AnyTime(AtomicBool);

impl Timer for AnyTime {
    fn start(&self) {
        let runs = self.0.swap(true, Ordering::AcqRel);
        assert!(!runs, "the timer is started twice");
    }
}

/// The engine's epoch, and what makes it grow.
struct Clock {
    epochs: Epochs<AnyTime>,
    epoch: AtomicU64,
}

impl Clock {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            epochs: Epochs::new(AnyTime::default()),
            epoch: AtomicU64::new(0),
        })
    }

    /// The epoch as the engine reads it.
    fn now(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    fn is_running(&self) -> bool {
        self.epochs.timer.0.load(Ordering::Acquire)
    }

    /// The thread's turn: nothing while the timer does not run.
    fn turn(&self) {
        if self.epochs.timer.0.swap(false, Ordering::AcqRel) {
            self.epochs.tick(|| {
                self.epoch.fetch_add(1, Ordering::Relaxed);
            });
        }
    }
}

#[test]
fn epoch_begins_after_each_deadline() {
    check(3, || {
        let clock = Clock::new();
        let calls = [0, 1].map(|shard| {
            let clock = Arc::clone(&clock);
            spawn(shard, move || {
                let deadline = clock.now() + 1;
                clock.epochs.want();
                deadline
            })
        });
        clock.turn();
        clock.turn();
        let deadlines = calls.map(|call| call.join().unwrap());
        while clock.is_running() {
            clock.turn();
        }
        for deadline in deadlines {
            assert!(clock.now() >= deadline, "a call without an epoch");
        }
    });
}

#[test]
fn timer_runs_while_ticks_are_kept() {
    check(3, || {
        let clock = Clock::new();
        let one = Arc::clone(&clock);
        let one = spawn(0, move || {
            one.epochs.want();
        });
        let kept = Arc::clone(&clock);
        let kept = spawn(1, move || std::mem::forget(kept.epochs.keep()));
        clock.turn();
        clock.turn();
        one.join().unwrap();
        kept.join().unwrap();
        assert!(clock.is_running(), "a poll without an epoch");
        clock.turn();
        assert!(clock.is_running(), "a poll without an epoch");
    });
}
