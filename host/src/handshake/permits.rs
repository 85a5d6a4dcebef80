//! So many at a time, where how many may change while some are taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How often it is looked whether all have been given back.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Permits {
    taken: AtomicUsize,
    limit: AtomicUsize,
}

/// One permit, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Permits>);

impl Permits {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
        })
    }

    /// None when all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Permit> {
        let permit = Permit(Arc::clone(self));
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        (before < self.limit.load(Ordering::Relaxed)).then_some(permit)
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

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_limit_waits_for_places_to_be_given_back() {
        let permits = Permits::new(2);
        let first = permits.take().unwrap();
        let second = permits.take().unwrap();
        assert!(permits.take().is_none());
        permits.set_limit(1);
        drop(first);
        assert!(permits.take().is_none());
        drop(second);
        assert!(permits.take().is_some());
        permits.set_limit(2);
        let _both = (permits.take().unwrap(), permits.take().unwrap());
        assert!(permits.take().is_none());
    }
}
