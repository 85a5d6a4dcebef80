//! The snapshots of stages that a configuration and its plugins make.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::Gateway;
use crate::config;
use crate::connections::{Closing, ConnectionLimits, OutboxLimits};
use crate::integration::{Integration, Mock};
use crate::invocation::Scope;
use crate::management::Change;
use crate::plugin::{ByName, Plugin};
use crate::route::{CONNECT, DEFAULT, DISCONNECT, Selection};
use crate::stage::{CurrentStage, Route, Routes, Stage, Stages};

/// How often a removed stage is looked at until its last connection has ended.
const LOOK: Duration = Duration::from_millis(100);

/// The stages of all APIs: connections keep theirs across reloads.
#[derive(Default)]
pub(super) struct Known {
    /// By API and stage.
    served: HashMap<(String, String), Arc<CurrentStage>>,
    /// Those that are there no more, while they still have connections.
    leaving: Vec<Weak<CurrentStage>>,
}

impl Known {
    pub(super) fn all(&self) -> impl Iterator<Item = Arc<CurrentStage>> {
        let leaving = self.leaving.iter().filter_map(Weak::upgrade);
        self.served.values().cloned().chain(leaving)
    }
}

/// Puts a new snapshot into every stage, adds those that are new, and gives those that are there no more.
pub(super) fn install(
    apis: &[config::Api],
    plugins: &ByName,
    known: &mut Known,
) -> (Stages, Vec<Arc<CurrentStage>>) {
    let mut stages = Stages::default();
    let mut before = std::mem::take(&mut known.served);
    for api in apis {
        for stage in &api.stages {
            let key = (api.name.clone(), stage.name.clone());
            let had = before.remove(&key);
            let directory = had
                .as_ref()
                .map(|had| Arc::clone(&had.load().scope.directory));
            let snapshot = Arc::new(Stage {
                scope: Arc::new(Scope {
                    api: api.name.as_str().into(),
                    stage: stage.name.as_str().into(),
                    variables: stage.variables.clone(),
                    limits: connection_limits(&stage.limits),
                    directory: directory.unwrap_or_default(),
                }),
                origins: stage.origins.clone(),
                limits: stage.limits.clone(),
                routes: routes(api, plugins),
            });
            let current = match had {
                Some(had) => {
                    had.store(snapshot);
                    had
                }
                None => Arc::new(CurrentStage::from(snapshot)),
            };
            place(&mut stages, stage, &current);
            known.served.insert(key, current);
        }
    }
    let gone: Vec<_> = before.into_values().collect();
    known.leaving.retain(|stage| stage.strong_count() > 0);
    known.leaving.extend(gone.iter().map(Arc::downgrade));
    for stage in known.leaving.iter().filter_map(Weak::upgrade) {
        outlive(&stage);
    }
    (stages, gone)
}

/// A stage that is there no more goes on as it was, with what serves now: its last messages are about to come, and the
/// `$disconnect` of its connections.
fn outlive(stage: &CurrentStage) {
    let mut last = Stage::clone(&stage.load());
    let routes = &mut last.routes;
    let ours = [
        &mut routes.connect,
        &mut routes.disconnect,
        &mut routes.default,
    ];
    let all = ours.into_iter().flatten().chain(routes.custom.values_mut());
    all.for_each(|route| route.integration = route.integration.newest());
    stage.store(Arc::new(last));
}

fn routes(api: &config::Api, plugins: &ByName) -> Routes {
    let mut routes = Routes {
        selection: api.selection.clone(),
        connect: None,
        disconnect: None,
        default: None,
        custom: HashMap::new(),
    };
    for route in &api.routes {
        let integration = match &route.integration {
            config::Integration::Plugin(name) => {
                let plugin = plugins.get(name).expect("checked with the configuration");
                Integration::Plugin(plugin.serving())
            }
            config::Integration::Mock(mock) => Integration::Mock(Arc::new(Mock::new(mock))),
        };
        let built = Route {
            key: route.key.as_str().into(),
            integration,
            two_way: route.two_way,
            drop_logged: Arc::default(),
        };
        match route.key.as_str() {
            CONNECT => routes.connect = Some(built),
            DISCONNECT => routes.disconnect = Some(built),
            DEFAULT => routes.default = Some(built),
            key => drop(routes.custom.insert(key.into(), built)),
        }
    }
    routes
}

fn place(stages: &mut Stages, stage: &config::Stage, current: &Arc<CurrentStage>) {
    if stage.domains.is_empty() {
        stages
            .by_name
            .insert(stage.name.as_str().into(), Arc::clone(current));
    }
    for domain in &stage.domains {
        stages.domains.insert(domain.host.as_str().into());
        let served_at = match &domain.base_path {
            Some(path) => format!("{}/{path}", domain.host),
            None => domain.host.clone(),
        };
        stages
            .by_domain
            .insert(served_at.into(), Arc::clone(current));
    }
}

fn connection_limits(limits: &config::StageLimits) -> ConnectionLimits {
    ConnectionLimits {
        outbox: OutboxLimits {
            bytes: limits.outbox_bytes,
            messages: limits.outbox_messages,
        },
        message_bytes: limits.message_bytes,
        attributes_bytes: limits.attributes_bytes,
        groups: limits.groups,
    }
}

impl Gateway {
    /// Closes the connections of stages that are there no more. Each still has its `$disconnect`, so that plugins that
    /// are there no more end after them.
    pub(super) fn dismiss(&self, stages: Vec<Arc<CurrentStage>>, plugins: Vec<Arc<Plugin>>) {
        if stages.is_empty() && plugins.is_empty() {
            return;
        }
        let closed = CancellationToken::new();
        for plugin in plugins {
            let closed = closed.clone().cancelled_owned();
            let removed = async move { plugin.remove(closed).await };
            self.listeners.tasks.spawn(removed);
        }
        self.listeners.tasks.spawn(async move {
            let mut look = interval(LOOK);
            // A handshake may be under way: it holds its stage, as does every session.
            let open = |stage: &Arc<CurrentStage>| Arc::strong_count(stage) > 1;
            while stages.iter().any(open) {
                for stage in &stages {
                    let directory = &stage.load().scope.directory;
                    for id in directory.list() {
                        let _ = directory.close(id, Closing::new(1001, "Going away"));
                    }
                }
                look.tick().await;
            }
            closed.cancel();
        });
    }
}

/// A stage with all that its messages are judged by.
type Meant<'a> = (&'a config::Stage, &'a Selection, &'a [config::Route]);

fn by_name(apis: &[config::Api]) -> BTreeMap<String, Meant<'_>> {
    let mut stages = BTreeMap::new();
    for api in apis {
        for stage in &api.stages {
            let meant = (stage, &api.selection, &*api.routes);
            stages.insert(format!("{}/{}", api.name, stage.name), meant);
        }
    }
    stages
}

pub(super) fn changes(before: &[config::Api], now: &[config::Api], changes: &mut Vec<Change>) {
    let (before, now) = (by_name(before), by_name(now));
    for (name, stage) in &now {
        match before.get(name) {
            Some(same) if same == stage => {}
            Some(_) => changes.push(Change::StageChanged(name.clone())),
            None => changes.push(Change::StageAdded(name.clone())),
        }
    }
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    changes.extend(gone.cloned().map(Change::StageRemoved));
}
