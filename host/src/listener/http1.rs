//! HTTP/1.1: one request to open a WebSocket on each connection, or requests of the connections API, beside pages.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::{ListenerContext, MAX_HEAD, stopped};
use crate::counters::Outcome;
use crate::handshake::{self, HeadWatch, MAX_HEADERS, Peer};
use crate::management::connections;
use crate::net::PatientTimer;
use crate::permits::Permit;

/// The progress of a connection's newest request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// None has come yet.
    Waiting,
    /// A request to open a WebSocket is being answered. Its answer is the connection's last one.
    Handshake,
    /// That answer is ready; the client may not have read it.
    LastAnswer,
    /// A request of the connections API is being answered.
    Call,
    /// Its answer is ready; the client may not have read it, and may ask again.
    Answer,
}

/// Serves one request to open a WebSocket, or any number of the connections API. A refusal of either is the last answer
/// on its connection, whatever was sent with the request. (Pages keep the connection, as browsers like it.)
pub(super) async fn serve<S>(stream: S, mut peer: Peer, context: ListenerContext, deadline: Instant)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let client = peer.address.ip();
    let handshakes = Arc::clone(&context.handshakes);
    let time_limit = **context.handshake_timeout.load();
    let stream = HeadWatch::new(stream);
    peer.head_faults = stream.faults();
    let connection_state = Arc::new(ConnectionState {
        handshake_permit: Mutex::new(peer.handshake_permit.take()),
        progress: watch::Sender::new(Progress::Waiting),
    });
    let mut progress = connection_state.progress.subscribe();
    let now = progress.clone();
    let connection = hyper::server::conn::http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD)
        .timer(PatientTimer)
        .header_read_timeout(deadline.saturating_duration_since(Instant::now()))
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| {
                answer(
                    request,
                    peer.clone(),
                    context.clone(),
                    Arc::clone(&connection_state),
                )
            }),
        )
        .with_upgrades();
    let mut connection = pin!(connection);
    // The client has neither read the answer nor asked again.
    let unread = async {
        let is_answered = |now: &Progress| matches!(now, Progress::LastAnswer | Progress::Answer);
        while progress.wait_for(is_answered).await.is_ok() {
            let next = progress.wait_for(|now| !is_answered(now));
            if timeout(time_limit, next).await.is_err() {
                return;
            }
        }
        pending::<()>().await;
    };
    let stopped = async {
        stopped(&handshakes).await;
        // A client that has asked for a WebSocket gets its answer, which is its last. So does a call under way; other
        // clients are closed.
        if matches!(*now.borrow(), Progress::Handshake | Progress::LastAnswer) {
            pending::<()>().await;
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
        Err(error) if *now.borrow() != Progress::Waiting => {
            tracing::debug!(%client, "HTTP/1.1 connection failed: {error}");
        }
        Err(error) => {
            let status = match () {
                () if error.is_parse_too_large() => Some(431),
                () if error.is_parse() => Some(400),
                () => None,
            };
            let why = format!("the request was not read: {error}");
            handshakes.refused_early(Outcome::Unread, client, status, &why);
        }
    }
}

/// The state that the requests of one connection share.
struct ConnectionState {
    /// The socket's permit for a handshake. A call of the connections API takes it and gives it back; the next call
    /// takes one of its own.
    handshake_permit: Mutex<Option<Arc<Permit>>>,
    progress: watch::Sender<Progress>,
}

impl ConnectionState {
    fn permit(&self) -> MutexGuard<'_, Option<Arc<Permit>>> {
        self.handshake_permit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: Peer,
    context: ListenerContext,
    state: Arc<ConnectionState>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let response = respond(request, peer, &context, state).await;
    Ok(context.tell_of_quic(response))
}

async fn respond(
    request: Request<Incoming>,
    mut peer: Peer,
    context: &ListenerContext,
    state: Arc<ConnectionState>,
) -> Response<Full<Bytes>> {
    if !peer.is_trusted() {
        state.progress.send_replace(Progress::LastAnswer);
        return handshake::distrusted(&context.handshakes, &peer, &request);
    }
    let (parts, body) = request.into_parts();
    let wants_websocket = handshake::wants_websocket(&parts);
    if !wants_websocket && connections::is_target(parts.uri.path()) {
        peer.handshake_permit = state.permit().take();
        state.progress.send_replace(Progress::Call);
        let request = Request::from_parts(parts, body);
        let time_limit = **context.handshake_timeout.load();
        let answer = connections::answer(&context.handshakes, peer, time_limit, request).await;
        let mut response = answer.response;
        if context.stop.is_cancelled() {
            // The next call is for what listens there by now.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        state.progress.send_replace(Progress::Answer);
        return response;
    }
    if let Some(pages) = &context.pages
        && !wants_websocket
    {
        return pages.answer(&parts).await;
    }
    peer.handshake_permit = state.permit().clone();
    state.progress.send_replace(Progress::Handshake);
    let request = Request::from_parts(parts, body);
    let response = handshake::answer(&context.handshakes, peer, request).await;
    state.progress.send_replace(Progress::LastAnswer);
    response
}
