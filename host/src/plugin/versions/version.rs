//! One version of a plugin: code, limits, instances, and the calls that run on it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmtime::component::InstancePre;

use super::plugin::Placement;
use crate::config;
use crate::counters::TimeHistogram;
use crate::invocation::{Called, Cut, Invocation, InvokeError};
use crate::plugin::load::source::Compiled;
use crate::plugin::run::engine::TABLES_PER_COMPONENT;
use crate::plugin::run::exports::{Export, ExportIndices};
use crate::plugin::run::guest_threads::{Budget, Overdue, Slots};
use crate::plugin::run::instance::{HostState, Maker, Tested};
use crate::plugin::run::pool::{Line, Pool, Usage};
use crate::sharded::Sharded;
use crate::signature::Signature;

/// Compiled code and its signature.
#[derive(Clone)]
pub(crate) struct Code {
    pub(crate) compiled: Arc<Compiled>,
    /// None when no signature was required.
    pub(crate) signature: Option<Arc<Signature>>,
}

/// The message for a component of which no instance can be made.
const NOT_MADE: &str = "no instance of it can be made";

pub(crate) struct Version {
    /// Numbered from 1, in the order in which versions came to serve.
    pub(crate) number: u64,
    pub(crate) code: Code,
    pub(crate) counts: Arc<Counts>,
    since: Instant,
    plugin: Arc<str>,
    rollback: Option<config::Rollback>,
    limits: config::PluginLimits,
    judged: AtomicBool,
    pool: Arc<Pool>,
    slots: Slots,
    budget: Budget,
    /// Cancelled when the version is dropped.
    freed: CancellationToken,
    /// Cancelled when the time of the calls that hold it is over. Each [`Self::interrupt_later`] puts a new token
    /// here for later calls.
    cut: ArcSwap<CancellationToken>,
}

/// The counts of a version. They outlive it, for the history and the metrics.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    calls: Sharded<AtomicU64>,
    traps: AtomicU64,
    deadlines: AtomicU64,
}

impl Counts {
    fn add<T>(&self, answer: &Result<T, InvokeError>) {
        self.calls.own().fetch_add(1, Ordering::Relaxed);
        if answer.as_ref().is_err_and(InvokeError::blames_the_code) {
            self.traps.fetch_add(1, Ordering::Relaxed);
        }
        if let Err(InvokeError::Deadline(Cut::Deadline(_))) = answer {
            self.deadlines.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Calls that have ended.
    pub(crate) fn calls(&self) -> u64 {
        let each = self.calls.all();
        each.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Calls that took longer than their deadline.
    pub(crate) fn deadlines(&self) -> u64 {
        self.deadlines.load(Ordering::Relaxed)
    }

    /// Calls that trapped, or used more processor time than they may.
    pub(crate) fn traps(&self) -> u64 {
        self.traps.load(Ordering::Relaxed)
    }
}

impl Version {
    /// A version that does not serve yet: it is to be checked ([`Self::check`]), and numbered ([`Self::begin`]). None
    /// when there is no room for its first instance.
    pub(crate) fn new(
        place: &Placement,
        pre: InstancePre<HostState>,
        code: Code,
        name: &Arc<str>,
        config: &config::Plugin,
    ) -> Option<Self> {
        let component = &code.compiled.component;
        let needs = component.resources_required();
        let freed = CancellationToken::new();
        let maker = Maker {
            engine: place.engine.clone(),
            epochs: Arc::clone(&place.epochs),
            exports: ExportIndices::of(&pre),
            pre,
            plugin: Arc::clone(name),
            isolation: config.isolation,
            environment: config.environment.clone(),
            limits: config.limits.clone(),
            tables: needs.map_or(TABLES_PER_COMPONENT, |needs| needs.num_tables),
        };
        Some(Self {
            number: 0,
            code,
            counts: Arc::default(),
            since: Instant::now(),
            plugin: Arc::clone(name),
            rollback: config.rollback,
            limits: config.limits.clone(),
            judged: AtomicBool::new(false),
            pool: Arc::new(Pool::new(maker, &place.room)?),
            slots: place.slots.clone(),
            budget: Budget {
                cpu: config.limits.cpu,
                deadline: config.limits.deadline,
            },
            cut: ArcSwap::from_pointee(freed.child_token()),
            freed,
        })
    }

    /// Runs the self-test and makes the first instance, each under the limits of a call. Fails with the fault.
    pub(crate) async fn check(&self) -> Result<(), String> {
        let permit = self.pool.permit(Line::Bounded).await;
        let Ok(Some(permit)) = permit else {
            return Ok(()); // it serves calls already, and so it works
        };
        let pool = Arc::clone(&self.pool);
        let test = Box::pin(async move { pool.maker().self_test().await });
        // A test is nobody's call.
        let spent = TimeHistogram::default();
        let run = self.slots.run(test, None, self.budget, &self.cut, &spent);
        let tested = self.outcome(run.await);
        let (fault, error) = match tested.unwrap_or_else(Tested::Failed) {
            Tested::Passed => {
                let warm = Box::pin(permit.warm());
                let run = self.slots.run(warm, None, self.budget, &self.cut, &spent);
                match self.outcome(run.await).flatten() {
                    Ok(()) => return Ok(()),
                    Err(error) => (NOT_MADE, error),
                }
            }
            Tested::NotMade(error) => (NOT_MADE, error),
            Tested::Failed(error) => ("its self-test failed", error),
        };
        Err(match error {
            InvokeError::Failed(reason) => format!("{fault}: {reason}"),
            InvokeError::Busy(_)
            | InvokeError::Deadline(_)
            | InvokeError::Trapped(_)
            | InvokeError::Removed
            | InvokeError::GivenUp
            | InvokeError::Host(_) => format!("{fault}: {error}"),
        })
    }

    /// Numbers the version, which serves from now on.
    pub(crate) fn begin(&mut self, number: u64) {
        self.number = number;
        self.since = Instant::now();
    }

    /// Calls the handler for an event. The call begins in the caller's task, and continues on the guest threads if it
    /// takes long; it begins there if costly calls have had their share of the caller's thread. The caller holds the
    /// version meanwhile: a version ends with its last holder.
    pub(crate) async fn invoke<E: Export>(
        &self,
        invocation: &Arc<Invocation>,
        event: E,
    ) -> Called<E> {
        let mut slot = None;
        if self.slots.begins_elsewhere() {
            // Boxed, so that a call that begins here reserves no space for it.
            slot = match Box::pin(self.slots.slot(E::IS_HANDSHAKE)).await {
                Ok(slot) => Some(slot),
                Err(busy) => return Called::Ended(Err(InvokeError::Busy(busy))),
            };
        }
        let permit = {
            let mut permit = pin!(self.pool.permit(E::LINE));
            poll_fn(|context| {
                let permit = permit.as_mut().poll(context);
                if permit.is_pending() {
                    // Calls that hold an instance may need the slot to end.
                    slot = None;
                }
                permit
            })
            .await
        };
        let permit = match permit {
            Ok(Some(permit)) => permit,
            Ok(None) => return Called::Retired(event),
            Err(error) => return Called::Ended(Err(error)),
        };
        let call = Box::pin(permit.call(Arc::clone(invocation), event));
        let spent = &invocation.scope.counters.cpu;
        let run = self.slots.run(call, slot, self.budget, &self.cut, spent);
        let called = self
            .outcome(run.await)
            .unwrap_or_else(|error| Called::Ended(Err(error)));
        if let Called::Ended(answer) = &called {
            self.counts.add(answer);
        }
        called
    }

    /// Its instances, and the calls that wait for one.
    pub(crate) fn usage(&self) -> Usage {
        self.pool.usage()
    }

    /// Whether the version traps so often, so soon, that it should not serve. True once at most.
    pub(crate) fn is_failing(&self) -> bool {
        let Some(rollback) = self.rollback else {
            return false;
        };
        let (calls, traps) = (self.counts.calls(), self.counts.traps());
        self.since.elapsed() <= rollback.within
            && calls >= u64::from(rollback.calls)
            && traps * 100 > calls * u64::from(rollback.trap_percent)
            && !self.judged.swap(true, Ordering::Relaxed)
    }

    /// Ends the version after another has replaced it. Once this returns no call of it starts; calls under way have
    /// the time of `limits.retire_s`. It is freed with the last of them.
    pub(crate) async fn retire(self: Arc<Self>) {
        self.pool.close().await;
        self.interrupt_later();
    }

    /// Ends a version whose plugin is no longer in the configuration and still gets events: their calls begin, each
    /// with its own time. Never rolled back: there is no version to go back to.
    pub(crate) fn linger(&self) {
        self.judged.store(true, Ordering::Relaxed);
        self.interrupt_later();
    }

    /// Gives the calls under way the time of `limits.retire_s`. A call that still waits for an instance is not under
    /// way.
    fn interrupt_later(&self) {
        let cut = self.cut.swap(Arc::new(self.freed.child_token()));
        let (time, plugin, number) = (self.limits.retire, Arc::clone(&self.plugin), self.number);
        self.slots.spawn(async move {
            let freed = tokio::time::timeout(time, cut.cancelled()).await.is_ok();
            if freed || Arc::strong_count(&cut) == 1 {
                return;
            }
            tracing::warn!(
                plugin = &*plugin,
                version = number,
                "interrupting the calls of a replaced version: limits.retire_s is over"
            );
            cut.cancel();
        });
    }

    /// The outcome of a task of the guest threads.
    fn outcome<T>(&self, ran: Result<Result<T, Overdue>, JoinError>) -> Result<T, InvokeError> {
        match ran {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(Overdue::Deadline)) => {
                Err(InvokeError::Deadline(Cut::Deadline(self.limits.deadline)))
            }
            Ok(Err(Overdue::Retired)) => {
                Err(InvokeError::Deadline(Cut::Retired(self.limits.retire)))
            }
            // Only the end of the gateway ends calls in such a way.
            Err(ended) if ended.is_cancelled() => Err(InvokeError::GivenUp),
            Err(panicked) => Err(InvokeError::Host(panicked.into())),
        }
    }
}

impl Drop for Version {
    fn drop(&mut self) {
        self.freed.cancel();
    }
}
