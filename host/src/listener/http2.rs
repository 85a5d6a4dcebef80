//! HTTP/2: each WebSocket is a stream (RFC 8441), and a connection lives no longer than its WebSockets.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};

use super::streams::{MAX_STREAMS, Streams};
use super::{FAREWELL, ListenerContext, MAX_HEAD};
use crate::counters::Outcome;
use crate::handshake::{self, Peer, Upgrade};
use crate::management::connections;
use crate::net::{
    ASK_AGAIN, Acknowledged, LAST_WRITES, Link, PingTimer, Progress, Shared, Turns, let_arrive,
};

/// Bytes that a client may send on one stream before its session reads them. A session whose handler runs reads one
/// message ahead.
const STREAM_WINDOW: u32 = 256 << 10;

/// The same for all streams together, so that unread streams leave the others their room, for pongs too.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;

/// Bytes of one stream that are written beyond its client's window. hyper keeps up to four writes of a session before
/// them; the rest waits in the outbox, which the configuration bounds.
const SEND_BUFFER: usize = 64 << 10;

/// Interval of pings on a connection, and time limit of the answer.
const PING: Duration = Duration::from_secs(25);
const PONG: Duration = Duration::from_secs(8);

/// The time for which a client that had WebSockets may take none of the last bytes, as by default each of them
/// (`stall_timeout_s`).
const TAKES_NOTHING: Duration = Duration::from_secs(10);

/// Serves a connection. Its first request takes over the socket's handshake permit; each other takes its own. The
/// connection ends once it has had no WebSocket for the time of a handshake: refused requests must not keep it open.
pub(super) async fn serve<S>(
    stream: S,
    streams: Streams,
    mut peer: Peer,
    context: ListenerContext,
    deadline: Instant,
) where
    S: Acknowledged + AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let address = peer.address;
    // A stop waits for the last bytes of the sessions too, as long as for a session.
    let session = context.handshakes.sessions.token();
    let socket = Shared::new(stream);
    let permit = Mutex::new(peer.handshake_permit.take());
    let streams = Arc::new(streams);
    let (answering, serving, link) = (Arc::clone(&streams), context.clone(), socket.link());
    let service = service_fn(move |request| {
        // The permit is handed on without being returned: a stop that finds no permit out admits nobody any more.
        let peer = Peer {
            handshake_permit: permit.lock().unwrap_or_else(PoisonError::into_inner).take(),
            stream: Some(answering.begin()),
            ..peer.clone()
        };
        let (streams, context) = (Arc::clone(&answering), serving.clone());
        let link = Weak::clone(&link);
        async move {
            let answer = answer(request, &streams, peer, link, &context);
            Ok::<_, Infallible>(context.tell_of_quic(answer.await))
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(PingTimer {
            link: socket.link(),
            answer: PONG,
        })
        .enable_connect_protocol()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .serve_connection(TokioIo::new(Turns::new(socket.clone())), service);
    let mut connection = pin!(connection);
    let serving = async {
        let served = tokio::select! {
            served = connection.as_mut() => Some(served),
            () = streams.unused(deadline, &context) => {
                if !streams.have_begun() {
                    let why = "no request came on the HTTP/2 connection";
                    context.handshakes.refused_early(Outcome::Unread, address.ip(), None, why);
                }
                None
            }
            // Sessions are closed one by one; then the connection ends by itself.
            () = streams.leaving(&context) => None,
        };
        let served = match served {
            Some(served) => served,
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    served = connection.as_mut() => served,
                    () = given_up(&streams, &socket) => return,
                    never = streams.take_the_last(&context) => match never {},
                }
            }
        };
        // Nothing is read of a client that has broken the protocol, or is dead.
        if let Err(error) = served {
            return tracing::debug!(%address, "HTTP/2 connection failed: {error}");
        }
        // The FIN is written. Neither it nor the end of the last streams need have arrived.
        let ([limit, most], mut socket) = (time_for_the_last(&streams), socket.clone());
        let_arrive(&mut socket, FAREWELL, limit, Instant::now() + most).await;
    };
    let mut serving = pin!(serving);
    tokio::select! {
        biased;
        () = serving.as_mut() => {}
        () = context.handshakes.overdue.cancelled() => {
            drop(session);
            serving.await;
        }
    }
}

/// The time for which a client may take none of the last bytes, and all its time for them. The answers of a connection
/// without a WebSocket are short.
fn time_for_the_last(streams: &Streams) -> [Duration; 2] {
    match streams.have_kept() {
        true => [TAKES_NOTHING, LAST_WRITES],
        false => [FAREWELL; 2],
    }
}

/// Waits until no stream is left and the client takes nothing more of the last bytes, or has had its time for them.
/// Requests that are refused for being late are no streams: their answers would give it time without end.
async fn given_up<S: Acknowledged>(streams: &Streams, socket: &Shared<S>) {
    loop {
        streams.ended().await;
        let [limit, most] = time_for_the_last(streams);
        let last = Instant::now() + most;
        let mut progress = Progress::begin(socket.taken());
        while streams.are_over() {
            if progress.paused_for(socket.taken()) >= limit || Instant::now() >= last {
                return;
            }
            sleep(ASK_AGAIN).await;
        }
    }
}

/// Answers a request: one of the connections API, or one that may open a WebSocket.
async fn answer(
    mut request: Request<Incoming>,
    streams: &Streams,
    peer: Peer,
    link: Weak<dyn Link>,
    context: &ListenerContext,
) -> Response<Full<Bytes>> {
    if let Some(refused) = streams.refuse(&request, &peer, context) {
        return refused;
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    if !handshake::wants_websocket(&parts) && connections::is_target(parts.uri.path()) {
        let request = Request::from_parts(parts, body);
        let time_limit = **context.handshake_timeout.load();
        let answer = connections::answer(&context.handshakes, peer, time_limit, request).await;
        if answer.has_key {
            streams.keep();
        }
        return answer.response;
    }
    let upgrade = Upgrade::Hyper(upgrade, Some(link));
    streams.answer(parts, upgrade, peer, context).await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};
    use tokio::time::timeout;

    use super::*;

    /// A client that always has a request on its way, and reads the answers.
    async fn took(streams: &Streams) -> u64 {
        let (near, _far) = duplex(1 << 20);
        let socket = Shared::new(near);
        let (mut written, begun) = (socket.clone(), Instant::now());
        let asks = async {
            let mut request = streams.begin();
            loop {
                written.write_all(b"refused").await.unwrap();
                sleep(ASK_AGAIN).await;
                let next = streams.begin();
                drop(std::mem::replace(&mut request, next));
            }
        };
        tokio::select! {
            () = asks => {}
            () = given_up(streams, &socket) => {}
        }
        begun.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn connection_of_a_client_that_goes_on_with_late_requests_ends() {
        let streams = Streams::new(None);
        let still_taken = timeout(2 * LAST_WRITES, took(&streams)).await;
        assert!(
            still_taken.is_err(),
            "requests that are not late are waited for"
        );
        streams.end();
        assert_eq!(took(&streams).await, FAREWELL.as_secs());
        streams.keep();
        assert_eq!(took(&streams).await, LAST_WRITES.as_secs());
    }
}
