//! The handle by which a route calls a plugin: it finds the version that serves the call.

use std::sync::{Arc, Weak};

use arc_swap::{ArcSwapOption, Guard};

use super::plugin::Plugin;
use super::rollout_share::Versions;
use crate::connections::ConnectionId;
use crate::invocation::{Called, Invocation};
use crate::plugin::run::exports::Export;

/// The versions of a plugin that serve under one configuration. A rollback or a rollout swaps them in place.
///
/// A reload makes another handle for the new snapshots of the stages, and empties this one once they are in place. So
/// a message runs on the versions of its snapshot, or is sent to a newer snapshot.
pub(crate) struct PluginHandle {
    pub(crate) name: Arc<str>,
    /// None once this handle is emptied: nothing is called through it any more.
    versions: ArcSwapOption<Versions>,
    plugin: Weak<Plugin>,
}

impl PluginHandle {
    pub(crate) fn new(name: &Arc<str>, versions: Versions, plugin: Weak<Plugin>) -> Self {
        Self {
            name: Arc::clone(name),
            versions: ArcSwapOption::from_pointee(versions),
            plugin,
        }
    }

    /// Calls the handler for an event, on the version that serves its connection. Gives the event back when a reload
    /// has emptied this handle: the caller retries on the newest snapshot of the stage, if there is a newer one.
    pub(crate) async fn invoke<E: Export>(
        &self,
        invocation: &Arc<Invocation>,
        mut event: E,
    ) -> Called<E> {
        loop {
            // A version is replaced before it is retired, so the next load finds another. The load writes to no
            // memory that threads share, and holds the version until its call is over.
            let versions = self.versions.load();
            let Some(versions) = versions.as_ref() else {
                return Called::Retired(event);
            };
            let version = versions.of(invocation.connection.id);
            match version.invoke(invocation, event).await {
                Called::Ended(answer) => {
                    if answer.is_err() && version.is_failing() {
                        self.withdraw(version.number);
                    }
                    return Called::Ended(answer);
                }
                Called::Retired(again) => event = again,
            }
        }
    }

    /// The number of the version that serves a connection. None once this handle is emptied.
    pub(crate) fn version_for(&self, id: ConnectionId) -> Option<u64> {
        let versions = self.versions.load();
        Some(versions.as_ref()?.of(id).number)
    }

    fn withdraw(&self, number: u64) {
        // A plugin that is no longer in the configuration has no version to go back to.
        if let Some(plugin) = self.plugin.upgrade() {
            let slots = plugin.place.slots.clone();
            slots.spawn(async move { plugin.withdraw(number).await });
        }
    }

    pub(crate) fn versions(&self) -> Guard<Option<Arc<Versions>>> {
        self.versions.load()
    }

    /// The numbers of the versions that serve, 0 in place of none: other numbers are other code.
    pub(crate) fn generation(&self) -> (u64, u64) {
        let versions = self.versions.load();
        let Some(versions) = versions.as_ref() else {
            return (0, 0);
        };
        let candidate = versions.candidate.as_ref();
        let candidate = candidate.map_or(0, |candidate| candidate.number);
        (versions.stable.number, candidate)
    }

    /// Replaces the versions that serve, and gives the old ones.
    pub(crate) fn swap(&self, versions: Option<Arc<Versions>>) -> Option<Arc<Versions>> {
        self.versions.swap(versions)
    }

    /// The newest handle of the plugin: this one, or its replacement by a reload.
    pub(crate) fn newest(self: &Arc<Self>) -> Arc<Self> {
        let plugin = self.plugin.upgrade();
        plugin.map_or_else(|| Arc::clone(self), |plugin| plugin.handle())
    }
}
