//! HTTP/1.1: one request to open a WebSocket for each connection, beside pages.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{ListenerContext, MAX_HEAD, stopped};
use crate::handshake::{self, HeadWatch, MAX_HEADERS, Peer};

/// How far a connection has come.
#[derive(Default)]
struct Progress {
    /// A client asks to open a WebSocket.
    asked: AtomicBool,
    /// It has its answer, as far as it takes it.
    answered: CancellationToken,
}

/// One request to open a WebSocket: a refusal is the last answer on its connection, whatever else was sent with the
/// request. (Pages keep the connection, as browsers like it.)
pub(super) async fn serve<S>(stream: S, peer: Peer, context: ListenerContext, deadline: Instant)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let address = peer.address;
    let handshakes = Arc::clone(&context.handshakes);
    let patience = **context.handshake_timeout.load();
    let stream = HeadWatch::new(stream);
    let peer = Peer {
        seen: stream.seen(),
        ..peer
    };
    let progress = Arc::new(Progress::default());
    let answering = Arc::clone(&progress);
    let connection = hyper::server::conn::http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD)
        .timer(TokioTimer::new())
        .header_read_timeout(deadline.saturating_duration_since(Instant::now()))
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| {
                answer(
                    request,
                    peer.clone(),
                    context.clone(),
                    Arc::clone(&answering),
                )
            }),
        )
        .with_upgrades();
    let mut connection = pin!(connection);
    let unread = async {
        progress.answered.cancelled().await;
        sleep(patience).await;
    };
    let stopped = async {
        stopped(&handshakes).await;
        // One that asks for nothing has no answer to wait for. The others have theirs, which is their last.
        if progress.asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let mut unread = pin!(unread);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = unread.as_mut() => return tracing::debug!(%address, "the answer is not read"),
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection => served,
                () = unread => return tracing::debug!(%address, "the answer is not read"),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%address, "HTTP/1.1 connection failed: {error}");
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: Peer,
    context: ListenerContext,
    progress: Arc<Progress>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    if let Some(pages) = &context.pages
        && !handshake::wants_websocket(&parts)
    {
        return Ok(pages.answer(&parts).await);
    }
    progress.asked.store(true, Ordering::Relaxed);
    let request = Request::from_parts(parts, body);
    let response = handshake::answer(&context.handshakes, peer, request).await;
    progress.answered.cancel();
    Ok(response)
}
