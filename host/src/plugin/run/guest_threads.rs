//! The guest threads run the calls that outlive their first tick, so that no guest holds a thread that serves
//! sockets.
//!
//! A call is a boxed future. It begins in its session's task and continues here; it begins here if costly calls have had
//! their share of the session's thread. Each poll lasts one tick at most, then the guest yields. A plugin has fewer
//! running slots than there are threads, so that the call of another plugin always finds a thread.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cpu_time::Charge;
use super::epoch_thread::Epochs;
use super::first_ticks::FirstTicks;
use crate::counters::TimeHistogram;
use crate::invocation::Busy;
use crate::permits::{Permits, Share};

/// The threads that run guests. Their own end when it is dropped.
pub(crate) struct GuestThreads {
    /// None where guests share the runtime of their caller.
    own: Option<Runtime>,
    handle: Handle,
    threads: usize,
    epochs: Arc<Epochs>,
    handshakes: Arc<Permits>,
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
    /// None where guests share the runtime of their caller: no thread would be spared.
    first_ticks: Option<Arc<FirstTicks>>,
    /// Of the calls that wait for a slot to begin, the one that is in the line for running slots: calls that have begun,
    /// and hold instances, are not kept waiting by all that have not.
    beginning: Arc<Semaphore>,
    /// One permit for each call that waits for a slot to begin: as many as do.
    waiting: Arc<Permits>,
    /// One permit for each handshake that does.
    handshakes: Arc<Share>,
    handle: Handle,
    epochs: Arc<Epochs>,
}

/// A running slot of a plugin: one of its calls may be polled on the guest threads.
pub(crate) type Slot = OwnedSemaphorePermit;

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
            handshakes: Permits::new(usize::MAX),
        })
    }

    /// Guests run on the caller's runtime, beside its other tasks: they share its clock.
    pub(crate) fn shared(epochs: Arc<Epochs>) -> Self {
        Self {
            own: None,
            handle: Handle::current(),
            threads: MIN_THREADS,
            epochs,
            handshakes: Permits::new(usize::MAX),
        }
    }

    /// Limits the handshakes that wait for slots, all plugins together: each plugin has a [`Share`] of these.
    pub(crate) fn limit_handshakes(&self, limit: usize) {
        self.handshakes.set_limit(limit);
    }

    /// The share of one plugin: all threads but one.
    pub(crate) fn slots(&self) -> Slots {
        Slots {
            running: Arc::new(Semaphore::new(self.threads - 1)),
            first_ticks: self.own.as_ref().map(|_| Arc::default()),
            beginning: Arc::new(Semaphore::new(1)),
            waiting: Permits::new(usize::MAX),
            handshakes: Arc::new(Share::of(&self.handshakes)),
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
    /// Whether the next call is to begin on the guest threads, with a [`Self::slot`].
    pub(crate) fn begins_elsewhere(&self) -> bool {
        let first_ticks = self.first_ticks.as_deref();
        first_ticks.is_some_and(|first_ticks| !first_ticks.may_begin_here())
    }

    /// Waits for a running slot before a call has an instance, so that calls which wait hold none. A connection has one
    /// call at a time: no more wait than there are connections. Handshakes hold what all stages share meanwhile, so that
    /// they have a bound of their own, of which the plugin has a share: one beyond it is told that the plugin is busy.
    pub(crate) async fn slot(&self, is_handshake: bool) -> Result<Slot, Busy> {
        let place = is_handshake.then(|| self.handshakes.take());
        if let Some(None) = place {
            return Err(Busy::Handshakes(self.handshakes.taken()));
        }
        let _waits = self.waiting.take();
        let _beginning = self.beginning.acquire().await;
        Ok(take(&self.running).await)
    }

    /// Calls that wait for a slot to begin.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.taken()
    }

    /// Runs a call on the guest threads if it has a slot. Otherwise polls it once in the task of the caller; a call that
    /// is not over continues on the guest threads.
    ///
    /// The call ends at the latest when the token that `cut` holds now is cancelled, wherever it waits. The outer
    /// error is that of a call that panicked. `spent` counts its processor time: of a call that is over within its first
    /// poll, that of all such calls if it is one of those that are timed.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        mut call: Pin<Box<dyn Future<Output = T> + Send>>,
        slot: Option<Slot>,
        budget: Budget,
        cut: &ArcSwap<CancellationToken>,
        spent: &TimeHistogram,
    ) -> Result<Result<T, Overdue>, JoinError> {
        let mut first_took = Duration::ZERO;
        if slot.is_none() {
            let first_ticks = self.first_ticks.as_ref();
            let timed = first_ticks.and_then(|ticks| Some((ticks, ticks.begin()?)));
            let first = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
            if let Some((ticks, timed)) = timed {
                first_took = ticks.end(&timed);
                if first.is_ready() {
                    spent.observe_many(first_took, timed.stands_for.into());
                }
            }
            if let Poll::Ready(answer) = first {
                return Ok(Ok(answer));
            }
        }
        // Boxed, so that a call that is over at once reserves no space for this future.
        let (ran, done) = Box::pin(self.run_elsewhere(call, slot, budget, cut)).await;
        spent.observe(first_took + ran);
        done
    }

    async fn run_elsewhere<T: Send + 'static>(
        &self,
        call: Pin<Box<dyn Future<Output = T> + Send>>,
        slot: Option<Slot>,
        budget: Budget,
        cut: &ArcSwap<CancellationToken>,
    ) -> (Duration, Result<Result<T, Overdue>, JoinError>) {
        // The clone counts as a call under way: a token that nobody else holds ends no call.
        let cut = cut.load_full();
        let (running, epochs) = (Arc::clone(&self.running), Arc::clone(&self.epochs));
        let ran = Arc::new(AtomicU64::new(0));
        let call = run_to_end(call, slot, budget, running, epochs, Arc::clone(&ran));
        let mut task = self.handle.spawn(call);
        let done = tokio::select! {
            done = &mut task => done,
            () = cut.cancelled() => {
                task.abort();
                // Waits until the call has ended: its resources are free before its client gets an answer.
                match task.await {
                    Err(error) if error.is_cancelled() => Ok(Err(Overdue::Retired)),
                    done => done,
                }
            }
        };
        (Duration::from_nanos(ran.load(Ordering::Relaxed)), done)
    }

    /// Runs a task that is no call on the guest threads.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }
}

async fn run_to_end<T>(
    mut call: Pin<Box<dyn Future<Output = T> + Send>>,
    mut slot: Option<Slot>,
    budget: Budget,
    running: Arc<Semaphore>,
    epochs: Arc<Epochs>,
    ran_nanoseconds: Arc<AtomicU64>,
) -> Result<T, Overdue> {
    // A first poll in the caller's task lasts a tick at most and is not charged: reading the thread's clock at the start
    // of every call would cost short calls a third of their time.
    let mut ran = Duration::ZERO;
    let mut waited = Duration::ZERO;
    loop {
        let held = match slot.take() {
            Some(slot) => slot,
            None => take(&running).await,
        };
        let left = budget.deadline.saturating_sub(ran + waited);
        let charge = Charge::begin(budget.cpu.saturating_sub(ran), left);
        let polled = poll_fn(|context| {
            let _kept = epochs.keep();
            Poll::Ready(call.as_mut().poll(context))
        })
        .await;
        let charged = charge.end();
        ran += charged.time;
        ran_nanoseconds.store(ran.as_nanos() as u64, Ordering::Relaxed);
        drop(held);
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

/// Waits for a running slot.
async fn take(running: &Arc<Semaphore>) -> Slot {
    let slot = Arc::clone(running).acquire_owned();
    slot.await.expect("never closed")
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

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use futures_util::poll;

    use super::*;
    use crate::plugin::run::cpu_time::{thread_delay, thread_time};
    use crate::plugin::run::engine;

    /// The threads that first polled calls of this processor time, one after the other.
    async fn beginnings(calls: usize, each: Duration) -> Vec<bool> {
        let epochs = Epochs::start(&engine::start(None).unwrap().0).unwrap();
        let threads = GuestThreads::start(epochs).unwrap();
        let (slots, cut) = (threads.slots(), ArcSwap::default());
        let budget = Budget {
            cpu: Duration::from_secs(9),
            deadline: Duration::from_secs(9),
        };
        let spent = TimeHistogram::default();
        let mut on_guest_threads = Vec::new();
        for _ in 0..calls {
            let call = Box::pin(async move {
                let began = thread_time();
                while thread_time() - began < each {}
                thread::current().name() == Some("guest")
            });
            let slot = match slots.begins_elsewhere() {
                true => Some(slots.slot(false).await.unwrap()),
                false => None,
            };
            let ran = slots.run(call, slot, budget, &cut, &spent).await;
            on_guest_threads.push(ran.unwrap().unwrap());
        }
        tokio::task::spawn_blocking(|| drop(threads)).await.unwrap();
        on_guest_threads
    }

    #[tokio::test]
    async fn costly_calls_take_part_of_the_callers_thread_and_begin_elsewhere_beyond_it() {
        let (began, ran) = (Instant::now(), thread_time());
        let elsewhere = beginnings(200, Duration::from_micros(200)).await;
        let ran = (thread_time() - ran).as_secs_f64() / began.elapsed().as_secs_f64();
        let count = elsewhere.iter().filter(|there| **there).count();
        // On a busy machine the thread has the processor for less than its share.
        assert!(
            count > 0 || ran < 0.5,
            "{count} of 200, and it ran for {ran}"
        );
        let here = elsewhere.iter().skip(100).filter(|there| !**there).count();
        assert!(here > 0, "the thread's share is not used");
    }

    #[tokio::test]
    async fn costly_calls_leave_the_caller_half_of_its_thread_while_the_machine_is_busy() {
        const EACH: Duration = Duration::from_micros(500);
        let over = Arc::new(AtomicBool::new(false));
        let threads = thread::available_parallelism().unwrap().get();
        let others: Vec<_> = (0..3 * threads)
            .map(|_| {
                let over = Arc::clone(&over);
                thread::spawn(move || while !over.load(Ordering::Relaxed) {})
            })
            .collect();
        let (began, delayed) = (Instant::now(), thread_delay());
        let elsewhere = beginnings(1_000, EACH).await;
        let own = began.elapsed() - (thread_delay() - delayed);
        over.store(true, Ordering::Relaxed);
        for other in others {
            other.join().unwrap();
        }
        let here = elsewhere.iter().filter(|there| !**there).count();
        let share = EACH.as_secs_f64() * here as f64 / own.as_secs_f64();
        assert!(share < 0.6, "{share} of {own:?}: {here} calls of 1,000");
    }

    #[tokio::test]
    async fn handshakes_that_wait_for_a_slot_have_a_bound_and_other_calls_have_none() {
        let epochs = Epochs::start(&engine::start(None).unwrap().0).unwrap();
        let threads = GuestThreads::shared(epochs);
        threads.limit_handshakes(2);
        let (slots, other) = (threads.slots(), threads.slots());
        let _running = slots.slot(true).await.unwrap();
        let mut handshake = pin!(slots.slot(true));
        let mut message = pin!(slots.slot(false));
        assert!(poll!(handshake.as_mut()).is_pending());
        assert!(poll!(message.as_mut()).is_pending());
        assert_eq!(slots.waiting(), 2);
        let busy = slots.slot(true).await.unwrap_err();
        assert_eq!(busy, Busy::Handshakes(1));
        // Another plugin's are not refused for it, and have the same bound.
        let _running_too = other.slot(true).await.unwrap();
        let mut handshake_too = pin!(other.slot(true));
        assert!(poll!(handshake_too.as_mut()).is_pending());
        let busy = other.slot(true).await.unwrap_err();
        assert_eq!(busy, Busy::Handshakes(1));
    }

    #[tokio::test]
    async fn short_calls_begin_and_end_in_the_callers_task() {
        let elsewhere = beginnings(5_000, Duration::ZERO).await;
        // A thread that loses the processor for a while makes a few of them look costly.
        let count = elsewhere.iter().filter(|there| **there).count();
        assert!(count < 500, "{count} of 5,000");
    }
}
