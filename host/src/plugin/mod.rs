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
use load::compile::Compiler;
pub(crate) use load::compile::{COMMAND as COMPILE_INTO, Pace, compile_into};
pub(crate) use load::inspect::{Import, Inspection, inspect, read};
pub(crate) use load::policy::is_unfit;
pub(crate) use prepare::Ready;
pub(crate) use run::address_space::Addressing;
use run::engine;
pub(crate) use run::exports::Export;
use run::guest_threads::GuestThreads;
use run::pool::Room;
pub(crate) use versions::change::{Cause, NoChange, PluginChange, Withdrawn};
use versions::change_lock::ChangeLock;
pub(crate) use versions::change_lock::Upgrading;
pub(crate) use versions::handle::PluginHandle;
pub(crate) use versions::heritage::Heritage;
use versions::heritage::Inherited;
pub(crate) use versions::history::VersionInfo;
pub(crate) use versions::plugin::{Plugin, PluginInfo, Tallies};

/// All plugins of a gateway, and what they share: the engine, the compiling and the guest threads.
pub(crate) struct Plugins {
    engine: Engine,
    room: Arc<Room>,
    compiler: Arc<Compiler>,
    /// Closed when the last who could wait for compiled code is gone.
    _running: PipeWriter,
    /// What becomes of what is pulled.
    pulled: Keep,
    guests: GuestThreads,
    loaded: ArcSwap<ByName>,
    changing: Arc<ChangeLock>,
    /// The newest signed version that has served, by plugin: without a `min_version`, none below it is.
    signed: Mutex<BTreeMap<String, u32>>,
    /// What the process before this one served, until this one does.
    inherited: Mutex<BTreeMap<String, Inherited>>,
}

/// Plugins by name.
pub(crate) type ByName = BTreeMap<String, Arc<Plugin>>;
impl Plugins {
    /// Starts the engine. Compiled code is kept in `compile_cache`, if given.
    pub(crate) fn start(compile_cache: Option<PathBuf>) -> Result<Self> {
        Self::keeping(cache::to_serve(compile_cache)?, Keep::Everywhere)
    }

    /// As [`Self::start`], for a command that serves nobody: it leaves nothing where another user's gateway keeps its code
    /// and its components.
    pub(crate) fn start_to_try(compile_cache: Option<PathBuf>) -> Result<Self> {
        Self::keeping(cache::to_try(compile_cache)?, Keep::InOwnFolders)
    }

    fn keeping(compile_cache: Option<PathBuf>, pulled: Keep) -> Result<Self> {
        let (stopped, running) = io::pipe()?;
        let compiler = Compiler::start(compile_cache, stopped)?;
        let (engine, layout) = engine::start(compiler.cache()).map_err(anyhow::Error::from)?;
        let (room, guests) = (Room::new(layout.instances), GuestThreads::start()?);
        guests.slots().spawn(Room::run(Arc::downgrade(&room)));
        Ok(Self {
            engine,
            room,
            compiler: Arc::new(compiler.compiling_for(layout.addressing)),
            _running: running,
            pulled,
            guests,
            loaded: ArcSwap::default(),
            changing: Arc::default(),
            signed: Mutex::default(),
            inherited: Mutex::default(),
        })
    }

    /// Begins as another process was, where the files alone do not tell: until [`Self::forget`], a plugin that is loaded
    /// for the first time serves what it served there.
    pub(crate) fn inherit(&self, heritage: Heritage) {
        *self.signed() = heritage.floors;
        *self.inherited() = heritage.plugins;
    }

    /// This process serves: a plugin that is taken out and put in again is a new one.
    pub(crate) fn forget(&self) {
        self.inherited().clear();
    }

    /// Another process is about to begin with [`Self::heritage`]: until it serves, or [`Self::keep`], no command changes
    /// what serves. Gives why it is not to serve, if a version that it would begin with fails meanwhile.
    pub(crate) async fn hand_over(&self) -> oneshot::Receiver<Withdrawn> {
        self.changing.lock().await.begin()
    }

    /// The other process does not serve.
    pub(crate) async fn keep(&self) {
        self.changing.lock().await.end();
    }

    /// What another process is to begin with.
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

    /// What an operator is to know of plugins that may all be loaded: more instances are allowed than there is room
    /// for. No mistake, since idle ones make room for others; only when all are busy is it felt.
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

    fn inherited(&self) -> MutexGuard<'_, BTreeMap<String, Inherited>> {
        let inherited = self.inherited.lock();
        inherited.unwrap_or_else(PoisonError::into_inner)
    }
}
