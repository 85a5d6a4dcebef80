//! The barrier over loom.

use std::rc::Rc;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread::yield_now;

use super::{check, spawn, sync};

#[path = "../../barrier.rs"]
#[expect(
    clippy::duplicate_mod,
    reason = "the same protocol over other locks and atomics"
)]
#[allow(dead_code, reason = "loom waits without a clock")]
mod over_loom;

pub(super) use over_loom::Barrier;

impl Barrier {
    /// As `shut`, without a clock.
    fn shut_now(&self) {
        self.close();
        while !self.is_quiet() {
            yield_now();
        }
    }
}

/// Two calls, each on its own shard or both on the first, while a reload shuts the barrier.
fn no_call_begins_after_shut(shards: [usize; 2]) {
    check(3, move || {
        let barrier = Arc::new(Barrier::default());
        // A call uses it as it begins, and a reload takes it away. `Rc` will do: loom runs all threads on one system
        // thread.
        let version = Rc::new(UnsafeCell::new(()));
        let calls = shards.map(|shard| {
            let (barrier, version) = (Arc::clone(&barrier), Rc::clone(&version));
            spawn(shard, move || {
                if let Some(start) = barrier.enter() {
                    version.with(|_| ());
                    drop(start);
                }
            })
        });
        barrier.shut_now();
        version.with_mut(|_| ());
        assert!(barrier.enter().is_none());
        for call in calls {
            call.join().unwrap();
        }
    });
}

#[test]
fn no_call_of_two_threads_begins_after_shut() {
    no_call_begins_after_shut([0, 1]);
}

#[test]
fn no_call_of_one_shard_begins_after_shut() {
    no_call_begins_after_shut([0, 0]);
}
