//! The stop: refuses new clients, spreads the closes of the others over the drain window, runs every `$disconnect`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Gateway;
use crate::config::GatewayLimits;
use crate::connections::{Closing, ConnectionId, Directory};

/// The part of the drain window over which closes are spread. The rest is for clients' answers.
const SPREAD: f64 = 0.7;

/// Time for clients to answer the last closes, after the window.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// Least time for a client accepted before a stop to send its request and get the answer, however short the window is.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// Time limit for the remaining tasks once no session is left: last answers to requests, ends of HTTP/2 and HTTP/3
/// connections, whose clients have a second to read the last of their streams and are then told.
const LAST_TASKS: Duration = Duration::from_secs(2);

/// Interval of looking for connections that handshakes under way have opened.
const POLL: Duration = Duration::from_millis(100);

/// The reason of a stop, which decides what clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// A stop was requested, and no other process takes over.
    Requested,
    /// Another process has the sockets and serves.
    Replaced,
}

impl StopReason {
    fn text(self) -> &'static str {
        match self {
            Self::Requested => "asked to stop",
            Self::Replaced => "another process serves",
        }
    }
}

impl Gateway {
    /// Stops: refuses new clients, spreads the closes of the others over the drain window, and runs every `$disconnect`
    /// that has the time. A handshake under way is admitted and closed like the others, or refused when the window is
    /// over.
    ///
    /// Takes at most the window, [`LAST_ANSWERS`], `limits.disconnects_s` and [`LAST_TASKS`], or until the process of an
    /// upgrade that was given up has ended. The window ends early when `hurry` is ready.
    pub(crate) async fn stop(&self, reason: StopReason, hurry: impl Future<Output = ()>) {
        let (window, disconnects, closing) = {
            let limits = &self.lock().config.limits;
            let closing = closing_for(reason, limits.reconnect_jitter_s);
            (limits.drain, limits.disconnects, closing)
        };
        let begun = Instant::now();
        let end = begun + window + LAST_ANSWERS;
        // The other process waits for a UDP port that it has no socket on.
        let must_release = reason == StopReason::Replaced
            && self
                .quic_sockets()
                .iter()
                .any(|socket| !socket.is_handed_over());
        let handshakes = &self.handshakes;
        let answer_until = match reason {
            StopReason::Requested => {
                self.sockets.ports().iter().for_each(|port| port.leave());
                handshakes.stopping.cancel();
                begun + window.max(LAST_REQUESTS)
            }
            // A client accepted here knows nothing of the other process: it is admitted.
            StopReason::Replaced => {
                self.stop_management.cancel();
                if must_release {
                    self.listeners.releasing.cancel();
                }
                end
            }
        };
        // A socket closes once nothing accepts on it. The other process may not have all of them. After a stop, systemd
        // keeps its own sockets, and clients wait there for the next start.
        for opened in self.lock().open.drain(..) {
            let waits =
                reason == StopReason::Requested && self.sockets.has_activated(&opened.address);
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
            reason = reason.text(),
            "stopping"
        );
        handshakes.deciding.close();
        handshakes.sessions.close();
        let hurried = CancellationToken::new();
        let all_ended = async {
            let overdue = window_over(answer_until, &hurried, LAST_REQUESTS);
            tokio::select! {
                () = self.handshakes_over() => {}
                () = overdue => handshakes.overdue.cancel(),
            }
            handshakes.stopping.cancel();
            self.sessions_over().await;
        };
        let closes = async {
            let spread = close_spread(open, window.mul_f64(SPREAD), &closing);
            tokio::select! {
                _ = hurried.run_until_cancelled(spread) => {}
                never = self.keep_releasing(&closing), if must_release => match never {},
            }
            let close = |directory: &Directory, id| {
                let _ = directory.close(id, closing.clone());
            };
            self.keep_ending(close).await
        };
        let hurrying = async {
            hurry.await;
            hurried.cancel();
            std::future::pending().await
        };
        let drained = tokio::select! {
            biased;
            () = all_ended => true,
            never = closes => match never {},
            never = hurrying => match never {},
            () = window_over(end, &hurried, LAST_ANSWERS) => false,
        };
        if !drained {
            handshakes.stopping.cancel();
            handshakes.overdue.cancel();
            match self.connections().len() {
                0 => tracing::info!(
                    "the drain window is over, and all clients have gone: waiting for handlers"
                ),
                connections => tracing::warn!(
                    connections,
                    "the drain window is over: cutting the remaining connections"
                ),
            }
            for stage in self.lock().stages.all() {
                stage.load().scope.directory.closes_over.cancel();
            }
            let cuts = self.keep_ending(|directory, id| {
                let _ = directory.cut(id, closing.clone());
            });
            tokio::select! {
                all_ended = timeout(disconnects, self.sessions_over()) => if all_ended.is_err() {
                    let left = handshakes.deciding.len() + handshakes.sessions.len();
                    tracing::error!(left, "`$disconnect` and `$connect` handlers have not ended within \
                        limits.disconnects_s ({} s) after the drain window, and are given up\n  remedy: have them do less, or raise the limit, and the time that systemd or the container gives a stop", disconnects.as_secs());
                },
                never = cuts => match never {},
            }
        }
        self.lock().stages.save_usage();
        self.stop_management.cancel();
        self.listeners.tasks.close();
        // Only idle HTTP/2 connections, the last answers and management requests are left.
        let _ = timeout(LAST_TASKS, self.listeners.tasks.wait()).await;
        // A successor that was given up while it began to serve has a drain of its own.
        self.ending_successors.wait().await;
        tracing::info!("stopped");
    }

    /// Waits until every accepted socket has had its answer, and none is accepted any more.
    async fn handshakes_over(&self) {
        self.listeners.accepting.close();
        self.listeners.accepting.wait().await;
        self.handshakes.permits.all_returned().await;
    }

    /// Waits until no handshake is being decided and no session is left. A decision begins a session before it ends.
    async fn sessions_over(&self) {
        self.handshakes.deciding.wait().await;
        self.handshakes.sessions.wait().await;
    }

    /// Ends every open connection, again and again: handshakes under way open more.
    async fn keep_ending(&self, end: impl Fn(&Directory, ConnectionId)) -> Infallible {
        loop {
            for (directory, id) in self.connections() {
                end(&directory, id);
            }
            sleep(POLL).await;
        }
    }

    /// Closes every connection over QUIC, again and again: the other process waits for the UDP ports.
    async fn keep_releasing(&self, closing: &Closing) -> Infallible {
        self.keep_ending(|directory, id| {
            if directory.is_over_quic(id) {
                let _ = directory.close(id, closing.clone());
            }
        })
        .await
    }

    /// Every open connection, with its directory.
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
}

/// Longest time from the beginning of a stop to the end of the process.
pub(super) fn longest_stop(limits: &GatewayLimits) -> Duration {
    limits.drain + LAST_ANSWERS + limits.disconnects + LAST_TASKS
}

/// Waits until an instant, or until a while after the hurry begins if that is earlier.
async fn window_over(at: Instant, hurried: &CancellationToken, after: Duration) {
    let hurry = async {
        hurried.cancelled().await;
        sleep(after).await;
    };
    tokio::select! {
        () = sleep_until(at) => {}
        () = hurry => {}
    }
}

/// Gives the close that clients get. Programs can read the advice that ends its reason: `; reconnect in 0-N s`.
fn closing_for(reason: StopReason, reconnect_jitter_s: u32) -> Closing {
    let (code, mut text) = match reason {
        StopReason::Requested => (1001, "Going away".to_owned()),
        StopReason::Replaced => (1012, "Service restart".to_owned()),
    };
    if reconnect_jitter_s > 0 {
        text += &format!("; reconnect in 0-{reconnect_jitter_s} s");
    }
    Closing::new(code, text)
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
        // A client that is gone needs no close.
        let _ = directory.close(id, closing.clone());
    }
}
