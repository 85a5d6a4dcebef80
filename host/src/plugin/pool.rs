//! Which call uses which instance: so many at once, each used by one call at a time.
//!
//! There are as many places as `limits.instances`. A call that ends leaves its place and its instance to its own
//! thread, where the next call finds them without sharing a lock, a counter or a cache line with other threads. Only
//! when there is none does it look further: at the other threads' idle instances, at places that have none, and at
//! last it waits.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::sync::oneshot;

use super::event::Event;
use super::gate::Gate;
use super::instance::{Called, Instance, Maker, failure, shortened};
use super::per_thread::PerThread;
use super::{Invocation, InvokeError};
use crate::config::Isolation;

/// The instances of one version.
pub(super) struct Pool {
    shared: Arc<Shared>,
    shelves: PerThread<Arc<Shelf>>,
}

struct Shared {
    maker: Maker,
    gate: Gate,
    queue: Mutex<Queue>,
    /// Someone waits, or the version serves no more: idle instances are not for whoever comes first.
    wanted: AtomicBool,
}

struct Queue {
    /// Places without an instance.
    free: u32,
    waiting: VecDeque<oneshot::Sender<Place>>,
    /// The version serves no more.
    closed: bool,
}

/// Idle instances, each with its place. In memory of its own, with what counts its users.
///
/// Lock order: the queue, then a shelf.
#[repr(align(128))]
struct Shelf {
    shared: Arc<Shared>,
    #[expect(
        clippy::vec_box,
        reason = "taken and put back for each message: as a pointer"
    )]
    idle: Mutex<Vec<Box<Instance>>>,
}

/// A call's right to an instance, with the one that it uses. Given to who has waited longest, or back to its shelf,
/// when it is dropped.
pub(super) struct Place {
    shelf: Arc<Shelf>,
    instance: Option<Box<Instance>>,
}

enum Entered {
    At(Place),
    Queue(oneshot::Receiver<Place>),
    Closed,
}

impl Pool {
    pub(super) fn new(maker: Maker) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                free: maker.limits.instances,
                waiting: VecDeque::new(),
                closed: false,
            }),
            maker,
            gate: Gate::new(),
            wanted: AtomicBool::new(false),
        });
        let shelves = PerThread::new(|| {
            Arc::new(Shelf {
                shared: Arc::clone(&shared),
                idle: Mutex::default(),
            })
        });
        Self { shared, shelves }
    }

    pub(super) fn maker(&self) -> &Maker {
        &self.shared.maker
    }

    /// A place for a call. Waits for one if all are taken, unless too many wait already. None once the version serves
    /// no more, also for who has waited.
    pub(super) async fn place(&self) -> Result<Option<Place>, InvokeError> {
        match self.enter()? {
            Entered::At(place) => Ok(Some(place)),
            Entered::Queue(turn) => Ok(turn.await.ok()),
            Entered::Closed => Ok(None),
        }
    }

    fn enter(&self) -> Result<Entered, InvokeError> {
        let shelf = self.shelves.own();
        if !self.shared.wanted.load(Ordering::Acquire)
            && let Some(instance) = shelf.take()
        {
            return Ok(Entered::At(Place::new(shelf, Some(instance))));
        }
        self.look_further(shelf)
    }

    fn look_further(&self, shelf: &Arc<Shelf>) -> Result<Entered, InvokeError> {
        let shared = &*self.shared;
        let most = shared.maker.limits.waiting;
        let mut queue = shared.lock();
        if queue.closed {
            return Ok(Entered::Closed);
        }
        // Who has given up waiting is not in the way of others.
        if queue.waiting.len() >= most as usize {
            queue.waiting.retain(|waiting| !waiting.is_closed());
        }
        // Nobody is overtaken.
        if queue.waiting.is_empty()
            && let Some(place) = self.unused(shelf, &mut queue)
        {
            return Ok(Entered::At(place));
        }
        if queue.waiting.len() >= most as usize {
            return Err(InvokeError::Busy(most));
        }
        let (offer, turn) = oneshot::channel();
        queue.waiting.push_back(offer);
        shared.wanted.store(true, Ordering::Relaxed);
        // Who gives a place back puts it on its shelf, and then looks whether it is wanted. One of us sees the other.
        fence(Ordering::SeqCst);
        let place = self.unused(shelf, &mut queue);
        drop(queue);
        drop(place); // to who has waited longest
        Ok(Entered::Queue(turn))
    }

    /// A place that nobody uses, if there is one.
    fn unused(&self, shelf: &Arc<Shelf>, queue: &mut Queue) -> Option<Place> {
        if self.maker().isolation == Isolation::Reused
            && let Some(instance) = self.shelves.all().find_map(|shelf| shelf.take())
        {
            return Some(Place::new(shelf, Some(instance)));
        }
        queue.free = queue.free.checked_sub(1)?;
        Some(Place::new(shelf, None))
    }

    /// Sends away those who wait and who still comes. Once this returns no call begins.
    pub(super) async fn close(&self) {
        let waiting = {
            let mut queue = self.shared.lock();
            queue.closed = true;
            self.shared.wanted.store(true, Ordering::Relaxed);
            std::mem::take(&mut queue.waiting)
        };
        fence(Ordering::SeqCst);
        for shelf in self.shelves.all() {
            let idle = std::mem::take(&mut *shelf.lock());
            drop(idle);
        }
        drop(waiting);
        self.shared.gate.shut().await;
    }

    /// Makes an instance that waits for its first call, under the limits of a call.
    pub(super) async fn warm(&self) -> Result<(), InvokeError> {
        let Some(mut place) = self.place().await? else {
            return Ok(());
        };
        let maker = self.maker();
        let made = maker.instance().await.map_err(|error| failure(&error))?;
        if maker.isolation == Isolation::Reused {
            place.instance = Some(made);
        }
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn take(&self) -> Option<Box<Instance>> {
        self.lock().pop()
    }

    fn put(&self, instance: Box<Instance>) {
        self.lock().push(instance);
    }

    #[expect(clippy::vec_box, reason = "as the field is")]
    fn lock(&self) -> MutexGuard<'_, Vec<Box<Instance>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a place to who has waited longest; if nobody waits, it is unused.
    fn offer(self: &Arc<Self>, mut instance: Option<Box<Instance>>) {
        loop {
            let mut queue = self.shared.lock();
            let Some(waiting) = queue.waiting.pop_front() else {
                self.shared.wanted.store(queue.closed, Ordering::Relaxed);
                match instance {
                    Some(instance) if !queue.closed => self.put(instance),
                    Some(_) | None => queue.free += 1,
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

    /// Calls a handler in an instance that no other call uses. One whose call did not end well, or was dropped on
    /// the way, is never used again: it is in its place again only after all is well. Gives the event back when the
    /// version serves no more before the handler begins.
    pub(super) async fn call<E: Event>(
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
                Err(error) => return Called::Ended(Err(failure(&error))),
            },
        };
        let Some(open) = gate.enter() else {
            return Called::Retired(event);
        };
        instance.begin(&invocation, &maker.limits);
        let answered = {
            let mut call = pin!(instance.call(event, &invocation));
            let begun = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
            drop(open);
            match begun {
                Poll::Ready(answered) => answered,
                Poll::Pending => call.await,
            }
        };
        instance.end();
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) => return Called::Ended(Err(failure(&error))),
        };
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
        shelf.put(instance);
        // As in `look_further`.
        fence(Ordering::SeqCst);
        if shelf.shared.wanted.load(Ordering::Relaxed)
            && let Some(instance) = shelf.take()
        {
            shelf.offer(Some(instance));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use lockgate_tests::Guest;
    use tokio::task::{JoinSet, yield_now};
    use wasmtime::component::Component;

    use super::super::component::{Compiled, Source};
    use super::super::{engine, load};
    use super::*;
    use crate::config::Config;

    const INSTANCES: usize = 2;

    fn pool() -> Pool {
        let component = Guest::Probe.path();
        let text = format!(
            "listeners = [{{ address = \"127.0.0.1:0\" }}]\napis.a.stages.s = {{}}\n\
             [plugins.probe]\ncomponent = {component:?}\ngrants = [\"connections\", \"groups\"]\n\
             limits = {{ instances = {INSTANCES}, waiting = 100 }}\n"
        );
        let config = Config::parse(&text, Path::new("gateway.toml")).unwrap();
        let plugin = config.plugins.first().unwrap();
        let engine = engine::start(None).unwrap();
        let source = Source::read(component).unwrap();
        let compiled = Compiled {
            component: Component::new(&engine, &source.bytes).unwrap(),
            digest: source.digest,
            bytes: source.bytes,
        };
        Pool::new(Maker {
            pre: load::link(&engine, plugin, &compiled).unwrap(),
            engine,
            plugin: "probe".into(),
            isolation: plugin.isolation,
            limits: plugin.limits.clone(),
        })
    }

    /// Takes places until it has had so many; none when the pool was closed.
    async fn take(pool: &Pool, times: usize, at_once: &AtomicUsize) -> Option<()> {
        for _ in 0..times {
            let mut place = pool.place().await.unwrap()?;
            assert!(at_once.fetch_add(1, Ordering::SeqCst) < INSTANCES);
            if place.instance.is_none() {
                place.instance = Some(pool.maker().instance().await.unwrap());
            }
            yield_now().await;
            at_once.fetch_sub(1, Ordering::SeqCst);
        }
        Some(())
    }

    /// Whoever waits is given a place that another thread has put back at the same moment.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn everyone_has_a_turn_and_never_too_many_at_once() {
        const TAKERS: usize = 16;
        const TIMES: usize = 5_000;
        let (pool, at_once) = (Arc::new(pool()), Arc::new(AtomicUsize::new(0)));
        let mut takers = JoinSet::new();
        for _ in 0..TAKERS {
            let (pool, at_once) = (Arc::clone(&pool), Arc::clone(&at_once));
            takers.spawn(async move { take(&pool, TIMES, &at_once).await });
        }
        let all = tokio::time::timeout(Duration::from_secs(60), takers.join_all());
        for had in all.await.expect("nobody waits for ever") {
            assert_eq!(had, Some(()));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn closing_sends_away_who_waits_and_who_comes() {
        let (pool, at_once) = (Arc::new(pool()), Arc::new(AtomicUsize::new(0)));
        let mut takers = JoinSet::new();
        for _ in 0..16 {
            let (pool, at_once) = (Arc::clone(&pool), Arc::clone(&at_once));
            takers.spawn(async move { take(&pool, usize::MAX, &at_once).await });
        }
        pool.close().await;
        let all = tokio::time::timeout(Duration::from_secs(60), takers.join_all());
        for had in all.await.expect("nobody waits for ever") {
            assert_eq!(had, None);
        }
        assert!(pool.place().await.unwrap().is_none());
        // What was in use when it closed is kept by nobody either.
        assert!(pool.shelves.all().all(|shelf| shelf.take().is_none()));
    }
}
