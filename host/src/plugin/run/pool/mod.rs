//! Which call uses which instance: so many at once, each used by one call at a time.
//!
//! There are as many places as `limits.instances`. A call that ends leaves its place and its instance to its own
//! thread, where the next call finds them without sharing a lock, a counter or a cache line with other threads. Only
//! when there is none does it look further: at the other threads' idle instances, at places that have none, and at
//! last it waits.

mod room;
#[cfg(test)]
mod tests;
mod waiting;

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::sync::oneshot;

use super::barrier::Gate;
use super::exports::Export;
use super::instance::{Instance, Maker, shortened};
use super::sharded::PerThread;
use crate::config::Isolation;
use crate::invocation::{Busy, Called, Invocation, InvokeError};

pub(crate) use room::Room;
pub(crate) use waiting::Line;
use waiting::Waiting;

/// In [`Shared::wanted`]: someone waits in the version's own lines, or it serves no more. Idle instances are not for
/// whoever comes first.
const BY_OWN: u8 = 1;

/// In [`Shared::wanted`]: a version waits for room. An instance that becomes idle is told of.
const BY_OTHERS: u8 = 2;

/// The instances of one version.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    shelves: Arc<Shelves>,
}

struct Shared {
    maker: Maker,
    room: Arc<Room>,
    gate: Gate,
    queue: Mutex<Queue>,
    /// By whom idle instances are wanted: one flag to look at, whoever it is.
    wanted: AtomicU8,
}

struct Queue {
    /// Places that nobody has and that have no instance. The others have room for one, and the version's first place
    /// has it always.
    free: u32,
    waiting: Waiting,
    /// In line for room, or being served: true while someone waits though there are places.
    in_line: bool,
    /// The version serves no more.
    closed: bool,
}

/// The idle instances of a version, by thread.
struct Shelves(PerThread<Arc<Shelf>>);

/// Idle instances, each with its place. In memory of its own, with what counts its users.
///
/// Lock order: the queue, then a shelf, then the room.
#[repr(align(128))]
struct Shelf {
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
    /// The fewest that there were since someone looked: so many were used by nobody.
    fewest: usize,
}

/// A call's right to an instance, with the one that it uses. Given to who has waited longest, or back to its shelf,
/// when it is dropped.
pub(crate) struct Place {
    shelf: Arc<Shelf>,
    instance: Option<Box<Instance>>,
}

enum Entered {
    At(Place),
    Queue(oneshot::Receiver<Place>),
    Closed,
}

/// Why there is no place for a call right now.
enum Full {
    /// All are taken, or someone is before it.
    Places,
    /// There is no room for another instance.
    Room,
    /// The version serves no more.
    Closed,
}

/// What became of a version's turn to have room.
enum Turn {
    /// One that waited has it.
    Had,
    /// There is none for it.
    None,
    /// It needs none any more.
    Over,
}

impl Pool {
    /// Takes room for the first instance. None when calls have all that there is.
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
            gate: Gate::new(),
            wanted: AtomicU8::new(BY_OTHERS), // until it is known that nobody waits
        });
        let shelves = Arc::new(Shelves(PerThread::new(|| {
            Arc::new(Shelf {
                shared: Arc::clone(&shared),
                idle: Mutex::default(),
            })
        })));
        room.join(&shelves);
        Some(Self { shared, shelves })
    }

    pub(crate) fn maker(&self) -> &Maker {
        &self.shared.maker
    }

    /// A place for a call. Waits for one in its line if all are taken. None once the version serves no more, also for
    /// who has waited.
    pub(crate) async fn place(&self, line: Line) -> Result<Option<Place>, InvokeError> {
        match self.enter(line)? {
            Entered::At(place) => Ok(Some(place)),
            Entered::Queue(turn) => Ok(turn.await.ok()),
            Entered::Closed => Ok(None),
        }
    }

    fn enter(&self, line: Line) -> Result<Entered, InvokeError> {
        let shelf = self.shelves.0.own();
        if self.shared.wanted.load(Ordering::Acquire) & BY_OWN == 0
            && let Some(instance) = shelf.take()
        {
            return Ok(Entered::At(Place::new(shelf, Some(instance))));
        }
        self.look_further(shelf, line)
    }

    fn look_further(&self, shelf: &Arc<Shelf>, line: Line) -> Result<Entered, InvokeError> {
        loop {
            match self.find(shelf) {
                Ok(place) => return Ok(Entered::At(place)),
                // Another may be faster: it is looked once more.
                Err(Full::Room) if self.shared.room.reclaim(self.maker().units()) => {}
                Err(Full::Room | Full::Places) => return self.wait(shelf, line),
                Err(Full::Closed) => return Ok(Entered::Closed),
            }
        }
    }

    fn find(&self, shelf: &Arc<Shelf>) -> Result<Place, Full> {
        let mut queue = self.shared.lock();
        if queue.closed {
            Err(Full::Closed)
        } else if queue.waiting.is_empty() {
            self.shelves.unused(shelf, &mut queue)
        } else {
            Err(Full::Places) // nobody is overtaken
        }
    }

    fn wait(&self, shelf: &Arc<Shelf>, line: Line) -> Result<Entered, InvokeError> {
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
        shared.wanted.fetch_or(BY_OWN, Ordering::Relaxed);
        // Who gives a place back puts it on its shelf, and then looks whether it is wanted. One of us sees the other.
        fence(Ordering::SeqCst);
        let found = self.shelves.unused(shelf, &mut queue);
        if let Err(Full::Room) = found
            && !queue.in_line
        {
            queue.in_line = true;
            shared.room.line_up(&self.shelves);
        }
        drop(queue);
        drop(found); // for who has waited longest
        Ok(Entered::Queue(turn))
    }

    /// Sends away those who wait and who still comes. Once this returns no call begins.
    pub(crate) async fn close(&self) {
        let waiting = {
            let mut queue = self.shared.lock();
            queue.closed = true;
            self.shared.wanted.fetch_or(BY_OWN, Ordering::Relaxed);
            std::mem::take(&mut queue.waiting)
        };
        fence(Ordering::SeqCst);
        for shelf in self.shelves.0.all() {
            while let Some(instance) = shelf.take() {
                shelf.offer(Some(instance));
            }
        }
        drop(waiting);
        self.shared.gate.shut().await;
    }
}

impl Shared {
    /// Places that calls have, or idle instances.
    fn taken(&self, queue: &Queue) -> u32 {
        self.maker.limits.instances - queue.free
    }

    /// One is idle, and others may have it unless it is the version's last.
    fn tell_of_idle(&self, queue: &Queue) {
        if self.taken(queue) > 1 {
            self.room.tell();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let taken = self.taken(&self.lock());
        self.room.give(self.maker.units() * taken.max(1)); // that of the first is held without one
    }
}

impl Shelves {
    /// A place that nobody uses, if there is one.
    fn unused(&self, shelf: &Arc<Shelf>, queue: &mut Queue) -> Result<Place, Full> {
        let shared = &*shelf.shared;
        if shared.maker.isolation == Isolation::Reused
            && let Some(instance) = self.0.all().find_map(|shelf| shelf.take())
        {
            return Ok(Place::new(shelf, Some(instance)));
        }
        if queue.free == 0 {
            return Err(Full::Places);
        }
        if shared.taken(queue) > 0 && !shared.room.take(shared.maker.units()) {
            return Err(Full::Room);
        }
        queue.free -= 1;
        Ok(Place::new(shelf, None))
    }

    /// Serves who has waited longest for room, one at most.
    fn serve(&self) -> Turn {
        let shelf = self.0.own();
        let shared = &*shelf.shared;
        loop {
            let mut queue = shared.lock();
            let found = if queue.waiting.is_empty() {
                Err(Full::Places)
            } else {
                self.unused(shelf, &mut queue)
            };
            match found {
                Ok(place) => {
                    drop(queue);
                    drop(place);
                    return Turn::Had;
                }
                Err(Full::Room) => {}
                Err(Full::Places | Full::Closed) => {
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

    /// Whether instances that become idle are told of.
    fn set_wanted_by_others(&self, wanted: bool) {
        let flags = &self.0.own().shared.wanted;
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
    fn idle(&self) -> usize {
        let each = self.0.all();
        each.map(|shelf| shelf.lock().instances.len()).sum()
    }

    /// The room of the idle instances that others may have.
    fn spare(&self) -> u32 {
        let shared = &self.0.own().shared;
        let idle = u32::try_from(self.idle()).unwrap_or(u32::MAX);
        let taken = shared.taken(&shared.lock());
        idle.min(taken.saturating_sub(1)) * shared.maker.units()
    }

    /// Ends the idle instance that was used longest ago on some thread, unless it is the version's last.
    fn give_back_one(&self) -> bool {
        self.0.all().any(|shelf| shelf.give_back_oldest())
    }

    /// Ends those that nobody has used since this was called last, but for the version's last.
    fn give_back_unused(&self) {
        for shelf in self.0.all() {
            let unused = std::mem::take(&mut shelf.lock().fewest);
            for _ in 0..unused {
                if !shelf.give_back_oldest() {
                    break;
                }
            }
            let mut idle = shelf.lock();
            idle.fewest = idle.instances.len();
        }
    }
}

impl Shelf {
    fn take(&self) -> Option<Box<Instance>> {
        let mut idle = self.lock();
        let instance = idle.instances.pop();
        idle.fewest = idle.fewest.min(idle.instances.len());
        instance
    }

    /// Says by whom idle instances are wanted since then: as in `Pool::wait`.
    fn put(&self, instance: Box<Instance>) -> u8 {
        self.lock().instances.push(instance);
        fence(Ordering::SeqCst);
        self.shared.wanted.load(Ordering::Relaxed)
    }

    /// The room of a version's last instance would be nobody else's.
    fn give_back_oldest(self: &Arc<Self>) -> bool {
        if self.shared.taken(&self.shared.lock()) <= 1 {
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
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a place to who has waited longest; if nobody waits, it is unused.
    fn offer(self: &Arc<Self>, mut instance: Option<Box<Instance>>) {
        loop {
            let mut queue = self.shared.lock();
            let Some(waiting) = queue.waiting.next() else {
                if !queue.closed {
                    self.shared.wanted.fetch_and(!BY_OWN, Ordering::Relaxed);
                }
                if queue.closed && instance.is_some() {
                    drop(queue);
                    instance = None; // ended before its room is another's
                    continue;
                }
                match instance {
                    Some(instance) => {
                        if self.put(instance) & BY_OTHERS != 0 {
                            self.shared.tell_of_idle(&queue);
                        }
                    }
                    None => {
                        queue.free += 1;
                        if self.shared.taken(&queue) > 0 {
                            self.shared.room.give(self.shared.maker.units());
                        }
                    }
                }
                return;
            };
            drop(queue);
            if waiting.is_closed() {
                continue;
            }
            // If it gives up at this very moment the place is dropped once more, and goes to the next.
            let _ = waiting.send(Place::new(self, instance.take()));
            return;
        }
    }
}

impl Place {
    fn new(shelf: &Arc<Shelf>, instance: Option<Box<Instance>>) -> Self {
        Self {
            shelf: Arc::clone(shelf),
            instance,
        }
    }

    /// Makes an instance that waits for its first call, under the limits of a call.
    pub(crate) async fn warm(mut self) -> Result<(), InvokeError> {
        let maker = &self.shelf.shared.maker;
        let made = maker.instance().await?;
        if maker.isolation == Isolation::Reused {
            self.instance = Some(made);
        }
        Ok(())
    }

    /// Calls a handler in an instance that no other call uses. One whose call did not end well, or was dropped on
    /// the way, is never used again: it is in its place again only after all is well. Gives the event back when the
    /// version serves no more before the handler begins.
    pub(crate) async fn call<E: Export>(
        mut self,
        invocation: Arc<Invocation>,
        event: E,
    ) -> Called<E> {
        let Shared { maker, gate, .. } = &*self.shelf.shared;
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            // In a box, so that a call that finds an instance keeps no room for making one.
            None => match Box::pin(maker.instance()).await {
                Ok(instance) => instance,
                Err(error) => return Called::Ended(Err(error)),
            },
        };
        let Some(open) = gate.enter() else {
            return Called::Retired(event);
        };
        instance.begin(&invocation);
        let answered = {
            let mut call = pin!(instance.call(event, &invocation));
            let begun = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
            drop(open);
            match begun {
                Poll::Ready(answered) => answered,
                Poll::Pending => call.await,
            }
        };
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) => return Called::Ended(Err(maker.failure(&error, instance.state()))),
        };
        instance.end();
        if maker.isolation == Isolation::Reused && instance.uses < maker.limits.max_uses {
            self.instance = Some(instance);
        }
        Called::Ended(answer.map_err(|reason| InvokeError::Failed(shortened(&reason))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shelf = &self.shelf;
        let Some(instance) = self.instance.take() else {
            return shelf.offer(None);
        };
        let wanted = shelf.put(instance);
        if wanted & BY_OWN != 0 {
            if let Some(instance) = shelf.take() {
                shelf.offer(Some(instance));
            }
        } else if wanted & BY_OTHERS != 0 {
            shelf.shared.tell_of_idle(&shelf.shared.lock());
        }
    }
}
