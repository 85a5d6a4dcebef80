//! The permit of a call, and its way on when the call ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Instance;
use super::acquire::{BY_OTHERS, BY_OWN};
use super::idle::Shard;

/// A call's right to an instance, and the instance. A dropped permit goes to the call that has waited longest, or
/// back to its shard.
pub(crate) struct Permit {
    pub(super) shard: Arc<Shard>,
    pub(super) instance: Option<Box<Instance>>,
}

impl Permit {
    pub(super) fn new(shard: &Arc<Shard>, instance: Option<Box<Instance>>) -> Self {
        Self {
            shard: Arc::clone(shard),
            instance,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let shard = &self.shard;
        let Some(instance) = self.instance.take() else {
            return shard.offer(None);
        };
        let wanted = shard.put(instance);
        if wanted & BY_OWN != 0 {
            if let Some(instance) = shard.take() {
                shard.offer(Some(instance));
            }
        } else if wanted & BY_OTHERS != 0 {
            let shared = shard.shared();
            shared.notify_of_idle(&shared.lock());
        }
    }
}

impl Shard {
    /// Gives a permit to the call that has waited longest. If none waits, the permit becomes free, or its instance
    /// idle.
    pub(super) fn offer(self: &Arc<Self>, mut instance: Option<Box<Instance>>) {
        let shared = self.shared();
        loop {
            let mut queue = shared.lock();
            let Some(waiting) = queue.waiting.next() else {
                if !queue.closed {
                    shared.wanted.fetch_and(!BY_OWN, Ordering::Relaxed);
                }
                if queue.closed && instance.is_some() {
                    drop(queue);
                    instance = None; // it ends before another version has its room
                    continue;
                }
                match instance {
                    Some(instance) => {
                        if self.put(instance) & BY_OTHERS != 0 {
                            shared.notify_of_idle(&queue);
                        }
                    }
                    None => {
                        queue.free += 1;
                        if shared.taken(&queue) > 0 {
                            shared.room.give(shared.maker.units());
                        }
                    }
                }
                return;
            };
            drop(queue);
            if waiting.is_closed() {
                continue;
            }
            // A call that gives up at this moment drops the permit, which then goes to the next.
            let _ = waiting.send(Permit::new(self, instance.take()));
            return;
        }
    }
}
