//! The stages' snapshots, built from a configuration and its plugins.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::Gateway;
use crate::auth::AccessKeys;
use crate::authorizer::{Authorizer, KeyFiles, KnownKeys, Prepared, known_keys};
use crate::config::{self, Config, LoggedMessages};
use crate::connections::{Closing, ConnectionLimits, OutboxLimits, PrincipalLimit};
use crate::counters::{Counters, RouteCounters};
use crate::integration::{Integration, Mock};
use crate::invocation::Scope;
use crate::management::Change;
use crate::plugin::{ByName, Plugin};
use crate::route::{CONNECT, DEFAULT, DISCONNECT, Selection};
use crate::stage::{ConnectRate, CurrentStage, Route, Routes, Stage, Stages};

/// Interval of polling a removed stage until its last connection ends.
const POLL: Duration = Duration::from_millis(100);

/// The counters of a stage's routes, by key.
type RouteTable = BTreeMap<Box<str>, Arc<RouteCounters>>;

/// The stages of all APIs. Connections keep their stage across reloads.
#[derive(Default)]
pub(super) struct StageTable {
    /// The served stages, by API and stage.
    served: HashMap<(String, String), Arc<CurrentStage>>,
    /// The authorizers of the configuration, by name.
    authorizers: BTreeMap<String, Arc<Authorizer>>,
    /// What the authorizers of the process before this one knew, until there are authorizers.
    inherited_keys: Option<KnownKeys>,
    key_files: KeyFiles,
    /// Removed stages that still have connections.
    leaving: Vec<Weak<CurrentStage>>,
    /// The rates of APIs by name, which count on over reloads that leave them alone.
    rates: HashMap<String, Arc<ConnectRate>>,
}

impl StageTable {
    /// Saves what has been used of quotas.
    pub(super) fn save_usage(&self) {
        self.authorizers
            .values()
            .for_each(|authorizer| authorizer.save());
    }

    /// The keys of tokens' issuers that are known.
    pub(super) fn known_keys(&self) -> KnownKeys {
        known_keys(self.authorizers.values())
    }

    /// Takes over the keys that the process before this one knew.
    pub(super) fn inherit_keys(&mut self, keys: KnownKeys) {
        self.inherited_keys = Some(keys);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Arc<CurrentStage>> {
        let leaving = self.leaving.iter().filter_map(Weak::upgrade);
        self.served.values().cloned().chain(leaving)
    }
}

/// Puts a new snapshot into every stage and adds new stages. Gives the removed ones.
pub(super) fn install(
    config: &Config,
    plugins: &ByName,
    prepared: &Prepared,
    counters: &Counters,
    table: &mut StageTable,
) -> (Stages, Vec<Arc<CurrentStage>>) {
    let mut stages = Stages {
        access_keys: Arc::new(AccessKeys::new(&config.access_keys)),
        ..Stages::default()
    };
    let keys = &stages.access_keys;
    let known_keys = table.inherited_keys.take();
    let known_keys = known_keys.unwrap_or_else(|| table.known_keys());
    table.authorizers = authorizers(
        (&config.authorizers, prepared),
        plugins,
        keys,
        (&table.authorizers, &known_keys, &mut table.key_files),
    );
    let mut before = std::mem::take(&mut table.served);
    let logged = &config.access_log.messages;
    let mut counters = counters.serve(config.apis.iter().flat_map(|api| {
        let keys = move || api.routes.iter().map(|route| route.key.as_str());
        let stages = api.stages.iter();
        stages.map(move |stage| ((api.name.clone(), stage.name.clone()), keys()))
    }));
    let rates = std::mem::take(&mut table.rates);
    for api in &config.apis {
        let connect_rate = api.connections_per_s.map(|per_s| {
            let same = rates.get(&api.name).filter(|rate| rate.per_s == per_s);
            same.cloned()
                .unwrap_or_else(|| Arc::new(ConnectRate::new(per_s)))
        });
        if let Some(rate) = &connect_rate {
            table.rates.insert(api.name.clone(), Arc::clone(rate));
        }
        for stage in &api.stages {
            let key = (api.name.clone(), stage.name.clone());
            let existing = before.remove(&key);
            let counters = counters.remove(&key).expect("they are of the same stages");
            let directory = existing
                .as_ref()
                .map(|existing| Arc::clone(&existing.load().scope.directory));
            let authorizer = |name: &Option<String>| {
                let authorizer = table.authorizers.get(name.as_ref()?);
                Some(Arc::clone(
                    authorizer.expect("checked with the configuration"),
                ))
            };
            let snapshot = Arc::new(Stage {
                scope: Arc::new(Scope {
                    api: api.name.as_str().into(),
                    stage: stage.name.as_str().into(),
                    variables: stage.variables.clone(),
                    renewing: renewing(api),
                    limits: connection_limits(&stage.limits),
                    directory: directory.unwrap_or_default(),
                    counters: counters.stage,
                }),
                origins: stage.origins.clone(),
                authorizer: authorizer(&stage.authorizer),
                api_key: authorizer(&stage.api_key),
                connections_api: stage.connections_api,
                limits: stage.limits.clone(),
                logged_one_in: logged.one_in,
                routes: routes(api, plugins, logged, &counters.routes),
                connect_rate: connect_rate.clone(),
            });
            let current = match existing {
                Some(existing) => {
                    existing.store(snapshot);
                    existing
                }
                None => Arc::new(CurrentStage::from(snapshot)),
            };
            add_addresses(&mut stages, stage, &current);
            let name = format!("{}/{}", api.name, stage.name);
            stages.by_api.insert(name.into(), Arc::clone(&current));
            table.served.insert(key, current);
        }
    }
    let gone: Vec<_> = before.into_values().collect();
    table.leaving.retain(|stage| stage.strong_count() > 0);
    table.leaving.extend(gone.iter().map(Arc::downgrade));
    for stage in table.leaving.iter().filter_map(Weak::upgrade) {
        use_newest_plugins(&stage);
    }
    (stages, gone)
}

/// The authorizers of a configuration. One that would be as before is the one before: it keeps what it remembers.
fn authorizers(
    (config, prepared): (&[config::Authorizer], &Prepared),
    plugins: &ByName,
    access_keys: &Arc<AccessKeys>,
    (before, known_keys, key_files): (
        &BTreeMap<String, Arc<Authorizer>>,
        &KnownKeys,
        &mut KeyFiles,
    ),
) -> BTreeMap<String, Arc<Authorizer>> {
    let each = config.iter().map(|config| {
        let before = before.get(&config.name);
        let current = before.filter(|before| before.is_current(config, plugins));
        let authorizer = current.cloned().or_else(|| {
            let made = Authorizer::new(
                (config, prepared),
                plugins,
                access_keys,
                (known_keys, key_files),
            );
            made.map(Arc::new).or_else(|| before.cloned())
        });
        let authorizer = authorizer.expect("prepared with its configuration");
        (config.name.clone(), authorizer)
    });
    each.collect()
}

/// Gives a removed stage the newest plugins: it keeps its routes until its last messages and the `$disconnect` of its
/// connections are done.
fn use_newest_plugins(stage: &CurrentStage) {
    let mut last = Stage::clone(&stage.load());
    let routes = &mut last.routes;
    let reserved = [
        &mut routes.connect,
        &mut routes.disconnect,
        &mut routes.default,
    ];
    let all = reserved
        .into_iter()
        .flatten()
        .chain(routes.custom.values_mut());
    all.for_each(|route| route.integration = route.integration.newest());
    let authorizers = [&mut last.authorizer, &mut last.api_key];
    for authorizer in authorizers.into_iter().flatten() {
        *authorizer = Arc::new(authorizer.newest());
    }
    stage.store(Arc::new(last));
}

/// The keys of the routes whose handlers may renew what let their clients in.
fn renewing(api: &config::Api) -> Vec<Box<str>> {
    let routes = api.routes.iter();
    let renewing = routes.filter(|route| route.renews == Some(config::Renews::Handler));
    renewing.map(|route| route.key.as_str().into()).collect()
}

fn routes(
    api: &config::Api,
    plugins: &ByName,
    logged: &LoggedMessages,
    counters: &RouteTable,
) -> Routes {
    let scopes = api.routes.iter().flat_map(|route| &route.scopes);
    let scopes: BTreeSet<_> = scopes.map(String::as_str).collect();
    let mut routes = Routes {
        selection: api.selection.clone(),
        connect: None,
        disconnect: None,
        default: None,
        custom: HashMap::new(),
        scopes: scopes.into_iter().map(Into::into).collect(),
    };
    for route in &api.routes {
        let integration = match &route.integration {
            config::Integration::Plugin(name) => {
                let plugin = plugins.get(name).expect("checked with the configuration");
                Integration::Plugin(plugin.handle())
            }
            config::Integration::Mock(mock) => Integration::Mock(Arc::new(Mock::new(mock))),
        };
        let built = Route {
            key: route.key.as_str().into(),
            counters: counters.get(&*route.key).cloned().unwrap_or_default(),
            integration,
            two_way: route.two_way,
            logged_one_in: logged.one_in(&route.key),
            scopes: routes.scopes_of(route.scopes.iter().map(String::as_str)),
            renews: route.renews.clone(),
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

fn add_addresses(stages: &mut Stages, stage: &config::Stage, current: &Arc<CurrentStage>) {
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
        datagrams: limits.datagrams,
        message_bytes: limits.message_bytes,
        attributes_bytes: limits.attributes_bytes,
        groups: limits.groups,
        early_posts: limits.compat.takes_early_posts(),
        principal: limits
            .connections_per_principal
            .map(|connections| PrincipalLimit {
                connections: connections.get() as usize,
                closes_oldest: limits.closes_oldest_of_principal,
            }),
    }
}

impl Gateway {
    /// Closes the connections of removed stages. Removed plugins end after them, since each connection still has its
    /// `$disconnect`.
    pub(super) fn close_removed(&self, stages: Vec<Arc<CurrentStage>>, plugins: Vec<Arc<Plugin>>) {
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
            let mut ticks = interval(POLL);
            // Every session holds its stage, and so does a handshake under way.
            let open = |stage: &Arc<CurrentStage>| Arc::strong_count(stage) > 1;
            while stages.iter().any(open) {
                for stage in &stages {
                    let directory = &stage.load().scope.directory;
                    for id in directory.list() {
                        let _ = directory.close(id, Closing::new(1001, "Going away"));
                    }
                }
                ticks.tick().await;
            }
            closed.cancel();
        });
    }
}

/// A stage with everything that decides on its clients and messages.
type StageConfig<'a> = (
    &'a config::Stage,
    &'a Selection,
    &'a [config::Route],
    [Option<&'a config::Authorizer>; 2],
    Option<NonZeroU32>,
);

fn by_name(config: &Config) -> BTreeMap<String, StageConfig<'_>> {
    let mut stages = BTreeMap::new();
    for api in &config.apis {
        for stage in &api.stages {
            let authorizers = [&stage.authorizer, &stage.api_key].map(|name| {
                let mut authorizers = config.authorizers.iter();
                authorizers.find(|one| Some(&one.name) == name.as_ref())
            });
            let rate = api.connections_per_s;
            let config = (stage, &api.selection, &*api.routes, authorizers, rate);
            stages.insert(format!("{}/{}", api.name, stage.name), config);
        }
    }
    stages
}

pub(super) fn changes(before: &Config, now: &Config, changes: &mut Vec<Change>) {
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
