//! The management listener: whether the process lives, whether it wants clients; and what may be asked of it.

mod guard;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::routing::{get, post};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::handover::{Listening, Sockets};
use crate::handshake::Entrance;

/// A bound management socket.
pub(crate) struct Management {
    pub(crate) address: SocketAddr,
    listening: Listening,
}

/// Someone asks for a binary upgrade, and is answered with the id of the process that serves by then, or with why
/// there is none.
pub(crate) type Upgrade = oneshot::Sender<Result<u32, String>>;

/// What the management listener knows of the gateway, and what it can ask of it.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) upgrades: mpsc::Sender<Upgrade>,
}

impl Management {
    pub(crate) async fn bind(address: SocketAddr, sockets: &Sockets) -> Result<Self> {
        let listening = sockets
            .listen("management", address)
            .await
            .with_context(|| format!("cannot listen on {address} for management"))?;
        Ok(Self {
            address: listening.socket.local_addr().context("its own address")?,
            listening,
        })
    }

    /// Serves until it is told to stop: later than the listeners, so that `/readyz` can say no meanwhile.
    pub(crate) fn serve(self, desk: Desk, stop: CancellationToken, tasks: &TaskTracker) {
        let router = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/upgrade", post(upgrade).layer(from_fn(guard::no_web_page)))
            .with_state(desk);
        let Listening { socket, shared } = self.listening;
        // Closed as soon as no one accepts, whatever requests are still answered.
        tasks.spawn(async move {
            let stopped = async move {
                stop.cancelled().await;
                drop(shared);
            };
            let served = axum::serve(socket, router).with_graceful_shutdown(stopped);
            if let Err(error) = served.await {
                tracing::error!("management: {error}");
            }
        });
    }
}

/// Whether new clients should be sent here.
async fn ready(State(desk): State<Desk>) -> (StatusCode, &'static str) {
    if desk.entrance.stopping.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

/// Another process of the program takes over. The answer comes when it serves, or does not.
async fn upgrade(State(desk): State<Desk>) -> (StatusCode, String) {
    let (asked, answer) = oneshot::channel();
    if desk.upgrades.send(asked).await.is_ok() {
        match answer.await {
            Ok(Ok(id)) => return (StatusCode::OK, format!("process {id} serves\n")),
            Ok(Err(why)) => return (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")),
            Err(_) => {}
        }
    }
    (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".into())
}
