//! A plugin by its name: which of its versions serve, and what became of the others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use wasmtime::Engine;

use super::change::{Came, Cause, Ended};
use super::change_lock::ChangeLock;
use super::handle::PluginHandle;
use super::history::{History, VersionInfo};
use super::prepared::retire;
use super::share::Versions;
use super::version::Version;
use crate::config;
use crate::net::watch::Stamp;
use crate::plugin::load::source::Compiled;
use crate::plugin::run::guest_threads::Slots;
use crate::plugin::run::pool::Room;
use crate::signature::Digest;

/// A plugin of the configuration. It stays the same when its code does not.
pub(crate) struct Plugin {
    pub(crate) name: Arc<str>,
    /// What the newest snapshots of stages point to; empty once the plugin is no longer in the configuration and has
    /// had its time to end.
    pub(super) serving: ArcSwap<PluginHandle>,
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
    pub(super) stamp: Option<Stamp>,
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
