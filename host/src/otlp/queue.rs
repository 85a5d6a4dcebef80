//! The queue of one signal: spans or log lines, each encoded, that wait for the collector. Whoever adds one waits for
//! nobody; one without room is dropped.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// The time for which the first of a batch waits for others.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Queue {
    state: Mutex<State>,
    /// Told of the first of a batch, of a batch that is half full, and of the close.
    filled: Notify,
    /// Bytes that wait; as many may be on their way.
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    waiting: Batch,
    /// Items of the last batch that was given out.
    given_out: u64,
    is_closed: bool,
}

/// Encoded items, one after the other.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) items: u64,
}

impl Queue {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            max_bytes,
        }
    }

    /// Adds an item. False if there is no room for it, or the queue is closed.
    pub(super) fn add(&self, item: &[u8]) -> bool {
        let mut state = self.lock();
        let before = state.waiting.bytes.len();
        let after = before + item.len();
        if state.is_closed || after > self.max_bytes {
            return false;
        }
        state.waiting.bytes.extend_from_slice(item);
        state.waiting.items += 1;
        drop(state);
        let half = self.max_bytes / 2;
        if before == 0 || before < half && after >= half {
            self.filled.notify_one();
        }
        true
    }

    /// Takes no further item. Those that wait are given out at once.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.filled.notify_one();
    }

    /// Waits for a batch: until it is half full, or its first item has waited for [`INTERVAL`]. None once the queue is
    /// closed and empty. The batch before has been dealt with.
    pub(super) async fn next(&self) -> Option<Batch> {
        self.lock().given_out = 0;
        self.wait_for(|state| state.is_closed || state.waiting.items > 0)
            .await;
        let is_due =
            |state: &State| state.is_closed || state.waiting.bytes.len() >= self.max_bytes / 2;
        // A batch that is not half full goes by its time.
        let _ = timeout(INTERVAL, self.wait_for(is_due)).await;
        let mut state = self.lock();
        let batch = std::mem::take(&mut state.waiting);
        state.given_out = batch.items;
        (batch.items > 0).then_some(batch)
    }

    async fn wait_for(&self, is_so: impl Fn(&State) -> bool) {
        while !is_so(&self.lock()) {
            self.filled.notified().await;
        }
    }

    /// The items that wait, and those of the batch that is on its way.
    pub(super) fn items(&self) -> u64 {
        let state = self.lock();
        state.waiting.items + state.given_out
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn batch_goes_by_its_time_by_its_size_and_at_the_close() {
        let queue = Queue::new(100);
        let began = Instant::now();
        assert!(queue.add(&[1; 10]) && queue.add(&[2; 10]));
        let batch = queue.next().await.unwrap();
        assert_eq!((batch.items, batch.bytes.len()), (2, 20));
        assert_eq!(began.elapsed(), INTERVAL);
        assert!(queue.add(&[3; 60]));
        assert_eq!(queue.items(), 3, "one waits, two are on their way");
        assert_eq!(queue.next().await.unwrap().items, 1);
        assert_eq!(began.elapsed(), INTERVAL);
        assert!(queue.add(&[4; 1]));
        queue.close();
        assert!(!queue.add(&[5; 1]));
        assert_eq!(queue.next().await.unwrap().items, 1);
        assert!(queue.next().await.is_none());
        assert_eq!(queue.items(), 0);
        assert_eq!(began.elapsed(), INTERVAL);
    }

    #[test]
    fn item_beyond_the_bound_is_dropped_and_a_smaller_one_is_not() {
        let queue = Queue::new(100);
        assert!(queue.add(&[1; 60]));
        assert!(!queue.add(&[2; 41]));
        assert!(queue.add(&[3; 40]));
        assert!(!queue.add(&[4; 1]));
        assert_eq!(queue.items(), 2);
    }
}
