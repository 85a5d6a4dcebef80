//! The moment after which no call of a version starts any more.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};

/// How often a shut gate is looked at. What is waited for is one poll of a guest, a tick at most.
const LOOK: Duration = Duration::from_millis(1);

/// Open until it is shut. Whoever starts a call holds what [`Gate::enter`] gives until the call has begun.
///
/// A flag would not do: between looking at it and beginning, the flag may change. Here entering costs as much as
/// reading a pointer, and the one who shuts the gate waits.
pub(crate) struct Gate(ArcSwapOption<Open>);

#[derive(Debug)]
pub(crate) struct Open;

impl Gate {
    pub(crate) fn new() -> Self {
        Self(ArcSwapOption::from_pointee(Open))
    }

    /// None when the gate is shut.
    pub(crate) fn enter(&self) -> Option<Guard<Option<Arc<Open>>>> {
        let open = self.0.load();
        open.is_some().then_some(open)
    }

    /// Shuts the gate, and waits for those who are in it: when this returns, nobody begins any more.
    pub(crate) async fn shut(&self) {
        let Some(mut open) = self.0.swap(None) else {
            return;
        };
        // Exclusive once no guard refers to it: that is what makes the pointer safe to free.
        while Arc::get_mut(&mut open).is_none() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn shutting_waits_for_those_inside_and_lets_nobody_in() {
        let gate = Arc::new(Gate::new());
        let inside = gate.enter().unwrap();
        let shut = Arc::new(AtomicBool::new(false));
        let (shutting, done) = (Arc::clone(&gate), Arc::clone(&shut));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            shutting.shut().await;
            done.store(true, Ordering::SeqCst);
        });
        while gate.enter().is_some() {
            tokio::task::yield_now().await;
        }
        assert!(!shut.load(Ordering::SeqCst));
        drop(inside);
        tasks.join_next().await.unwrap().unwrap();
        assert!(shut.load(Ordering::SeqCst));
        assert!(gate.enter().is_none());
    }
}
