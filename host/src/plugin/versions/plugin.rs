//! A plugin by its name: the versions that serve, and the record of all that has happened to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use wasmtime::Engine;

use super::change::{Cause, EndReason, HeldBack, VersionOrigin};
use super::change_lock::ChangeLock;
use super::handle::PluginHandle;
use super::history::{History, VersionInfo};
use super::prepared::retire;
use super::rollout_share::Versions;
use super::version::Version;
use crate::config::{self, Fault};
use crate::net::watch::Stamp;
use crate::plugin::load::source::Compiled;
use crate::plugin::run::epoch_thread::Epochs;
use crate::plugin::run::guest_threads::Slots;
use crate::plugin::run::pool::{Room, Usage};
use crate::signature::Digest;

/// A plugin of the configuration. It outlives the versions of its code.
pub(crate) struct Plugin {
    pub(crate) name: Arc<str>,
    /// The handle that the newest stage snapshots hold. Empty once the plugin is no longer in the configuration and
    /// has had its time to end.
    pub(super) handle: ArcSwap<PluginHandle>,
    pub(crate) place: Placement,
    pub(crate) changing: Arc<ChangeLock>,
    record: Mutex<Record>,
}

/// The engine, its epochs, the room and the guest threads that versions run on.
#[derive(Clone)]
pub(crate) struct Placement {
    pub(crate) engine: Engine,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) room: Arc<Room>,
    pub(crate) slots: Slots,
}

pub(crate) struct Record {
    pub(crate) config: config::Plugin,
    /// The digest of the file that was read last. A rollback holds until the file changes.
    pub(crate) offered: Digest,
    /// The size and times of that file.
    pub(super) stamp: Option<Stamp>,
    /// The share of a rollout under way: the percentage of connections that a changed file serves.
    pub(crate) rollout: Option<u32>,
    pub(crate) history: History,
    /// The number of changes so far: a reload that was prepared before another change is prepared again.
    pub(crate) changes: u64,
    pub(crate) tallies: Tallies,
}

/// The counts of a plugin's events, for the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) calls: u64,
    pub(crate) traps: u64,
    pub(crate) deadlines: u64,
    pub(crate) swaps: u64,
    pub(crate) refused: u64,
    /// Rollbacks by command.
    pub(crate) rollbacks: u64,
    /// Versions that rolled themselves back.
    pub(crate) withdrawn: u64,
}

/// A plugin as the admin API shows it.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct PluginInfo {
    pub(crate) name: String,
    pub(crate) serving: VersionInfo,
    /// The version of a rollout under way.
    pub(crate) candidate: Option<VersionInfo>,
    /// The percentage of connections that a rollout under way gives to its candidate.
    pub(crate) share: Option<u32>,
}

/// The versions that a plugin begins with.
pub(crate) struct FirstVersions {
    pub(crate) stable: Version,
    /// The version of a rollout that is under way.
    pub(crate) candidate: Option<Version>,
    pub(crate) rollout: Option<u32>,
    pub(crate) cause: Cause,
}

impl Plugin {
    /// A plugin with its first version, or with two in a rollout.
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
            history.add(&version, VersionOrigin::Loaded(first.cause));
            Arc::new(version)
        };
        let name: Arc<str> = config.name.as_str().into();
        let versions = Versions {
            stable: begin(first.stable),
            candidate: first.candidate.map(begin),
            share: first.rollout.unwrap_or(0),
        };
        history.serves_all(versions.stable.number);
        Arc::new_cyclic(|plugin| Self {
            handle: ArcSwap::from_pointee(PluginHandle::new(&name, versions, plugin.clone())),
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

    /// The handle for the new snapshot of a stage.
    pub(crate) fn handle(&self) -> Arc<PluginHandle> {
        self.handle.load_full()
    }

    /// The versions that serve. None once the plugin is no longer in the configuration and has had its time to end.
    pub(crate) fn versions(&self) -> Option<Arc<Versions>> {
        self.handle.load().versions().clone()
    }

    /// Whether a file of this digest is the file that was read last, or has code that is still compiled.
    pub(crate) fn known_code(&self, offered: Digest) -> KnownCode {
        let record = self.lock();
        if record.offered == offered {
            return KnownCode::Same;
        }
        record
            .history
            .compiled(offered)
            .map_or(KnownCode::Other, KnownCode::Compiled)
    }

    /// Whether neither the configuration nor the file has changed since the file was read. Never true of a signed
    /// component: its signature and keys are files too.
    pub(crate) fn is_unchanged(&self, config: &config::Plugin) -> bool {
        let config::Component::File(path) = &config.component else {
            return false;
        };
        let record = self.lock();
        config.signature.is_none()
            && record.config == *config
            && record.stamp.is_some()
            && record.stamp == Stamp::of(path)
    }

    /// Counts and logs a file that was refused; `digest` is none if it was not read.
    pub(crate) fn refuse(&self, digest: Option<Digest>, fault: &Fault, cause: Cause) {
        self.lock().tallies.refused += 1;
        if cause.is_told_by_dev() {
            return;
        }
        tracing::warn!(
            plugin = &*self.name,
            digest = digest.map(tracing::field::display),
            reason = fault.message,
            "the new version is not served, the one before continues"
        );
    }

    /// Changes the versions that serve under the present configuration: the handle in the stages stays. Gives the
    /// versions that serve no more, for the caller to retire.
    pub(crate) fn swap(
        &self,
        record: &mut Record,
        next: Versions,
        ended: EndReason,
    ) -> Vec<Arc<Version>> {
        record.changes += 1;
        record.history.serves_all(next.stable.number);
        let next = Arc::new(next);
        let Some(before) = self.handle.load().swap(Some(Arc::clone(&next))) else {
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

    /// Ends a plugin that is no longer in the configuration. Calls under way have the time of `limits.retire_s`.
    /// Later events, the `$disconnect` of connections that go with it, are served until `last_event` is ready.
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
        if let Some(versions) = self.handle.load().swap(None) {
            let versions = versions.all().cloned().collect();
            retire(versions).await;
        }
    }

    /// Whether its file holds code that was taken back, and so is not served.
    pub(crate) fn held_back(&self) -> Option<HeldBack> {
        let serving = self.versions()?;
        let record = self.lock();
        let mut versions = serving.all();
        if versions.any(|version| version.code.compiled.digest == record.offered) {
            return None;
        }
        Some(HeldBack {
            version: record.history.ended(record.offered),
            serves: serving.stable.number,
        })
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

    /// The instances of the versions that serve, and the calls that wait for one or for a guest thread.
    pub(crate) fn usage(&self) -> Usage {
        let Some(versions) = self.versions() else {
            return Usage::default();
        };
        let both = [Some(&versions.stable), versions.candidate.as_ref()];
        let both = both.into_iter().flatten().map(|version| version.usage());
        let begin = Usage {
            waiting: self.place.slots.waiting(),
            ..Usage::default()
        };
        both.fold(begin, |all, one| Usage {
            idle: all.idle + one.idle,
            busy: all.busy + one.busy,
            waiting: all.waiting + one.waiting,
        })
    }

    pub(crate) fn tallies(&self) -> Tallies {
        let record = self.lock();
        let (calls, traps, deadlines) = record.history.totals();
        Tallies {
            calls,
            traps,
            deadlines,
            ..record.tallies
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The known code for a file.
pub(crate) enum KnownCode {
    /// The file is the one that was read last.
    Same,
    /// The code served before and is still compiled.
    Compiled(Arc<Compiled>),
    /// The code is not known.
    Other,
}
