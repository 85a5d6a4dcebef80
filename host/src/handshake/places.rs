//! So many at a time, where how many may change while some are taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How often it is looked whether all have been given back.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Places {
    taken: AtomicUsize,
    limit: AtomicUsize,
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Taken(Arc<Places>);

impl Places {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
        })
    }

    /// None when all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Taken> {
        let place = Taken(Arc::clone(self));
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        (before < self.limit.load(Ordering::Relaxed)).then_some(place)
    }

    /// Waits until none is taken.
    pub(crate) async fn emptied(&self) {
        while self.taken.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Those that are taken stay taken.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_limit_waits_for_places_to_be_given_back() {
        let places = Places::new(2);
        let first = places.take().unwrap();
        let second = places.take().unwrap();
        assert!(places.take().is_none());
        places.set_limit(1);
        drop(first);
        assert!(places.take().is_none());
        drop(second);
        assert!(places.take().is_some());
        places.set_limit(2);
        let _both = (places.take().unwrap(), places.take().unwrap());
        assert!(places.take().is_none());
    }
}
