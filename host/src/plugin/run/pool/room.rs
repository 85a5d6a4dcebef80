//! The room for the instances of all plugins: a semaphore whose permits idle instances give back.
//!
//! Each version has room for one instance for as long as it lives, so that its calls always have their turn. Further
//! instances take from the shared room, and give it back when they end.
//!
//! A version that finds no room for a call gets in line. [`Room::run`], one task, serves the line; a change only
//! notifies that task, and no call waits for it. No change is missed:
//!
//! - **Getting in line.** A version finds no room, and gets in line ([`RoomState::line`]), under the lock of its queue.
//!   Then it notifies the task. It is in line or in the task's hands (`Queue::in_line`) until the task finds, under the
//!   same lock, that no call waits or that all permits are held: from then on a call that ends has a permit for the next.
//! - **Room is given back** under the room's lock, with a notification while a version is in line ([`RoomState::short`]).
//!   A version that gets in line after that notifies the task, which finds the room.
//! - **An instance becomes idle** without that lock. The task has all versions notify it of that (`BY_OTHERS`; a new
//!   version does so from the start), and then looks at their shards: rules (A) and (B) of [`super`].
//! - **The last instance of a version** belongs to that version alone, and causes no notification. Whether it is the last
//!   is read, under the queue's lock, after it is on its list. Another permit is taken under that lock, after a look at
//!   all shards: either it finds the instance, or the task is notified of the instance.
//! - **A change while the task looks** makes it look once more: `Notify` keeps one permit. Only this task empties the
//!   line, ends `short` and sets or clears `BY_OTHERS`, so rounds do not overlap.
//!
//! A round asks each version in line once and gives it one instance at most. A version that was served is last in the
//! next round. A version that needs the room of several instances may be overtaken by others: it has its first
//! instance, and must not stop them.

use std::cmp::Reverse;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use super::idle::Shards;
use super::sync::{Mutex, MutexGuard, Notify};

/// The period after which an unused instance is given back: it has been idle for one whole period, and for two at
/// most. Longer than the pauses of a chat, shorter than a night.
const IDLE_PERIOD: Duration = Duration::from_secs(60);

/// One part in this many is reserved for the first instances of versions: a reload works while calls use all the
/// rest.
const FIRST_SHARE: u32 = 8;

/// The room of the engine, in units of an instance with a memory, a stack and a few tables.
pub(crate) struct Room {
    pub(crate) total: u32,
    state: Mutex<RoomState>,
    /// Notified when something changes for the versions in line.
    pub(super) changed: Arc<Notify>,
}

#[derive(Default)]
struct RoomState {
    used: u32,
    /// The versions that may have idle instances.
    pools: Vec<Weak<Shards>>,
    /// The versions that need room for a call that waits, except those that are being served.
    line: Vec<Weak<Shards>>,
    /// A version is in line, or being served.
    short: bool,
}

/// How a version's turn in line ended.
pub(super) enum TurnEnd {
    /// A call that waited got an instance.
    Served,
    /// There is no room for another instance.
    NoRoom,
    /// The version needs no room any more.
    Over,
}

impl Room {
    /// Makes the room. [`Self::run`] must run for it: that serves the calls that wait, and gives idle instances back.
    pub(crate) fn new(total: u32) -> Arc<Self> {
        Arc::new(Self {
            total,
            state: Mutex::default(),
            changed: Arc::default(),
        })
    }

    /// The room that the calls of all versions may use together.
    pub(crate) fn for_calls(&self) -> u32 {
        self.total - self.total / FIRST_SHARE
    }

    /// Takes the room for a version's first instance, if need be from idle instances of others. False when all of it
    /// is in use.
    pub(super) fn take_first(&self, units: u32) -> bool {
        loop {
            if self.take_of(self.total, units) {
                return true;
            }
            if !self.reclaim_of(self.total, units) {
                return false;
            }
        }
    }

    /// Takes the room for another instance. False when there is none.
    pub(super) fn take(&self, units: u32) -> bool {
        self.take_of(self.for_calls(), units)
    }

    fn take_of(&self, total: u32, units: u32) -> bool {
        let mut state = self.lock();
        let used = state.used.saturating_add(units);
        let fits = used <= total;
        if fits {
            state.used = used;
        }
        fits
    }

    /// Gives back the room of an instance that has ended.
    pub(super) fn give(&self, units: u32) {
        let mut state = self.lock();
        state.used = state.used.saturating_sub(units);
        if state.short {
            self.notify();
        }
    }

    /// Wakes the task: there may be room for a version in line.
    pub(super) fn notify(&self) {
        self.changed.notify_one();
    }

    /// Puts a version in line for room. Not called again until its turn is over.
    pub(super) fn line_up(&self, pool: &Arc<Shards>) {
        let mut state = self.lock();
        state.line.push(Arc::downgrade(pool));
        state.short = true;
        self.notify();
    }

    /// Lets other versions take the idle instances of this one from now on.
    pub(super) fn join(&self, pool: &Arc<Shards>) {
        let mut state = self.lock();
        state.pools.retain(|pool| pool.strong_count() > 0);
        state.pools.push(Arc::downgrade(pool));
    }

    /// Ends an idle instance of the version that has most of them. False when ending all of them would not make room
    /// for `units`.
    pub(super) fn reclaim(&self, units: u32) -> bool {
        self.reclaim_of(self.for_calls(), units)
    }

    fn reclaim_of(&self, total: u32, units: u32) -> bool {
        let pools = self.pools().into_iter();
        let mut pools: Vec<_> = pools.map(|pool| (pool.spare(), pool)).collect();
        let spare = pools.iter().map(|(spare, _)| spare).sum();
        if self.lock().used.saturating_sub(spare).saturating_add(units) > total {
            return false;
        }
        pools.sort_by_key(|(spare, _)| Reverse(*spare));
        pools.iter().any(|(_, pool)| pool.give_back_one())
    }

    /// Gives each version in line room for one instance, as far as there is some.
    pub(super) fn serve(&self) {
        let line = {
            let mut state = self.lock();
            state.short = !state.line.is_empty();
            std::mem::take(&mut state.line)
        };
        // Before the look at the shards (A).
        for pool in self.pools() {
            pool.set_wanted_by_others(!line.is_empty());
        }
        if line.is_empty() {
            return;
        }
        let (mut served, mut unserved) = (Vec::new(), Vec::new());
        for waiting in line {
            match waiting.upgrade().map(|pool| pool.serve()) {
                Some(TurnEnd::Served) => served.push(waiting),
                Some(TurnEnd::NoRoom) => unserved.push(waiting),
                Some(TurnEnd::Over) | None => {}
            }
        }
        let again = !served.is_empty() || unserved.is_empty();
        let mut state = self.lock();
        unserved.append(&mut state.line);
        unserved.append(&mut served);
        state.line = unserved;
        drop(state);
        if again {
            self.notify();
        }
    }

    /// Ends the instances that no call has used since this was called last.
    pub(super) fn give_back_unused(&self) {
        for pool in self.pools() {
            pool.give_back_unused();
        }
    }

    fn pools(&self) -> Vec<Arc<Shards>> {
        self.lock().pools.iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, RoomState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the line and gives idle instances back, until the room is dropped.
    pub(crate) async fn run(room: Weak<Self>) {
        let Some(changed) = room.upgrade().map(|room| Arc::clone(&room.changed)) else {
            return;
        };
        let mut period = interval(IDLE_PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let period_over = tokio::select! {
                _ = period.tick() => true,
                () = changed.notified() => false,
            };
            let Some(room) = room.upgrade() else {
                return;
            };
            if period_over {
                room.give_back_unused();
            }
            room.serve();
            drop(room);
            yield_now().await; // other tasks run between two rounds
        }
    }
}
