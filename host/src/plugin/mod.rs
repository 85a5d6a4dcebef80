//! Plugins: components that handle the events of connections. Loads, links, pools and calls them; the only
//! module that knows wasmtime.

mod capability;
mod load;
mod run;
mod versions;

use std::collections::BTreeMap;
use std::io::{self, PipeWriter};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use wasmtime::Engine;

use crate::config::{self, Fault};
use crate::signature::Signature;

pub(crate) use capability::Need;
use load::Look;
use load::compile::Compiler;
pub(crate) use load::compile::{COMMAND as COMPILE_INTO, Pace, compile_into};
pub(crate) use load::inspect::{Import, Inspection, inspect, read};
pub(crate) use load::policy::is_unfit;
use load::source::{Compiled, Source};
use load::{cache, policy};
pub(crate) use run::address_space::Addressing;
use run::engine;
pub(crate) use run::exports::Export;
use run::guest_threads::Guests;
use run::pool::Room;
use versions::change_lock::Changing;
pub(crate) use versions::change_lock::Upgrading;
pub(crate) use versions::handle::Serving;
pub(crate) use versions::heritage::Heritage;
use versions::heritage::{self, Inherited};
use versions::plugin::{First, Known, Placement};
pub(crate) use versions::plugin::{Plugin, PluginInfo, Prepared, Retired, Seen, Tallies};
use versions::version::Code;

/// All plugins of a gateway, and what they share: the engine, the compiling and the guest threads.
pub(crate) struct Plugins {
    engine: Engine,
    room: Arc<Room>,
    compiler: Arc<Compiler>,
    /// Closed when the last who could wait for compiled code is gone.
    _running: PipeWriter,
    guests: Guests,
    loaded: ArcSwap<ByName>,
    changing: Arc<Changing>,
    /// The newest signed version that has served, by plugin: without a `min_version`, none below it is.
    signed: Mutex<BTreeMap<String, u32>>,
    /// What the process before this one served, until this one does.
    inherited: Mutex<BTreeMap<String, Inherited>>,
}

/// How long a component is compiled before that is said.
const SOON: Duration = Duration::from_millis(500);

/// Plugins by name.
pub(crate) type ByName = BTreeMap<String, Arc<Plugin>>;

/// What a reload asks of one plugin, checked and ready.
pub(crate) enum Ready {
    /// A plugin that was not there.
    New(Arc<Plugin>),
    Changed(Box<Prepared>),
    /// What serves is what is asked for; its files were read again, as they have changed.
    Read(Seen),
    /// It is as it was.
    Same,
}

impl Ready {
    /// The signature of the file that was read.
    fn signature(&self) -> Option<Arc<Signature>> {
        match self {
            Self::New(plugin) => plugin.versions()?.stable.code.signature.clone(),
            Self::Changed(prepared) => prepared.signature.clone(),
            Self::Read(seen) => seen.signature.clone(),
            Self::Same => None,
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::New(plugin) => Some(&plugin.name),
            Self::Changed(prepared) => Some(&prepared.plugin.name),
            Self::Read(seen) => Some(&seen.plugin.name),
            Self::Same => None,
        }
    }
}

impl Plugins {
    /// Starts the engine. Compiled code is kept in `compile_cache`, if given.
    pub(crate) fn start(compile_cache: Option<PathBuf>) -> Result<Self> {
        Self::keeping(cache::to_serve(compile_cache)?)
    }

    /// As [`Self::start`], for a command that serves nobody: it leaves nothing where another user's gateway keeps its code.
    pub(crate) fn start_to_try(compile_cache: Option<PathBuf>) -> Result<Self> {
        Self::keeping(cache::to_try(compile_cache)?)
    }

    fn keeping(compile_cache: Option<PathBuf>) -> Result<Self> {
        let (stopped, running) = io::pipe()?;
        let compiler = Compiler::start(compile_cache, stopped)?;
        let (engine, layout) = engine::start(compiler.cache()).map_err(anyhow::Error::from)?;
        let (room, guests) = (Room::new(layout.instances), Guests::start()?);
        guests.slots().spawn(Room::run(Arc::downgrade(&room)));
        Ok(Self {
            engine,
            room,
            compiler: Arc::new(compiler.compiling_for(layout.addressing)),
            _running: running,
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
    pub(crate) async fn hand_over(&self) -> oneshot::Receiver<String> {
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
                "the plugins' limits.instances are more together than there is room for at once: when so many are busy, \
                 further calls wait or are told \"Too Many Requests\"; lower limits.instances where so many are not needed"
            );
        }
    }

    /// The plugins as they are now.
    pub(crate) fn all(&self) -> Arc<ByName> {
        self.loaded.load_full()
    }

    /// Reads, compiles, links and tries what a plugin's configuration asks for, away from the threads that serve.
    /// Nothing has changed when this returns.
    ///
    /// Fails when the file is no component of the world `lockgate:plugin/handler-plugin`, is not signed as it must be,
    /// imports what it was not granted, makes no instance within its limits, or does not pass its self-test.
    pub(crate) async fn prepare(
        &self,
        config: &config::Plugin,
        came: &'static str,
    ) -> Result<Ready, Fault> {
        let Some(plugin) = self.all().get(&config.name).map(Arc::clone) else {
            return self.first(config).await.map(Ready::New);
        };
        // Looking is cheap, and reading twice is not: most files are as they were at most reloads.
        if plugin.is_as_it_was(config) {
            return Ok(Ready::Same);
        }
        policy::await_pair(config).await;
        let mut read = None;
        let prepared = async {
            let (source, signature) = self.source(config, Look::UntilWhole).await?;
            let (digest, stamp) = (*read.insert(source.digest), source.stamp);
            let compiled = match plugin.known(digest) {
                Known::Same => None,
                Known::Compiled(compiled) => Some(compiled),
                Known::Other => Some(self.compile(config, source).await?),
            };
            let prepared = plugin
                .prepare(config, (digest, stamp), compiled, &signature, came)
                .await?;
            let seen = Seen {
                plugin: Arc::clone(&plugin),
                offered: (digest, stamp),
                signature,
            };
            Ok::<_, Fault>(match prepared {
                Some(prepared) => Ready::Changed(Box::new(prepared)),
                None => Ready::Read(seen),
            })
        };
        match prepared.await {
            Ok(ready) => Ok(ready),
            Err(fault) => {
                plugin.refused();
                let digest = read.map(tracing::field::display);
                tracing::warn!(
                    plugin = config.name,
                    digest,
                    reason = fault.message,
                    "the new version is not served, the one before goes on"
                );
                Err(fault)
            }
        }
    }

    async fn first(&self, config: &config::Plugin) -> Result<Arc<Plugin>, Fault> {
        let (source, signature) = self.source(config, Look::Once).await?;
        let offered = (source.digest, source.stamp);
        let before = self.inherited().get(&config.name).cloned();
        let place = Placement {
            engine: self.engine.clone(),
            room: Arc::clone(&self.room),
            slots: self.guests.slots(),
        };
        let build = async |source, signature| {
            let compiled = self.compile(config, source).await?;
            let code = Code {
                compiled,
                signature,
            };
            Plugin::build(&place, config, code).await
        };
        let again = async |inheritance: &heritage::Inheritance| {
            let (source, signature) = inheritance.open(config)?;
            build(source, signature.map(Arc::new)).await
        };
        let first = match before {
            // The file is the one that was looked at there: it serves as far as it did.
            Some(before) if before.offered == source.digest.to_string() => First {
                stable: again(&before.stable).await?,
                candidate: match &before.candidate {
                    Some(candidate) => Some(again(candidate).await?),
                    None => None,
                },
                rollout: before.rollout,
                came: "upgrade",
            },
            Some(before) if before.rollout.is_some() => First {
                stable: again(&before.stable).await?,
                candidate: Some(build(source, signature).await?),
                rollout: before.rollout,
                came: "upgrade",
            },
            Some(_) | None => First {
                stable: build(source, signature).await?,
                candidate: None,
                rollout: None,
                came: "start",
            },
        };
        Ok(Plugin::new(
            place.clone(),
            Arc::clone(&self.changing),
            config.clone(),
            offered,
            first,
        ))
    }

    /// A component that may be loaded, with its signature if it must have one: it is signed as it must be, and not older
    /// than what was loaded before.
    async fn source(
        &self,
        config: &config::Plugin,
        look: Look,
    ) -> Result<(Source, Option<Arc<Signature>>), Fault> {
        let source = load::read(config, look).await?;
        let newest = self.signed().get(&config.name).copied().unwrap_or(0);
        let config_ = config.clone();
        let checked = tokio::task::spawn_blocking(move || {
            policy::check(&config_, &source.bytes, newest)
                .map(|signature| (source, signature.map(Arc::new)))
        });
        checked
            .await
            .unwrap_or_else(|error| Err(load::interrupted(config, &error)))
    }

    /// A signed version serves: none below it is loaded any more.
    fn raise_floor(&self, ready: &Ready) {
        let (Some(name), Some(signature)) = (ready.name(), ready.signature()) else {
            return;
        };
        let mut signed = self.signed();
        let newest = signed.entry(name.to_owned()).or_default();
        *newest = signature.version.max(*newest);
    }

    fn signed(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inherited(&self) -> MutexGuard<'_, BTreeMap<String, Inherited>> {
        let inherited = self.inherited.lock();
        inherited.unwrap_or_else(PoisonError::into_inner)
    }

    async fn compile(
        &self,
        config: &config::Plugin,
        source: Source,
    ) -> Result<Arc<Compiled>, Fault> {
        let (compiler, engine) = (Arc::clone(&self.compiler), self.engine.clone());
        let (config_, digest, size) = (config.clone(), source.digest, source.bytes.len());
        let began = Instant::now();
        let mut compiling = tokio::task::spawn_blocking(move || {
            load::compile(&compiler, &engine, &config_, &source)
        });
        let compiled = match timeout(SOON, &mut compiling).await {
            Ok(compiled) => compiled,
            Err(_) => {
                let (plugin, kib) = (&config.name, size >> 10);
                tracing::info!(plugin, %digest, kib, "compiling a component, which takes a while");
                let compiled = compiling.await;
                let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                if let Ok(Ok(_)) = &compiled {
                    tracing::info!(plugin, %digest, took_ms, "compiled the component");
                }
                compiled
            }
        };
        let compiled = compiled.unwrap_or_else(|error| Err(load::interrupted(config, &error)));
        compiled.map(Arc::new)
    }

    /// Serves what was prepared, all of it; hands it back when a plugin was changed otherwise in between.
    ///
    /// `install` is called with the plugins as they are then, and puts a new snapshot into every stage. When it has, what
    /// serves no more is to be ended.
    pub(crate) async fn commit(
        &self,
        ready: Vec<Ready>,
        keep: impl Fn(&str) -> bool,
        install: impl FnOnce(&ByName),
    ) -> Result<Committed, Stale> {
        let _changing = self.changing.lock().await;
        let current = |ready: &Ready| match ready {
            Ready::Changed(prepared) => prepared.is_current(),
            Ready::New(_) | Ready::Read(_) | Ready::Same => true,
        };
        if !ready.iter().all(current) {
            return Err(Stale);
        }
        let mut plugins = ByName::clone(&self.loaded.load());
        let mut committed = Committed::default();
        plugins.retain(|name, plugin| {
            let kept = keep(name);
            if !kept {
                committed.said.push(format!("plugin {name}: removed"));
                committed.removed.push(Arc::clone(plugin));
            }
            kept
        });
        for ready in ready {
            self.raise_floor(&ready);
            match ready {
                Ready::New(plugin) => {
                    committed
                        .said
                        .push(format!("plugin {}: added", plugin.name));
                    plugins.insert(plugin.name.to_string(), plugin);
                }
                Ready::Changed(prepared) => {
                    let (said, retired) = prepared.commit();
                    committed.said.push(said);
                    committed.retired.push(retired);
                }
                Ready::Read(seen) => seen.commit(),
                Ready::Same => {}
            }
        }
        self.loaded.store(Arc::new(plugins));
        install(&self.loaded.load());
        Ok(committed)
    }
}

/// A plugin was changed while something else was prepared for it.
#[derive(Debug)]
pub(crate) struct Stale;

/// What a change of plugins leaves to be done and said.
#[derive(Default)]
pub(crate) struct Committed {
    pub(crate) said: Vec<String>,
    pub(crate) retired: Vec<Retired>,
    /// Routes that messages under way have met may still point to them.
    pub(crate) removed: Vec<Arc<Plugin>>,
}
