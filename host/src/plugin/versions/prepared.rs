//! A change of versions: prepared beside what serves, then committed, and what it replaces retired.

use std::sync::Arc;

use super::change::{Came, Cause, Ended, NewVersion, PluginChange};
use super::handle::PluginHandle;
use super::plugin::{Placement, Plugin, Record};
use super::share::Versions;
use super::version::{Code, Version};
use crate::config::{self, Fault};
use crate::net::watch::Stamp;
use crate::plugin::load::source::Compiled;
use crate::plugin::load::{self, policy};
use crate::signature::{Digest, Signature};

impl Plugin {
    /// Links and checks code, under the configuration given.
    pub(crate) async fn build(
        place: &Placement,
        config: &config::Plugin,
        code: Code,
    ) -> Result<Version, Fault> {
        let (engine_, config_) = (place.engine.clone(), config.clone());
        let compiled = Arc::clone(&code.compiled);
        let linked = tokio::task::spawn_blocking(move || load::link(&engine_, &config_, &compiled));
        let pre = linked
            .await
            .map_err(|error| load::interrupted(config, &error))??;
        let name = config.name.as_str().into();
        let version = Version::new(place, pre, code, &name, config)
            .ok_or_else(|| load::no_room(config, place.room.total))?;
        let checked = version.check().await;
        checked.map_err(|message| load::broken(config, message))?;
        Ok(version)
    }

    /// Prepares what a file and a configuration ask for; none when that is what there is.
    pub(crate) async fn prepare(
        self: &Arc<Self>,
        config: &config::Plugin,
        offered: (Digest, Option<Stamp>),
        compiled: Option<Arc<Compiled>>,
        signature: &Option<Arc<Signature>>,
        cause: Cause,
    ) -> Result<Option<Prepared>, Fault> {
        let (changes, reconfigured, rollout) = {
            let record = self.lock();
            if record.offered == offered.0 && record.config == *config {
                return Ok(None);
            }
            let before = config::Plugin {
                component: config.component.clone(),
                ..record.config.clone()
            };
            (record.changes, before != *config, record.rollout.is_some())
        };
        let serving = self.versions();
        let serving = serving.as_deref();
        let build = async |code: Code| Self::build(&self.place, config, code).await;
        let again = |version: Option<&Arc<Version>>| {
            let mut code = version.filter(|_| reconfigured)?.code.clone();
            if code.compiled.digest == offered.0 {
                code.signature.clone_from(signature);
            }
            Some(code)
        };
        let (mut stable, mut candidate) = (
            again(serving.map(|serving| &serving.stable)),
            again(serving.and_then(|serving| serving.candidate.as_ref())),
        );
        let compiled = compiled.map(|compiled| Code {
            compiled,
            signature: signature.clone(),
        });
        match compiled {
            Some(code) if rollout => candidate = Some(code),
            Some(code) => stable = Some(code),
            None => {}
        }
        for code in stable.iter().chain(&candidate) {
            Self::trusted(config, code).await.map_err(|fault| Fault {
                message: format!(
                    "of what serves ({}): {}",
                    code.compiled.digest, fault.message
                ),
                ..fault
            })?;
        }
        Ok(Some(Prepared {
            plugin: Arc::clone(self),
            config: config.clone(),
            signature: signature.clone(),
            offered,
            stable: match stable {
                Some(code) => Some(build(code).await?),
                None => None,
            },
            candidate: match candidate {
                Some(code) => Some(build(code).await?),
                None => None,
            },
            changes,
            cause,
        }))
    }

    /// Whether code that was loaded before, its signature found to be true, may serve under the configuration given.
    pub(crate) async fn trusted(config: &config::Plugin, code: &Code) -> Result<(), Fault> {
        let (config_, signature) = (config.clone(), code.signature.clone());
        let checked = tokio::task::spawn_blocking(move || {
            policy::check_again(&config_, signature.as_deref())
        });
        checked
            .await
            .unwrap_or_else(|error| Err(load::interrupted(config, &error)))
    }
}

/// Versions that are ready to serve, checked; nothing has changed yet.
pub(crate) struct Prepared {
    pub(crate) plugin: Arc<Plugin>,
    config: config::Plugin,
    /// The file's.
    pub(crate) signature: Option<Arc<Signature>>,
    /// The file's digest, and how it looked.
    offered: (Digest, Option<Stamp>),
    /// The file's code, or what serves under changed limits and grants.
    stable: Option<Version>,
    candidate: Option<Version>,
    changes: u64,
    cause: Cause,
}

impl Prepared {
    /// Whether the plugin is still as it was when this was prepared.
    pub(crate) fn is_current(&self) -> bool {
        self.plugin.lock().changes == self.changes
    }

    /// Serves what was prepared, in stages that are installed from now on: gives what has changed, and what to end when
    /// they are.
    pub(crate) fn commit(self) -> (Option<PluginChange>, Retired) {
        let plugin = self.plugin;
        let mut record = plugin.lock();
        record.config = self.config;
        (record.offered, record.stamp) = self.offered;
        let Some(before) = plugin.versions() else {
            return (None, Retired::default());
        };
        let mut new = Vec::new();
        let share = record.rollout.unwrap_or(0);
        let mut number = |record: &mut Record, mut version: Version, share: Option<u32>| {
            version.begin(record.history.next_number());
            new.push(NewVersion {
                number: version.number,
                digest: version.code.compiled.digest,
                share,
            });
            record.history.add(&version, Came::Loaded(self.cause));
            Arc::new(version)
        };
        let stable = match self.stable {
            Some(version) => number(&mut record, version, None),
            None => Arc::clone(&before.stable),
        };
        let candidate = match self.candidate {
            Some(version) => Some(number(&mut record, version, Some(share))),
            None => before.candidate.clone(),
        };
        let next = Versions {
            stable,
            candidate,
            share,
        };
        record.tallies.swaps += 1;
        // Messages that have met a snapshot of before go on with what that points to, until it is ended.
        let again = PluginHandle::new(
            &plugin.name,
            Versions::clone(&before),
            Arc::downgrade(&plugin),
        );
        let retired = Retired {
            serving: Some(plugin.serving.swap(Arc::new(again))),
            versions: plugin.swap(&mut record, next, Ended::Replaced),
        };
        drop(record);
        (Some(PluginChange::Reloaded(new)), retired)
    }
}

/// A plugin's file was read, and is what the plugin has already.
pub(crate) struct Unchanged {
    pub(crate) plugin: Arc<Plugin>,
    /// The file's digest, and how it looked.
    pub(crate) offered: (Digest, Option<Stamp>),
    pub(crate) signature: Option<Arc<Signature>>,
}

impl Unchanged {
    /// Spares the next reload to read it.
    pub(crate) fn commit(self) {
        let mut record = self.plugin.lock();
        if record.offered == self.offered.0 {
            record.stamp = self.offered.1;
        }
    }
}

/// What serves no more in new snapshots of stages.
#[derive(Default)]
pub(crate) struct Retired {
    serving: Option<Arc<PluginHandle>>,
    versions: Vec<Arc<Version>>,
}

impl Retired {
    /// Once the new snapshots are in place: when this returns, no call starts any more on what was replaced.
    pub(crate) async fn end(self) {
        if let Some(serving) = self.serving {
            serving.swap(None);
        }
        retire(self.versions).await;
    }
}

pub(crate) async fn retire(versions: Vec<Arc<Version>>) {
    for version in versions {
        version.retire().await;
    }
}
