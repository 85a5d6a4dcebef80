//! Instances of one plugin: made, called, used again or thrown away.

use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Result, Store, StoreLimits, StoreLimitsBuilder, Trap};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::bindings::{HandlerPlugin, HandlerPluginPre};
use super::console::{Console, printable};
use super::event::Event;
use super::{Invocation, InvokeError, guests};
use crate::config::{self, Isolation};

/// Bytes that a guest may make the gateway allocate for the arguments of one host call or for what a handler
/// returns, beside a message of the stage's limit.
const HOSTCALL_BYTES: usize = 1 << 20;

/// WASI handles (streams, pollables) that an instance may hold.
const MAX_RESOURCES: usize = 1_000;

/// Bytes of a failure's reason that are logged.
const MAX_REASON: usize = 4 << 10;

/// Bytes that one call may ask of `wasi:random`.
const MAX_RANDOM_BYTES: u64 = 64 << 10;

/// The instances of one plugin that wait to be used again.
pub(super) struct Pool {
    engine: Engine,
    pre: HandlerPluginPre<State>,
    plugin: Arc<str>,
    isolation: Isolation,
    limits: config::PluginLimits,
    #[expect(
        clippy::vec_box,
        reason = "taken and put back for each message: as a pointer"
    )]
    idle: Mutex<Vec<Box<Instance>>>,
}

struct Instance {
    store: Store<State>,
    exports: HandlerPlugin,
    uses: u32,
}

/// What an instance's store holds beside its memory.
pub(crate) struct State {
    wasi: WasiCtx,
    resources: ResourceTable,
    limits: StoreLimits,
    console: Console,
    /// What the present call is about; none between calls.
    pub(super) invocation: Option<Arc<Invocation>>,
    /// Messages that the present call may still send.
    pub(super) posts_left: u32,
}

impl Pool {
    pub(super) fn new(
        engine: Engine,
        pre: HandlerPluginPre<State>,
        plugin: Arc<str>,
        config: &config::Plugin,
    ) -> Self {
        Self {
            engine,
            pre,
            plugin,
            isolation: config.isolation,
            limits: config.limits.clone(),
            idle: Mutex::default(),
        }
    }

    /// Calls a handler in an instance that no other call uses. An instance whose call did not end well, or
    /// whose call was dropped on the way, is never used again.
    pub(super) async fn call<E: Event>(
        &self,
        invocation: &Arc<Invocation>,
        event: E,
    ) -> Result<E::Answer, InvokeError> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut instance = match idle {
            Some(instance) => instance,
            None => self.instantiate().await.map_err(|error| failure(&error))?,
        };
        let Instance { store, exports, .. } = &mut *instance;
        store.set_epoch_deadline(1);
        store.set_hostcall_fuel(
            HOSTCALL_BYTES.saturating_add(invocation.scope.limits.message_bytes),
        );
        store.data_mut().begin(invocation, &self.limits);
        let handler = exports.lockgate_plugin_handler();
        let answered = event.call(handler, store, invocation).await;
        store.data_mut().end();
        let answer = answered.map_err(|error| failure(&error))?;
        self.put_back(instance);
        answer.map_err(|reason| InvokeError::Failed(shortened(&reason)))
    }

    async fn instantiate(&self) -> Result<Box<Instance>> {
        let mut store = Store::new(&self.engine, State::new(&self.plugin, &self.limits));
        store.limiter(|state| &mut state.limits);
        store.epoch_deadline_callback(|_| Ok(guests::tick()));
        store.set_epoch_deadline(1);
        let exports = self.pre.instantiate_async(&mut store).await?;
        Ok(Box::new(Instance {
            store,
            exports,
            uses: 0,
        }))
    }

    fn put_back(&self, mut instance: Box<Instance>) {
        instance.uses += 1;
        if self.isolation == Isolation::Reused && instance.uses < self.limits.max_uses {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(instance);
        }
    }
}

/// A handler's reason as the log shows it: of one line, and not longer than that.
fn shortened(reason: &str) -> String {
    let shown = reason.floor_char_boundary(MAX_REASON);
    let rest = if shown < reason.len() { "…" } else { "" };
    printable(reason.get(..shown).unwrap_or_default().as_bytes()) + rest
}

/// What to say of a call that ended in a trap, or in an error of a host function.
fn failure(error: &wasmtime::Error) -> InvokeError {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => InvokeError::Deadline("limits.cpu_ms"),
        Some(_) | None => InvokeError::Trapped(shortened(&format!("{error:#}"))),
    }
}

impl State {
    fn new(plugin: &Arc<str>, limits: &config::PluginLimits) -> Self {
        let [stdout, stderr] = Console::pair(plugin);
        let mut wasi = WasiCtx::builder();
        wasi.stdout(stdout.clone())
            .stderr(stderr)
            .max_random_size(MAX_RANDOM_BYTES);
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(MAX_RESOURCES);
        let limits = StoreLimitsBuilder::new()
            .memory_size(limits.memory_bytes)
            .memories(1)
            .table_elements(limits.table_elements)
            .build();
        Self {
            wasi: wasi.build(),
            resources,
            limits,
            console: stdout,
            invocation: None,
            posts_left: 0,
        }
    }

    fn begin(&mut self, invocation: &Arc<Invocation>, limits: &config::PluginLimits) {
        self.console.begin(invocation, limits.log_bytes);
        self.posts_left = limits.posts;
        self.invocation = Some(Arc::clone(invocation));
    }

    fn end(&mut self) {
        self.console.end();
        self.invocation = None;
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.resources,
        }
    }
}
