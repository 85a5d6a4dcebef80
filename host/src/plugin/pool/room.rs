//! The room for instances of all plugins together. Who needs some gets what others leave idle.
//!
//! Each version has room for one instance for as long as it lives, so that its calls always have their turn. Further
//! instances are had from what all share, and given back when they end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Shelves;

/// How long an instance is idle before it is given back: for one period whole, and for two at most. Longer than the
/// pauses of a chat, shorter than a night.
const IDLE: Duration = Duration::from_secs(60);

/// Of so many parts of the room one is for the first instances of versions alone: a reload works while calls have all
/// the rest.
const FIRST: u32 = 8;

/// What the engine has room for, in units of an instance with a memory, a stack and a few tables.
pub(in crate::plugin) struct Room {
    pub(in crate::plugin) total: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u32,
    /// Who may have idle instances.
    pools: Vec<Weak<Shelves>>,
}

impl Room {
    /// Idle instances are given back after a while if [`Self::tidy`] runs.
    pub(in crate::plugin) fn new(total: u32) -> Arc<Self> {
        Arc::new(Self {
            total,
            state: Mutex::default(),
        })
    }

    /// What calls may use together.
    pub(in crate::plugin) fn for_calls(&self) -> u32 {
        self.total - self.total / FIRST
    }

    /// Takes the room for a version's first instance, from idle instances of others if need be. False when all is in use.
    pub(super) fn take_first(&self, units: u32) -> bool {
        loop {
            if self.take_of(self.total, units) {
                return true;
            }
            if !self.reclaim() {
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
    }

    /// Idle instances of these may be given to others from now on.
    pub(super) fn join(&self, pool: &Arc<Shelves>) {
        let mut state = self.lock();
        state.pools.retain(|pool| pool.strong_count() > 0);
        state.pools.push(Arc::downgrade(pool));
    }

    /// Ends an idle instance, of the version that has most of them. False when nobody has one to spare.
    pub(super) fn reclaim(&self) -> bool {
        let mut pools = self.pools();
        pools.sort_by_cached_key(|pool| std::cmp::Reverse(pool.idle()));
        pools.iter().any(|pool| pool.give_back_one())
    }

    /// Ends the instances that nobody has used since the last time.
    pub(super) fn give_back_unused(&self) {
        for pool in self.pools() {
            pool.give_back_unused();
        }
    }

    fn pools(&self) -> Vec<Arc<Shelves>> {
        self.lock().pools.iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives idle instances back for as long as there is someone to use them.
    pub(in crate::plugin) async fn tidy(room: Weak<Self>) {
        let mut period = interval(IDLE);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            match room.upgrade() {
                Some(room) => room.give_back_unused(),
                None => return,
            }
        }
    }
}
