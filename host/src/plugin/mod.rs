//! Plugins: components that handle the events of connections. Loads, links, pools and calls them; the only
//! module that knows wasmtime.

mod capability;
mod commit;
mod load;
mod prepare;
mod run;
mod versions;

use std::collections::BTreeMap;
use std::io::{self, PipeWriter};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use wasmtime::Engine;

use crate::config;

pub(crate) use capability::Need;
pub(crate) use load::NO_HANDLER;
use load::cache::{self, Keep};
pub(crate) use load::compile::{COMMAND as COMPILE_INTO, Pace, compile_into};
use load::compile::{Compiler, Waits};
pub(crate) use load::inspect::{Import, Inspection, inspect, read};
pub(crate) use load::policy::is_mismatched;
pub(crate) use prepare::Ready;
pub(crate) use run::address_space::Addressing;
use run::engine;
use run::epoch_thread::Epochs;
pub(crate) use run::exports::Export;
use run::guest_threads::GuestThreads;
use run::pool::Room;
pub(crate) use versions::change::{Cause, HeldBack, NoChange, PluginChange, Withdrawn};
use versions::change_lock::ChangeLock;
pub(crate) use versions::change_lock::Upgrading;
pub(crate) use versions::handle::PluginHandle;
pub(crate) use versions::heritage::Heritage;
use versions::heritage::InheritedPlugin;
pub(crate) use versions::history::VersionInfo;
pub(crate) use versions::plugin::{Plugin, PluginInfo, Tallies};

/// All plugins of a gateway, and the parts that they share: the engine, the compiler and the guest threads.
pub(crate) struct Plugins {
    engine: Engine,
    epochs: Arc<Epochs>,
    room: Arc<Room>,
    compiler: Arc<Compiler>,
    /// The write end of the compiler's pipe. It closes with the gateway, which stops a compilation under way.
    _running: PipeWriter,
    /// Which component caches a pull may write to.
    component_caches: Keep,
    guests: GuestThreads,
    loaded: ArcSwap<ByName>,
    changing: Arc<ChangeLock>,
    /// The newest signed version of each plugin that has served: without a `min_version`, no lower one is loaded.
    signed: Mutex<BTreeMap<String, u32>>,
    /// The state of the plugins in the process before this one, until this process serves.
    inherited: Mutex<BTreeMap<String, InheritedPlugin>>,
}

/// Plugins by name.
pub(crate) type ByName = BTreeMap<String, Arc<Plugin>>;

impl Plugins {
    /// Starts the engine. Compiled code is kept in `compile_cache`, if given.
    pub(crate) fn start(compile_cache: Option<PathBuf>) -> Result<Self> {
        let caches = (cache::to_serve(compile_cache), Keep::Everywhere);
        Self::start_with(caches, Waits::Clients, GuestThreads::start)
    }

    /// As [`Self::start`], for an author who waits after each save.
    pub(crate) fn start_to_develop(compile_cache: Option<PathBuf>) -> Result<Self> {
        let caches = (cache::to_serve(compile_cache), Keep::Everywhere);
        Self::start_with(caches, Waits::Author, GuestThreads::start)
    }

    /// As [`Self::start`], for a command that serves nobody, while a gateway may: it writes nothing to caches of another
    /// user, whose gateway could not write over it.
    pub(crate) fn start_to_try(compile_cache: Option<PathBuf>) -> Result<Self> {
        let caches = (cache::to_try(compile_cache), Keep::InOwnFolders);
        let plugins = Self::start_with(caches, Waits::Clients, GuestThreads::start)?;
        plugins.compiler.serve();
        Ok(plugins)
    }

    /// As [`Self::start_to_try`], with the guests on the caller's runtime: they share its clock.
    pub(crate) fn start_to_test(compile_cache: Option<PathBuf>) -> Result<Self> {
        let caches = (cache::to_try(compile_cache), Keep::InOwnFolders);
        Self::start_with(caches, Waits::Clients, |epochs| {
            Ok(GuestThreads::shared(epochs))
        })
    }

    fn start_with(
        (compile_cache, component_caches): (Option<PathBuf>, Keep),
        waits: Waits,
        guests: impl FnOnce(Arc<Epochs>) -> Result<GuestThreads>,
    ) -> Result<Self> {
        let (stopped, running) = io::pipe()?;
        let compiler = Compiler::start(compile_cache, stopped, waits)?;
        let (engine, layout) = engine::start(compiler.cache()).map_err(anyhow::Error::from)?;
        let epochs = Epochs::start(&engine).map_err(anyhow::Error::from)?;
        let room = Room::new(layout.instances);
        let guests = guests(Arc::clone(&epochs))?;
        guests.slots().spawn(Room::run(Arc::downgrade(&room)));
        Ok(Self {
            engine,
            epochs,
            room,
            compiler: Arc::new(compiler.compiling_for(layout.addressing)),
            _running: running,
            component_caches,
            guests,
            loaded: ArcSwap::default(),
            changing: Arc::default(),
            signed: Mutex::default(),
            inherited: Mutex::default(),
        })
    }

    /// Takes over the state of another process that its files do not tell, and that serves. Until [`Self::serve`], a plugin
    /// that is loaded for the first time serves the versions of that process.
    pub(crate) fn inherit(&self, heritage: Heritage) {
        self.compiler.serve();
        *self.signed() = heritage.floors;
        *self.inherited() = heritage.plugins;
    }

    /// Notes that this process serves. The inherited state is forgotten: a plugin that is removed and added again is new.
    /// Compiling takes no time from clients from now on.
    pub(crate) fn serve(&self) {
        self.inherited().clear();
        self.compiler.serve();
    }

    /// Freezes the versions while another process starts with [`Self::heritage`]: until it serves, or until
    /// [`Self::end_hand_over`], no command changes them. The receiver gets the reason to give up, if one of these versions
    /// rolls itself back meanwhile.
    pub(crate) async fn hand_over(&self) -> oneshot::Receiver<Withdrawn> {
        self.changing.lock().await.begin()
    }

    /// Lets commands change versions again: the other process does not serve.
    pub(crate) async fn end_hand_over(&self) {
        self.changing.lock().await.end();
    }

    /// The state of the plugins, for the process that takes over.
    pub(crate) fn heritage(&self) -> Heritage {
        let plugins = self.all();
        let inherited = plugins.iter();
        Heritage {
            floors: self.signed().clone(),
            plugins: inherited
                .filter_map(|(name, plugin)| Some((name.clone(), plugin.inherited()?)))
                .collect(),
        }
    }

    /// Limits the handshakes that wait for guest threads.
    pub(crate) fn limit_handshakes(&self, limit: usize) {
        self.guests.limit_handshakes(limit);
    }

    /// Warns an operator whose plugins may have more instances together than there is room for. It is no error: idle
    /// instances make room for others, and calls wait only when all are busy.
    pub(crate) fn warn_of_instances(&self, config: &[config::Plugin]) {
        let each = config
            .iter()
            .map(|plugin| u64::from(plugin.limits.instances));
        let (sum, room) = (each.sum::<u64>(), self.room.for_calls());
        if sum > u64::from(room) {
            tracing::warn!(
                target: "config",
                instances = sum,
                room,
                "the limits.instances of all plugins add up to more than there is room for: when all room is in use, further calls wait or get \"Too Many Requests\"; lower limits.instances where fewer are enough"
            );
        }
    }

    /// The plugins as they are now.
    pub(crate) fn all(&self) -> Arc<ByName> {
        self.loaded.load_full()
    }

    fn signed(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inherited(&self) -> MutexGuard<'_, BTreeMap<String, InheritedPlugin>> {
        let inherited = self.inherited.lock();
        inherited.unwrap_or_else(PoisonError::into_inner)
    }
}
