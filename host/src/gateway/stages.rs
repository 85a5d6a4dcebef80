//! The snapshots of stages that a configuration and its plugins make.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config;
use crate::connections::{ConnectionLimits, OutboxLimits};
use crate::plugin::{ByName, Scope};
use crate::route::{CONNECT, DEFAULT, DISCONNECT};
use crate::stage::{CurrentStage, Route, Routes, Stage, Stages};

/// The stages of all APIs, by API and stage: connections keep theirs across reloads.
pub(super) type Known = HashMap<(String, String), Arc<CurrentStage>>;

/// Puts a new snapshot into every stage, adds those that are new, and gives those that are there no more.
pub(super) fn install(
    apis: &[config::Api],
    plugins: &ByName,
    known: &mut Known,
) -> (Stages, Vec<Arc<CurrentStage>>) {
    let mut stages = Stages::default();
    let mut before = std::mem::take(known);
    for api in apis {
        for stage in &api.stages {
            let key = (api.name.clone(), stage.name.clone());
            let had = before.remove(&key);
            let connections = had
                .as_ref()
                .map(|had| Arc::clone(&had.load().scope.connections));
            let snapshot = Arc::new(Stage {
                scope: Arc::new(Scope {
                    api: api.name.as_str().into(),
                    stage: stage.name.as_str().into(),
                    variables: stage.variables.clone(),
                    limits: connection_limits(&stage.limits),
                    connections: connections.unwrap_or_default(),
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
            known.insert(key, current);
        }
    }
    (stages, before.into_values().collect())
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
        let plugin = plugins
            .get(&route.integration)
            .expect("checked with the configuration");
        let built = Route {
            key: route.key.as_str().into(),
            plugin: Arc::clone(plugin),
            two_way: route.two_way,
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
