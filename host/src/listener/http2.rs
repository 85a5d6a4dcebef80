//! HTTP/2: a stream for each WebSocket (RFC 8441).

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Doors, MAX_HEAD};
use crate::handshake::{self, Peer};

/// WebSockets on one connection.
const MAX_STREAMS: u32 = 256;

/// How often a connection is pinged, and how long it may take to answer.
const PING: Duration = Duration::from_secs(25);
const PONG: Duration = Duration::from_secs(8);

/// The connection lives as long as its client wants it to. It has a permit until there is a request, which takes its
/// own.
pub(super) async fn serve<S>(stream: S, mut peer: Peer, doors: Doors, deadline: Instant)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let address = peer.address;
    let (stop, stopping) = (doors.stop.clone(), doors.entrance.stopping.clone());
    let first = CancellationToken::new();
    let begun = first.clone();
    let permit = Mutex::new(peer.permit.take());
    let service = service_fn(move |request| {
        begun.cancel();
        drop(permit.lock().unwrap_or_else(PoisonError::into_inner).take());
        answer(request, peer.clone(), doors.clone())
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let silent = async {
        if timeout_at(deadline, first.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    // Its sessions are closed one by one; after that it ends by itself. A client that has been accepted before an
    // upgrade has its first request answered.
    let leaving = async {
        tokio::select! {
            ((), ()) = async { tokio::join!(stop.cancelled(), first.cancelled()) } => {}
            () = stopping.cancelled() => {}
        }
    };
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = silent => return tracing::debug!(%address, "HTTP/2 connection without a request"),
        () = leaving => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%address, "HTTP/2 connection failed: {error}");
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: Peer,
    doors: Doors,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    if let Some(pages) = &doors.pages
        && !handshake::wants_websocket(&parts)
    {
        return Ok(pages.answer(&parts).await);
    }
    let request = Request::from_parts(parts, body);
    Ok(handshake::answer(&doors.entrance, peer, request).await)
}
