//! Requests by signals, from the process's first moment on.

use std::io;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// A request by a signal, beside a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGHUP.
    Reload,
    /// SIGUSR2.
    Upgrade,
}

/// SIGTERM, ctrl-c, SIGHUP and SIGUSR2. A thread of their own listens: a second stop ends the process at once, whatever the
/// other threads do.
pub(super) struct Signals {
    stop: CancellationToken,
    reload: Arc<Notify>,
    upgrade: Arc<Notify>,
}

impl Signals {
    /// Signals are kept from now on, until somebody asks for them.
    pub(super) fn listen() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot listen to signals")?;
        let sources = {
            let _inside = runtime.enter();
            Sources::new().context("cannot listen to signals")?
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
            .spawn(move || runtime.block_on(sources.tell(heard)))
            .context("cannot start a thread for signals")?;
        Ok(signals)
    }

    /// Ready once the process was asked to stop.
    pub(super) fn stop(&self) -> impl Future<Output = ()> {
        self.stop.cancelled()
    }

    /// The next request; none once a stop was asked for. A reload waits until the caller wants one.
    pub(super) async fn next(&self, reloads: bool) -> Option<Asked> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            () = self.reload.notified(), if reloads => Some(Asked::Reload),
            () = self.upgrade.notified() => Some(Asked::Upgrade),
        }
    }

    /// Whether a reload was asked for and has not begun; forgets it.
    pub(super) async fn take_reload(&self) -> bool {
        tokio::select! {
            biased;
            () = self.reload.notified() => true,
            () = std::future::ready(()) => false,
        }
    }

    /// Does something that has no end in good order, until any signal comes.
    pub(super) async fn until_any<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            _ = self.next(true) => bail!("stopped by a signal before it was done"),
            done = work => done,
        }
    }
}

struct Sources {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user2: Signal,
}

impl Sources {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    async fn tell(mut self, heard: Signals) {
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
            telemetry::last_words();
            std::process::exit(1);
        }
        self.stop.cancel();
    }
}
