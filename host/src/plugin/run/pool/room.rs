//! The room for instances of all plugins together: a semaphore whose permits idle instances give back.
//!
//! Each version has room for one instance for as long as it lives, so that its calls always have their turn. Further
//! instances take it from what all share, and give it back when they end.
//!
//! A version that finds none for a call gets in line. [`Room::run`], one task, serves the line; a change is only told
//! to it, and no call waits for it to look. No change is missed:
//!
//! - **Getting in line.** A version finds no room, and gets in line ([`State::line`]), under the lock of its queue. Then
//!   it tells. It is in line or in the task's hands (`Queue::in_line`) until the task finds, under the same lock, that no
//!   call waits or that all permits are held: from then on a call that ends has a permit for the next.
//! - **Room is given back** under the room's lock, and told of while a version is in line ([`State::short`]). A version
//!   that gets in line after that tells, and the task finds the room.
//! - **An instance becomes idle** without that lock. The task has all versions tell of it (`BY_OTHERS`; a new version
//!   does from the start), and then looks at their shards: rules (A) and (B) of [`super`].
//! - **The last instance of a version** is nobody else's, and not told of. Whether it is the last is read, under the
//!   queue's lock, after it is on its list. Another permit is taken under that lock, after a look at all shards: either it
//!   finds the instance, or the instance is told of.
//! - **A change while the task looks** has it look once more: `Notify` keeps one permit. Only this task empties the line,
//!   ends `short` and sets or clears `BY_OTHERS`, so rounds do not overlap.
//!
//! A round asks each version in line once and gives it one instance at most. A version that had one is last in the next
//! round. A version that needs the room of several may be overtaken by others: it has its first instance, and must not
//! stop them.

use std::cmp::Reverse;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use super::idle::Shards;
use super::sync::{Mutex, MutexGuard, Notify};

/// How long an instance is idle before it is given back: for one period whole, and for two at most. Longer than the
/// pauses of a chat, shorter than a night.
const IDLE: Duration = Duration::from_secs(60);

/// Of so many parts of the room one is for the first instances of versions alone: a reload works while calls have all
/// the rest.
const FIRST: u32 = 8;

/// What the engine has room for, in units of an instance with a memory, a stack and a few tables.
pub(crate) struct Room {
    pub(crate) total: u32,
    state: Mutex<State>,
    /// Something has changed for the versions in line.
    pub(super) changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    used: u32,
    /// The versions that may have idle instances.
    pools: Vec<Weak<Shards>>,
    /// The versions that need room for a call that waits, but for those that are being served.
    line: Vec<Weak<Shards>>,
    /// A version is in line, or being served.
    short: bool,
}

/// How a version's turn to have room ended.
pub(super) enum Turn {
    /// A call that waited has an instance.
    Had,
    /// There is no room for it.
    None,
    /// It needs none any more.
    Over,
}

impl Room {
    /// Calls that wait are served, and idle instances are given back after a while, if [`Self::run`] runs.
    pub(crate) fn new(total: u32) -> Arc<Self> {
        Arc::new(Self {
            total,
            state: Mutex::default(),
            changed: Arc::default(),
        })
    }

    /// What calls may use together.
    pub(crate) fn for_calls(&self) -> u32 {
        self.total - self.total / FIRST
    }

    /// Takes the room for a version's first instance, from idle instances of others if need be. False when all is in use.
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

    /// Takes the room for another instance, if there is some.
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

    /// An instance has ended.
    pub(super) fn give(&self, units: u32) {
        let mut state = self.lock();
        state.used = state.used.saturating_sub(units);
        if state.short {
            self.tell();
        }
    }

    /// Has the task look: there may be room for a version in line.
    pub(super) fn tell(&self) {
        self.changed.notify_one();
    }

    /// Gives a version room as soon as there is some, in turn with others. Called once until its turn is over.
    pub(super) fn line_up(&self, pool: &Arc<Shards>) {
        let mut state = self.lock();
        state.line.push(Arc::downgrade(pool));
        state.short = true;
        self.tell();
    }

    /// Lets other versions have the idle instances of this one from now on.
    pub(super) fn join(&self, pool: &Arc<Shards>) {
        let mut state = self.lock();
        state.pools.retain(|pool| pool.strong_count() > 0);
        state.pools.push(Arc::downgrade(pool));
    }

    /// Ends an idle instance, of the version that has most of them. False when all that there are to spare would make no
    /// room for a call that needs so much.
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

    /// Gives each version in line room for one instance, if there is some.
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
        let (mut had, mut had_none) = (Vec::new(), Vec::new());
        for waiting in line {
            match waiting.upgrade().map(|pool| pool.serve()) {
                Some(Turn::Had) => had.push(waiting),
                Some(Turn::None) => had_none.push(waiting),
                Some(Turn::Over) | None => {}
            }
        }
        let again = !had.is_empty() || had_none.is_empty();
        let mut state = self.lock();
        had_none.append(&mut state.line);
        had_none.append(&mut had);
        state.line = had_none;
        drop(state);
        if again {
            self.tell();
        }
    }

    /// Ends the instances that no call has used since the last time.
    pub(super) fn give_back_unused(&self) {
        for pool in self.pools() {
            pool.give_back_unused();
        }
    }

    fn pools(&self) -> Vec<Arc<Shards>> {
        self.lock().pools.iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the line, and gives idle instances back, until the room is dropped.
    pub(crate) async fn run(room: Weak<Self>) {
        let Some(changed) = room.upgrade().map(|room| Arc::clone(&room.changed)) else {
            return;
        };
        let mut period = interval(IDLE);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let a_while_later = tokio::select! {
                _ = period.tick() => true,
                () = changed.notified() => false,
            };
            let Some(room) = room.upgrade() else {
                return;
            };
            if a_while_later {
                room.give_back_unused();
            }
            room.serve();
            drop(room);
            yield_now().await; // others have their turn between two rounds
        }
    }
}
