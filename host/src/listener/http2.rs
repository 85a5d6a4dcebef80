//! HTTP/2: each WebSocket is a stream (RFC 8441), and a connection lives no longer than its WebSockets.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll};
use std::time::{self, Duration};

use bytes::Bytes;
use http::header::HOST;
use http::uri::Authority;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::tls::ShownCertificate;
use super::{FAREWELL, ListenerContext, MAX_HEAD};
use crate::counters::Outcome;
use crate::handshake::{self, NotAdmitted, Peer};
use crate::management::connections;
use crate::net::Turns;

/// Limit of WebSockets on one connection; closed ones whose handlers are at work count.
const MAX_STREAMS: u32 = 256;

/// Bytes that a client may send on one stream before its session reads them. A session whose handler runs reads one
/// message ahead.
const STREAM_WINDOW: u32 = 256 << 10;

/// The same for all streams together, so that unread streams leave the others their room, for pongs too.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;

/// Bytes of one stream that are written beyond its client's window. The rest waits in the outbox, which the
/// configuration bounds.
const SEND_BUFFER: usize = 64 << 10;

/// Interval of pings on a connection, and time limit of the answer.
const PING: Duration = Duration::from_secs(25);
const PONG: Duration = Duration::from_secs(8);

/// The part of these that begins anew after a pause of the process.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Serves a connection. Its first request takes over the socket's handshake permit; each other takes its own. The
/// connection ends once it has had no WebSocket for the time of a handshake: refused requests must not keep it open.
///
/// A client may use the connection for all hosts of the certificate that it was `shown`, and for no other.
pub(super) async fn serve<S>(
    stream: S,
    shown: Option<ShownCertificate>,
    mut peer: Peer,
    context: ListenerContext,
    deadline: Instant,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let address = peer.address;
    let (stop, stopping) = (context.stop.clone(), context.handshakes.stopping.clone());
    let first = CancellationToken::new();
    let first_seen = first.clone();
    let permit = Mutex::new(peer.handshake_permit.take());
    let handshake_timeout = Arc::clone(&context.handshake_timeout);
    let handshakes = Arc::clone(&context.handshakes);
    // Holds a token for each request while it is answered, then for its WebSocket.
    let streams = TaskTracker::new();
    streams.close();
    let stream_tokens = streams.clone();
    // WebSockets so far, those that have ended too, and calls of the connections API.
    let websockets = Arc::new(AtomicU64::new(0));
    let opened = Arc::clone(&websockets);
    let service = service_fn(move |request| {
        first_seen.cancel();
        // The permit is handed on without being returned: a stop that finds no permit out admits nobody any more.
        let peer = Peer {
            handshake_permit: permit.lock().unwrap_or_else(PoisonError::into_inner).take(),
            stream: Some(stream_tokens.token()),
            ..peer.clone()
        };
        let allows = |host: Authority| shown.as_ref().is_none_or(|shown| shown.allows(host.host()));
        let misdirected = host(&request).is_some_and(|host| !allows(host));
        let misdirected =
            misdirected.then(|| handshake::misdirected(&context.handshakes, &peer, &request));
        let answer = answer(request, peer, context.clone(), stream_tokens.len());
        let opened = Arc::clone(&opened);
        async move {
            if let Some(misdirected) = misdirected {
                return Ok(misdirected);
            }
            let (answer, keeps) = answer.await;
            if keeps {
                opened.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(KeepAliveTimer)
        .enable_connect_protocol()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .serve_connection(TokioIo::new(Turns::new(stream)), service);
    let mut connection = pin!(connection);
    let idle = async {
        sleep_until(deadline).await;
        let mut before = 0;
        loop {
            let opened = websockets.load(Ordering::Relaxed);
            if streams.is_empty() && opened == before {
                return;
            }
            before = opened;
            streams.wait().await;
            sleep(**handshake_timeout.load()).await;
        }
    };
    // Sessions are closed one by one; then the connection ends by itself. A client accepted before an upgrade has its
    // first request answered.
    let leaving = async {
        tokio::select! {
            ((), ()) = async { tokio::join!(stop.cancelled(), first.cancelled()) } => {}
            () = stopping.cancelled() => {}
        }
    };
    let served = tokio::select! {
        served = connection.as_mut() => Some(served),
        () = idle => {
            if !first.is_cancelled() {
                let why = "no request came on the HTTP/2 connection";
                handshakes.refused_early(Outcome::Unread, address.ip(), None, why);
            }
            None
        }
        () = leaving => None,
    };
    let served = match served {
        Some(served) => served,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection => served,
                () = all_streams_ended(&streams) => Ok(()),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%address, "HTTP/2 connection failed: {error}");
    }
}

/// Waits until no stream is left and the clients have had a moment for the last bytes. They may take neither those nor
/// the `GOAWAY`.
async fn all_streams_ended(streams: &TaskTracker) {
    loop {
        streams.wait().await;
        sleep(FAREWELL).await;
        if streams.is_empty() {
            return;
        }
    }
}

/// Gives the host that a request names.
fn host<B>(request: &Request<B>) -> Option<Authority> {
    let named = request.uri().authority().cloned();
    named.or_else(|| request.headers().get(HOST)?.to_str().ok()?.parse().ok())
}

/// Answers a request; `streams` counts those open, this one included. Gives whether the request keeps the connection
/// open: one that opens a WebSocket, or one of the connections API with a valid key.
async fn answer(
    request: Request<Incoming>,
    peer: Peer,
    context: ListenerContext,
    streams: usize,
) -> (Response<Full<Bytes>>, bool) {
    if streams > MAX_STREAMS as usize {
        let reason = NotAdmitted::TooManyStreams;
        let refused = handshake::refuse(&context.handshakes, &peer, &request, reason);
        return (refused, false);
    }
    let (parts, body) = request.into_parts();
    let wants_websocket = handshake::wants_websocket(&parts);
    if !wants_websocket && connections::is_target(parts.uri.path()) {
        let request = Request::from_parts(parts, body);
        let time_limit = **context.handshake_timeout.load();
        let answer = connections::answer(&context.handshakes, peer, time_limit, request).await;
        return (answer.response, answer.has_key);
    }
    if let Some(pages) = &context.pages
        && !wants_websocket
    {
        let page = pages.answer(&parts).await;
        let is_found = page.status() == StatusCode::OK;
        return (page, is_found);
    }
    let request = Request::from_parts(parts, body);
    let answer = handshake::answer(&context.handshakes, peer, request).await;
    let opens = answer.status() == StatusCode::OK;
    (answer, opens)
}

/// hyper's timer for pings. hyper judges it before it reads: after a pause of the process (a snapshot of the machine, a
/// freezer) there must be time to read the pong that lies in the socket.
struct KeepAliveTimer;

struct KeepAliveSleep(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl Timer for KeepAliveTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: time::Instant) -> Pin<Box<dyn Sleep>> {
        let first = deadline.checked_sub(READ_AGAIN).unwrap_or(deadline);
        Box::pin(KeepAliveSleep(Box::pin(async move {
            sleep_until(first.into()).await;
            sleep(READ_AGAIN).await;
        })))
    }

    fn now(&self) -> time::Instant {
        Instant::now().into_std()
    }
}

impl Future for KeepAliveSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl Sleep for KeepAliveSleep {}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pong_limit_that_a_pause_has_used_up_leaves_a_second_to_read() {
        let begun = Instant::now();
        KeepAliveTimer.sleep(PONG).await;
        assert_eq!(begun.elapsed().as_secs(), PONG.as_secs());

        let mut limit = KeepAliveTimer.sleep(PONG);
        assert!(timeout(Duration::ZERO, &mut limit).await.is_err());
        advance(PONG * 2).await;
        let resumed = Instant::now();
        limit.await;
        assert_eq!(resumed.elapsed().as_secs(), READ_AGAIN.as_secs());
    }
}
