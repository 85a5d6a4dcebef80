//! Signals as requests, from the process's first moment on.

use std::io;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// A request other than a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalRequest {
    /// SIGHUP.
    Reload,
    /// SIGUSR2.
    Upgrade,
}

/// SIGTERM, ctrl-c, SIGHUP and SIGUSR2. A thread of its own listens, so that a second stop ends the process at once,
/// whatever the other threads do.
pub(super) struct Signals {
    stop: CancellationToken,
    reload: Arc<Notify>,
    upgrade: Arc<Notify>,
}

impl Signals {
    /// Starts to listen. A signal is kept until a caller takes it.
    pub(super) fn listen() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot listen to signals")?;
        let streams = {
            let _inside = runtime.enter();
            SignalStreams::new().context("cannot listen to signals")?
        };
        let signals = Self {
            stop: CancellationToken::new(),
            reload: Arc::default(),
            upgrade: Arc::default(),
        };
        let heard = Self {
            stop: signals.stop.clone(),
            reload: Arc::clone(&signals.reload),
            upgrade: Arc::clone(&signals.upgrade),
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || runtime.block_on(streams.forward(heard)))
            .context("cannot start a thread for signals")?;
        Ok(signals)
    }

    /// Waits until a stop is requested.
    pub(super) fn stop(&self) -> impl Future<Output = ()> {
        self.stop.cancelled()
    }

    /// Waits for the next request; none after a stop. With `reloads` false, a reload stays queued.
    pub(super) async fn next(&self, reloads: bool) -> Option<SignalRequest> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            () = self.reload.notified(), if reloads => Some(SignalRequest::Reload),
            () = self.upgrade.notified() => Some(SignalRequest::Upgrade),
        }
    }

    /// Takes a queued reload. Gives whether there was one.
    pub(super) async fn take_reload(&self) -> bool {
        take(&self.reload).await
    }

    /// Takes a queued upgrade. Gives whether there was one.
    pub(super) async fn take_upgrade(&self) -> bool {
        take(&self.upgrade).await
    }

    /// Runs a future that needs no graceful end, until any signal comes.
    pub(super) async fn until_any<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            _ = self.next(true) => bail!("stopped by a signal before it was done"),
            done = work => done,
        }
    }
}

async fn take(asked: &Notify) -> bool {
    tokio::select! {
        biased;
        () = asked.notified() => true,
        () = std::future::ready(()) => false,
    }
}

struct SignalStreams {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user2: Signal,
}

impl SignalStreams {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    async fn forward(mut self, heard: Signals) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => heard.stop_or_exit(),
                _ = self.interrupt.recv() => heard.stop_or_exit(),
                _ = self.hang_up.recv() => heard.reload.notify_one(),
                _ = self.user2.recv() => heard.upgrade.notify_one(),
            }
        }
    }
}

impl Signals {
    fn stop_or_exit(&self) {
        if self.stop.is_cancelled() {
            tracing::warn!("a second signal: exiting at once");
            telemetry::flush_briefly();
            std::process::exit(1);
        }
        self.stop.cancel();
    }
}
