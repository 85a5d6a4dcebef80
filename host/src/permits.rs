//! A semaphore whose limit can change while permits are out, and that tells when all have come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Debug)]
pub(crate) struct Permits {
    taken: AtomicUsize,
    limit: AtomicUsize,
    /// Notified whenever the last permit comes back.
    returned: Notify,
}

/// One permit, returned on drop.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Permits>);

impl Permits {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            returned: Notify::new(),
        })
    }

    /// Takes a permit; none if all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Permit> {
        let limit = self.limit.load(Ordering::Relaxed);
        let counted = |taken| (taken < limit).then_some(taken + 1);
        // Counted only if there is one: the tries of a crowd that is refused keep nobody out.
        let taken = &self.taken;
        let counted = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
        counted.ok().map(|_| Permit(Arc::clone(self)))
    }

    /// The permits that are out.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether more than half of the permits are out.
    pub(crate) fn are_scarce(&self) -> bool {
        self.taken.load(Ordering::Relaxed) > self.limit.load(Ordering::Relaxed) / 2
    }

    /// Waits until no permit is out. Only one task may wait.
    pub(crate) async fn all_returned(&self) {
        while self.taken.load(Ordering::Relaxed) > 0 {
            self.returned.notified().await;
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit. Permits that are out stay valid.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.0.taken.fetch_sub(1, Ordering::Relaxed) == 1 {
            // `Notify` keeps the notice for a later waiter, so no lock is needed; the waiter checks again.
            self.0.returned.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Wake, Waker};

    use super::*;

    #[test]
    fn lower_limit_waits_for_permits_to_be_given_back() {
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

    #[test]
    fn last_permit_given_back_wakes_the_waiter() {
        struct Woken(AtomicUsize);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let permits = Permits::new(2);
        drop(permits.take());
        let (first, second) = (permits.take(), permits.take());
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut waiting = pin!(permits.all_returned());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        drop(second);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(waiting.as_mut().poll(&mut context).is_ready());
    }
}
