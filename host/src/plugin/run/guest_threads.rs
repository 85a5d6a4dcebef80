//! The threads for calls that outlive their first tick, so that no guest holds a thread that serves sockets.
//!
//! A call is a boxed future that was begun in its session's task and goes on here. Each poll runs for one tick
//! at most, then the guest yields; a plugin has fewer running slots than there are threads, so that another
//! plugin's call always finds one.

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

/// Owns the guest threads; they end when it is dropped.
pub(crate) struct GuestThreads {
    runtime: Option<Runtime>,
    threads: usize,
}

/// How long a call may take. The time that it waits for a running slot, or for a processor, counts for neither.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Processor time.
    pub(crate) cpu: Duration,
    /// Processor time, and the time that it waits in host calls.
    pub(crate) deadline: Duration,
}

/// Why a call was ended from outside.
#[derive(Debug)]
pub(crate) enum Overdue {
    /// It took longer than its deadline, waiting.
    Deadline,
    /// Its version was replaced, and had its time to end.
    Retired,
}

/// A plugin's share of the guest threads.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    running: Arc<Semaphore>,
    handle: Handle,
}

impl GuestThreads {
    pub(crate) fn start() -> Result<Self> {
        // Two at least, so that one plugin can never have them all.
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("guest")
            .enable_time()
            .build()
            .context("guest threads")?;
        Ok(Self {
            runtime: Some(runtime),
            threads,
        })
    }

    /// The share of one plugin: all threads but one.
    pub(crate) fn slots(&self) -> Slots {
        let handle = self
            .runtime
            .as_ref()
            .expect("taken only in drop")
            .handle()
            .clone();
        Slots {
            running: Arc::new(Semaphore::new(self.threads - 1)),
            handle,
        }
    }
}

impl Drop for GuestThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A guest at work is stopped at its next tick; nobody waits for its answer any more.
            runtime.shutdown_background();
        }
    }
}

impl Slots {
    /// Polls a call for the first time, where it is; one that is not over goes on on the guest threads.
    ///
    /// A call goes on until what `cut` holds when it begins is cancelled at most, wherever it waits. The outer error is that of a call that
    /// panicked.
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
        // In a box, so that who waits for a call that is over at once keeps no room for one that is not.
        Box::pin(self.run_elsewhere(call, budget, cut)).await
    }

    async fn run_elsewhere<T: Send + 'static>(
        &self,
        call: Pin<Box<dyn Future<Output = T> + Send>>,
        budget: Budget,
        cut: &ArcSwap<CancellationToken>,
    ) -> Result<Result<T, Overdue>, JoinError> {
        // Counted: that there is none whom it would end is known by it.
        let cut = cut.load_full();
        let running = Arc::clone(&self.running);
        let mut going = self.handle.spawn(go_on(call, budget, running));
        tokio::select! {
            done = &mut going => done,
            () = cut.cancelled() => {
                going.abort();
                // Ended, and not only told to: what it held is free when its client is answered.
                match going.await {
                    Err(error) if error.is_cancelled() => Ok(Err(Overdue::Retired)),
                    done => done,
                }
            }
        }
    }

    /// Runs what is no call beside those that are.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }
}

async fn go_on<T>(
    mut call: Pin<Box<dyn Future<Output = T> + Send>>,
    budget: Budget,
    running: Arc<Semaphore>,
) -> Result<T, Overdue> {
    // Its first poll is over after a tick. It is not measured, in favour of the call: a clock that is read when a call
    // begins would cost those that are over at once a third of what they cost altogether.
    let mut ran = Duration::ZERO;
    let mut waited = Duration::ZERO;
    loop {
        let slot = running.acquire().await.expect("never closed");
        let charge = Charge::begin(budget.cpu.saturating_sub(ran));
        let polled = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
        let charged = charge.end();
        ran += charged.time;
        drop(slot);
        match polled {
            Poll::Ready(answer) => return Ok(answer),
            Poll::Pending if charged.yielded => tokio::task::yield_now().await,
            Poll::Pending => {
                let since = Instant::now();
                let left = budget.deadline.saturating_sub(ran + waited);
                // Its end wakes the task too: what counts is the time, and not which of the two was ready.
                let _ = tokio::time::timeout(left, woken()).await;
                waited += since.elapsed();
                if ran + waited >= budget.deadline {
                    return Err(Overdue::Deadline);
                }
            }
        }
    }
}

/// Ready when the task is woken: by whatever the call that was polled last is waiting for.
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
