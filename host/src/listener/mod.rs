//! Sockets: binds, accepts under permits and a deadline, speaks TLS and HTTP up to the handshake's answer.

mod pages;
mod tls;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::handover::{Listening, Sockets};
use crate::handshake::{self, Entrance, NoPlace, Peer, Seen, Strict};

pub(crate) use self::pages::Pages;
pub(crate) use self::tls::Tls;

/// Bytes of the longest request head.
const MAX_HEAD: usize = 16 << 10;

/// Headers of one request.
const MAX_HEADERS: usize = 64;

/// WebSockets on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;

/// How often an HTTP/2 connection is pinged, and how long it may take to answer.
const HTTP2_PING: Duration = Duration::from_secs(25);
const HTTP2_PONG: Duration = Duration::from_secs(8);

/// How long it may take to tell a client that there is no room.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long accepting rests when the process has no file descriptor left.
const REST: Duration = Duration::from_millis(50);

/// A bound socket. A listener whose TLS is changed goes on with the socket that it had.
pub(crate) type Socket = Arc<Listening>;

/// A bound socket that does not accept yet.
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    socket: Socket,
    tls: Option<Tls>,
}

/// What all listeners share.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) entrance: Arc<Entrance>,
    /// From accept to the last byte of the request's head.
    pub(crate) handshake_timeout: Arc<ArcSwap<Duration>>,
    pub(crate) pages: Option<Pages>,
    /// Accepting ends when this is cancelled.
    pub(crate) stop: CancellationToken,
    /// A task for each listener, while it accepts.
    pub(crate) accepting: TaskTracker,
    pub(crate) tasks: TaskTracker,
}

impl Listener {
    /// Takes an address, and does not accept yet.
    pub(crate) fn bind(
        address: SocketAddr,
        tls: Option<Tls>,
        sockets: &Sockets,
    ) -> io::Result<Self> {
        Self::on(Arc::new(sockets.listen("clients", address)?), tls)
    }

    /// Accepts on a socket that is bound already.
    pub(crate) fn on(socket: Socket, tls: Option<Tls>) -> io::Result<Self> {
        let address = socket.socket.local_addr()?;
        Ok(Self {
            address,
            socket,
            tls,
        })
    }

    pub(crate) fn socket(&self) -> Socket {
        Arc::clone(&self.socket)
    }

    /// `wss` or `ws`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "wss" } else { "ws" }
    }

    /// Accepts until it is told to stop.
    pub(crate) fn serve(self, doors: &Doors) {
        let tls = self
            .tls
            .as_ref()
            .map(|tls| TlsAcceptor::from(Arc::clone(&tls.config)));
        if let Some(tls) = self.tls {
            let stop = doors.stop.clone();
            doors
                .tasks
                .spawn(async move { stop.run_until_cancelled(tls.watch()).await });
        }
        let (stop, doors_) = (doors.stop.clone(), doors.clone());
        doors.accepting.spawn(async move {
            stop.run_until_cancelled(accept(self.socket, tls, doors_))
                .await
        });
    }
}

async fn accept(socket: Socket, tls: Option<TlsAcceptor>, doors: Doors) {
    loop {
        let (stream, address) = match socket.socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept: {error}");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let admitted = doors
            .entrance
            .handshakes
            .take()
            .ok_or(NoPlace::TooManyHandshakes)
            .and_then(|turn| Ok((turn, doors.entrance.admission.load().admit(address.ip())?)));
        let (handshake, place) = match admitted {
            Ok(admitted) => admitted,
            Err(reason) => {
                tracing::debug!(%address, "turned away: {reason}");
                if tls.is_none() {
                    doors.tasks.spawn(turn_away(stream, reason));
                }
                continue;
            }
        };
        let peer = Peer {
            address,
            place: Arc::new(place),
            permit: Some(Arc::new(handshake)),
            seen: Arc::new(Seen::default()),
        };
        let (tls, serving) = (tls.clone(), doors.clone());
        doors.tasks.spawn(greet(stream, tls, peer, serving));
    }
}

/// There is no room: said before any TLS or plugin work, and in clear only.
async fn turn_away(mut stream: TcpStream, reason: NoPlace) {
    let status = reason.status();
    let answer = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n"
    );
    let _ = timeout(FAREWELL, stream.write_all(answer.as_bytes())).await;
}

/// TLS, if any, then HTTP.
async fn greet(stream: TcpStream, tls: Option<TlsAcceptor>, peer: Peer, doors: Doors) {
    let deadline = Instant::now() + **doors.handshake_timeout.load();
    // A message is one small write: waiting for more to send with it only delays it.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return http1(stream, peer, doors, deadline).await;
    };
    match timeout_at(deadline, tls.accept(stream)).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            http2(stream, peer, doors, deadline).await;
        }
        Ok(Ok(stream)) => http1(stream, peer, doors, deadline).await,
        Ok(Err(error)) => tracing::debug!(address = %peer.address, "TLS handshake failed: {error}"),
        Err(_) => tracing::debug!(address = %peer.address, "TLS handshake took too long"),
    }
}

/// One request: a refusal is the last answer on its connection, whatever else was sent with the request. (Pages
/// keep the connection, as browsers like it.)
async fn http1<S>(stream: S, peer: Peer, doors: Doors, deadline: Instant)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let address = peer.address;
    let stream = Strict::new(stream);
    let peer = Peer {
        seen: stream.seen(),
        ..peer
    };
    let served = hyper::server::conn::http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .timer(TokioTimer::new())
        .header_read_timeout(deadline.saturating_duration_since(Instant::now()))
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| route(request, peer.clone(), doors.clone())),
        )
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%address, "HTTP/1.1 connection failed: {error}");
    }
}

/// A stream for each WebSocket (RFC 8441). The connection lives as long as its client wants it to. It has a permit until
/// there is a request, which takes its own.
async fn http2<S>(stream: S, mut peer: Peer, doors: Doors, deadline: Instant)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let address = peer.address;
    let stop = doors.stop.clone();
    let first = CancellationToken::new();
    let begun = first.clone();
    let permit = Mutex::new(peer.permit.take());
    let service = service_fn(move |request| {
        begun.cancel();
        drop(permit.lock().unwrap_or_else(PoisonError::into_inner).take());
        route(request, peer.clone(), doors.clone())
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PONG)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let silent = async {
        if timeout_at(deadline, first.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = silent => return tracing::debug!(%address, "HTTP/2 connection without a request"),
        // Its sessions are closed one by one; after that it ends by itself. A client that has been accepted has its
        // first request answered.
        ((), ()) = async { tokio::join!(stop.cancelled(), first.cancelled()) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%address, "HTTP/2 connection failed: {error}");
    }
}

async fn route(
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
    Ok(handshake::answer(&doors.entrance, peer, Request::from_parts(parts, body)).await)
}
