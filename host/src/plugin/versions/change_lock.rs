//! One change of versions at a time, and none that another process would not know that begins with what serves here.

use tokio::sync::{Mutex, MutexGuard, oneshot};

use super::change::Withdrawn;

/// Why nothing changes by command: another process has begun with what serves here, and would undo the change.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("an upgrade is under way: ask again once it is over")]
pub(crate) struct Upgrading;

/// Held while versions change, for no longer than an instance takes to be made.
#[derive(Default)]
pub(crate) struct ChangeLock(Mutex<HandOver>);

/// By which a hand-over that is under way is given up, with the reason.
#[derive(Default)]
pub(crate) struct HandOver(Option<oneshot::Sender<Withdrawn>>);

impl ChangeLock {
    /// For what a hand-over does not exclude.
    pub(crate) async fn lock(&self) -> MutexGuard<'_, HandOver> {
        self.0.lock().await
    }

    /// For a change by command: refused while another process begins with what serves here, and would undo it.
    pub(crate) async fn by_command(&self) -> Result<MutexGuard<'_, HandOver>, Upgrading> {
        let changing = self.0.lock().await;
        match &changing.0 {
            Some(_) => Err(Upgrading),
            None => Ok(changing),
        }
    }
}

impl HandOver {
    /// From now on nothing changes by command. Gives why the hand-over is to be given up, if it is.
    pub(crate) fn begin(&mut self) -> oneshot::Receiver<Withdrawn> {
        let (given_up, why) = oneshot::channel();
        self.0 = Some(given_up);
        why
    }

    /// The other process does not serve.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }

    /// What the other process has begun with is not to serve there.
    pub(crate) fn give_up(&mut self, why: Withdrawn) {
        if let Some(hand_over) = self.0.take() {
            // When it has been handed over already, the other process judges for itself.
            let _ = hand_over.send(why);
        }
    }
}
