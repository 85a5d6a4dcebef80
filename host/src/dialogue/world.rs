//! The world of a dialogue: one thread, whose clock stands still while anything can be done.
//!
//! Tokio moves a paused clock to its next timer whenever all tasks wait, so that no dialogue waits in earnest.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::clock;

/// Real time for one step: more than the longest deadline of a handler.
const REAL_TIME: Duration = Duration::from_secs(60);

pub(super) struct World {
    /// Notified when all tasks wait.
    idle: Arc<Notify>,
    /// Notified when a step has taken [`REAL_TIME`].
    overdue: Arc<Notify>,
    steps: Sender<()>,
}

/// A step has taken more real time than any may.
#[derive(Debug)]
pub(super) struct Overdue;

impl World {
    /// Runs a dialogue on this thread, from its time of day on.
    pub(super) fn run<T>(start: Duration, dialogue: impl AsyncFnOnce(Self) -> T) -> Result<T> {
        let idle = Arc::new(Notify::new());
        let waiting = Arc::clone(&idle);
        let runtime = Builder::new_current_thread()
            .enable_all()
            // From its start: so all its times are whole milliseconds, as its timers are.
            .start_paused(true)
            .on_thread_park(move || waiting.notify_waiters())
            .build()
            .context("cannot start the runtime of a dialogue")?;
        let overdue = Arc::new(Notify::new());
        let steps = watch(Arc::clone(&overdue))?;
        let world = Self {
            idle,
            overdue,
            steps,
        };
        Ok(runtime.block_on(async {
            clock::set(start);
            dialogue(world).await
        }))
    }

    /// Gives the next step its real time.
    pub(super) fn step(&self) {
        // The thread that watches ends with this sender.
        let _ = self.steps.send(());
    }

    /// Waits until all that can happen now has happened.
    pub(super) async fn settle(&self) -> Result<(), Overdue> {
        tokio::select! {
            () = self.idle.notified() => Ok(()),
            () = self.overdue.notified() => Err(Overdue),
        }
    }

    /// Lets time pass.
    pub(super) async fn pass(&self, time: Duration) -> Result<(), Overdue> {
        self.within(time, std::future::pending::<()>())
            .await
            .map(|_| ())
    }

    /// The outcome of some work, or none after a time of the dialogue's clock.
    pub(super) async fn within<T>(
        &self,
        time: Duration,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, Overdue> {
        tokio::select! {
            biased;
            done = work => Ok(Some(done)),
            () = self.overdue.notified() => Err(Overdue),
            () = sleep(time) => Ok(None),
        }
    }
}

/// Watches the real time of the steps, on a thread of its own.
fn watch(overdue: Arc<Notify>) -> Result<Sender<()>> {
    let (steps, next) = channel();
    let watching = move || {
        // Until the first step the gateway starts, however long that takes.
        let mut began = next.recv().map_err(|_| RecvTimeoutError::Disconnected);
        while began != Err(RecvTimeoutError::Disconnected) {
            if began.is_err() {
                overdue.notify_one();
            }
            began = next.recv_timeout(REAL_TIME);
        }
    };
    thread::Builder::new()
        .name("dialogue".into())
        .spawn(watching)
        .context("cannot start a thread")?;
    Ok(steps)
}
