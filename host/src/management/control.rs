//! What an operator can do with a gateway, whoever asks: the management API does, and the commands through it.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::change::Change;
use crate::plugin::{
    NoChange, Plugin, PluginChange, PluginInfo, Upgrading, VersionInfo, Withdrawn,
};
use crate::telemetry::Metrics;

/// The one handle. A request goes on when the one who asked is gone.
#[derive(Clone)]
pub(crate) struct Control {
    /// The configuration's, if it has one.
    file: Option<Arc<Path>>,
    metrics: Arc<Metrics>,
    reloads: mpsc::Sender<Reload>,
    upgrades: mpsc::Sender<Upgrade>,
}

/// Someone asks for a reload: the answer is what has changed, or why nothing has.
pub(crate) type Reload = oneshot::Sender<Result<Vec<Change>, NoReload>>;

/// Someone asks for a binary upgrade, and is answered with the id of the process that serves by then, or with why
/// there is none.
pub(crate) type Upgrade = oneshot::Sender<Result<u32, NoUpgrade>>;

/// What is asked of the composition root, which answers: what it changes is above this module.
pub(crate) struct Asked {
    pub(crate) reloads: mpsc::Receiver<Reload>,
    pub(crate) upgrades: mpsc::Receiver<Upgrade>,
}

/// Why there is no reload. Everything goes on as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoReload {
    #[error(transparent)]
    Upgrading(#[from] Upgrading),
    #[error("the gateway is stopping")]
    Stopping,
    /// What was read cannot be served.
    #[error(transparent)]
    Refused(#[from] anyhow::Error),
}

/// Why a plugin is not shown, or not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginError {
    #[error("no plugin is called {name:?}; there are: {}", .known.join(", "))]
    Unknown { name: String, known: Vec<String> },
    #[error("plugin {0}: {1}")]
    NoChange(Arc<str>, NoChange),
}

/// Why there is no upgrade.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NoUpgrade {
    #[error("an upgrade is under way already")]
    UnderWay,
    #[error("another process serves already in the place of this one; ask again, and it answers")]
    Succeeded,
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
    /// The new process does not serve, and says why.
    #[error("{0}")]
    NotServing(String),
    #[error("this process was asked to stop")]
    AskedToStop,
    #[error("the gateway is stopping")]
    Stopping,
    /// This process cannot.
    #[error("{0}")]
    Fault(String),
}

impl Control {
    pub(crate) fn new(file: Option<&Path>, metrics: Arc<Metrics>) -> (Self, Asked) {
        // One that is being answered, and one that waits.
        let (reloads, asked_to_reload) = mpsc::channel(1);
        let (upgrades, asked_to_upgrade) = mpsc::channel(1);
        let control = Self {
            file: file.map(Arc::from),
            metrics,
            reloads,
            upgrades,
        };
        let asked = Asked {
            reloads: asked_to_reload,
            upgrades: asked_to_upgrade,
        };
        (control, asked)
    }

    /// The configuration that the gateway runs, if that is a file.
    pub(crate) fn file(&self) -> Option<&Arc<Path>> {
        self.file.as_ref()
    }

    /// Whether new clients should be sent here.
    pub(crate) fn is_ready(&self) -> bool {
        !self.metrics.handshakes.stopping.is_cancelled()
    }

    /// The metrics page.
    pub(crate) fn metrics(&self) -> String {
        self.metrics.render()
    }

    /// Reads the configuration again, and all that it names.
    pub(crate) async fn reload(&self) -> Result<Vec<Change>, NoReload> {
        let (request, answer) = oneshot::channel();
        let asked = self.reloads.send(request).await;
        asked.map_err(|_| NoReload::Stopping)?;
        answer.await.unwrap_or(Err(NoReload::Stopping))
    }

    /// Another process of the program takes over. The answer comes when it serves, or does not.
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

    /// Newest first.
    pub(crate) fn history(&self, plugin: &str) -> Result<Vec<VersionInfo>, PluginError> {
        Ok(self.find(plugin)?.history())
    }

    /// Goes back to a version, by default to the last that had other code.
    pub(crate) async fn roll_back(
        &self,
        plugin: &str,
        to: Option<u64>,
    ) -> Result<Change, PluginError> {
        let plugin = self.find(plugin)?;
        changed(&plugin, plugin.roll_back(to).await)
    }

    /// Has a changed file serve a share of the connections, in percent.
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
