//! Plugins: components that handle the events of connections. Loads, links, pools and calls them; the only
//! module that knows wasmtime.

mod bindings;
mod console;
mod engine;
mod event;
mod guests;
mod imports;
mod inspect;
mod instance;
mod load;
mod trust;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use wasmtime::Engine;

use crate::config;
use crate::connections::{Connection, ConnectionLimits, Connections, RequestId};

pub(crate) use event::{Acceptance, Event, Handshake};
use guests::{Budget, Guests, Slots};
pub(crate) use inspect::{Import, Inspection, Interface, inspect, read};
use instance::Pool;
pub(crate) use load::Need;

/// What all plugins share: the engine and the guest threads.
pub(crate) struct Plugins {
    engine: Engine,
    guests: Guests,
    /// The newest signed version that was loaded, by plugin: without a `min_version`, none below it is.
    versions: Mutex<HashMap<String, u32>>,
}

impl Plugins {
    /// Starts the engine. Compiled code is kept in `compile_cache`, if given.
    pub(crate) fn start(compile_cache: Option<PathBuf>) -> Result<Self> {
        let engine = engine::start(compile_cache).map_err(anyhow::Error::from)?;
        Ok(Self {
            engine,
            guests: Guests::start()?,
            versions: Mutex::default(),
        })
    }

    /// Compiles and links a component, which takes milliseconds to seconds: not for a thread that serves.
    ///
    /// Fails when the file is no component of the world `lockgate:plugin/handler-plugin`, or imports what it
    /// was not granted, or is not signed as it must be.
    pub(crate) fn load(&self, config: &config::Plugin) -> Result<Plugin, config::Fault> {
        let versions = || self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = versions().get(&config.name).copied().unwrap_or(0);
        let (pre, version) = load::load(&self.engine, config, newest)?;
        let mut versions = versions();
        let newest = versions.entry(config.name.clone()).or_default();
        *newest = version.max(*newest);
        drop(versions);
        let name: Arc<str> = config.name.as_str().into();
        Ok(Plugin {
            pool: Arc::new(Pool::new(
                self.engine.clone(),
                pre,
                Arc::clone(&name),
                config,
            )),
            slots: self.guests.slots(),
            budget: Budget {
                cpu: config.limits.cpu,
                deadline: config.limits.deadline,
            },
            name,
        })
    }
}

/// A loaded plugin, ready to be called.
pub(crate) struct Plugin {
    pub(crate) name: Arc<str>,
    pool: Arc<Pool>,
    slots: Slots,
    budget: Budget,
}

/// What a plugin may know of the stage that it is called for.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) api: Box<str>,
    pub(crate) stage: Box<str>,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) limits: ConnectionLimits,
    pub(crate) connections: Arc<Connections>,
}

/// The API's name and the stage's, as logs show them.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.api, self.stage)
    }
}

/// One event on its way to a handler.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) request_id: RequestId,
    pub(crate) scope: Arc<Scope>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) route_key: Arc<str>,
    /// Milliseconds since the Unix epoch.
    pub(crate) requested_at: u64,
}

/// Why an invocation has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvokeError {
    /// All instances are busy, and as many invocations wait as may.
    #[error("all instances are busy and {0} invocations are waiting already")]
    Busy(u32),
    /// The guest used up its running time, or its time altogether.
    #[error("cut off at its deadline ({0})")]
    Deadline(&'static str),
    /// The handler returned a failure.
    #[error("the handler failed: {0}")]
    Failed(String),
    /// The guest trapped: a panic, too much memory, a broken rule of the component model.
    #[error("the plugin trapped: {0}")]
    Trapped(String),
    /// Not the guest's fault.
    #[error("the gateway failed: {0:#}")]
    Host(anyhow::Error),
}

impl Plugin {
    /// Calls the handler for an event. Begins in the caller's task, and goes on elsewhere if it takes long.
    pub(crate) async fn invoke<E: Event>(
        &self,
        invocation: Arc<Invocation>,
        event: E,
    ) -> Result<E::Answer, InvokeError> {
        let place = self.pool.place().await?;
        let call = Box::pin(place.call(invocation, event));
        match self.slots.run(call, self.budget).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(guests::Overdue)) => Err(InvokeError::Deadline("limits.deadline_ms")),
            Err(panicked) => Err(InvokeError::Host(panicked.into())),
        }
    }
}
