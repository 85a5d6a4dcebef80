//! Loom's locks and atomics, two shards that a thread chooses from, and tokio's channels with their promises about
//! memory.

use std::cell::Cell;
use std::sync::atomic::Ordering;

pub(super) use loom::sync::atomic::AtomicU8;
pub(super) use loom::sync::atomic::fence;
pub(super) use loom::sync::{Mutex, MutexGuard};

loom::thread_local! {
    static SHARD: Cell<usize> = Cell::new(0);
    /// Whether the thread's last operation was a `SeqCst` store.
    static STORED: Cell<bool> = Cell::new(false);
}

/// Sets the shard of the current thread.
pub(super) fn use_shard(number: usize) {
    SHARD.with(|shard| shard.set(number));
}

pub(super) struct Sharded<T>([T; 2]);

impl<T> Sharded<T> {
    pub(super) fn new(make: impl Fn() -> T) -> Self {
        Self([make(), make()])
    }

    pub(super) fn own(&self) -> &T {
        &self.0[SHARD.with(Cell::get)]
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

impl<T: Default> Default for Sharded<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

/// Loom treats a `SeqCst` access as `AcqRel`, and knows the single order of fences alone. So a fence stands between a
/// `SeqCst` store and the next `SeqCst` load of the thread: the code relies on the single order only for a load after
/// a store. A `SeqCst` access without its partner gets no fence.
#[derive(Default)]
pub(super) struct AtomicBool(loom::sync::atomic::AtomicBool);

#[derive(Default)]
pub(super) struct AtomicU32(loom::sync::atomic::AtomicU32);

impl AtomicBool {
    pub(super) fn load(&self, order: Ordering) -> bool {
        before_load(order);
        self.0.load(order)
    }

    pub(super) fn store(&self, value: bool, order: Ordering) {
        self.0.store(value, order);
        after_store(order);
    }

    pub(super) fn swap(&self, value: bool, order: Ordering) -> bool {
        let before = self.0.swap(value, order);
        after_store(order);
        before
    }
}

impl AtomicU32 {
    pub(super) fn load(&self, order: Ordering) -> u32 {
        before_load(order);
        self.0.load(order)
    }

    pub(super) fn fetch_add(&self, value: u32, order: Ordering) -> u32 {
        let before = self.0.fetch_add(value, order);
        after_store(order);
        before
    }

    pub(super) fn fetch_sub(&self, value: u32, order: Ordering) -> u32 {
        let before = self.0.fetch_sub(value, order);
        after_store(order);
        before
    }
}

fn before_load(order: Ordering) {
    if STORED.with(Cell::get) && order == Ordering::SeqCst {
        fence(Ordering::SeqCst);
    }
}

fn after_store(order: Ordering) {
    STORED.with(|stored| stored.set(order == Ordering::SeqCst));
}

/// Loom does not look into tokio, so both sides pass through an atomic of loom's: the actions before the first pass
/// happen before those after the second.
#[derive(Default)]
struct Passage(AtomicBool);

impl Passage {
    fn pass(&self) {
        self.0.0.swap(true, Ordering::AcqRel);
    }
}

#[derive(Default)]
pub(super) struct Notify {
    inner: tokio::sync::Notify,
    passage: Passage,
}

impl Notify {
    pub(super) fn notify_one(&self) {
        self.passage.pass();
        self.inner.notify_one();
    }

    pub(super) async fn notified(&self) {
        self.inner.notified().await;
        self.passage.pass();
    }
}

pub(super) mod oneshot {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, ready};

    use tokio::sync::oneshot;

    use super::Passage;

    pub(in super::super) struct Sender<T>(oneshot::Sender<T>, Arc<Passage>);

    pub(in super::super) struct Receiver<T>(oneshot::Receiver<T>, Arc<Passage>);

    pub(in super::super) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        let passage = Arc::default();
        (
            Sender(sender, Arc::clone(&passage)),
            Receiver(receiver, passage),
        )
    }

    impl<T> Sender<T> {
        pub(in super::super) fn is_closed(&self) -> bool {
            self.0.is_closed()
        }

        pub(in super::super) fn send(self, value: T) -> Result<(), T> {
            self.1.pass();
            self.0.send(value)
        }
    }

    impl<T> Future for Receiver<T> {
        type Output = Result<T, oneshot::error::RecvError>;

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            let received = ready!(Pin::new(&mut self.0).poll(context));
            self.1.pass();
            Poll::Ready(received)
        }
    }
}
