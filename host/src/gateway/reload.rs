//! What a reload is asked for by, and what comes of it.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Result, anyhow};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::{Gateway, Origin};
use crate::config::{self, Config, Faults};
use crate::management::{Change, NoReload, Reload};
use crate::plugin::{Cause, Upgrading};

/// Why nobody can ask `lockgate dev` for a reload.
pub(crate) const NO_RELOAD: &str = "`lockgate dev` reads what has changed by itself";

/// What is to be read again.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// The configuration's file, and all that it names.
    Everything,
    /// Nothing: this configuration is served.
    Configuration(Box<Config>),
    /// The component of one plugin, under the configuration as it is.
    Component(String),
    /// One certificate of a listener, each by its number in the configuration.
    Certificate { listener: usize, index: usize },
}

impl Gateway {
    /// Reads again and serves what is new; connections stay open, and a message under way ends as it began. On an
    /// error nothing has changed. One reload at a time, whoever asks. Gives what has changed.
    ///
    /// Once this returns no invocation starts on a version that was replaced.
    pub(crate) async fn reload(
        self: &Arc<Self>,
        what: What,
        cause: Cause,
    ) -> Result<Vec<Change>, NoReload> {
        let by_command = matches!(what, What::Everything);
        let refused = async {
            // Files that change by themselves are read by the other process, and here if it does not come to serve.
            match by_command {
                true => self.is_handing_over().await,
                false => pending().await,
            }
        };
        let _reloading = tokio::select! {
            biased;
            () = refused => return Err(Upgrading.into()),
            reloading = self.reloading.lock() => reloading,
        };
        let whole = matches!(what, What::Everything | What::Configuration(_));
        if !whole {
            // Nobody has asked, and the file may be as it was: there is nothing to warn of.
            self.still_changes()?;
        }
        let done = self.reload_alone(what, cause).await;
        let came = cause.as_str();
        let reloads = &self.metrics.reloads;
        match &done {
            Ok(changes) if changes.is_empty() => {
                // A file that was touched is no reload.
                if whole {
                    reloads.unchanged.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(came, "reloaded: nothing has changed");
                }
            }
            Ok(changes) => {
                reloads.changed.fetch_add(1, Ordering::Relaxed);
                for change in changes {
                    tracing::info!(came, "reloaded: {change}");
                }
            }
            Err(error) => {
                reloads.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    came,
                    "not reloaded, everything continues as before: {error:#}"
                );
            }
        }
        done
    }

    /// Ready while another process begins with what is served here.
    async fn is_handing_over(&self) {
        let mut handing_over = self.handing_over.subscribe();
        // It is not closed as long as the gateway lives.
        let _ = handing_over.wait_for(|under_way| *under_way).await;
    }

    /// An error once this process is about to end: another one reads the files then, or nobody does.
    fn still_changes(&self) -> Result<(), NoReload> {
        if self.handshakes.stopping.is_cancelled() {
            return Err(NoReload::Stopping);
        }
        if *self.handing_over.borrow() {
            return Err(Upgrading.into());
        }
        Ok(())
    }

    async fn reload_alone(
        self: &Arc<Self>,
        what: What,
        cause: Cause,
    ) -> Result<Vec<Change>, NoReload> {
        self.still_changes()?;
        let config = match (what, self.origin.clone()) {
            (What::Everything, Origin::File(file)) => {
                let loaded = spawn_blocking(move || Config::load(&file)).await;
                loaded
                    .map_err(anyhow::Error::from)?
                    .map_err(anyhow::Error::from)?
            }
            (What::Everything, Origin::Dev(_)) => {
                return Err(anyhow!(NO_RELOAD).into());
            }
            (What::Configuration(config), _) => *config,
            (What::Component(name), _) => return Ok(self.reload_component(&name, cause).await?),
            (What::Certificate { listener, index }, _) => {
                let reloaded = self.reload_certificate(listener, index).await;
                return Ok(reloaded.map_err(|error| config::blame(self.origin.file(), error))?);
            }
        };
        let applied = self.apply(config, cause).await;
        Ok(applied.map_err(|error| config::blame(self.origin.file(), error))?)
    }

    async fn reload_component(&self, name: &str, cause: Cause) -> Result<Vec<Change>> {
        let config = self.lock().config.clone();
        let mut plugins = config.plugins.iter();
        let Some(plugin) = plugins.find(|plugin| plugin.name == name) else {
            // It was taken out of the configuration after its file was seen to have changed.
            return Ok(Vec::new());
        };
        loop {
            let ready = self.plugins.prepare(plugin, cause).await;
            let ready = ready
                .map_err(|fault| config::blame(self.origin.file(), Faults(vec![fault]).into()))?;
            let install = |plugins: &_| drop(self.install(&config.apis, plugins));
            if let Ok(committed) = self.plugins.commit(vec![ready], |_| true, install).await {
                for retired in committed.retired {
                    retired.end().await;
                }
                return Ok(committed.changes.into_iter().map(Change::from).collect());
            }
        }
    }
}

/// Answers those who ask through the management listener. A reload goes on when the one who asked is gone.
pub(super) async fn answer(gateway: Arc<Gateway>, mut asked: mpsc::Receiver<Reload>) {
    while let Some(request) = asked.recv().await {
        let done = gateway.reload(What::Everything, Cause::Command).await;
        let _ = request.send(done);
    }
}
