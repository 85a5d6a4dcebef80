//! The lock for changes of versions: one change at a time, and no command while another process takes over.

use tokio::sync::{Mutex, MutexGuard, oneshot};

use super::change::Withdrawn;

/// No command changes versions: another process takes over the versions that serve here, and would undo the change.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("an upgrade is under way: ask again once it is over")]
pub(crate) struct Upgrading;

/// Held while versions change, at most for as long as their instances take to be made.
#[derive(Default)]
pub(crate) struct ChangeLock(Mutex<HandOver>);

/// The sender that gives up a hand-over under way, with the reason.
#[derive(Default)]
pub(crate) struct HandOver(Option<oneshot::Sender<Withdrawn>>);

impl ChangeLock {
    /// Locks for a change that a hand-over allows.
    pub(crate) async fn lock(&self) -> MutexGuard<'_, HandOver> {
        self.0.lock().await
    }

    /// Locks for a change by command. Refused while another process takes over the versions that serve here: it would
    /// undo the change.
    pub(crate) async fn by_command(&self) -> Result<MutexGuard<'_, HandOver>, Upgrading> {
        let changing = self.0.lock().await;
        match &changing.0 {
            Some(_) => Err(Upgrading),
            None => Ok(changing),
        }
    }
}

impl HandOver {
    /// Begins a hand-over: no command changes versions. The receiver gets the reason to give the hand-over up.
    pub(crate) fn begin(&mut self) -> oneshot::Receiver<Withdrawn> {
        let (sender, reason) = oneshot::channel();
        self.0 = Some(sender);
        reason
    }

    /// Ends a hand-over: the other process does not serve.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }

    /// Gives up the hand-over: the other process must not serve its versions.
    pub(crate) fn give_up(&mut self, reason: Withdrawn) {
        if let Some(hand_over) = self.0.take() {
            // After the hand-over nobody receives this: the other process judges for itself.
            let _ = hand_over.send(reason);
        }
    }
}
