//! How a call gets a permit: with an idle instance of its own thread, or else of another thread; without an instance,
//! if there is room for one; or after waiting in line.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::idle::{Shard, Shards};
use super::permit::Permit;
use super::room::Room;
use super::sync::{AtomicU8, Mutex, MutexGuard, Sharded, oneshot};
use super::waiting::{Line, Waiting};
use super::{Barrier, Maker};
use crate::invocation::{Busy, InvokeError};

/// A bit of [`Shared::wanted`]: a call waits in the version's own lines, or the version is retired. Calls that come
/// leave idle instances alone.
pub(super) const BY_OWN: u8 = 1;

/// A bit of [`Shared::wanted`]: a version waits for room. A call that makes an instance idle notifies the room.
pub(super) const BY_OTHERS: u8 = 2;

/// The instances of one version.
pub(crate) struct Pool {
    pub(super) shared: Arc<Shared>,
    pub(super) shards: Arc<Shards>,
}

pub(super) struct Shared {
    pub(super) maker: Maker,
    pub(super) room: Arc<Room>,
    pub(super) barrier: Barrier,
    pub(super) queue: Mutex<Queue>,
    /// [`BY_OWN`] and [`BY_OTHERS`]: the reasons why idle instances are wanted. A call that ends reads this one flag.
    pub(super) wanted: AtomicU8,
}

pub(super) struct Queue {
    /// Permits that no call holds and that have no instance. Every other permit has room for one instance, and so
    /// does the first permit of the version, always.
    pub(super) free: u32,
    pub(super) waiting: Waiting,
    /// Whether the version is in line for room, or served there: true while a call waits though there are free
    /// permits.
    pub(super) in_line: bool,
    /// The version is retired.
    pub(super) closed: bool,
}

enum Entered {
    At(Permit),
    Queue(oneshot::Receiver<Permit>),
    Closed,
}

/// The instances of a version, and the calls that wait for one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) idle: usize,
    pub(crate) busy: usize,
    pub(crate) waiting: usize,
}

/// Why there is no permit for a call right now.
pub(super) enum Full {
    /// All permits are held, or another call has waited longer.
    Permits,
    /// There is no room for another instance.
    Room,
    /// The version is retired.
    Closed,
}

impl Pool {
    /// Takes room for the first instance. None when calls use all the room.
    pub(crate) fn new(maker: Maker, room: &Arc<Room>) -> Option<Self> {
        if !room.take_first(maker.units()) {
            return None;
        }
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                free: maker.limits.instances,
                waiting: Waiting::default(),
                in_line: false,
                closed: false,
            }),
            maker,
            room: Arc::clone(room),
            barrier: Barrier::default(),
            wanted: AtomicU8::new(BY_OTHERS), // until the room's task finds that no version waits
        });
        let shards = Arc::new(Shards(Sharded::new(|| Shard::new(&shared))));
        room.join(&shards);
        Some(Self { shared, shards })
    }

    pub(crate) fn maker(&self) -> &Maker {
        &self.shared.maker
    }

    /// A permit for a call. Waits for one in `line` if all are held. None once the version is retired, even for a
    /// call that has waited.
    pub(crate) async fn permit(&self, line: Line) -> Result<Option<Permit>, InvokeError> {
        match self.enter(line)? {
            Entered::At(permit) => Ok(Some(permit)),
            Entered::Queue(turn) => Ok(turn.await.ok()),
            Entered::Closed => Ok(None),
        }
    }

    fn enter(&self, line: Line) -> Result<Entered, InvokeError> {
        let shard = self.shards.0.own();
        // A hint: a stale value lets this call overtake, and its instance reaches the call that waits when this one
        // ends.
        if self.shared.wanted.load(Ordering::Relaxed) & BY_OWN == 0
            && let Some(instance) = shard.take()
        {
            return Ok(Entered::At(Permit::new(shard, Some(instance))));
        }
        self.look_further(shard, line)
    }

    fn look_further(&self, shard: &Arc<Shard>, line: Line) -> Result<Entered, InvokeError> {
        loop {
            match self.find(shard) {
                Ok(permit) => return Ok(Entered::At(permit)),
                // Another call may take the room first: look once more.
                Err(Full::Room) if self.shared.room.reclaim(self.maker().units()) => {}
                Err(Full::Room | Full::Permits) => return self.wait(shard, line),
                Err(Full::Closed) => return Ok(Entered::Closed),
            }
        }
    }

    fn find(&self, shard: &Arc<Shard>) -> Result<Permit, Full> {
        let mut queue = self.shared.lock();
        if queue.closed {
            Err(Full::Closed)
        } else if queue.waiting.is_empty() {
            self.shards.unused(shard, &mut queue)
        } else {
            Err(Full::Permits) // calls that wait are not overtaken
        }
    }

    fn wait(&self, shard: &Arc<Shard>, line: Line) -> Result<Entered, InvokeError> {
        let shared = &*self.shared;
        let limits = &shared.maker.limits;
        let mut queue = shared.lock();
        if queue.closed {
            return Ok(Entered::Closed);
        }
        if line == Line::Bounded && queue.waiting.is_full(limits.waiting) {
            let busy = match queue.free {
                0 => Busy::Instances(limits.instances, limits.waiting),
                _ => Busy::Room(shared.room.for_calls(), limits.waiting),
            };
            return Err(InvokeError::Busy(busy));
        }
        let (offer, turn) = oneshot::channel();
        queue.waiting.push(line, offer);
        // Before the look at the shards (A).
        shared.wanted.fetch_or(BY_OWN, Ordering::Relaxed);
        let found = self.shards.unused(shard, &mut queue);
        if let Err(Full::Room) = found
            && !queue.in_line
        {
            queue.in_line = true;
            shared.room.line_up(&self.shards);
        }
        drop(queue);
        drop(found); // goes to the call that has waited longest
        Ok(Entered::Queue(turn))
    }

    /// What is in use at about this time.
    pub(crate) fn usage(&self) -> Usage {
        let (taken, waiting) = {
            let queue = self.shared.lock();
            (self.shared.taken(&queue), queue.waiting.len())
        };
        let idle = self.shards.0.all().map(|shard| shard.len()).sum();
        Usage {
            idle,
            busy: (taken as usize).saturating_sub(idle),
            waiting,
        }
    }

    /// Turns away the calls that wait and those that come, and ends the idle instances. No call begins once this
    /// returns.
    pub(crate) async fn close(&self) {
        self.turn_away();
        self.shared.barrier.shut().await;
    }

    pub(super) fn turn_away(&self) {
        let waiting = {
            let mut queue = self.shared.lock();
            queue.closed = true;
            // Before the look at the shards (A).
            self.shared.wanted.fetch_or(BY_OWN, Ordering::Relaxed);
            std::mem::take(&mut queue.waiting)
        };
        for shard in self.shards.0.all() {
            while let Some(instance) = shard.take() {
                shard.offer(Some(instance));
            }
        }
        drop(waiting);
    }
}

impl Shared {
    /// The permits that are not free: held by calls, or idle with an instance.
    pub(super) fn taken(&self, queue: &Queue) -> u32 {
        self.maker.limits.instances - queue.free
    }

    /// Notifies the room of an idle instance that others may have: any but the version's last.
    pub(super) fn notify_of_idle(&self, queue: &Queue) {
        if self.taken(queue) > 1 {
            self.room.notify();
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let taken = self.taken(&self.lock());
        self.room.give(self.maker.units() * taken.max(1)); // the first has its room without an instance
    }
}
