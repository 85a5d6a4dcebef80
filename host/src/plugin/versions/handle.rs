//! What a route points to: which of a plugin's versions serves a call.

use std::sync::{Arc, Weak};

use arc_swap::{ArcSwapOption, Guard};

use super::plugin::Plugin;
use super::share::Versions;
use crate::invocation::{Called, Invocation};
use crate::plugin::run::exports::Export;

/// What serves of a plugin under one configuration. A rollback or a rollout changes the pointer in it.
///
/// A reload makes another, to which the stages' new snapshots point, and empties this one when they are in place: a
/// message runs on what goes with the snapshot that it has met, or is told to look for a newer snapshot.
pub(crate) struct PluginHandle {
    pub(crate) name: Arc<str>,
    /// None once nothing is called through it any more.
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

    /// Calls the handler for an event, on the version that serves its connection. Gives the event back when nothing
    /// serves here any more: what does is in the stage's newest snapshot, if there is another.
    pub(crate) async fn invoke<E: Export>(
        &self,
        invocation: &Arc<Invocation>,
        mut event: E,
    ) -> Called<E> {
        loop {
            // A version is replaced before it is retired: the next look finds another. Looking counts nothing that
            // threads would have to share, and holds the version until its call is over.
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

    fn withdraw(&self, number: u64) {
        // One that is in the configuration no more has nothing to go back to.
        if let Some(plugin) = self.plugin.upgrade() {
            let slots = plugin.place.slots.clone();
            slots.spawn(async move { plugin.withdraw(number).await });
        }
    }

    pub(crate) fn versions(&self) -> Guard<Option<Arc<Versions>>> {
        self.versions.load()
    }

    /// Puts others in the place of those that serve, and gives those.
    pub(crate) fn swap(&self, versions: Option<Arc<Versions>>) -> Option<Arc<Versions>> {
        self.versions.swap(versions)
    }

    /// What serves of the plugin now: this, or what a reload has put in its place.
    pub(crate) fn newest(self: &Arc<Self>) -> Arc<Self> {
        let plugin = self.plugin.upgrade();
        plugin.map_or_else(|| Arc::clone(self), |plugin| plugin.serving())
    }
}
