//! Instances of one plugin: made, called, used again or thrown away.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::sync::oneshot;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder, Trap};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::bindings::{HandlerPlugin, HandlerPluginPre};
use super::console::{Console, printable};
use super::event::Event;
use super::gate::Gate;
use super::{CPU, Invocation, InvokeError, guests};
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

/// The interface that a component may export to be tested before it serves.
const SELF_TEST: &str = "lockgate:plugin/self-test@0.1.0";

/// How a call came out.
pub(crate) enum Called<E: Event> {
    Ended(Result<E::Answer, InvokeError>),
    /// It was not begun, since its version serves no more.
    Retired(E),
}

/// The instances of one version: so many at once, each used by one call at a time.
pub(super) struct Pool {
    engine: Engine,
    pre: HandlerPluginPre<State>,
    plugin: Arc<str>,
    isolation: Isolation,
    limits: config::PluginLimits,
    places: Mutex<Places>,
    gate: Gate,
}

/// Who uses an instance, and who waits for one. One lock for all of it: a call takes it twice.
#[derive(Default)]
struct Places {
    taken: u32,
    idle: Idle,
    waiting: VecDeque<oneshot::Sender<Place>>,
    /// The version serves no more.
    closed: bool,
}

/// Instances that wait for a call, each with the thread that used it last: it finds what it needs in its own cache,
/// where another would have to fetch it.
#[derive(Default)]
struct Idle(Vec<(Thread, Box<Instance>)>);

/// How many idle instances are looked at for one of the caller's thread.
const LOOKED_AT: usize = 8;

impl Idle {
    fn take(&mut self) -> Option<Box<Instance>> {
        let here = Thread::current();
        let last = self.0.len().checked_sub(1)?;
        let mut newest = self.0.iter().enumerate().rev().take(LOOKED_AT);
        let own = newest.find(|(_, (thread, _))| *thread == here);
        let at = own.map_or(last, |(at, _)| at);
        Some(self.0.swap_remove(at).1)
    }

    fn put(&mut self, instance: Box<Instance>) {
        self.0.push((Thread::current(), instance));
    }
}

/// A thread, told from others by where its own variables lie: no more than a register is read for it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Thread(usize);

impl Thread {
    fn current() -> Self {
        thread_local!(static HERE: u8 = const { 0 });
        HERE.with(|here| Self(std::ptr::from_ref(here).addr()))
    }
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
    Closed,
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
            gate: Gate::new(),
        }
    }

    /// A place for a call. Waits for one if all are taken, unless too many wait already. None once the version serves
    /// no more, also for who has waited.
    pub(super) async fn place(self: &Arc<Self>) -> Result<Option<Place>, InvokeError> {
        match self.enter()? {
            Entered::At(place) => Ok(Some(place)),
            Entered::Queue(turn) => Ok(turn.await.ok()),
            Entered::Closed => Ok(None),
        }
    }

    fn enter(self: &Arc<Self>) -> Result<Entered, InvokeError> {
        let mut places = self.lock();
        if places.closed {
            return Ok(Entered::Closed);
        }
        if places.taken < self.limits.instances {
            places.taken += 1;
            let instance = places.idle.take();
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

    /// Sends away those who wait and who still comes. Once this returns no call begins.
    pub(super) async fn close(&self) {
        let (waiting, idle) = {
            let mut places = self.lock();
            places.closed = true;
            (
                std::mem::take(&mut places.waiting),
                std::mem::take(&mut places.idle),
            )
        };
        drop((waiting, idle));
        self.gate.shut().await;
    }

    /// Makes an instance that waits for its first call, under the limits of a call.
    pub(super) async fn warm(&self) -> Result<(), InvokeError> {
        let instance = self.instantiate().await.map_err(|error| failure(&error))?;
        if self.isolation == Isolation::Reused {
            self.lock().idle.put(instance);
        }
        Ok(())
    }

    /// Runs the self-test of a component that has one, in an instance that is used for nothing else.
    pub(super) async fn self_test(&self) -> Result<(), InvokeError> {
        let tested = async {
            let mut store = self.store();
            let instance = self
                .pre
                .instance_pre()
                .instantiate_async(&mut store)
                .await?;
            let Some((_, interface)) = instance.get_export(&mut store, None, SELF_TEST) else {
                return Ok(Ok(()));
            };
            let run = instance
                .get_export_index(&mut store, Some(&interface), "run")
                .ok_or_else(|| wasmtime::format_err!("{SELF_TEST} has no function run"))?;
            let run = instance.get_typed_func::<(), (Result<(), String>,)>(&mut store, run)?;
            store.set_hostcall_fuel(HOSTCALL_BYTES);
            let (passed,) = run.call_async(&mut store, ()).await?;
            wasmtime::Result::Ok(passed)
        };
        let passed = tested.await.map_err(|error| failure(&error))?;
        passed.map_err(|reason| InvokeError::Failed(shortened(&reason)))
    }

    async fn instantiate(&self) -> wasmtime::Result<Box<Instance>> {
        let mut store = self.store();
        let exports = self.pre.instantiate_async(&mut store).await?;
        Ok(Box::new(Instance {
            store,
            exports,
            uses: 0,
        }))
    }

    fn store(&self) -> Store<State> {
        let mut store = Store::new(&self.engine, State::new(&self.plugin, &self.limits));
        store.limiter(|state| &mut state.limits);
        store.epoch_deadline_callback(|_| Ok(guests::tick()));
        store.set_epoch_deadline(1);
        store
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Calls a handler in an instance that no other call uses. One whose call did not end well, or was dropped on
    /// the way, is never used again: it is in its place again only after all is well. Gives the event back when the
    /// version serves no more before the handler begins.
    pub(super) async fn call<E: Event>(
        mut self,
        invocation: Arc<Invocation>,
        event: E,
    ) -> Called<E> {
        let pool = &*self.pool;
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            // In a box, so that a call that finds an instance keeps no room for making one.
            None => match Box::pin(pool.instantiate()).await {
                Ok(instance) => instance,
                Err(error) => return Called::Ended(Err(failure(&error))),
            },
        };
        let Some(open) = pool.gate.enter() else {
            return Called::Retired(event);
        };
        let Instance { store, exports, .. } = &mut *instance;
        store.set_epoch_deadline(1);
        store.set_hostcall_fuel(
            HOSTCALL_BYTES.saturating_add(invocation.scope.limits.message_bytes),
        );
        store.data_mut().begin(&invocation, &pool.limits);
        let handler = exports.lockgate_plugin_handler();
        let answered = {
            let mut call = pin!(event.call(handler, store, &invocation));
            let begun = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
            drop(open);
            match begun {
                Poll::Ready(answered) => answered,
                Poll::Pending => call.await,
            }
        };
        store.data_mut().end();
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) => return Called::Ended(Err(failure(&error))),
        };
        instance.uses += 1;
        if pool.isolation == Isolation::Reused && instance.uses < pool.limits.max_uses {
            self.instance = Some(instance);
        }
        Called::Ended(answer.map_err(|reason| InvokeError::Failed(shortened(&reason))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        loop {
            let mut places = self.pool.lock();
            let Some(waiting) = places.waiting.pop_front() else {
                places.taken -= 1;
                if !places.closed
                    && let Some(instance) = self.instance.take()
                {
                    places.idle.put(instance);
                }
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
        Some(Trap::Interrupt) => InvokeError::Deadline(CPU),
        // The cause before the way there, which may be long.
        Some(trap) => InvokeError::Trapped(shortened(&format!("{trap}; {error}"))),
        None => InvokeError::Trapped(shortened(&format!("{error:#}"))),
    }
}

impl State {
    fn new(plugin: &Arc<str>, limits: &config::PluginLimits) -> Self {
        let [stdout, stderr] = Console::pair(plugin, limits.log_bytes);
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
