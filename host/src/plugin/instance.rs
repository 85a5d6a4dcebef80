//! Instances of one plugin: made, called, used again or thrown away.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
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

/// The instances of one plugin: so many at once, each used by one call at a time.
pub(super) struct Pool {
    engine: Engine,
    pre: HandlerPluginPre<State>,
    plugin: Arc<str>,
    isolation: Isolation,
    limits: config::PluginLimits,
    places: Mutex<Places>,
}

/// Who uses an instance, and who waits for one. One lock for all of it: a call takes it twice.
#[derive(Default)]
struct Places {
    taken: u32,
    #[expect(
        clippy::vec_box,
        reason = "taken and put back for each message: as a pointer"
    )]
    idle: Vec<Box<Instance>>,
    waiting: VecDeque<oneshot::Sender<Place>>,
}

/// A call's right to an instance, with the one that it uses. Given to who has waited longest, or back to the
/// pool, when it is dropped.
pub(super) struct Place {
    pool: Arc<Pool>,
    instance: Option<Box<Instance>>,
}

enum Entered {
    At(Place),
    Queue(oneshot::Receiver<Place>),
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
            places: Mutex::default(),
        }
    }

    /// A place for a call. Waits for one if all are taken, unless too many wait already.
    pub(super) async fn place(self: &Arc<Self>) -> Result<Place, InvokeError> {
        match self.enter()? {
            Entered::At(place) => Ok(place),
            Entered::Queue(turn) => Ok(turn
                .await
                .expect("a pool that is waited for is not dropped")),
        }
    }

    fn enter(self: &Arc<Self>) -> Result<Entered, InvokeError> {
        let mut places = self.lock();
        if places.taken < self.limits.instances {
            places.taken += 1;
            let instance = places.idle.pop();
            drop(places);
            return Ok(Entered::At(Place {
                pool: Arc::clone(self),
                instance,
            }));
        }
        // Who has given up waiting is not in the way of others.
        if places.waiting.len() >= self.limits.waiting as usize {
            places.waiting.retain(|waiting| !waiting.is_closed());
        }
        if places.waiting.len() >= self.limits.waiting as usize {
            return Err(InvokeError::Busy(self.limits.waiting));
        }
        let (offer, turn) = oneshot::channel();
        places.waiting.push_back(offer);
        Ok(Entered::Queue(turn))
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

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Calls a handler in an instance that no other call uses. One whose call did not end well, or was dropped on
    /// the way, is never used again: it is in its place again only after all is well.
    pub(super) async fn call<E: Event>(
        mut self,
        invocation: Arc<Invocation>,
        event: E,
    ) -> Result<E::Answer, InvokeError> {
        let pool = &*self.pool;
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => pool.instantiate().await.map_err(|error| failure(&error))?,
        };
        let Instance { store, exports, .. } = &mut *instance;
        store.set_epoch_deadline(1);
        store.set_hostcall_fuel(
            HOSTCALL_BYTES.saturating_add(invocation.scope.limits.message_bytes),
        );
        store.data_mut().begin(&invocation, &pool.limits);
        let handler = exports.lockgate_plugin_handler();
        let answered = event.call(handler, store, &invocation).await;
        store.data_mut().end();
        let answer = answered.map_err(|error| failure(&error))?;
        instance.uses += 1;
        if pool.isolation == Isolation::Reused && instance.uses < pool.limits.max_uses {
            self.instance = Some(instance);
        }
        answer.map_err(|reason| InvokeError::Failed(shortened(&reason)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        loop {
            let mut places = self.pool.lock();
            let Some(waiting) = places.waiting.pop_front() else {
                places.taken -= 1;
                places.idle.extend(self.instance.take());
                return;
            };
            drop(places);
            if waiting.is_closed() {
                continue;
            }
            let (pool, instance) = (Arc::clone(&self.pool), self.instance.take());
            // If it gives up at this very moment the place is dropped once more, and goes to the next.
            let _ = waiting.send(Self { pool, instance });
            return;
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
