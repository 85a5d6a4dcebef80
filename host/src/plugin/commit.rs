//! Committing a reload: all prepared versions come to serve at once.

use std::sync::Arc;

use super::prepare::Ready;
use super::versions::change::PluginChange;
use super::versions::plugin::Plugin;
use super::versions::prepared::Retired;
use super::{ByName, Plugins};

impl Plugins {
    /// Makes all prepared versions serve. Fails as [`Stale`] when a plugin was changed otherwise in between.
    ///
    /// `install` gets the plugins as they then are, and puts a new snapshot into every stage. Afterwards the caller
    /// ends the retired versions and the removed plugins.
    pub(crate) async fn commit(
        &self,
        ready: Vec<Ready>,
        keep: impl Fn(&str) -> bool,
        install: impl FnOnce(&ByName),
    ) -> Result<Committed, Stale> {
        let _changing = self.changing.lock().await;
        let current = |ready: &Ready| match ready {
            Ready::Changed(prepared) => prepared.is_current(),
            Ready::New(_) | Ready::Read(_) | Ready::Same => true,
        };
        if !ready.iter().all(current) {
            return Err(Stale);
        }
        let mut plugins = ByName::clone(&self.loaded.load());
        let mut committed = Committed::default();
        plugins.retain(|name, plugin| {
            let kept = keep(name);
            if !kept {
                let name = Arc::clone(&plugin.name);
                committed.changes.push((name, PluginChange::Removed));
                committed.removed.push(Arc::clone(plugin));
            }
            kept
        });
        for ready in ready {
            self.raise_floor(&ready);
            match ready {
                Ready::New(plugin) => {
                    let name = Arc::clone(&plugin.name);
                    committed.changes.push((name, PluginChange::Added));
                    plugins.insert(plugin.name.to_string(), plugin);
                }
                Ready::Changed(prepared) => {
                    let name = Arc::clone(&prepared.plugin.name);
                    let (change, retired) = prepared.commit();
                    let change = change.map(|change| (name, change));
                    committed.changes.extend(change);
                    committed.retired.push(retired);
                }
                Ready::Read(seen) => seen.commit(),
                Ready::Same => {}
            }
        }
        self.loaded.store(Arc::new(plugins));
        install(&self.loaded.load());
        Ok(committed)
    }

    /// Raises the floor of a plugin to the signed version that serves now: no lower one is loaded any more.
    fn raise_floor(&self, ready: &Ready) {
        let (Some(name), Some(signature)) = (ready.name(), ready.signature()) else {
            return;
        };
        let mut signed = self.signed();
        let newest = signed.entry(name.to_owned()).or_default();
        *newest = signature.version.max(*newest);
    }
}

/// A plugin was changed after this reload was prepared.
#[derive(Debug)]
pub(crate) struct Stale;

/// The changes of a commit, to log, and the versions and plugins to end.
#[derive(Default)]
pub(crate) struct Committed {
    /// With the name of each plugin.
    pub(crate) changes: Vec<(Arc<str>, PluginChange)>,
    pub(crate) retired: Vec<Retired>,
    /// Plugins to end. Messages under way may still hold routes to them.
    pub(crate) removed: Vec<Arc<Plugin>>,
}
