//! The beginning of a session: takes the socket out of HTTP once the answer is written.

use std::pin::Pin;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_rustls::server::TlsStream;

use super::ConnectionGuards;
use super::head_watch::HeadWatch;
use crate::connections::{Connection, Registration};
use crate::http3;
use crate::net::{Acknowledged, Http2Stream, Link, MemoryDatagrams, MemoryStream, Stream, Turns};
use crate::permits::Permit;
use crate::session;
use crate::stage::CurrentStage;
use crate::transport::in_memory::WithDatagrams;
use crate::transport::websocket::WebSocket;
use crate::transport::webtransport::WebTransport;

/// What gives the socket of an admitted client, once its answer is written.
pub(crate) enum Upgrade {
    /// hyper, on HTTP/1.1, and on HTTP/2 with the link of its connection.
    Hyper(OnUpgrade, Option<Weak<dyn Link>>),
    Http3(oneshot::Receiver<Http3Socket>),
}

/// What an extended CONNECT of HTTP/3 opens.
pub(crate) enum Http3Socket {
    Stream(http3::Stream),
    Session(http3::Session),
}

enum Socket {
    Hyper(Upgraded, Option<Weak<dyn Link>>),
    Http3(Box<Http3Socket>),
}

impl Upgrade {
    /// None if the client has gone before its answer was written.
    async fn socket(self) -> Option<Socket> {
        match self {
            Self::Hyper(upgrade, link) => {
                let upgraded = upgrade.await.ok()?;
                Some(Socket::Hyper(upgraded, link))
            }
            Self::Http3(stream) => stream.await.ok().map(Box::new).map(Socket::Http3),
        }
    }
}

/// The task of a session: waits until the 101 is written, takes the socket out of HTTP, serves it. Without a 101,
/// since the client is gone or got another answer, the `$connect` handler that admitted it is told of its end.
pub(super) async fn begin(
    current: Arc<CurrentStage>,
    connection: Arc<Connection>,
    registration: Option<Registration>,
    admitted: oneshot::Receiver<Upgrade>,
    permit: Arc<Permit>,
    guards: ConnectionGuards,
) {
    let socket = match admitted.await {
        Ok(upgrade) => upgrade.socket().await,
        Err(_) => None,
    };
    drop(permit);
    match (socket, registration) {
        (Some(socket), Some(registration)) => session(current, registration, socket).await,
        (_, registration) => {
            let place = registration
                .as_ref()
                .and_then(Registration::principal_place);
            drop(registration);
            // Boxed: nearly every task goes the other way, and reserves no space for this.
            Box::pin(session::never_opened(&current, connection)).await;
            drop(place);
        }
    }
    drop(guards);
}

/// Makes the session on a socket. It is boxed, so that its task is as large as its own kind of socket needs, not the
/// largest.
fn session(
    current: Arc<CurrentStage>,
    registration: Registration,
    socket: Socket,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let (upgraded, link) = match socket {
        Socket::Hyper(upgraded, link) => (upgraded, link),
        Socket::Http3(socket) => match *socket {
            Http3Socket::Stream(stream) => {
                return serve(current, registration, Turns::new(stream), &[]);
            }
            Http3Socket::Session(session) => {
                let stage = current.load();
                registration
                    .connection
                    .set_datagrams(Box::new(session.datagram_sender()));
                let datagrams = Arc::clone(&stage.scope.counters.datagrams);
                let transport = WebTransport::new(session, &stage.limits, datagrams);
                drop(stage);
                return Box::pin(session::serve(current, registration, transport));
            }
        },
    };
    match unwrap::<Stream>(upgraded) {
        Ok((socket, early)) => serve(current, registration, socket, &early),
        Err(upgraded) => match unwrap::<TlsStream<Stream>>(upgraded) {
            Ok((socket, early)) => serve(current, registration, Turns::new(socket), &early),
            Err(upgraded) => match unwrap::<MemoryStream>(upgraded) {
                Ok((socket, early)) => serve_in_memory(current, registration, socket, &early),
                Err(upgraded) => {
                    let stream = Http2Stream::new(upgraded, link);
                    serve(current, registration, stream, &[])
                }
            },
        },
    }
}

fn serve<S>(
    current: Arc<CurrentStage>,
    registration: Registration,
    socket: S,
    early: &[u8],
) -> Pin<Box<dyn Future<Output = ()> + Send>>
where
    S: Acknowledged + AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let websocket = WebSocket::new(socket, early, &current.load().limits);
    Box::pin(session::serve(current, registration, websocket))
}

/// Serves a client of a dialogue.
fn serve_in_memory(
    current: Arc<CurrentStage>,
    registration: Registration,
    socket: MemoryStream,
    early: &[u8],
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let (stream, datagrams) = socket.into_parts();
    let Some(MemoryDatagrams { sender, receiver }) = datagrams else {
        return serve(current, registration, stream, early);
    };
    registration.connection.set_datagrams(Box::new(sender));
    let stage = current.load();
    let counters = Arc::clone(&stage.scope.counters.datagrams);
    let websocket = WebSocket::new(stream, early, &stage.limits);
    drop(stage);
    let transport = WithDatagrams::new(websocket, receiver, counters);
    Box::pin(session::serve(current, registration, transport))
}

/// Gives back the socket that hyper took, and the bytes that it read beyond the head.
fn unwrap<S>(upgraded: Upgraded) -> Result<(S, Bytes), Upgraded>
where
    TokioIo<HeadWatch<S>>: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: 'static,
{
    let parts = upgraded.downcast::<TokioIo<HeadWatch<S>>>()?;
    Ok((parts.io.into_inner().into_inner(), parts.read_buf))
}
