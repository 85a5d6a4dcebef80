//! Sockets: binds, accepts under permits and a deadline, speaks TLS and HTTP up to the handshake's answer.

mod http1;
mod http2;
mod pages;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::handover::{Listening, Sockets};
use crate::handshake::{Entrance, NoPlace, Peer, Seen};

pub(crate) use self::pages::Pages;
pub(crate) use self::tls::Tls;

/// Bytes of the longest request head.
const MAX_HEAD: usize = 16 << 10;

/// How long a client may take to hear that there is no room, or what ends a connection.
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
            stream: None,
            seen: Arc::new(Seen::default()),
            secure: tls.is_some(),
            loopback: stream
                .local_addr()
                .is_ok_and(|own| own.ip().to_canonical().is_loopback()),
        };
        let (tls, serving) = (tls.clone(), doors.clone());
        doors.tasks.spawn(greet(stream, tls, peer, serving));
    }
}

/// There is no room: said before any TLS or plugin work, and in clear only.
async fn turn_away(mut stream: TcpStream, reason: NoPlace) {
    let status = reason.status();
    let answer = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n"
    );
    let _ = timeout(FAREWELL, stream.write_all(answer.as_bytes())).await;
}

/// TLS, if any, then HTTP.
async fn greet(stream: TcpStream, tls: Option<TlsAcceptor>, peer: Peer, doors: Doors) {
    let deadline = Instant::now() + **doors.handshake_timeout.load();
    // A message is one small write: waiting for more to send with it only delays it.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return http1::serve(stream, peer, doors, deadline).await;
    };
    match timeout_at(deadline, tls.accept(stream)).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            http2::serve(stream, peer, doors, deadline).await;
        }
        Ok(Ok(stream)) => http1::serve(stream, peer, doors, deadline).await,
        Ok(Err(error)) => tracing::debug!(address = %peer.address, "TLS handshake failed: {error}"),
        Err(_) => tracing::debug!(address = %peer.address, "TLS handshake took too long"),
    }
}
