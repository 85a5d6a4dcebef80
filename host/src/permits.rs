//! A semaphore whose limit can change while permits are out, and that tells when all have come back; and shares of it, so that
//! no party has all permits.

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

/// What one of several parties may have of the permits of all: as many as are left, and one in any case. A single one that
/// asks for all gets half, two get a third each, and the others find room: none keeps another from a first one. So
/// no more are out than the limit, and one for each party.
#[derive(Debug)]
pub(crate) struct Share {
    all: Arc<Permits>,
    own: Arc<Permits>,
}

/// One permit of a [`Share`], returned on drop.
#[derive(Debug)]
pub(crate) struct Shared {
    _all: Permit,
    _own: Permit,
}

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
        self.take_if(|left| left > 0)
    }

    /// Takes a permit if the number of those that are left allows it.
    fn take_if(self: &Arc<Self>, allows: impl Fn(usize) -> bool) -> Option<Permit> {
        let limit = self.limit.load(Ordering::Relaxed);
        let counted = |taken| allows(limit.saturating_sub(taken)).then_some(taken + 1);
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

impl Share {
    /// A share for one more party.
    pub(crate) fn of(all: &Arc<Permits>) -> Self {
        Self::with(all, &Permits::new(usize::MAX))
    }

    /// The share of a party that counts its own permits, without a limit of theirs.
    pub(crate) fn with(all: &Arc<Permits>, own: &Arc<Permits>) -> Self {
        Self {
            all: Arc::clone(all),
            own: Arc::clone(own),
        }
    }

    /// Takes a permit; none if the party has as many as are left.
    pub(crate) fn take(&self) -> Option<Shared> {
        // Calls of one party at the same moment may read the same count: together they take a few more, and no
        // more of all than there are.
        let own = self.own.taken();
        let all = self.all.take_if(|left| own < left.max(1))?;
        Some(Shared {
            _all: all,
            _own: self.own.take()?,
        })
    }

    /// The permits that the party has.
    pub(crate) fn taken(&self) -> usize {
        self.own.taken()
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
    fn party_has_as_many_permits_as_are_left() {
        let all = Permits::new(12);
        let [first, second, third] = [(); 3].map(|()| Share::of(&all));
        let take_all = |share: &Share| std::iter::from_fn(|| share.take()).collect::<Vec<_>>();
        let of_first = take_all(&first);
        assert_eq!(of_first.len(), 6);
        let of_second = take_all(&second);
        assert_eq!(of_second.len(), 3);
        drop(of_first);
        assert_eq!(take_all(&third).len(), 5);
        drop(of_second);
        assert_eq!(all.taken(), 0);
        assert_eq!(take_all(&first).len(), 6);
    }

    #[test]
    fn party_has_one_permit_in_any_case_and_no_other_beyond_the_limit() {
        let all = Permits::new(1);
        let shares: Vec<_> = (0..5).map(|_| Share::of(&all)).collect();
        let taken: Vec<_> = shares.iter().map(|share| share.take().unwrap()).collect();
        assert_eq!(all.taken(), 5);
        for share in &shares {
            assert!(share.take().is_none());
            assert_eq!(share.taken(), 1);
        }
        drop(taken);
        all.set_limit(0);
        let _one = shares[0].take().unwrap();
        assert!(shares[0].take().is_none());
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
