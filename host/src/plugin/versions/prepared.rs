//! The reload of one plugin: prepared beside the versions that serve, then committed; the replaced versions are
//! retired.

use std::sync::Arc;

use super::change::{Cause, EndReason, NewVersion, PluginChange, VersionOrigin};
use super::handle::PluginHandle;
use super::plugin::{Placement, Plugin, Record};
use super::rollout_share::Versions;
use super::version::{Code, Version};
use crate::config::{self, Fault};
use crate::net::watch::Stamp;
use crate::plugin::load::source::Compiled;
use crate::plugin::load::{self, policy};
use crate::signature::{Digest, Signature};

impl Plugin {
    /// Links and checks code under a configuration, and gives a version that can serve.
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
        checked.map_err(|message| load::failed_test(config, message))?;
        Ok(version)
    }

    /// Prepares the versions for a file and a configuration; none when both are unchanged.
    pub(crate) async fn prepare(
        self: &Arc<Self>,
        config: &config::Plugin,
        offered: (Digest, Option<Stamp>),
        compiled: Option<Arc<Compiled>>,
        signature: &Option<Arc<Signature>>,
        cause: Cause,
    ) -> Result<Option<Prepared>, Fault> {
        let (changes, is_reconfigured, rollout) = {
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
        let rebuilt = |version: Option<&Arc<Version>>| {
            let mut code = version.filter(|_| is_reconfigured)?.code.clone();
            if code.compiled.digest == offered.0 {
                code.signature.clone_from(signature);
            }
            Some(code)
        };
        let (mut stable, mut candidate) = (
            rebuilt(serving.map(|serving| &serving.stable)),
            rebuilt(serving.and_then(|serving| serving.candidate.as_ref())),
        );
        let offers = compiled.clone().map(|compiled| Code {
            compiled,
            signature: signature.clone(),
        });
        match offers {
            Some(code) if rollout => candidate = Some(code),
            Some(code) => stable = Some(code),
            None => {}
        }
        for code in stable.iter().chain(&candidate) {
            Self::check_trust(config, code)
                .await
                .map_err(|fault| Fault {
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
            compiled,
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

    /// Whether code that was loaded before, with a signature found true, may serve under this configuration.
    pub(crate) async fn check_trust(config: &config::Plugin, code: &Code) -> Result<(), Fault> {
        let (config_, signature) = (config.clone(), code.signature.clone());
        let checked = tokio::task::spawn_blocking(move || {
            policy::check_again(&config_, signature.as_deref())
        });
        checked
            .await
            .unwrap_or_else(|error| Err(load::interrupted(config, &error)))
    }
}

/// Checked versions that are ready to serve. Nothing has changed yet.
pub(crate) struct Prepared {
    pub(crate) plugin: Arc<Plugin>,
    config: config::Plugin,
    /// The signature of the file.
    pub(crate) signature: Option<Arc<Signature>>,
    /// The digest of the file, and its size and times.
    offered: (Digest, Option<Stamp>),
    /// The file's code, if it is new.
    compiled: Option<Arc<Compiled>>,
    /// The file's code, or the code that serves, under new limits and grants.
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

    /// Prepares the same file and configuration for the plugin as it is now.
    pub(crate) async fn again(self) -> Result<Option<Self>, Fault> {
        // Their instances make room.
        drop((self.stable, self.candidate));
        let (plugin, offered, cause) = (self.plugin, self.offered, self.cause);
        let signature = &self.signature;
        let again = plugin.prepare(&self.config, offered, self.compiled, signature, cause);
        again
            .await
            .inspect_err(|fault| plugin.refuse(Some(offered.0), fault, cause))
    }

    /// Makes the prepared versions serve, in the snapshots that stages get from now on. Gives the change, and the
    /// versions to retire once these snapshots are in place.
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
            record
                .history
                .add(&version, VersionOrigin::Loaded(self.cause));
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
        // Messages on an older snapshot keep its handle, with the versions of before, until that handle is emptied.
        let next_handle = PluginHandle::new(
            &plugin.name,
            Versions::clone(&before),
            Arc::downgrade(&plugin),
        );
        let retired = Retired {
            handle: Some(plugin.handle.swap(Arc::new(next_handle))),
            versions: plugin.swap(&mut record, next, EndReason::Replaced),
        };
        drop(record);
        (Some(PluginChange::Reloaded(new)), retired)
    }
}

/// A plugin's file was read, and has the content that the plugin has already.
pub(crate) struct Unchanged {
    pub(crate) plugin: Arc<Plugin>,
    /// The digest of the file, and its size and times.
    pub(crate) offered: (Digest, Option<Stamp>),
    pub(crate) signature: Option<Arc<Signature>>,
}

impl Unchanged {
    /// Notes the size and times of the file: the next reload need not read it.
    pub(crate) fn commit(self) {
        let mut record = self.plugin.lock();
        if record.offered == self.offered.0 {
            record.stamp = self.offered.1;
        }
    }
}

/// The old handle and the versions that new snapshots no longer use.
#[derive(Default)]
pub(crate) struct Retired {
    handle: Option<Arc<PluginHandle>>,
    versions: Vec<Arc<Version>>,
}

impl Retired {
    /// Ends them, once the new snapshots are in place: when this returns, no call starts on a replaced version.
    pub(crate) async fn end(self) {
        if let Some(handle) = self.handle {
            handle.swap(None);
        }
        retire(self.versions).await;
    }
}

pub(crate) async fn retire(versions: Vec<Arc<Version>>) {
    for version in versions {
        version.retire().await;
    }
}
