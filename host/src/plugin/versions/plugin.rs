//! A plugin by its name, and how its versions come and go: prepared beside what serves, swapped, retired.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use wasmtime::Engine;

use super::change::{Came, Cause, Ended, NewVersion, PluginChange};
use super::change_lock::ChangeLock;
use super::handle::PluginHandle;
use super::history::{History, VersionInfo};
use super::share::Versions;
use super::version::{Code, Version};
use crate::config::{self, Fault};
use crate::net::watch::Stamp;
use crate::plugin::load::source::Compiled;
use crate::plugin::load::{self, policy};
use crate::plugin::run::guest_threads::Slots;
use crate::plugin::run::pool::Room;
use crate::signature::{Digest, Signature};

/// A plugin of the configuration. It stays the same when its code does not.
pub(crate) struct Plugin {
    pub(crate) name: Arc<str>,
    /// What the newest snapshots of stages point to; empty once the plugin is no longer in the configuration and has
    /// had its time to end.
    serving: ArcSwap<PluginHandle>,
    pub(crate) place: Placement,
    pub(crate) changing: Arc<ChangeLock>,
    record: Mutex<Record>,
}

/// Where the versions of a plugin run.
#[derive(Clone)]
pub(crate) struct Placement {
    pub(crate) engine: Engine,
    pub(crate) room: Arc<Room>,
    pub(crate) slots: Slots,
}

pub(crate) struct Record {
    pub(crate) config: config::Plugin,
    /// The digest of the file that was looked at last. A rollback holds until the file is another.
    pub(crate) offered: Digest,
    /// How that file looked.
    stamp: Option<Stamp>,
    /// A rollout is under way: a changed file serves so many percent of the connections.
    pub(crate) rollout: Option<u32>,
    pub(crate) history: History,
    /// Changes so far: what was prepared before another change is prepared again.
    pub(crate) changes: u64,
    pub(crate) tallies: Tallies,
}

/// What has happened to a plugin, for the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) calls: u64,
    pub(crate) traps: u64,
    pub(crate) swaps: u64,
    pub(crate) refused: u64,
    /// By command.
    pub(crate) rollbacks: u64,
    /// By itself.
    pub(crate) withdrawn: u64,
}

/// A plugin as the admin API shows it.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct PluginInfo {
    pub(crate) name: String,
    pub(crate) serving: VersionInfo,
    /// The version of a rollout under way.
    pub(crate) candidate: Option<VersionInfo>,
    /// Percent of the connections that a rollout under way gives to its candidate.
    pub(crate) share: Option<u32>,
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

/// What a plugin begins with.
pub(crate) struct FirstVersions {
    pub(crate) stable: Version,
    /// That of a rollout that is under way.
    pub(crate) candidate: Option<Version>,
    pub(crate) rollout: Option<u32>,
    pub(crate) cause: Cause,
}

impl Plugin {
    /// Begins with its first version, or two.
    pub(crate) fn new(
        place: Placement,
        changing: Arc<ChangeLock>,
        config: config::Plugin,
        (offered, stamp): (Digest, Option<Stamp>),
        first: FirstVersions,
    ) -> Arc<Self> {
        let mut history = History::default();
        let mut begin = |mut version: Version| {
            version.begin(history.next_number());
            history.add(&version, Came::Loaded(first.cause));
            Arc::new(version)
        };
        let name: Arc<str> = config.name.as_str().into();
        let versions = Versions {
            stable: begin(first.stable),
            candidate: first.candidate.map(begin),
            share: first.rollout.unwrap_or(0),
        };
        Arc::new_cyclic(|plugin| Self {
            serving: ArcSwap::from_pointee(PluginHandle::new(&name, versions, plugin.clone())),
            name,
            place,
            changing,
            record: Mutex::new(Record {
                config,
                offered,
                stamp,
                rollout: first.rollout,
                history,
                changes: 0,
                tallies: Tallies::default(),
            }),
        })
    }

    /// What a stage's new snapshot is to point to.
    pub(crate) fn serving(&self) -> Arc<PluginHandle> {
        self.serving.load_full()
    }

    /// None once the plugin is no longer in the configuration and has had its time to end.
    pub(crate) fn versions(&self) -> Option<Arc<Versions>> {
        self.serving.load().versions().clone()
    }

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

    /// The code for a file of this digest, if there is some; whether it differs from what was looked at last.
    pub(crate) fn known(&self, offered: Digest) -> KnownCode {
        let record = self.lock();
        if record.offered == offered {
            return KnownCode::Same;
        }
        record
            .history
            .compiled(offered)
            .map_or(KnownCode::Other, KnownCode::Compiled)
    }

    /// Whether neither the configuration nor the file has changed since that file was looked at. Of one that must be
    /// signed that is not known: the signature and the keys are files too.
    pub(crate) fn is_as_it_was(&self, config: &config::Plugin) -> bool {
        let config::Component::File(path) = &config.component else {
            return false;
        };
        let record = self.lock();
        config.signature.is_none()
            && record.config == *config
            && record.stamp.is_some()
            && record.stamp == Stamp::of(path)
    }

    /// Notes that a file was refused.
    pub(crate) fn refused(&self) {
        self.lock().tallies.refused += 1;
    }

    /// Changes what serves under the configuration as it is: stages go on pointing here. Gives the versions that serve
    /// no more, to be retired.
    pub(crate) fn swap(
        &self,
        record: &mut Record,
        next: Versions,
        ended: Ended,
    ) -> Vec<Arc<Version>> {
        record.changes += 1;
        let next = Arc::new(next);
        let Some(before) = self.serving.load().swap(Some(Arc::clone(&next))) else {
            return Vec::new();
        };
        let retired: Vec<_> = before
            .all()
            .filter(|version| !next.all().any(|other| Arc::ptr_eq(other, version)))
            .cloned()
            .collect();
        for version in &retired {
            record.history.end(version.number, ended);
        }
        retired
    }

    /// Ends a plugin that is in the configuration no more. The calls under way have the time of `limits.retire_s`; what
    /// begins later, the `$disconnect` of connections that go with it, is served until the last of these events has come.
    pub(crate) async fn remove(&self, last_event: impl Future<Output = ()>) {
        {
            let _changing = self.changing.lock().await;
            let Some(before) = self.versions() else {
                return;
            };
            for version in before.all() {
                version.linger();
            }
        }
        last_event.await;
        let _changing = self.changing.lock().await;
        if let Some(versions) = self.serving.load().swap(None) {
            let versions = versions.all().cloned().collect();
            retire(versions).await;
        }
    }

    pub(crate) fn info(&self) -> Option<PluginInfo> {
        let serving = self.versions()?;
        let record = self.lock();
        let infos = record.history.infos();
        let of = |version: &Version| {
            infos
                .iter()
                .find(|info| info.version == version.number)
                .cloned()
        };
        Some(PluginInfo {
            name: self.name.to_string(),
            serving: of(&serving.stable)?,
            candidate: serving.candidate.as_deref().and_then(of),
            share: record.rollout,
        })
    }

    /// Newest first.
    pub(crate) fn history(&self) -> Vec<VersionInfo> {
        self.lock().history.infos()
    }

    pub(crate) fn tallies(&self) -> Tallies {
        let record = self.lock();
        let (calls, traps) = record.history.totals();
        Tallies {
            calls,
            traps,
            ..record.tallies
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there is of a file's code.
pub(crate) enum KnownCode {
    /// It is the file that was looked at last.
    Same,
    /// It served before and is still compiled.
    Compiled(Arc<Compiled>),
    Other,
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
