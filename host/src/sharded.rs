//! Cache-padded shards, one a thread at best: threads that do the same thing at once share no cache line.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

/// Shards for each processor: enough that two of the few serving threads seldom share one.
const FOR_EACH_PROCESSOR: usize = 4;

/// The number of threads that have a shard.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// The number of shards. The system reads files to tell how many processors there are.
static COUNT: LazyLock<usize> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
    (processors * FOR_EACH_PROCESSOR).next_power_of_two()
});

thread_local! {
    static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

#[derive(Debug)]
pub(crate) struct Sharded<T>(Box<[CachePadded<T>]>);

impl<T> Sharded<T> {
    pub(crate) fn new(make: impl Fn() -> T) -> Self {
        Self((0..*COUNT).map(|_| CachePadded::new(make())).collect())
    }

    /// The shard of the calling thread, which another thread may share.
    pub(crate) fn own(&self) -> &T {
        let at = NUMBER.with(|number| *number) & (self.0.len() - 1);
        self.0.get(at).expect("their number is a power of two")
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|shard| &**shard)
    }
}

impl<T: Default> Default for Sharded<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}
