//! The management listener: whether the process lives, whether it wants clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::handshake::Entrance;

/// A bound management socket.
pub(crate) struct Management {
    pub(crate) address: SocketAddr,
    socket: TcpListener,
}

impl Management {
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self> {
        let socket = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} for management"))?;
        Ok(Self {
            address: socket.local_addr().context("its own address")?,
            socket,
        })
    }

    /// Serves until it is told to stop: later than the listeners, so that `/readyz` can say no meanwhile.
    pub(crate) fn serve(
        self,
        entrance: Arc<Entrance>,
        stop: CancellationToken,
        tasks: &TaskTracker,
    ) {
        let router = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(entrance);
        tasks.spawn(async move {
            let served =
                axum::serve(self.socket, router).with_graceful_shutdown(stop.cancelled_owned());
            if let Err(error) = served.await {
                tracing::error!("management: {error}");
            }
        });
    }
}

/// Whether new clients should be sent here.
async fn ready(State(entrance): State<Arc<Entrance>>) -> (StatusCode, &'static str) {
    if entrance.stopping.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}
