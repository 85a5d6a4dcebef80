//! Barrier: `shut` returns once no call is starting, and none starts afterwards.
//!
//! Each version has a barrier. A call holds a [`Start`] from [`Barrier::enter`] until its handler has begun; a reload
//! shuts the barrier of the version that it replaces.
//!
//! ```text
//!            a call                                        a reload
//!
//!   (1) starting[own] += 1  SeqCst                (3) closed = true           SeqCst
//!   (2) closed?             SeqCst                (4) each starting[i] == 0?  SeqCst
//!        no ─▶ the handler begins                      no  ─▶ check again in 1 ms
//!        yes ─▶ refused                                yes ─▶ shut: no call begins any more
//!   (5) starting[own] -= 1  Release
//! ```
//!
//! | state | `closed` | `starting` | leaves it |
//! | --- | --- | --- | --- |
//! | open | no | any | `shut`, once and for good |
//! | closing | yes | calls that entered in time, and calls about to be refused | the last call that entered in time starts |
//! | shut | yes | calls about to be refused | never |
//!
//! **Invariant.** A call that entered has begun, or was dropped, before `shut` returns. A flag alone does not give
//! that: it may change between the read and the begin.
//!
//! Each order has a partner:
//!
//! - **(1)(2) with (3)(4).** Each side writes, then reads the value that the other writes. All four are `SeqCst`, so
//!   that at least one side sees the other: the call reads `closed`, or `shut` reads its count. With a weaker order on
//!   any of them both could read the old value, and a call could begin after `shut`.
//! - **(5) with (4).** Release and acquire: the actions of a call before it left happen before `shut` returns.
//! - Once a shard reads zero after (3), it has no call that entered, and gets none: so shards are read one by one.
//!
//! **Cost.** A call adds to and subtracts from its thread's own shard, and reads a flag that is written once. No cache
//! line is written by all threads.
//!
//! `tests/loom/barrier.rs` has loom try all interleavings of this file.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::sync::{AtomicBool, AtomicU32, Sharded};

/// The time between two checks of the counts of a closed barrier. A call starts within one poll of a guest, which is
/// a tick at most.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

#[derive(Default)]
pub(crate) struct Barrier {
    closed: AtomicBool,
    /// Calls that are starting, by thread.
    starting: Sharded<AtomicU32>,
}

/// The right to start a call, until it is dropped.
pub(crate) struct Start<'barrier>(&'barrier AtomicU32);

impl Barrier {
    /// Admits a call; none when the barrier is closed.
    pub(crate) fn enter(&self) -> Option<Start<'_>> {
        let starting = self.starting.own();
        starting.fetch_add(1, Ordering::SeqCst);
        let start = Start(starting);
        (!self.closed.load(Ordering::SeqCst)).then_some(start)
    }

    /// Closes the barrier, and waits until no call is starting.
    pub(crate) async fn shut(&self) {
        self.close();
        while !self.is_quiet() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Whether no call is starting. Once true of a closed barrier, it stays true.
    pub(super) fn is_quiet(&self) -> bool {
        let mut all = self.starting.all();
        all.all(|starting| starting.load(Ordering::SeqCst) == 0)
    }
}

impl Drop for Start<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}
