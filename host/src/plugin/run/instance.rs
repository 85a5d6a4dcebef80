//! The instances of one plugin: made, called, reused or thrown away.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{InstancePre, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::bounds::Limiter;
use super::clocks::{GuestMonotonicClock, GuestWallClock};
use super::engine::TABLES_PER_INSTANCE;
use super::epoch_thread::Epochs;
use super::exports::{Export, ExportIndices, Exports};
use super::guest_output::{GuestOutput, printable};
use super::{cpu_time, fault};
use crate::config::{self, Isolation};
use crate::invocation::{Invocation, InvokeError};

/// Bytes that the gateway allocates for the arguments of one host call or for the answer of a handler, in addition to
/// the largest message of the stage.
pub(crate) const HOSTCALL_BYTES: usize = 1 << 20;

/// WASI handles (streams, pollables) that an instance may hold.
const MAX_RESOURCES: usize = 1_000;

/// Bytes of a failure's reason that are logged.
const MAX_REASON: usize = 4 << 10;

/// Bytes that one call may ask of `wasi:random`.
const MAX_RANDOM_BYTES: u64 = 64 << 10;

/// The interface that a component may export to be tested before it serves.
const SELF_TEST: &str = "lockgate:plugin/self-test@0.1.0";

/// Makes the instances of one version.
pub(crate) struct Maker {
    pub(crate) engine: Engine,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) pre: InstancePre<HostState>,
    pub(crate) exports: ExportIndices,
    pub(crate) plugin: Arc<str>,
    pub(crate) isolation: Isolation,
    pub(crate) environment: BTreeMap<String, config::Secret>,
    pub(crate) limits: config::PluginLimits,
    /// Tables of an instance.
    pub(crate) tables: u32,
}

pub(crate) struct Instance {
    store: Store<HostState>,
    exports: Exports,
    pub(crate) uses: u32,
}

/// The host's side of an instance: what its store holds beside its memory.
pub(crate) struct HostState {
    wasi: WasiCtx,
    resources: ResourceTable,
    pub(crate) limiter: Limiter,
    pub(crate) output: GuestOutput,
    /// The current call; none between calls.
    pub(crate) invocation: Option<Arc<Invocation>>,
    /// Messages that a call may send.
    pub(crate) posts: u32,
    /// Messages that the current call may still send.
    pub(crate) posts_left: u32,
    /// The longest time of a call.
    pub(crate) deadline: Duration,
}

/// The outcome of a self-test.
pub(crate) enum Tested {
    Passed,
    Failed(InvokeError),
    /// No instance could be made.
    NotMade(InvokeError),
}

impl Maker {
    /// Runs the self-test of a component that has one, in an instance that is used for nothing else.
    pub(crate) async fn self_test(&self) -> Tested {
        let mut store = self.store();
        let made = self.pre.instantiate_async(&mut store).await;
        let instance = match made {
            Ok(instance) => instance,
            Err(error) => return Tested::NotMade(self.failure(&error, store.data())),
        };
        let Some((_, interface)) = instance.get_export(&mut store, None, SELF_TEST) else {
            return Tested::Passed;
        };
        let test = async {
            let run = instance
                .get_export_index(&mut store, Some(&interface), "run")
                .ok_or_else(|| wasmtime::format_err!("{SELF_TEST} has no function run"))?;
            let run = instance.get_typed_func::<(), (Result<(), String>,)>(&mut store, run)?;
            store.set_hostcall_fuel(HOSTCALL_BYTES);
            let (passed,) = run.call_async(&mut store, ()).await?;
            wasmtime::Result::Ok(passed)
        };
        match test.await {
            Ok(Ok(())) => Tested::Passed,
            Ok(Err(reason)) => Tested::Failed(InvokeError::Failed(shortened(&reason))),
            Err(error) => Tested::Failed(self.failure(&error, store.data())),
        }
    }

    pub(crate) async fn instance(&self) -> Result<Box<Instance>, InvokeError> {
        let mut store = self.store();
        let made = self.pre.instantiate_async(&mut store).await;
        let exports = made.and_then(|instance| self.exports.load(&mut store, &instance));
        match exports {
            Ok(exports) => Ok(Box::new(Instance {
                store,
                exports,
                uses: 0,
            })),
            Err(error) => Err(self.failure(&error, store.data())),
        }
    }

    /// The error for a call that ended in a trap, or in an error of a host function.
    pub(crate) fn failure(&self, error: &wasmtime::Error, state: &HostState) -> InvokeError {
        fault::of(error, state, &self.limits)
    }

    /// The outcome of a call that came back though it was refused memory or a larger table.
    pub(crate) fn outcome_of_refused<A>(
        &self,
        answered: Result<A, String>,
        state: &HostState,
    ) -> Result<A, InvokeError> {
        fault::of_refused(answered, state, &self.limits)
    }

    /// The room of an instance, in units of an instance with few tables.
    pub(crate) fn units(&self) -> u32 {
        self.tables.div_ceil(TABLES_PER_INSTANCE).max(1)
    }

    fn store(&self) -> Store<HostState> {
        let mut store = Store::new(&self.engine, HostState::new(self));
        store.limiter(|state| &mut state.limiter);
        store.epoch_deadline_callback(|_| Ok(cpu_time::tick()));
        store.set_epoch_deadline(1);
        self.epochs.want();
        store
    }
}

impl Instance {
    /// Begins a call: the actions of the instance belong to `invocation` now.
    pub(crate) fn begin(&mut self, invocation: &Arc<Invocation>, epochs: &Epochs) {
        let store = &mut self.store;
        store.set_epoch_deadline(1);
        epochs.want();
        store.set_hostcall_fuel(
            HOSTCALL_BYTES.saturating_add(invocation.scope.limits.message_bytes),
        );
        store.data_mut().begin(invocation);
    }

    /// Calls the handler for an event. The outer error is a trap, the inner one the handler's own failure.
    pub(crate) fn call<E: Export>(
        &mut self,
        event: E,
        invocation: &Invocation,
    ) -> impl Future<Output = wasmtime::Result<Result<E::Answer, String>>> + Send {
        event.call(&self.exports, &mut self.store, invocation)
    }

    pub(crate) fn state(&self) -> &HostState {
        self.store.data()
    }

    /// Ends the call.
    pub(crate) fn end(&mut self) {
        self.store.data_mut().end();
        self.uses += 1;
    }
}

/// A handler's reason for the log: on one line, and cut to [`MAX_REASON`].
pub(crate) fn shortened(reason: &str) -> String {
    let shown = reason.floor_char_boundary(MAX_REASON);
    let rest = if shown < reason.len() { "…" } else { "" };
    printable(reason.get(..shown).unwrap_or_default().as_bytes()) + rest
}

impl HostState {
    fn new(maker: &Maker) -> Self {
        let limits = &maker.limits;
        let [stdout, stderr] = GuestOutput::pair(&maker.plugin, limits.log_bytes);
        let mut wasi = WasiCtx::builder();
        wasi.stdout(stdout.clone())
            .stderr(stderr)
            .wall_clock(GuestWallClock)
            .monotonic_clock(GuestMonotonicClock::start())
            .max_random_size(MAX_RANDOM_BYTES);
        for (name, value) in &maker.environment {
            wasi.env(name, value.reveal());
        }
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(MAX_RESOURCES);
        Self {
            wasi: wasi.build(),
            resources,
            limiter: Limiter::new(limits),
            output: stdout,
            invocation: None,
            posts: limits.posts,
            posts_left: 0,
            deadline: limits.deadline,
        }
    }

    fn begin(&mut self, invocation: &Arc<Invocation>) {
        self.output.begin(invocation);
        self.limiter.begin();
        self.posts_left = self.posts;
        self.invocation = Some(Arc::clone(invocation));
    }

    fn end(&mut self) {
        self.output.end();
        self.invocation = None;
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.resources,
        }
    }
}
