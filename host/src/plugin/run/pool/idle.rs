//! The idle instances of a version: a list for each shard, and those that other versions may take.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crossbeam_utils::CachePadded;

use super::Instance;
use super::acquire::{BY_OTHERS, Full, Queue, Shared};
use super::permit::Permit;
use super::room::TurnEnd;
use super::sync::{Mutex, MutexGuard, Sharded};
use crate::config::Isolation;

/// The idle instances of a version, by thread.
pub(super) struct Shards(pub(super) Sharded<Arc<Shard>>);

/// The idle instances of one shard, in memory of its own together with the count of its users.
///
/// Lock order: the queue, then a shard, then the room.
pub(super) struct Shard(CachePadded<Parts>);

struct Parts {
    /// Declared before `shared`, which gives the room back when dropped: instances end before another version has
    /// their room.
    idle: Mutex<Idle>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Idle {
    /// The instance that was used last is at the end, and is used next.
    #[expect(
        clippy::vec_box,
        reason = "each message moves one in and out: as a pointer"
    )]
    instances: Vec<Box<Instance>>,
    /// The smallest number of instances since the last check: that many were used by no call.
    min_len: usize,
}

impl Shards {
    /// A permit that no call holds.
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

    /// Gives an instance to the call that has waited longest for room, to one at most.
    pub(super) fn serve(&self) -> TurnEnd {
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
                    return TurnEnd::Served;
                }
                Err(Full::Room) => {}
                Err(Full::Permits | Full::Closed) => {
                    queue.in_line = false;
                    return TurnEnd::Over;
                }
            }
            drop(queue);
            if !shared.room.reclaim(shared.maker.units()) {
                return TurnEnd::NoRoom;
            }
        }
    }

    /// Sets whether the room is notified of instances that become idle. Set before the look at the shards (A).
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

    /// The number of idle instances.
    pub(super) fn idle(&self) -> usize {
        let each = self.0.all();
        each.map(|shard| shard.lock().instances.len()).sum()
    }

    /// The room of the idle instances that other versions may take.
    pub(super) fn spare(&self) -> u32 {
        let shared = self.0.own().shared();
        let idle = u32::try_from(self.idle()).unwrap_or(u32::MAX);
        let taken = shared.taken(&shared.lock());
        idle.min(taken.saturating_sub(1)) * shared.maker.units()
    }

    /// Ends the idle instance of some shard that was used longest ago, unless it is the version's last.
    pub(super) fn give_back_one(&self) -> bool {
        self.0.all().any(|shard| shard.give_back_oldest())
    }

    /// Ends the instances that no call has used since the last call of this function, except the version's last.
    pub(super) fn give_back_unused(&self) {
        for shard in self.0.all() {
            let unused = std::mem::take(&mut shard.lock().min_len);
            for _ in 0..unused {
                if !shard.give_back_oldest() {
                    break;
                }
            }
            let mut idle = shard.lock();
            idle.min_len = idle.instances.len();
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

    pub(super) fn len(&self) -> usize {
        self.lock().instances.len()
    }

    pub(super) fn take(&self) -> Option<Box<Instance>> {
        let mut idle = self.lock();
        let instance = idle.instances.pop();
        idle.min_len = idle.min_len.min(idle.instances.len());
        instance
    }

    /// Makes an instance idle, and gives `wanted`, read after that (B).
    pub(super) fn put(&self, instance: Box<Instance>) -> u8 {
        self.lock().instances.push(instance);
        self.shared().wanted.load(Ordering::Relaxed)
    }

    /// Keeps a version's last instance: no other version may have its room.
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
