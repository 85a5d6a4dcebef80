//! The composition root: what a configuration means is built here, started, changed while it serves, and
//! stopped.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, Config, Fault, Faults};
use crate::connections::{Closing, Connection, ConnectionLimits, OutboxLimits};
use crate::handover::{self, Sockets};
use crate::handshake::{Admission, Entrance};
use crate::listener::{Doors, Listener, Pages, Tls};
use crate::management::{Desk, Management, Upgrade};
use crate::plugin::{Plugin, Plugins, Scope};
use crate::route::{CONNECT, DEFAULT, DISCONNECT};
use crate::stage::{CurrentStage, Route, Routes, Stage, Stages};

/// File descriptors that are not a client's: listeners, logs, the engine.
const OTHER_FILES: u64 = 128;

/// The part of the drain window over which closes are spread; the rest is for clients to answer.
const SPREAD: f64 = 0.7;

/// How long after the window clients may still answer the last closes.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// How long the last `$disconnect` handlers may take when the drain window is over: as long as a deadline may be.
const LAST_HANDLERS: Duration = Duration::from_secs(29);

/// A gateway that serves.
pub(crate) struct Gateway {
    config: Config,
    engine: Plugins,
    state: Mutex<State>,
    entrance: Arc<Entrance>,
    doors: Doors,
    stop_management: CancellationToken,
    /// What another process of the program would take over.
    sockets: Sockets,
    /// Who asks for that on the management listener.
    pub(crate) upgrades: mpsc::Receiver<Upgrade>,
    /// Where it listens, each address with its scheme.
    pub(crate) addresses: Vec<String>,
}

/// Why a gateway stops, and so what its clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It was asked to, and no one serves in its place.
    Stopped,
    /// Another process has its sockets and serves already.
    Succeeded,
}

/// What a reload changes.
struct State {
    plugins: BTreeMap<String, Arc<Plugin>>,
    /// By API and stage: connections keep theirs across reloads.
    stages: HashMap<(String, String), Arc<CurrentStage>>,
}

/// Loads and compiles everything a configuration names, and opens no port. What does not load is [`Faults`].
pub(crate) fn check(config: &Config) -> Result<()> {
    load(config).map(|_| ())
}

/// What a gateway is made of before it has a socket.
struct Loaded {
    engine: Plugins,
    plugins: BTreeMap<String, Arc<Plugin>>,
    /// Of each listener, in the configuration's order.
    tls: Vec<Option<Tls>>,
}

/// Compiles components, which takes milliseconds to seconds: not for a thread that serves.
fn load(config: &Config) -> Result<Loaded> {
    let engine = Plugins::start(config.compile_cache.clone())?;
    let (mut plugins, mut tls, mut faults) = (BTreeMap::new(), Vec::new(), Vec::new());
    for plugin in &config.plugins {
        let started = Instant::now();
        match engine.load(plugin) {
            Ok(loaded) => {
                tracing::info!(plugin = plugin.name, took = ?started.elapsed(), "loaded");
                plugins.insert(plugin.name.clone(), Arc::new(loaded));
            }
            Err(fault) => faults.push(fault),
        }
    }
    for (index, listener) in config.listeners.iter().enumerate() {
        match Tls::new(listener) {
            Ok(loaded) => tls.push(loaded),
            Err(error) => faults.push(Fault {
                key: format!("listeners[{index}].tls"),
                message: format!("{error:#}"),
                remedy: "name a PEM file with the certificate chain, the server's own first, and one with its key"
                    .into(),
            }),
        }
    }
    if faults.is_empty() {
        Ok(Loaded {
            engine,
            plugins,
            tls,
        })
    } else {
        Err(Faults(faults).into())
    }
}

impl Gateway {
    /// Loads the plugins, binds the listeners or takes those that another process gave, and then accepts clients.
    pub(crate) async fn start(
        config: Config,
        pages: Option<Pages>,
        sockets: Sockets,
    ) -> Result<Self> {
        let connections = connection_limit(&config.limits);
        let (loaded, config) =
            tokio::task::spawn_blocking(move || load(&config).map(|loaded| (loaded, config)))
                .await??;
        let Loaded {
            engine,
            plugins,
            tls,
        } = loaded;

        let mut listeners = Vec::new();
        for (listener, tls) in config.listeners.iter().zip(tls) {
            listeners.push(Listener::bind(listener.address, tls, &sockets).await?);
        }
        let management = match config.management {
            Some(address) => Some(Management::bind(address, &sockets).await?),
            None => None,
        };
        sockets.close_unused();
        // One upgrade at a time.
        let (ask, upgrades) = mpsc::channel(1);
        let entrance = Arc::new(Entrance {
            stages: ArcSwap::default(),
            sessions: TaskTracker::new(),
            admission: Admission::new(connections, &config.limits),
            stopping: AtomicBool::new(false),
        });
        let doors = Doors {
            entrance: Arc::clone(&entrance),
            handshakes: Arc::new(Semaphore::new(config.limits.handshakes as usize)),
            handshake_timeout: config.limits.handshake_timeout,
            pages,
            stop: CancellationToken::new(),
            accepting: TaskTracker::new(),
            tasks: TaskTracker::new(),
        };
        let gateway = Self {
            config,
            engine,
            state: Mutex::new(State {
                plugins,
                stages: HashMap::new(),
            }),
            entrance,
            doors,
            stop_management: CancellationToken::new(),
            sockets,
            upgrades,
            addresses: listeners
                .iter()
                .map(|l| format!("{}://{}", l.scheme(), l.address))
                .collect(),
        };
        gateway.install();
        if let Some(management) = management {
            tracing::info!("management listening on http://{}", management.address);
            let stop = gateway.stop_management.clone();
            let desk = Desk {
                entrance: Arc::clone(&gateway.entrance),
                upgrades: ask,
            };
            management.serve(desk, stop, &gateway.doors.tasks);
        }
        for (listener, address) in listeners.into_iter().zip(&gateway.addresses) {
            tracing::info!("listening on {address}");
            listener.serve(&gateway.doors);
        }
        tracing::info!(connections, "ready");
        Ok(gateway)
    }

    /// Loads one plugin again from its file; the next message of every connection runs on the new one. On an
    /// error the old one goes on.
    pub(crate) fn reload_plugin(&self, name: &str) -> Result<()> {
        let config = self
            .config
            .plugins
            .iter()
            .find(|plugin| plugin.name == name);
        let config = config.with_context(|| format!("no plugin is called {name:?}"))?;
        let plugin = self
            .engine
            .load(config)
            .map_err(|fault| Faults(vec![fault]))?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.plugins.insert(name.to_owned(), Arc::new(plugin));
        drop(state);
        self.install();
        Ok(())
    }

    /// Builds a snapshot of every stage from the configuration and the plugins as they are now.
    fn install(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stages = Stages::default();
        for api in &self.config.apis {
            for stage in &api.stages {
                let key = (api.name.clone(), stage.name.clone());
                let known = state.stages.get(&key);
                let connections = known.map(|known| Arc::clone(&known.load().scope.connections));
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
                    routes: routes(api, &state.plugins),
                });
                let current = match known {
                    Some(known) => {
                        known.store(snapshot);
                        Arc::clone(known)
                    }
                    None => Arc::new(CurrentStage::from(snapshot)),
                };
                place(&mut stages, stage, &current);
                state.stages.insert(key, current);
            }
        }
        self.entrance.stages.store(Arc::new(stages));
    }

    /// Starts this program anew and hands it the sockets; gives the id of the process that serves by then. This one
    /// serves too, until it is stopped as [`Departure::Succeeded`]. On an error nothing has changed.
    pub(crate) async fn hand_over(&self) -> Result<u32> {
        let limit = self.config.limits.upgrade;
        match timeout(limit, handover::hand_over(&self.sockets)).await {
            Ok(handed_over) => handed_over,
            Err(_) => bail!(
                "the new process was not ready within {} s, which is limits.upgrade_s",
                limit.as_secs()
            ),
        }
    }

    /// Stops: no new clients, the closes of the others spread over the drain window, every `$disconnect` run.
    pub(crate) async fn stop(self, departure: Departure) {
        let window = self.config.limits.drain;
        let closing = farewell(departure, self.config.limits.reconnect_jitter_s);
        match departure {
            Departure::Stopped => self.entrance.stopping.store(true, Ordering::Relaxed),
            // What is asked here is the other's to answer.
            Departure::Succeeded => self.stop_management.cancel(),
        }
        self.doors.stop.cancel();
        let open = self.connections();
        tracing::info!(connections = open.len(), ?window, ?departure, "stopping");
        let end = Instant::now() + window + LAST_ANSWERS;
        let sessions = &self.entrance.sessions;
        sessions.close();
        let spread = async {
            let closed = close_spread(open, window.mul_f64(SPREAD), &closing);
            match departure {
                Departure::Stopped => closed.await,
                // Who was accepted here knows nothing of another process, and is to be let in.
                Departure::Succeeded => drop(tokio::join!(closed, self.handshakes_over())),
            }
            self.entrance.stopping.store(true, Ordering::Relaxed);
            // Those whose handshake was under way.
            close_spread(self.connections(), Duration::ZERO, &closing).await;
            sessions.wait().await;
        };
        if timeout_at(end, spread).await.is_err() {
            let rest = self.connections();
            tracing::warn!(
                connections = rest.len(),
                "the drain window is over: cutting what is left"
            );
            for connection in rest {
                connection.outbox.cut(closing.clone());
            }
            let _ = timeout(LAST_HANDLERS, sessions.wait()).await;
        }
        self.stop_management.cancel();
        self.doors.tasks.close();
        // Only idle HTTP/2 connections and management requests are left.
        let _ = timeout(Duration::from_secs(1), self.doors.tasks.wait()).await;
        tracing::info!("stopped");
    }

    /// Every socket that was accepted has had its answer, and no other is.
    async fn handshakes_over(&self) {
        self.doors.accepting.close();
        self.doors.accepting.wait().await;
        let all = self.config.limits.handshakes;
        let _all = self.doors.handshakes.acquire_many(all).await;
    }

    fn connections(&self) -> Vec<Arc<Connection>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .stages
            .values()
            .flat_map(|stage| stage.load().scope.connections.all())
            .collect()
    }
}

/// What clients are told. The advice is for programs too: `; reconnect in 0-N s` ends the reason.
fn farewell(departure: Departure, reconnect_jitter_s: u32) -> Closing {
    let (code, mut reason) = match departure {
        Departure::Stopped => (1001, "Going away".to_owned()),
        Departure::Succeeded => (1012, "Service restart".to_owned()),
    };
    if reconnect_jitter_s > 0 {
        reason += &format!("; reconnect in 0-{reconnect_jitter_s} s");
    }
    Closing::new(code, reason)
}

/// Closes connections one after the other, evenly over `window`.
async fn close_spread(connections: Vec<Arc<Connection>>, window: Duration, closing: &Closing) {
    let start = Instant::now();
    let count = connections.len().max(1) as f64;
    for (index, connection) in connections.into_iter().enumerate() {
        sleep_until(start + window.mul_f64(index as f64 / count)).await;
        connection.close(closing.clone());
    }
}

fn routes(api: &config::Api, plugins: &BTreeMap<String, Arc<Plugin>>) -> Routes {
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

/// How many connections there may be: as configured, and no more than the process may open files.
fn connection_limit(limits: &config::GatewayLimits) -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024);
    let possible = files.saturating_sub(OTHER_FILES).max(1);
    let wanted = limits.connections.map_or(possible, u64::from);
    if wanted > possible {
        tracing::warn!(
            wanted,
            possible,
            "limits.connections is more than the process may open files; raise `ulimit -n`"
        );
    }
    usize::try_from(wanted.min(possible))
        .unwrap_or(usize::MAX)
        .min(Semaphore::MAX_PERMITS)
}
