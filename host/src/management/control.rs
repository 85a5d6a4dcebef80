//! The operator's actions on a gateway. The management API calls them, and commands call that.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::change::Change;
use crate::plugin::{
    NoChange, Plugin, PluginChange, PluginInfo, Upgrading, VersionInfo, Withdrawn,
};
use crate::stage::Stages;
use crate::telemetry::{Metrics, MetricsFormat};

/// The handle for every action. A request continues if its asker is gone.
#[derive(Clone)]
pub(crate) struct Control {
    /// The configuration's file, if it has one.
    file: Option<Arc<Path>>,
    metrics: Arc<Metrics>,
    reloads: mpsc::Sender<Reload>,
    upgrades: mpsc::Sender<Upgrade>,
    traces: Arc<Semaphore>,
}

/// Traces at once: each takes one of the connections that the management listener has.
pub(super) const MAX_TRACES: usize = 16;

/// A reload request. The answer is the changes, or the reason why nothing changed.
pub(crate) type Reload = oneshot::Sender<Result<Vec<Change>, NoReload>>;

/// A request for a binary upgrade. The answer is the id of the process that then serves, or the reason why there is
/// none.
pub(crate) type Upgrade = oneshot::Sender<Result<u32, NoUpgrade>>;

/// The requests to the composition root, which is above this module: it makes the changes and answers.
pub(crate) struct Requests {
    pub(crate) reloads: mpsc::Receiver<Reload>,
    pub(crate) upgrades: mpsc::Receiver<Upgrade>,
}

/// The reason why a reload failed. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoReload {
    #[error(transparent)]
    Upgrading(#[from] Upgrading),
    #[error("the gateway is stopping")]
    Stopping,
    /// The files cannot be served.
    #[error(transparent)]
    Refused(#[from] anyhow::Error),
    /// The files could not be judged, and may be later.
    #[error(transparent)]
    Unjudged(anyhow::Error),
}

/// The reason why a plugin is not shown or not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginError {
    #[error("no plugin is called {name:?}; there are: {}", .known.join(", "))]
    Unknown { name: String, known: Vec<String> },
    #[error("plugin {0}: {1}")]
    NoChange(Arc<str>, NoChange),
}

/// The reason why an upgrade failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NoUpgrade {
    #[error("an upgrade is under way already")]
    UnderWay,
    #[error("another process serves already in the place of this one; ask again, and it answers")]
    Replaced,
    #[error(
        "`lockgate dev` does not hand over to another process; end it, and start the new program"
    )]
    Dev,
    #[error(
        "a reload is under way, and has not ended within {limit_s} s, which is limits.upgrade_s: no new process was \
         started; ask again once the log says how the reload ended"
    )]
    Reloading { limit_s: u64 },
    #[error("the new process was not ready within {limit_s} s, which is limits.upgrade_s")]
    TooSlow { limit_s: u64 },
    #[error(transparent)]
    Withdrawn(#[from] Withdrawn),
    /// The new process does not serve, with its reason.
    #[error("{0}")]
    NotServing(String),
    #[error("this process was asked to stop")]
    AskedToStop,
    #[error("the gateway is stopping")]
    Stopping,
    /// This process cannot hand over.
    #[error("{0}")]
    Fault(String),
}

impl Control {
    pub(crate) fn new(file: Option<&Path>, metrics: Arc<Metrics>) -> (Self, Requests) {
        // One request is being answered, and one waits.
        let (reloads, asked_to_reload) = mpsc::channel(1);
        let (upgrades, asked_to_upgrade) = mpsc::channel(1);
        let control = Self {
            file: file.map(Arc::from),
            metrics,
            reloads,
            upgrades,
            traces: Arc::new(Semaphore::new(MAX_TRACES)),
        };
        let requests = Requests {
            reloads: asked_to_reload,
            upgrades: asked_to_upgrade,
        };
        (control, requests)
    }

    /// The file of the configuration, if there is one.
    pub(crate) fn file(&self) -> Option<&Arc<Path>> {
        self.file.as_ref()
    }

    /// Whether new clients should be sent here.
    pub(crate) fn is_ready(&self) -> bool {
        !self.metrics.handshakes.stopping.is_cancelled()
    }

    /// The stages that are served.
    pub(super) fn stages(&self) -> Arc<Stages> {
        self.metrics.handshakes.stages.load_full()
    }

    /// The metrics page.
    pub(crate) fn metrics(&self, format: MetricsFormat) -> String {
        self.metrics.render(format)
    }

    /// Gives a permit for a trace; none if there are as many as there may be.
    pub(super) fn begin_trace(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.traces).try_acquire_owned().ok()
    }

    /// Reads the configuration again, and every file that it names.
    pub(crate) async fn reload(&self) -> Result<Vec<Change>, NoReload> {
        let (request, answer) = oneshot::channel();
        let asked = self.reloads.send(request).await;
        asked.map_err(|_| NoReload::Stopping)?;
        answer.await.unwrap_or(Err(NoReload::Stopping))
    }

    /// What there is to know of the plugins when they were read again, beside what has changed.
    pub(crate) fn notes(&self) -> Vec<String> {
        let plugins = self.metrics.plugins.all();
        let notes = plugins.values().filter_map(|plugin| {
            let held_back = plugin.held_back()?;
            Some(format!("plugin {}: {held_back}", plugin.name))
        });
        notes.collect()
    }

    /// Starts another process of the program, which takes over. The answer comes once that serves or has failed.
    pub(crate) async fn upgrade(&self) -> Result<u32, NoUpgrade> {
        let (request, answer) = oneshot::channel();
        let asked = self.upgrades.send(request).await;
        asked.map_err(|_| NoUpgrade::Stopping)?;
        answer.await.unwrap_or(Err(NoUpgrade::Stopping))
    }

    pub(crate) fn plugins(&self) -> Vec<PluginInfo> {
        let plugins = self.metrics.plugins.all();
        let infos = plugins.values().filter_map(|plugin| plugin.info());
        infos.collect()
    }

    /// The versions of a plugin, newest first.
    pub(crate) fn history(&self, plugin: &str) -> Result<Vec<VersionInfo>, PluginError> {
        Ok(self.find(plugin)?.history())
    }

    /// Goes back to a version: by default the last one with other code.
    pub(crate) async fn roll_back(
        &self,
        plugin: &str,
        to: Option<u64>,
    ) -> Result<Change, PluginError> {
        let plugin = self.find(plugin)?;
        changed(&plugin, plugin.roll_back(to).await)
    }

    /// Gives the version of the changed file a share of the connections, in percent.
    pub(crate) async fn roll_out(&self, plugin: &str, share: u32) -> Result<Change, PluginError> {
        let plugin = self.find(plugin)?;
        changed(&plugin, plugin.roll_out(share).await)
    }

    pub(crate) async fn promote(&self, plugin: &str) -> Result<Change, PluginError> {
        let plugin = self.find(plugin)?;
        changed(&plugin, plugin.promote().await)
    }

    pub(crate) async fn abort(&self, plugin: &str) -> Result<Change, PluginError> {
        let plugin = self.find(plugin)?;
        changed(&plugin, plugin.abort().await)
    }

    fn find(&self, name: &str) -> Result<Arc<Plugin>, PluginError> {
        let plugins = self.metrics.plugins.all();
        let found = plugins.get(name).map(Arc::clone);
        found.ok_or_else(|| PluginError::Unknown {
            name: name.to_owned(),
            known: plugins.keys().cloned().collect(),
        })
    }
}

fn changed(plugin: &Plugin, done: Result<PluginChange, NoChange>) -> Result<Change, PluginError> {
    let name = || Arc::clone(&plugin.name);
    match done {
        Ok(change) => Ok(Change::Plugin(name(), change)),
        Err(why) => Err(PluginError::NoChange(name(), why)),
    }
}
