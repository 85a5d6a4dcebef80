//! HTTP/1.1: one request to open a WebSocket on each connection, beside pages.

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

/// The progress of a connection's request.
#[derive(Default)]
struct RequestProgress {
    /// The client has asked to open a WebSocket.
    asked: AtomicBool,
    /// The answer is ready; the client may not have read it.
    answered: CancellationToken,
}

/// Serves one request to open a WebSocket. A refusal is the last answer on its connection, whatever was sent with the
/// request. (Pages keep the connection, as browsers like it.)
pub(super) async fn serve<S>(stream: S, peer: Peer, context: ListenerContext, deadline: Instant)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let client = peer.address.ip();
    let handshakes = Arc::clone(&context.handshakes);
    let time_limit = **context.handshake_timeout.load();
    let stream = HeadWatch::new(stream);
    let peer = Peer {
        head_faults: stream.faults(),
        ..peer
    };
    let progress = Arc::new(RequestProgress::default());
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
        sleep(time_limit).await;
    };
    let stopped = async {
        stopped(&handshakes).await;
        // A client that has asked gets its answer, which is its last; one that has not is closed.
        if progress.asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let mut unread = pin!(unread);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = unread.as_mut() => return tracing::debug!(%client, "the answer is not read"),
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection => served,
                () = unread => return tracing::debug!(%client, "the answer is not read"),
            }
        }
    };
    match served {
        Ok(()) => {}
        Err(error) if progress.asked.load(Ordering::Relaxed) => {
            tracing::debug!(%client, "HTTP/1.1 connection failed: {error}");
        }
        Err(error) => {
            let status = match () {
                () if error.is_parse_too_large() => Some(431),
                () if error.is_parse() => Some(400),
                () => None,
            };
            let why = format!("the request was not read: {error}");
            handshakes.early_lines.refused(client, status, &why);
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: Peer,
    context: ListenerContext,
    progress: Arc<RequestProgress>,
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
