//! Committing a reload: all prepared versions come to serve at once.

use std::sync::Arc;

use tokio::sync::MutexGuard;

use super::prepare::Ready;
use super::versions::change::PluginChange;
use super::versions::change_lock::HandOver;
use super::versions::plugin::Plugin;
use super::versions::prepared::Retired;
use super::{ByName, Plugins};
use crate::config::Fault;

impl Plugins {
    /// Keeps other changes waiting until the reload is committed or dropped. A plugin that one has changed since it was
    /// prepared is prepared again, from the code that is compiled: no file is read for that.
    pub(crate) async fn hold(&self, ready: Vec<Ready>) -> Result<Held<'_>, Fault> {
        let changing = self.changing.lock().await;
        let mut current = Vec::new();
        for ready in ready {
            current.push(ready.renew().await?);
        }
        Ok(Held {
            plugins: self,
            _changing: changing,
            ready: current,
        })
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

/// A reload that nothing can overtake any more.
pub(crate) struct Held<'plugins> {
    plugins: &'plugins Plugins,
    _changing: MutexGuard<'plugins, HandOver>,
    ready: Vec<Ready>,
}

impl Held<'_> {
    /// Makes all prepared versions serve.
    ///
    /// `install` gets the plugins as they then are, and puts a new snapshot into every stage. Afterwards the caller
    /// ends the retired versions and the removed plugins.
    pub(crate) fn commit(
        self,
        keep: impl Fn(&str) -> bool,
        install: impl FnOnce(&ByName),
    ) -> Committed {
        let loaded = &self.plugins.loaded;
        let mut plugins = ByName::clone(&loaded.load());
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
        for ready in self.ready {
            self.plugins.raise_floor(&ready);
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
        loaded.store(Arc::new(plugins));
        install(&loaded.load());
        committed
    }
}

/// The changes of a commit, to log, and the versions and plugins to end.
#[derive(Default)]
pub(crate) struct Committed {
    /// With the name of each plugin.
    pub(crate) changes: Vec<(Arc<str>, PluginChange)>,
    pub(crate) retired: Vec<Retired>,
    /// Plugins to end. Messages under way may still hold routes to them.
    pub(crate) removed: Vec<Arc<Plugin>>,
}
