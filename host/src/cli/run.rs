//! `lockgate run`: serve until a signal says stop, or another process serves in its place.

use std::path::Path;
use std::process::id;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sd_notify::NotifyState;
use tokio::task::{JoinSet, spawn_blocking};

use super::signals::{Asked, Signals};
use crate::config::{self, Config};
use crate::gateway::{Departure, Gateway, Origin, What};
use crate::handover::{self, Predecessor, Sockets};
use crate::management::{NoUpgrade, Upgrade};
use crate::plugin::Cause;
use crate::telemetry;

pub(super) fn run(file: &Path) -> Result<()> {
    let signals = Signals::listen()?;
    let file = file.to_owned();
    block_on(async move {
        let mut predecessor = None;
        let start = start(&file, &mut predecessor);
        let started = tokio::select! {
            biased;
            started = start => started,
            // The start is dropped: compiling ends, and its files are removed.
            () = signals.stop() => {
                tracing::info!("stopped before it served");
                return Ok(());
            }
        };
        let gateway = match started {
            Ok(gateway) => gateway,
            Err(error) => {
                let text = format!("{error:#}");
                let told = predecessor.is_some_and(|it| it.goes_on(&text).is_ok());
                if told && !telemetry::is_started() {
                    // Nobody knows yet how to log here: the process that goes on does, and logs it.
                    std::process::exit(1);
                }
                return Err(error);
            }
        };
        match predecessor.map(Predecessor::succeeded) {
            None => notify(&[NotifyState::Ready]),
            Some(told) => {
                if let Err(error) = told {
                    tracing::warn!("the process that started this one is gone already: {error}");
                }
                gateway.has_taken_over();
            }
        }
        let departure = until_departure(&gateway, &signals).await;
        if departure == Departure::Stopped {
            notify(&[NotifyState::Stopping]);
        }
        stop(&gateway, &signals, departure).await;
        Ok(())
    })
}

/// Finds the process that this one is to take over from, if there is one, and starts to serve.
async fn start(file: &Path, predecessor: &mut Option<Predecessor>) -> Result<Arc<Gateway>> {
    let sockets;
    (*predecessor, sockets) = match spawn_blocking(Predecessor::find).await?? {
        (None, _) => (
            None,
            Sockets::activated(sd_notify::listen_fds_with_names())?,
        ),
        found => found,
    };
    let config = load(file).await?;
    telemetry::start(&config.log)?;
    let origin = Origin::File(file.to_owned());
    let gateway = Gateway::start(config, origin, None, sockets).await;
    gateway.map_err(|error| config::blame(Some(file), error))
}

/// Reads a configuration on a thread that may wait for its disk.
pub(super) async fn load(file: &Path) -> Result<Config> {
    let file = file.to_owned();
    Ok(spawn_blocking(move || Config::load(&file)).await??)
}

/// Serves until it is time to go; an upgrade that fails is not.
async fn until_departure(gateway: &Arc<Gateway>, signals: &Signals) -> Departure {
    let mut reloads = JoinSet::new();
    loop {
        let at_rest = reloads.is_empty();
        let asked: Option<Upgrade> = tokio::select! {
            Some(_) = reloads.join_next() => {
                notify(&[NotifyState::Ready]);
                continue;
            }
            asked = signals.next(at_rest) => match asked {
                None => return Departure::Stopped,
                Some(Asked::Reload) => {
                    notify_reloading();
                    let gateway = Arc::clone(gateway);
                    // Whatever comes of it is in the log.
                    reloads.spawn(async move { gateway.reload(What::Everything, Cause::Signal).await.is_ok() });
                    continue;
                }
                Some(Asked::Upgrade) => None,
            },
            Some(asked) = gateway.asked_to_upgrade() => Some(asked),
        };
        // The new process reads what this one would: but systemd waits for this one's word.
        let at_rest = async {
            if reloads.join_next().await.is_some() {
                notify(&[NotifyState::Ready]);
            }
        };
        let handing_over = gateway.hand_over(at_rest, signals.stop());
        let under_way = NoUpgrade::UnderWay;
        let handed_over = gateway.without_upgrade(under_way, handing_over).await;
        // Who asked may have gone meanwhile.
        match handed_over {
            Ok(successor) => {
                tracing::info!(successor, "process {} hands over", id());
                notify(&[NotifyState::MainPid(successor)]);
                // It may have read its files before: it reloads, and tells systemd when.
                if signals.take_reload().await
                    && let Err(error) = handover::ask_to_reload(successor)
                {
                    tracing::warn!("a reload requested meanwhile is not passed on: {error}");
                }
                let _ = asked.map(|asked| asked.send(Ok(successor)));
                return Departure::Succeeded;
            }
            Err(why) => {
                if matches!(why, NoUpgrade::AskedToStop | NoUpgrade::Stopping) {
                    tracing::info!("no upgrade: {why}");
                } else {
                    tracing::error!("no upgrade, this process continues: {why}");
                }
                let _ = asked.map(|asked| asked.send(Err(why)));
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

/// Tells systemd that a reload begins, which `Type=notify-reload` waits for: after the signal, by the machine's clock.
fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("systemd could not be told of a reload: {error}"),
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

/// Stops in good order. A process that another serves in the place of goes at once if it is told to.
pub(super) async fn stop(gateway: &Gateway, signals: &Signals, departure: Departure) {
    let no_upgrade = match departure {
        Departure::Stopped => NoUpgrade::Stopping,
        Departure::Succeeded => NoUpgrade::Succeeded,
    };
    let told = async {
        match departure {
            // The next signal ends the process: it waits for nobody here.
            Departure::Stopped => std::future::pending().await,
            Departure::Succeeded => signals.stop().await,
        }
    };
    tokio::select! {
        () = gateway.without_upgrade(no_upgrade, gateway.stop(departure)) => {}
        () = told => {
            tracing::warn!("a signal while another process serves: exiting at once");
            telemetry::last_words();
            std::process::exit(1);
        }
    }
}
