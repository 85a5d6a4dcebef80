//! The guest threads run the calls that outlive their first tick, so that no guest holds a thread that serves
//! sockets.
//!
//! A call is a boxed future. It begins in its session's task and continues here. Each poll lasts one tick at most,
//! then the guest yields. A plugin has fewer running slots than there are threads, so that the call of another plugin
//! always finds a thread.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cpu_time::Charge;
use super::epoch_thread::Epochs;

/// The threads that run guests. Their own end when it is dropped.
pub(crate) struct GuestThreads {
    /// None where guests share the runtime of their caller.
    own: Option<Runtime>,
    handle: Handle,
    threads: usize,
    epochs: Arc<Epochs>,
}

/// Threads at least: one plugin never has them all.
const MIN_THREADS: usize = 2;

/// The time that a call may take. Waiting for a running slot or for a processor counts for neither limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Processor time.
    pub(crate) cpu: Duration,
    /// Processor time, and the time that the call waits in host calls.
    pub(crate) deadline: Duration,
}

/// Why a call was ended before it returned.
#[derive(Debug)]
pub(crate) enum Overdue {
    /// Its deadline passed while it waited.
    Deadline,
    /// Its version was replaced, and `limits.retire_s` is over.
    Retired,
}

/// A plugin's share of the guest threads.
#[derive(Clone)]
pub(crate) struct Slots {
    running: Arc<Semaphore>,
    handle: Handle,
    epochs: Arc<Epochs>,
}

impl GuestThreads {
    pub(crate) fn start(epochs: Arc<Epochs>) -> Result<Self> {
        let threads = std::thread::available_parallelism()
            .map_or(MIN_THREADS, |threads| threads.get().max(MIN_THREADS));
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("guest")
            .enable_time()
            .build()
            .context("guest threads")?;
        Ok(Self {
            handle: runtime.handle().clone(),
            own: Some(runtime),
            threads,
            epochs,
        })
    }

    /// Guests run on the caller's runtime, beside its other tasks: they share its clock.
    pub(crate) fn shared(epochs: Arc<Epochs>) -> Self {
        Self {
            own: None,
            handle: Handle::current(),
            threads: MIN_THREADS,
            epochs,
        }
    }

    /// The share of one plugin: all threads but one.
    pub(crate) fn slots(&self) -> Slots {
        Slots {
            running: Arc::new(Semaphore::new(self.threads - 1)),
            handle: self.handle.clone(),
            epochs: Arc::clone(&self.epochs),
        }
    }
}

impl Drop for GuestThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.own.take() {
            // A running guest stops at its next tick: nobody waits for its answer.
            runtime.shutdown_background();
        }
    }
}

impl Slots {
    /// Polls a call once in the task of the caller; a call that is not over continues on the guest threads.
    ///
    /// The call ends at the latest when the token that `cut` holds now is cancelled, wherever it waits. The outer
    /// error is that of a call that panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        mut call: Pin<Box<dyn Future<Output = T> + Send>>,
        budget: Budget,
        cut: &ArcSwap<CancellationToken>,
    ) -> Result<Result<T, Overdue>, JoinError> {
        let first = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
        if let Poll::Ready(answer) = first {
            return Ok(Ok(answer));
        }
        // Boxed, so that a call that is over at once reserves no space for this future.
        Box::pin(self.run_elsewhere(call, budget, cut)).await
    }

    async fn run_elsewhere<T: Send + 'static>(
        &self,
        call: Pin<Box<dyn Future<Output = T> + Send>>,
        budget: Budget,
        cut: &ArcSwap<CancellationToken>,
    ) -> Result<Result<T, Overdue>, JoinError> {
        // The clone counts as a call under way: a token that nobody else holds ends no call.
        let cut = cut.load_full();
        let (running, epochs) = (Arc::clone(&self.running), Arc::clone(&self.epochs));
        let mut task = self.handle.spawn(run_to_end(call, budget, running, epochs));
        tokio::select! {
            done = &mut task => done,
            () = cut.cancelled() => {
                task.abort();
                // Waits until the call has ended: its resources are free before its client gets an answer.
                match task.await {
                    Err(error) if error.is_cancelled() => Ok(Err(Overdue::Retired)),
                    done => done,
                }
            }
        }
    }

    /// Runs a task that is no call on the guest threads.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }
}

async fn run_to_end<T>(
    mut call: Pin<Box<dyn Future<Output = T> + Send>>,
    budget: Budget,
    running: Arc<Semaphore>,
    epochs: Arc<Epochs>,
) -> Result<T, Overdue> {
    // The first poll lasts a tick at most and is not measured: reading a clock at the start of every call would cost
    // short calls a third of their time.
    let mut ran = Duration::ZERO;
    let mut waited = Duration::ZERO;
    loop {
        let slot = running.acquire().await.expect("never closed");
        let left = budget.deadline.saturating_sub(ran + waited);
        let charge = Charge::begin(budget.cpu.saturating_sub(ran), left);
        let polled = poll_fn(|context| {
            let _kept = epochs.keep();
            Poll::Ready(call.as_mut().poll(context))
        })
        .await;
        let charged = charge.end();
        ran += charged.time;
        drop(slot);
        match polled {
            Poll::Ready(answer) => return Ok(answer),
            Poll::Pending if charged.yielded => tokio::task::yield_now().await,
            Poll::Pending => {
                let since = Instant::now();
                let left = budget.deadline.saturating_sub(ran + waited);
                // The timeout wakes the task too: the time decides, not which of the two was ready.
                let _ = tokio::time::timeout(left, woken()).await;
                waited += since.elapsed();
                if ran + waited >= budget.deadline {
                    return Err(Overdue::Deadline);
                }
            }
        }
    }
}

/// Ready when the task is woken: the last poll of the call has arranged that.
async fn woken() {
    let mut first = true;
    poll_fn(|_| {
        if std::mem::take(&mut first) {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}
