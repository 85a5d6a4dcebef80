//! The composition root: what a configuration means is built here, started, changed while it serves, and
//! stopped.

mod apply;
mod certificates;
mod check;
mod listeners;
mod management;
mod reload;
mod stages;
mod watch;

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::connections::{Closing, ConnectionId, Directory};
use crate::handover::{self, NotServing, Sockets};
use crate::handshake::{Admission, HandshakeContext, Permits};
use crate::listener::{ListenerContext, Pages};
use crate::management::{Control, NoUpgrade, Upgrade, name, tell};
use crate::plugin::{Cause, Plugins};
use crate::telemetry::Metrics;

pub(crate) use check::check;
use listeners::OpenListener;
use management::OpenManagement;
pub(crate) use reload::{NO_RELOAD, What};
pub(crate) use watch::Folders;

/// The part of the drain window over which closes are spread; the rest is for clients to answer.
const SPREAD: f64 = 0.7;

/// How long after the window clients may still answer the last closes.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// How long who was accepted before a stop has for a request that is on its way, and for its answer, however short the
/// window is.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// How long what is left may take when no session is: the last answers to requests, the ends of HTTP/2 connections.
const LAST_TASKS: Duration = Duration::from_secs(1);

/// How often it is looked for connections that handshakes under way have opened.
const LOOK: Duration = Duration::from_millis(100);

/// The name of the file in which a process tells its successor what it serves.
const HERITAGE: &str = "plugins";

/// A gateway that serves.
pub(crate) struct Gateway {
    origin: Origin,
    plugins: Arc<Plugins>,
    handshakes: Arc<HandshakeContext>,
    listeners: ListenerContext,
    metrics: Arc<Metrics>,
    /// Held by a reload, and by a hand-over, from its beginning to its end.
    reloading: tokio::sync::Mutex<()>,
    /// A hand-over is under way, or is done: another process begins with what is served here.
    handing_over: tokio::sync::watch::Sender<bool>,
    state: Mutex<State>,
    control: Control,
    asked_to_upgrade: tokio::sync::Mutex<mpsc::Receiver<Upgrade>>,
    /// What another process of the program would take over.
    sockets: Sockets,
    stop_management: CancellationToken,
}

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A file: a reload reads it again.
    File(PathBuf),
    /// `lockgate dev`, which reads its file by itself, if it has one.
    Dev(Option<PathBuf>),
}

impl Origin {
    fn file(&self) -> Option<&Path> {
        match self {
            Self::File(file) => Some(file),
            Self::Dev(file) => file.as_deref(),
        }
    }
}

/// Why a gateway stops, and so what its clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It was asked to, and no one serves in its place.
    Stopped,
    /// Another process has its sockets and serves already.
    Succeeded,
}

impl Departure {
    fn reason(self) -> &'static str {
        match self {
            Self::Stopped => "asked to stop",
            Self::Succeeded => "another process serves",
        }
    }
}

/// What a reload changes, beside what is swapped.
struct State {
    config: Config,
    stages: stages::Known,
    open: Vec<OpenListener>,
    management: Vec<OpenManagement>,
}

impl Gateway {
    /// Loads the plugins, binds the listeners or takes those that another process gave, and then accepts clients.
    pub(crate) async fn start(
        config: Config,
        origin: Origin,
        pages: Option<Pages>,
        sockets: Sockets,
    ) -> Result<Arc<Self>> {
        let plugins = Arc::new(Plugins::start(config.compile_cache.clone())?);
        let handshakes = Arc::new(HandshakeContext {
            stages: ArcSwap::default(),
            deciding: TaskTracker::new(),
            permits: Permits::new(0),
            sessions: TaskTracker::new(),
            admission: ArcSwap::from_pointee(Admission::new(0, &config.limits)),
            stopping: CancellationToken::new(),
            overdue: CancellationToken::new(),
        });
        let listeners = ListenerContext {
            handshakes: Arc::clone(&handshakes),
            handshake_timeout: Arc::new(ArcSwap::from_pointee(config.limits.handshake_timeout)),
            pages,
            stop: CancellationToken::new(),
            closing: CancellationToken::new(),
            accepting: TaskTracker::new(),
            tasks: TaskTracker::new(),
        };
        let metrics = Arc::new(Metrics::new(Arc::clone(&plugins), Arc::clone(&handshakes)));
        let (control, asked) = Control::new(origin.file(), Arc::clone(&metrics));
        let gateway = Arc::new(Self {
            metrics,
            origin,
            plugins,
            handshakes,
            listeners,
            reloading: tokio::sync::Mutex::default(),
            handing_over: tokio::sync::watch::Sender::default(),
            state: Mutex::new(State {
                config: Config {
                    listeners: Vec::new(),
                    management: None,
                    health: None,
                    apis: Vec::new(),
                    plugins: Vec::new(),
                    ..config.clone()
                },
                stages: stages::Known::default(),
                open: Vec::new(),
                management: Vec::new(),
            }),
            control,
            asked_to_upgrade: tokio::sync::Mutex::new(asked.upgrades),
            sockets,
            stop_management: CancellationToken::new(),
        });
        if let Some(heritage) = gateway.sockets.take_file(HERITAGE)? {
            let heritage = serde_json::from_slice(&heritage);
            let heritage = heritage.context("what the process before this one serves")?;
            gateway.plugins.inherit(heritage);
        }
        gateway.apply(config, Cause::Start).await?;
        gateway.plugins.forget();
        if let Origin::File(file) = &gateway.origin
            && let Err(error) = gateway.tell_where(file)
        {
            tracing::debug!("commands that name only the file cannot find this gateway: {error}");
        }
        gateway.sockets.close_unused();
        let stop = &gateway.listeners.stop;
        let answering = stop
            .clone()
            .run_until_cancelled_owned(reload::answer(Arc::clone(&gateway), asked.reloads));
        gateway.listeners.tasks.spawn(answering);
        let expiry = Arc::clone(&gateway).watch_expiry();
        let expiry = stop.clone().run_until_cancelled_owned(expiry);
        gateway.listeners.tasks.spawn(expiry);
        if gateway.origin.file().is_some() {
            let watching = watch::watch(Arc::clone(&gateway));
            let watching = stop.clone().run_until_cancelled_owned(watching);
            gateway.listeners.tasks.spawn(watching);
        }
        Ok(gateway)
    }

    /// Tells those who know the file where the gateway is asked.
    fn tell_where(self: &Arc<Self>, file: &Path) -> io::Result<()> {
        let (socket, shared) = self.sockets.listen_by_name("note", &name(file)?)?;
        let gateway = Arc::clone(self);
        let stop = self.stop_management.clone();
        self.listeners.tasks.spawn(async move {
            let telling = tell(socket, || gateway.note());
            let _ = stop.run_until_cancelled(telling).await;
            drop(shared);
        });
        Ok(())
    }

    /// Another process does not serve any more where this one was given a socket and has no listener.
    pub(crate) fn has_taken_over(&self) {
        self.sockets.remove_left();
    }

    /// Where it listens, each address with its scheme.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.lock()
            .open
            .iter()
            .map(OpenListener::to_string)
            .collect()
    }

    /// Someone asks for an upgrade on the management listener.
    pub(crate) async fn asked_to_upgrade(&self) -> Option<Upgrade> {
        self.asked_to_upgrade.lock().await.recv().await
    }

    /// Starts this program anew and hands it the sockets; gives the id of the process that serves by then. This one
    /// serves too, until it is stopped as [`Departure::Succeeded`]. On an error nothing has changed.
    ///
    /// What is served stays as it is meanwhile: the other process has begun with it, and would undo a change. So a
    /// reload that is under way ends first, which `at_rest` tells of those that the caller waits for, and if it does not, no
    /// process is started.
    pub(crate) async fn hand_over(
        &self,
        at_rest: impl Future<Output = ()>,
        stop: impl Future<Output = ()>,
    ) -> Result<u32, NoUpgrade> {
        let limit = self.lock().config.limits.upgrade;
        let limit_s = limit.as_secs();
        let stopped = async {
            stop.await;
            NoUpgrade::AskedToStop
        };
        let mut stopped = pin!(stopped);
        let unchanged = async {
            at_rest.await;
            let reloading = self.reloading.lock().await;
            (reloading, self.plugins.hand_over().await)
        };
        let (_reloading, failing) = tokio::select! {
            unchanged = unchanged => unchanged,
            why = &mut stopped => return Err(why),
            () = sleep(limit) => return Err(NoUpgrade::Reloading { limit_s }),
        };
        self.handing_over.send_replace(true);
        tracing::info!("upgrading: starting a new process");
        let given_up = async {
            tokio::select! {
                Ok(why) = failing => why.into(),
                why = stopped => why,
                () = sleep(limit) => NoUpgrade::TooSlow { limit_s },
            }
        };
        let handed_over = self.hand_over_as_it_is(given_up).await;
        if handed_over.is_err() {
            self.plugins.keep().await;
            self.handing_over.send_replace(false);
        }
        handed_over.map_err(no_upgrade)
    }

    async fn hand_over_as_it_is(&self, given_up: impl Future<Output = NoUpgrade>) -> Result<u32> {
        let plugins = Arc::clone(&self.plugins);
        let heritage = spawn_blocking(move || serde_json::to_vec(&plugins.heritage())).await??;
        let told = (HERITAGE, &*heritage);
        let given_up = async { anyhow::Error::from(given_up.await) };
        let successor = handover::hand_over(&self.sockets, told, given_up).await?;
        self.sockets.are_handed_over();
        Ok(successor)
    }

    /// Does something during which there is no upgrade: who asks for one on the management listener is told why.
    pub(crate) async fn without_upgrade<T>(
        &self,
        why: NoUpgrade,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(asked) = self.asked_to_upgrade() => drop(asked.send(Err(why.clone()))),
            }
        }
    }

    /// Stops: no new clients, the closes of the others spread over the drain window, every `$disconnect` run that has
    /// the time. Who is being decided about is let in and closed like the others, or is refused when the window is over.
    ///
    /// Takes the window, [`LAST_ANSWERS`], `limits.disconnects_s` and [`LAST_TASKS`] at most.
    pub(crate) async fn stop(&self, departure: Departure) {
        let (window, disconnects, closing) = {
            let limits = &self.lock().config.limits;
            let closing = farewell(departure, limits.reconnect_jitter_s);
            (limits.drain, limits.disconnects, closing)
        };
        let begun = Instant::now();
        let end = begun + window + LAST_ANSWERS;
        let handshakes = &self.handshakes;
        let answer_until = match departure {
            Departure::Stopped => {
                handshakes.stopping.cancel();
                begun + window.max(LAST_REQUESTS)
            }
            // Who was accepted here knows nothing of another process, and is to be let in.
            Departure::Succeeded => {
                self.stop_management.cancel();
                end
            }
        };
        // The sockets close with what accepts on them. Another process may not have all of them; systemd keeps its own,
        // with those who wait there for the next start.
        for opened in self.lock().open.drain(..) {
            let waits =
                departure == Departure::Stopped && self.sockets.has_activated(&opened.address);
            if !waits {
                opened.closing.cancel();
            }
        }
        self.listeners.stop.cancel();
        let open = self.connections();
        let drain_s = window.as_secs();
        tracing::info!(
            connections = open.len(),
            drain_s,
            reason = departure.reason(),
            "stopping"
        );
        handshakes.deciding.close();
        handshakes.sessions.close();
        let over = async {
            if timeout_at(answer_until, self.handshakes_over())
                .await
                .is_err()
            {
                handshakes.overdue.cancel();
            }
            handshakes.stopping.cancel();
            self.sessions_over().await;
        };
        let closes = async {
            close_spread(open, window.mul_f64(SPREAD), &closing).await;
            let close = |directory: &Directory, id| {
                let _ = directory.close(id, closing.clone());
            };
            self.keep_ending(close).await
        };
        let drained = async {
            tokio::select! {
                () = over => {}
                never = closes => match never {},
            }
        };
        if timeout_at(end, drained).await.is_err() {
            handshakes.stopping.cancel();
            handshakes.overdue.cancel();
            tracing::warn!(
                connections = self.connections().len(),
                "the drain window is over: cutting the remaining connections"
            );
            for stage in self.lock().stages.all() {
                stage.load().scope.directory.closes_over.cancel();
            }
            let cuts = self.keep_ending(|directory, id| {
                let _ = directory.cut(id, closing.clone());
            });
            tokio::select! {
                over = timeout(disconnects, self.sessions_over()) => if over.is_err() {
                    let left = handshakes.deciding.len() + handshakes.sessions.len();
                    tracing::error!(left, "`$disconnect` and `$connect` handlers have not ended within \
                        limits.disconnects_s ({} s) after the drain window, and are given up\n  remedy: have them do less, or raise the limit, and the time that systemd or the container gives a stop", disconnects.as_secs());
                },
                never = cuts => match never {},
            }
        }
        self.stop_management.cancel();
        self.listeners.tasks.close();
        // Only idle HTTP/2 connections, the last answers and management requests are left.
        let _ = timeout(LAST_TASKS, self.listeners.tasks.wait()).await;
        tracing::info!("stopped");
    }

    /// Every socket that was accepted has had its answer, and no other is.
    async fn handshakes_over(&self) {
        self.listeners.accepting.close();
        self.listeners.accepting.wait().await;
        self.handshakes.permits.all_returned().await;
    }

    /// No client is being decided about, and no session is left. A decision begins a session before it ends.
    async fn sessions_over(&self) {
        self.handshakes.deciding.wait().await;
        self.handshakes.sessions.wait().await;
    }

    /// Ends every connection that is open, and those that handshakes under way open meanwhile.
    async fn keep_ending(&self, end: impl Fn(&Directory, ConnectionId)) -> Infallible {
        loop {
            for (directory, id) in self.connections() {
                end(&directory, id);
            }
            sleep(LOOK).await;
        }
    }

    /// Every open connection, with the directory that it is in.
    fn connections(&self) -> Vec<(Arc<Directory>, ConnectionId)> {
        let stages: Vec<_> = self.lock().stages.all().collect();
        let mut open = Vec::new();
        for stage in stages {
            let directory = &stage.load().scope.directory;
            let ids = directory.list().into_iter();
            open.extend(ids.map(|id| (Arc::clone(directory), id)));
        }
        open
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_upgrade(error: anyhow::Error) -> NoUpgrade {
    match error.downcast() {
        Ok(known) => known,
        Err(error) if error.is::<NotServing>() => NoUpgrade::NotServing(format!("{error:#}")),
        Err(error) => NoUpgrade::Fault(format!("{error:#}")),
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
async fn close_spread(
    connections: Vec<(Arc<Directory>, ConnectionId)>,
    window: Duration,
    closing: &Closing,
) {
    let start = Instant::now();
    let count = connections.len().max(1) as f64;
    for (index, (directory, id)) in connections.into_iter().enumerate() {
        sleep_until(start + window.mul_f64(index as f64 / count)).await;
        // Who has gone meanwhile needs no close.
        let _ = directory.close(id, closing.clone());
    }
}
