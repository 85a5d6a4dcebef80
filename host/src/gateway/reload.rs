//! Reloads: the scope of each, and its outcome in log and metrics.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Result, anyhow};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::{ConfigSource, Gateway};
use crate::authorizer;
use crate::config::{self, Config, Faults};
use crate::management::{Change, NoReload, Reload};
use crate::plugin::{Cause, Upgrading};

/// The reason why `lockgate dev` refuses a reload.
pub(crate) const NO_RELOAD: &str = "`lockgate dev` reads what has changed by itself";

/// The scope of a reload: the files to read again.
#[derive(Clone, Debug)]
pub(crate) enum ReloadScope {
    /// The configuration's file, and every file that it names.
    Everything,
    /// No file: this configuration is served.
    Configuration(Box<Config>),
    /// The component of one plugin, under the current configuration.
    Component(String),
    /// One certificate of a listener, each by its index in the configuration.
    Certificate { listener: usize, index: usize },
    /// The certificate of the management listener.
    ManagementCertificate,
    /// The authorities and revocation lists of a listener, by its index in the configuration.
    ClientCertificates { listener: usize },
}

impl Gateway {
    /// Reads the scope again, serves it, and gives the changes. Connections stay open, and a message under way ends on
    /// its version. On an error nothing has changed. One reload runs at a time, whoever asks.
    ///
    /// Once this returns, no invocation starts on a replaced version.
    pub(crate) async fn reload(
        self: &Arc<Self>,
        scope: ReloadScope,
        cause: Cause,
    ) -> Result<Vec<Change>, NoReload> {
        let by_command = matches!(scope, ReloadScope::Everything);
        let refused = async {
            // A changed file needs no refusal: the other process reads it, or this one does if the hand-over fails.
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
        let is_whole = matches!(
            scope,
            ReloadScope::Everything | ReloadScope::Configuration(_)
        );
        if !is_whole {
            // Nobody asked for this, and the file may be unchanged: no warning.
            self.check_may_change()?;
        }
        let done = self.reload_alone(scope, cause).await;
        if is_whole && done.is_ok() {
            for note in self.control.notes() {
                tracing::info!("{note}");
            }
        }
        let came = cause.as_str();
        let reloads = &self.metrics.reloads;
        match &done {
            Ok(changes) if changes.is_empty() => {
                // A touched file with the same content counts as no reload.
                if is_whole {
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
            Err(NoReload::Unjudged(error)) if cause == Cause::ChangedFileAgain => {
                tracing::debug!(came, "still not reloaded: {error:#}");
            }
            Err(error) => {
                reloads.refused.fetch_add(1, Ordering::Relaxed);
                if !cause.is_told_by_dev() {
                    tracing::warn!(
                        came,
                        "not reloaded, everything continues as before: {error:#}"
                    );
                }
            }
        }
        done
    }

    /// Waits until a hand-over is under way or done.
    async fn is_handing_over(&self) {
        let mut handing_over = self.handing_over.subscribe();
        // The sender lives as long as the gateway.
        let _ = handing_over.wait_for(|under_way| *under_way).await;
    }

    /// Fails once this process is about to end: then another process reads the files, or none does.
    fn check_may_change(&self) -> Result<(), NoReload> {
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
        scope: ReloadScope,
        cause: Cause,
    ) -> Result<Vec<Change>, NoReload> {
        self.check_may_change()?;
        let config = match (scope, self.source.clone()) {
            (ReloadScope::Everything, ConfigSource::File(file)) => {
                let loaded = spawn_blocking(move || Config::load(&file)).await;
                loaded
                    .map_err(anyhow::Error::from)?
                    .map_err(anyhow::Error::from)?
            }
            (ReloadScope::Everything, ConfigSource::Dev(_)) => {
                return Err(anyhow!(NO_RELOAD).into());
            }
            (ReloadScope::Configuration(config), _) => *config,
            (ReloadScope::Component(name), _) => {
                let reloaded = self.reload_component(&name, cause).await;
                return reloaded.map_err(|error| self.refusal(error));
            }
            (ReloadScope::Certificate { listener, index }, _) => {
                let reloaded = self.reload_certificate(listener, index).await;
                return reloaded.map_err(|error| self.refusal(error));
            }
            (ReloadScope::ManagementCertificate, _) => {
                let reloaded = self.reload_management_certificate().await;
                return reloaded.map_err(|error| self.refusal(error));
            }
            (ReloadScope::ClientCertificates { listener }, _) => {
                let reloaded = self.reload_clients(listener).await;
                return reloaded.map_err(|error| self.refusal(error));
            }
        };
        let applied = self.apply(config, cause).await;
        applied.map_err(|error| self.refusal(error))
    }

    /// Adds the places in the configuration to an error.
    fn refusal(&self, error: anyhow::Error) -> NoReload {
        let faults = error.downcast_ref::<Faults>();
        let is_unjudged =
            faults.is_some_and(|Faults(all)| all.iter().all(|fault| fault.is_passing));
        let error = config::blame(self.source.file(), error);
        if is_unjudged {
            NoReload::Unjudged(error)
        } else {
            NoReload::Refused(error)
        }
    }

    async fn reload_component(&self, name: &str, cause: Cause) -> Result<Vec<Change>> {
        let config = self.lock().config.clone();
        let mut plugins = config.plugins.iter();
        let Some(plugin) = plugins.find(|plugin| plugin.name == name) else {
            // The configuration dropped the plugin after its file changed.
            return Ok(Vec::new());
        };
        let held = async {
            let ready = self.plugins.prepare(plugin, cause).await?;
            self.plugins.hold(vec![ready]).await
        };
        let held = held.await.map_err(|fault| Faults(vec![fault]))?;
        // The authorizers are those of the configuration, which is the same.
        let prepared = authorizer::Prepared::default();
        let install = |plugins: &_| drop(self.install(&config, plugins, &prepared));
        let committed = held.commit(|_| true, install);
        for retired in committed.retired {
            retired.end().await;
        }
        Ok(committed.changes.into_iter().map(Change::from).collect())
    }
}

/// Answers reload requests of the management listener. A reload continues if its asker is gone.
pub(super) async fn answer(gateway: Arc<Gateway>, mut asked: mpsc::Receiver<Reload>) {
    while let Some(request) = asked.recv().await {
        let done = gateway
            .reload(ReloadScope::Everything, Cause::Command)
            .await;
        let _ = request.send(done);
    }
}
