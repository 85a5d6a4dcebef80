//! The idle instances of a version: a list for each shard, and what other versions may take of them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crossbeam_utils::CachePadded;

use super::Instance;
use super::acquire::{BY_OTHERS, Full, Queue, Shared};
use super::permit::Permit;
use super::room::Turn;
use super::sync::{Mutex, MutexGuard, Sharded};
use crate::config::Isolation;

/// The idle instances of a version, by thread.
pub(super) struct Shards(pub(super) Sharded<Arc<Shard>>);

/// The idle instances of a shard, in memory of its own together with the count of its users.
///
/// Lock order: the queue, then a shard, then the room.
pub(super) struct Shard(CachePadded<Parts>);

struct Parts {
    /// Ended before their room is another's.
    idle: Mutex<Idle>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Idle {
    /// The one that was used last comes last, and is used next.
    #[expect(
        clippy::vec_box,
        reason = "taken and put back for each message: as a pointer"
    )]
    instances: Vec<Box<Instance>>,
    /// The fewest that there were since the last look: so many were used by no call.
    fewest: usize,
}

impl Shards {
    /// A permit that no call holds, if there is one.
    pub(super) fn unused(&self, shard: &Arc<Shard>, queue: &mut Queue) -> Result<Permit, Full> {
        let shared = shard.shared();
        if shared.maker.isolation == Isolation::Reused
            && let Some(instance) = self.0.all().find_map(|shard| shard.take())
        {
            return Ok(Permit::new(shard, Some(instance)));
        }
        if queue.free == 0 {
            return Err(Full::Permits);
        }
        if shared.taken(queue) > 0 && !shared.room.take(shared.maker.units()) {
            return Err(Full::Room);
        }
        queue.free -= 1;
        Ok(Permit::new(shard, None))
    }

    /// Serves the call that has waited longest for room, one at most.
    pub(super) fn serve(&self) -> Turn {
        let shard = self.0.own();
        let shared = shard.shared();
        loop {
            let mut queue = shared.lock();
            let found = if queue.waiting.is_empty() {
                Err(Full::Permits)
            } else {
                self.unused(shard, &mut queue)
            };
            match found {
                Ok(permit) => {
                    drop(queue);
                    drop(permit);
                    return Turn::Had;
                }
                Err(Full::Room) => {}
                Err(Full::Permits | Full::Closed) => {
                    queue.in_line = false;
                    return Turn::Over;
                }
            }
            drop(queue);
            if !shared.room.reclaim(shared.maker.units()) {
                return Turn::None;
            }
        }
    }

    /// Whether instances that become idle are told of. Set before the look at the shards (A).
    pub(super) fn set_wanted_by_others(&self, wanted: bool) {
        let flags = &self.0.own().shared().wanted;
        if (flags.load(Ordering::Relaxed) & BY_OTHERS != 0) == wanted {
            return;
        }
        if wanted {
            flags.fetch_or(BY_OTHERS, Ordering::Relaxed);
        } else {
            flags.fetch_and(!BY_OTHERS, Ordering::Relaxed);
        }
    }

    /// Idle instances.
    pub(super) fn idle(&self) -> usize {
        let each = self.0.all();
        each.map(|shard| shard.lock().instances.len()).sum()
    }

    /// The room of the idle instances that others may have.
    pub(super) fn spare(&self) -> u32 {
        let shared = self.0.own().shared();
        let idle = u32::try_from(self.idle()).unwrap_or(u32::MAX);
        let taken = shared.taken(&shared.lock());
        idle.min(taken.saturating_sub(1)) * shared.maker.units()
    }

    /// Ends the idle instance that was used longest ago on some thread, unless it is the version's last.
    pub(super) fn give_back_one(&self) -> bool {
        self.0.all().any(|shard| shard.give_back_oldest())
    }

    /// Ends those that no call has used since this was called last, but for the version's last.
    pub(super) fn give_back_unused(&self) {
        for shard in self.0.all() {
            let unused = std::mem::take(&mut shard.lock().fewest);
            for _ in 0..unused {
                if !shard.give_back_oldest() {
                    break;
                }
            }
            let mut idle = shard.lock();
            idle.fewest = idle.instances.len();
        }
    }
}

impl Shard {
    pub(super) fn new(shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self(CachePadded::new(Parts {
            idle: Mutex::default(),
            shared: Arc::clone(shared),
        })))
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    pub(super) fn take(&self) -> Option<Box<Instance>> {
        let mut idle = self.lock();
        let instance = idle.instances.pop();
        idle.fewest = idle.fewest.min(idle.instances.len());
        instance
    }

    /// Makes an instance idle. By whom it is wanted is read after that (B).
    pub(super) fn put(&self, instance: Box<Instance>) -> u8 {
        self.lock().instances.push(instance);
        self.shared().wanted.load(Ordering::Relaxed)
    }

    /// A version's last instance stays: nobody else may have its room.
    fn give_back_oldest(self: &Arc<Self>) -> bool {
        let shared = self.shared();
        if shared.taken(&shared.lock()) <= 1 {
            return false;
        }
        let oldest = {
            let mut idle = self.lock();
            if idle.instances.is_empty() {
                return false;
            }
            idle.instances.remove(0)
        };
        drop(oldest);
        self.offer(None);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
