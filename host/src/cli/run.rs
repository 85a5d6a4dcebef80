//! `lockgate run`: serves until a signal stops it, or another process takes over.

use std::path::Path;
use std::process::id;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sd_notify::NotifyState;
use tokio::task::{JoinSet, spawn_blocking};

use super::signals::{SignalRequest, Signals};
use super::systemd::{Watchdog, notify, notify_reloading};
use crate::config::{self, Config};
use crate::gateway::{ConfigSource, Gateway, ReloadScope, StopReason};
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
            // Dropping the start ends compiling and removes its files.
            () = signals.stop() => {
                tracing::info!("stopped before it served");
                return Ok(());
            }
        };
        let gateway = match started {
            Ok(gateway) => gateway,
            Err(error) => {
                let text = format!("{error:#}");
                let notified = predecessor.is_some_and(|it| it.report_failure(&text).is_ok());
                if notified && !telemetry::is_started() {
                    // The log is not set up yet: the process that continues has the error, and logs it.
                    std::process::exit(1);
                }
                return Err(error);
            }
        };
        let mut watchdog = Watchdog::start(predecessor.is_some());
        let mut taking_over = JoinSet::new();
        match predecessor {
            None => notify(&[NotifyState::Ready]).await,
            Some(predecessor) => {
                if let Err(error) = predecessor.report_success() {
                    tracing::warn!("the process that started this one is gone already: {error}");
                }
                let gateway = Arc::clone(&gateway);
                taking_over.spawn(async move {
                    // An error means that it is gone.
                    let _ = predecessor.until_it_lets_go().await;
                    gateway.clean_up_after_predecessor();
                });
            }
        }
        let reason = until_stop(&gateway, &signals, &mut watchdog).await;
        drop(watchdog);
        let told = async {
            if reason == StopReason::Requested {
                notify(&[NotifyState::Stopping]).await;
            }
        };
        tokio::join!(told, stop(&gateway, &signals, reason));
        Ok(())
    })
}

/// Finds the predecessor, if there is one, and starts to serve.
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
    let source = ConfigSource::File(file.to_owned());
    let gateway = Gateway::start(config, source, None, sockets).await;
    gateway.map_err(|error| config::blame(Some(file), error))
}

/// Reads a configuration on a thread that may block on the disk.
pub(super) async fn load(file: &Path) -> Result<Config> {
    let file = file.to_owned();
    Ok(spawn_blocking(move || Config::load(&file)).await??)
}

/// Serves until a stop or a successful upgrade. A failed upgrade changes nothing.
async fn until_stop(
    gateway: &Arc<Gateway>,
    signals: &Signals,
    watchdog: &mut Watchdog,
) -> StopReason {
    let mut reloads = JoinSet::new();
    loop {
        let idle = reloads.is_empty();
        let asked: Option<Upgrade> = tokio::select! {
            Some(_) = reloads.join_next() => continue,
            asked = signals.next(idle) => match asked {
                None => return StopReason::Requested,
                Some(SignalRequest::Reload) => {
                    let gateway = Arc::clone(gateway);
                    reloads.spawn(async move {
                        notify_reloading().await;
                        // The log has the outcome.
                        let _ = gateway.reload(ReloadScope::Everything, Cause::Signal).await;
                        notify(&[NotifyState::Ready]).await;
                    });
                    continue;
                }
                Some(SignalRequest::Upgrade) => None,
            },
            Some(asked) = gateway.next_upgrade_request() => Some(asked),
        };
        // A reload under way ends first: the new process would read the same files, but systemd waits for this
        // process's word.
        let idle = async {
            let _ = reloads.join_next().await;
        };
        let handing_over = gateway.hand_over(idle, signals.stop());
        let under_way = NoUpgrade::UnderWay;
        let handed_over = gateway.without_upgrade(under_way, handing_over).await;
        // Answers go nowhere if the asker is gone.
        match handed_over {
            Ok(successor) => {
                tracing::info!(successor, "process {} hands over", id());
                watchdog.hand_over(successor).await;
                // The successor may have read its files before the signal: it reloads, and tells systemd when.
                if signals.take_reload().await
                    && let Err(error) = handover::ask_to_reload(successor)
                {
                    tracing::warn!("a reload requested meanwhile is not passed on: {error}");
                }
                let _ = asked.map(|asked| asked.send(Ok(successor)));
                return StopReason::Replaced;
            }
            Err(why) => {
                if signals.take_upgrade().await {
                    // As by command: one that comes meanwhile is refused.
                    tracing::warn!("a second upgrade is refused: {}", NoUpgrade::UnderWay);
                }
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

/// Time limit at exit for blocking work that cannot be cancelled, such as compiling or a pull. Nobody needs its result.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a future on the socket threads: one a core.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("io")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    done
}

/// Stops gracefully. After a takeover the first stop signal ends the drain window; the signal thread ends the process on the
/// next one.
pub(super) async fn stop(gateway: &Gateway, signals: &Signals, reason: StopReason) {
    let no_upgrade = match reason {
        StopReason::Requested => NoUpgrade::Stopping,
        StopReason::Replaced => NoUpgrade::Replaced,
    };
    let hurry = async {
        match reason {
            StopReason::Requested => std::future::pending().await,
            StopReason::Replaced => signals.stop().await,
        }
        tracing::info!(
            "a signal while another process serves: closing all connections now; the next signal exits at once"
        );
    };
    let stop = gateway.stop(reason, hurry);
    gateway.without_upgrade(no_upgrade, stop).await;
}
