//! The composition root: builds what a configuration names, starts it, changes it while it serves, and stops it.

mod apply;
mod certificates;
mod check;
mod in_memory;
mod listeners;
mod management;
mod reload;
mod stages;
mod stop;
mod upgrade;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::handover::Sockets;
use crate::handshake::{Admission, EarlyLines, HandshakeContext};
use crate::listener::{ListenerContext, Pages, QuicSocket};
use crate::management::{Control, Upgrade, note_socket_name, second_note_socket_name, serve_note};
use crate::permits::Permits;
use crate::plugin::{Cause, HeldBack, Plugins};
use crate::telemetry::Metrics;

pub(crate) use check::check;
use listeners::OpenListener;
use management::OpenManagement;
pub(crate) use reload::{NO_RELOAD, ReloadScope};
pub(crate) use stop::StopReason;
use upgrade::{HERITAGE, Heritage};
pub(crate) use watch::Folders;

/// A serving gateway.
pub(crate) struct Gateway {
    source: ConfigSource,
    plugins: Arc<Plugins>,
    handshakes: Arc<HandshakeContext>,
    listeners: ListenerContext,
    metrics: Arc<Metrics>,
    /// Serialises reloads and hand-overs; held from beginning to end.
    reloading: tokio::sync::Mutex<()>,
    /// True while a hand-over is under way or done: the other process starts with what this one serves.
    handing_over: tokio::sync::watch::Sender<bool>,
    state: Mutex<GatewayState>,
    control: Control,
    upgrade_requests: tokio::sync::Mutex<mpsc::Receiver<Upgrade>>,
    /// The sockets that a successor would take over.
    sockets: Sockets,
    /// A task for each new process of an upgrade that was given up, until that process has ended.
    ending_successors: TaskTracker,
    stop_management: CancellationToken,
}

/// The source of the configuration.
#[derive(Clone, Debug)]
pub(crate) enum ConfigSource {
    /// A file, which a reload reads again.
    File(PathBuf),
    /// `lockgate dev`, which watches its own file, if it has one.
    Dev(Option<PathBuf>),
}

impl ConfigSource {
    fn file(&self) -> Option<&Path> {
        match self {
            Self::File(file) => Some(file),
            Self::Dev(file) => file.as_deref(),
        }
    }
}

/// The state that a reload changes, beside the swapped snapshots.
struct GatewayState {
    config: Config,
    stages: stages::StageTable,
    open: Vec<OpenListener>,
    /// The sockets for QUIC, also those without a listener whose connections are open.
    quic: Vec<Weak<QuicSocket>>,
    management: Vec<OpenManagement>,
}

impl Gateway {
    /// Loads the plugins, binds the listeners or takes inherited ones, then accepts clients.
    pub(crate) async fn start(
        config: Config,
        source: ConfigSource,
        pages: Option<Pages>,
        sockets: Sockets,
    ) -> Result<Arc<Self>> {
        let compile_cache = config.compile_cache.clone();
        let plugins = match source {
            ConfigSource::File(_) => Plugins::start(compile_cache)?,
            ConfigSource::Dev(_) => Plugins::start_to_develop(compile_cache)?,
        };
        Self::start_with(plugins, config, source, pages, sockets).await
    }

    async fn start_with(
        plugins: Plugins,
        config: Config,
        source: ConfigSource,
        pages: Option<Pages>,
        sockets: Sockets,
    ) -> Result<Arc<Self>> {
        let plugins = Arc::new(plugins);
        let handshakes = Arc::new(HandshakeContext {
            stages: ArcSwap::default(),
            deciding: TaskTracker::new(),
            permits: Permits::new(0),
            waiting: Permits::new(0),
            sessions: TaskTracker::new(),
            admission: ArcSwap::from_pointee(Admission::new(0, &config.limits)),
            early_lines: EarlyLines::default(),
            counters: Arc::default(),
            stopping: CancellationToken::new(),
            overdue: CancellationToken::new(),
        });
        let listeners = ListenerContext {
            handshakes: Arc::clone(&handshakes),
            handshake_timeout: Arc::new(ArcSwap::from_pointee(config.limits.handshake_timeout)),
            pages,
            alt_svc: None,
            stop: CancellationToken::new(),
            closing: CancellationToken::new(),
            releasing: CancellationToken::new(),
            accepting: TaskTracker::new(),
            tasks: TaskTracker::new(),
        };
        let metrics = Arc::new(Metrics::new(Arc::clone(&plugins), Arc::clone(&handshakes)));
        let (control, requests) = Control::new(source.file(), Arc::clone(&metrics));
        let ending_successors = TaskTracker::new();
        ending_successors.close();
        let gateway = Arc::new(Self {
            metrics,
            source,
            plugins,
            handshakes,
            listeners,
            reloading: tokio::sync::Mutex::default(),
            handing_over: tokio::sync::watch::Sender::default(),
            state: Mutex::new(GatewayState {
                config: Config {
                    listeners: Vec::new(),
                    management: None,
                    health: None,
                    apis: Vec::new(),
                    plugins: Vec::new(),
                    ..config.clone()
                },
                stages: stages::StageTable::default(),
                open: Vec::new(),
                quic: Vec::new(),
                management: Vec::new(),
            }),
            control,
            upgrade_requests: tokio::sync::Mutex::new(requests.upgrades),
            sockets,
            ending_successors,
            stop_management: CancellationToken::new(),
        });
        if let Some(heritage) = gateway.sockets.take_file(HERITAGE)? {
            let heritage: Heritage = serde_json::from_slice(&heritage)
                .context("what the process before this one serves")?;
            gateway.plugins.inherit(heritage.plugins);
            gateway.lock().stages.inherit_keys(heritage.known_keys);
            let limit = heritage.drains_within_s.map(Duration::from_secs);
            if let Some(limit) = limit {
                gateway.sockets.set_drain_limit(limit);
            }
        }
        gateway.apply(config, Cause::Start).await?;
        gateway.plugins.serve();
        if let ConfigSource::File(file) = &gateway.source
            && let Err(error) = gateway.serve_note_for(file)
        {
            tracing::debug!("commands that name only the file cannot find this gateway: {error}");
        }
        gateway.keep_given_ports();
        gateway.sockets.close_unused();
        let stop = &gateway.listeners.stop;
        let answering = stop
            .clone()
            .run_until_cancelled_owned(reload::answer(Arc::clone(&gateway), requests.reloads));
        gateway.listeners.tasks.spawn(answering);
        // Whoever waits for this line may ask by the file's name, and reload.
        let max_connections = gateway.handshakes.admission.load().limit();
        tracing::info!(max_connections, "ready");
        let expiry = Arc::clone(&gateway).watch_expiry();
        let expiry = stop.clone().run_until_cancelled_owned(expiry);
        gateway.listeners.tasks.spawn(expiry);
        let tending = Arc::clone(&gateway).tend_ports();
        let tending = stop.clone().run_until_cancelled_owned(tending);
        gateway.listeners.tasks.spawn(tending);
        if gateway.source.file().is_some() {
            let watching = watch::watch(Arc::clone(&gateway));
            let watching = stop.clone().run_until_cancelled_owned(watching);
            gateway.listeners.tasks.spawn(watching);
        }
        Ok(gateway)
    }

    /// Answers commands that know only the file with the gateway's note. They ask an older gateway of the same file, and are
    /// told of this one.
    fn serve_note_for(self: &Arc<Self>, file: &Path) -> io::Result<()> {
        let name = note_socket_name(file)?;
        let listen = |name: &str| self.sockets.listen_by_name("note", name);
        let (socket, shared) = match listen(&name) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tracing::warn!(
                    "another gateway runs this file, and commands that name the file ask that one\n  remedy: name this one by \
                     --management ADDR, or give it a file of its own"
                );
                listen(&second_note_socket_name(&name))?
            }
            listening => listening?,
        };
        let gateway = Arc::clone(self);
        let stop = self.stop_management.clone();
        self.listeners.tasks.spawn(async move {
            let telling = serve_note(socket, || gateway.note());
            let _ = stop.run_until_cancelled(telling).await;
            drop(shared);
        });
        Ok(())
    }

    /// Takes charge of the files of inherited sockets, and removes those without a listener: the process before this one
    /// has let go of them.
    pub(crate) fn clean_up_after_predecessor(&self) {
        self.sockets.set_let_go();
    }

    /// The addresses of the client listeners, each with its scheme.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.lock()
            .open
            .iter()
            .map(OpenListener::to_string)
            .collect()
    }

    /// Why a plugin does not serve the component that was read last; none if it does.
    pub(crate) fn held_back(&self, plugin: &str) -> Option<HeldBack> {
        self.plugins.all().get(plugin)?.held_back()
    }

    fn lock(&self) -> MutexGuard<'_, GatewayState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
