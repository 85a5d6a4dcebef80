//! The connections of the management listener: as many at once as operators need, each with a time limit for what it
//! sends.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::select;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Peer;
use super::{Purpose, accept};
use crate::handover::Listening;
use crate::net::{BoxedStream, Stream};

/// Limit of connections at once. Others wait.
pub(super) const MAX_CONNECTIONS: usize = 64;

/// Time limit for a TLS handshake, and for the head of a request, from there or from the last answer: idle connections
/// end.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A TLS handshake, as the listener of the gateway's clients does it.
pub(crate) type TlsHandshake = Arc<dyn Fn(Stream) -> Handshaking + Send + Sync>;

type Handshaking = Pin<Box<dyn Future<Output = io::Result<BoxedStream>> + Send>>;

/// Accepts and answers until `stop`; requests under way are answered after it.
pub(super) async fn serve(
    listening: Arc<Listening>,
    tls: Option<TlsHandshake>,
    router: Router,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accepting = async {
        // It is never closed.
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            let (stream, address) = accept(&listening.socket, Purpose::Management).await;
            let peer = Peer::of(&stream, address);
            let answering = secure(stream, address, tls.clone());
            let (router, stop) = (router.clone().layer(Extension(peer)), stop.clone());
            tasks.spawn(async move {
                if let Some(stream) = answering.await {
                    answer(stream, router, stop).await;
                }
                drop(permit);
            });
        }
    };
    stop.clone().run_until_cancelled(accepting).await;
}

/// Does the TLS handshake, if there is TLS.
async fn secure(
    stream: Stream,
    client: SocketAddr,
    tls: Option<TlsHandshake>,
) -> Option<BoxedStream> {
    let Some(tls) = tls else {
        return Some(Box::new(stream));
    };
    match timeout(HEAD_TIMEOUT, tls(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%client, "management: the TLS handshake failed: {error}");
            None
        }
        Err(_) => {
            tracing::debug!(%client, "management: the TLS handshake took too long");
            None
        }
    }
}

async fn answer(stream: BoxedStream, router: Router, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // A client that leaves or sends no HTTP gets no answer.
    select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
