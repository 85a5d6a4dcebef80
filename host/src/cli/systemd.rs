//! The messages to systemd (sd_notify(3)). None is sent unless systemd started this process.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::process::id;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::UnixDatagram;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// Time limit for systemd to take a message. Its queue may be full.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// Tells systemd the state.
pub(super) async fn notify(state: &[NotifyState<'_>]) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let text: String = state.iter().map(|state| format!("{state}\n")).collect();
    let told = async { connect(&socket)?.send(text.as_bytes()).await };
    let told = timeout(NOTIFY_TIMEOUT, told).await;
    let told =
        told.unwrap_or_else(|_| Err(io::Error::other("NOTIFY_SOCKET is full, and not read")));
    if let Err(error) = told {
        tracing::warn!("systemd could not be told {:?}: {error}", text.trim_end());
    }
}

/// Tells systemd that a reload begins. `Type=notify-reload` waits for this after the signal, with the time of the
/// monotonic clock.
pub(super) async fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]).await,
        Err(error) => tracing::warn!("systemd could not be told of a reload: {error}"),
    }
}

/// Connects to a socket in the file system, or to one in the abstract namespace, whose name begins with `@`.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = StdDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}

/// Signs of life for systemd's watchdog (`WatchdogSec=`), for as long as this process is the main one. They come from a
/// task of the socket threads: once these hang, systemd ends the process, and starts it again by `Restart=`.
pub(super) struct Watchdog {
    signs: JoinSet<()>,
}

impl Watchdog {
    /// Begins, if the unit has a watchdog. systemd names the process that it started; one that takes over from it has the
    /// same watchdog.
    pub(super) fn start(takes_over: bool) -> Self {
        let mut signs = JoinSet::new();
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let process = number("WATCHDOG_PID");
        let is_meant = takes_over || process.is_none_or(|process| process == u64::from(id()));
        // Twice within the limit, as sd_watchdog_enabled(3) asks.
        let limit = number("WATCHDOG_USEC").filter(|limit| *limit > 1 && is_meant);
        if let Some(limit) = limit {
            let every = Duration::from_micros(limit / 2);
            signs.spawn(async move {
                // The predecessor's last sign comes with the word that this process is the main one.
                let mut ticks = interval_at(Instant::now() + every, every);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    notify(&[NotifyState::Watchdog]).await;
                }
            });
        }
        Self { signs }
    }

    /// Tells systemd that another process is the main one from now on, and gives the last sign.
    pub(super) async fn hand_over(&mut self, successor: u32) {
        let main = NotifyState::MainPid(successor);
        if self.signs.is_empty() {
            return notify(&[main]).await;
        }
        self.signs.shutdown().await;
        notify(&[main, NotifyState::Watchdog]).await;
    }
}
