//! `lockgate run`: serve until a signal says stop, or another process serves in its place.

use std::path::Path;
use std::process::id;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use crate::config::Config;
use crate::gateway::{Departure, Gateway, Origin, What};
use crate::handover::{Predecessor, Sockets};
use crate::management::Upgrade;
use crate::telemetry;

pub(super) fn run(file: &Path) -> Result<()> {
    let (mut predecessor, sockets) = Predecessor::find()?;
    let served = serve(file, sockets, &mut predecessor);
    if let (Err(error), Some(predecessor)) = (&served, predecessor) {
        predecessor.goes_on(&format!("{error:#}"));
    }
    served
}

/// The predecessor is taken once this process serves in its place.
fn serve(file: &Path, sockets: Sockets, predecessor: &mut Option<Predecessor>) -> Result<()> {
    let config = Config::load(file)?;
    telemetry::start(&config.log);
    block_on(async {
        let mut signals = Signals::new()?;
        let origin = Origin::File(file.to_owned());
        let gateway = Gateway::start(config, origin, None, sockets).await;
        let gateway = gateway.map_err(|error| super::blame(file, error))?;
        match predecessor.take().map(Predecessor::succeeded) {
            None => notify(&[NotifyState::Ready]),
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::warn!("the process that started this one is gone already: {error}");
            }
        }
        let departure = until_departure(&gateway, &mut signals).await;
        stop(&gateway, signals, departure).await;
        Ok(())
    })
}

/// Serves until it is time to go; an upgrade that fails is not.
async fn until_departure(gateway: &Arc<Gateway>, signals: &mut Signals) -> Departure {
    let mut reloads = JoinSet::new();
    loop {
        let asked: Option<Upgrade> = tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => return Departure::Stopped,
                Asked::Reload => {
                    let gateway = Arc::clone(gateway);
                    // Whatever comes of it is in the log.
                    reloads.spawn(async move { gateway.reload(What::Everything, "SIGHUP").await.is_ok() });
                    continue;
                }
                Asked::Upgrade => None,
            },
            Some(asked) = gateway.asked_to_upgrade() => Some(asked),
        };
        tracing::info!("upgrading: starting a new process");
        let handed_over = tokio::select! {
            handed_over = gateway.hand_over() => handed_over,
            () = signals.stop() => return Departure::Stopped,
        };
        // Who asked may have gone meanwhile.
        match handed_over {
            Ok(successor) => {
                tracing::info!(successor, "process {} hands over", id());
                notify(&[NotifyState::MainPid(successor)]);
                let _ = asked.map(|asked| asked.send(Ok(successor)));
                return Departure::Succeeded;
            }
            Err(error) => {
                tracing::error!("no upgrade, this process goes on: {error:#}");
                let _ = asked.map(|asked| asked.send(Err(format!("{error:#}"))));
            }
        }
    }
}

/// Tells systemd, if it has started us and listens.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("systemd could not be told: {error}");
    }
}

/// How long what is under way and can no more be stopped may take at the end: compiling, or a pull, for nobody.
const REST: Duration = Duration::from_secs(1);

/// Does something on the threads that serve sockets: one a core.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("io")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(REST);
    done
}

/// Stops in good order, or at once at a second signal.
pub(super) async fn stop(gateway: &Gateway, mut signals: Signals, departure: Departure) {
    tokio::select! {
        () = gateway.stop(departure) => {}
        () = signals.stop() => {
            tracing::warn!("a second signal: exiting at once");
            std::process::exit(1);
        }
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Stop,
    /// SIGHUP.
    Reload,
    /// SIGUSR2.
    Upgrade,
}

/// SIGTERM, ctrl-c, SIGHUP and SIGUSR2.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user2: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT")?,
            hang_up: signal(SignalKind::hangup()).context("SIGHUP")?,
            user2: signal(SignalKind::user_defined2()).context("SIGUSR2")?,
        })
    }

    /// What the process is asked for next.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.user2.recv() => Asked::Upgrade,
        }
    }

    /// Ready when the process is asked to stop. What else is asked for cannot be done now.
    pub(super) async fn stop(&mut self) {
        loop {
            match self.next().await {
                Asked::Stop => return,
                Asked::Reload => tracing::warn!("SIGHUP: there is nothing to reload now"),
                Asked::Upgrade => tracing::warn!("SIGUSR2: there is nothing to upgrade now"),
            }
        }
    }
}
