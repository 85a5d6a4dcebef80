//! `lockgate run`: serve until a signal says stop.

use std::path::Path;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::gateway::Gateway;
use crate::telemetry;

pub(super) fn run(file: &Path) -> Result<()> {
    let config = Config::load(file)?;
    telemetry::start(&config.log);
    runtime()?.block_on(async {
        let mut signals = Signals::new()?;
        let gateway = Gateway::start(config, None).await;
        let gateway = gateway.map_err(|error| super::blame(file, error))?;
        signals.stop().await;
        stop(gateway, signals).await;
        Ok(())
    })
}

/// The threads that serve sockets: one a core.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name("io")
        .enable_all()
        .build()
        .context("cannot start threads")
}

/// Stops in good order, or at once at a second signal.
pub(super) async fn stop(gateway: Gateway, mut signals: Signals) {
    tokio::select! {
        () = gateway.stop() => {}
        () = signals.stop() => {
            tracing::warn!("a second signal: exiting at once");
            std::process::exit(1);
        }
    }
}

/// SIGTERM and ctrl-c.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT")?,
            hang_up: signal(SignalKind::hangup()).context("SIGHUP")?,
        })
    }

    /// Ready when the process is asked to stop. SIGHUP asks for something else.
    pub(super) async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => tracing::warn!(
                    "SIGHUP: this version reads its configuration at start only; nothing has changed"
                ),
            }
        }
    }
}
