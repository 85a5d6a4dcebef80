//! WebSockets over HTTP/3 and WebTransport sessions, each on a QUIC connection of its own, as sockets for the rest of
//! the bench.

/// The bytes of HTTP/3, as the tests have them.
#[allow(
    dead_code,
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "it is public in the harness of the tests, and fails there"
)]
#[path = "../../src/http3_wire.rs"]
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::wire::{
    ByteStream, HEADERS, SETTINGS, decode, encode, put_frame, read_frame, read_integer, stream_head,
};
use crate::client::{Scheme, Socket};
use crate::tls;

/// Connections on one UDP socket: its buffers hold what all of them have under way.
const ON_A_SOCKET: usize = 16;

/// The deadline of one handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A UDP socket to connect from, on this machine.
pub(crate) fn endpoint() -> Result<Endpoint> {
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    endpoint.set_default_client_config(tls::quic()?);
    Ok(endpoint)
}

/// Connects many clients.
pub(crate) async fn sockets(
    address: SocketAddr,
    scheme: Scheme,
    count: usize,
) -> Result<Vec<Box<dyn Socket>>> {
    let mut sockets = Vec::new();
    while sockets.len() < count {
        let endpoint = endpoint()?;
        let here = ON_A_SOCKET.min(count - sockets.len());
        let one = |_| open(&endpoint, address, scheme);
        let opened = stream::iter(0..here).map(one).buffer_unordered(here);
        sockets.extend(opened.try_collect::<Vec<_>>().await?);
    }
    Ok(sockets)
}

/// Connects one client, and opens its WebSocket or its session.
pub(crate) async fn open(
    endpoint: &Endpoint,
    address: SocketAddr,
    scheme: Scheme,
) -> Result<Box<dyn Socket>> {
    let opened = async {
        let quic = Quic::connect(endpoint, address).await?;
        match scheme {
            Scheme::Wt => quic.session().await,
            Scheme::Ws | Scheme::Wss | Scheme::H2 | Scheme::H3 => quic.web_socket().await,
        }
    };
    let done = tokio::time::timeout(HANDSHAKE, opened).await;
    done.context("a handshake took too long")?
}

/// An HTTP/3 connection whose server has sent its settings.
struct Quic {
    connection: Connection,
    /// An end of these would be one of the connection (RFC 9114 §6.2.1).
    _control: (SendStream, RecvStream),
}

impl Quic {
    async fn connect(endpoint: &Endpoint, address: SocketAddr) -> Result<Self> {
        let connection = endpoint.connect(address, "localhost")?.await?;
        let mut control = connection.open_uni().await?;
        let mut start = vec![0];
        put_frame(&mut start, SETTINGS, &[]);
        control.write_all(&start).await?;
        let mut settings = connection.accept_uni().await?;
        let kind = read_integer(&mut settings).await;
        ensure!(kind == Some(0), "a stream of type {kind:?} comes first");
        let frame = read_frame(&mut settings).await;
        let (kind, _) = frame.context("no settings")?;
        ensure!(kind == SETTINGS, "a frame of type {kind} comes first");
        Ok(Self {
            connection,
            _control: (control, settings),
        })
    }

    /// Sends a CONNECT, and waits until it is answered with 200.
    async fn ask(&self, protocol: &[(&str, &str)]) -> Result<(SendStream, RecvStream)> {
        let fields = [
            (":method", "CONNECT"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/load"),
        ];
        let mut request = Vec::new();
        let fields = [&fields[..], protocol].concat();
        put_frame(&mut request, HEADERS, &encode(&fields));
        let (mut send, mut receive) = self.connection.open_bi().await?;
        send.write_all(&request).await?;
        let answer = read_frame(&mut receive).await.context("no answer")?;
        ensure!(answer.0 == HEADERS, "a frame of type {}", answer.0);
        let answer = decode(&answer.1);
        let status = answer.first().map(|(_, status)| status.as_str());
        ensure!(status == Some("200"), "not let in: {answer:?}");
        Ok((send, receive))
    }

    async fn web_socket(self) -> Result<Box<dyn Socket>> {
        let version = ("sec-websocket-version", "13");
        let (send, receive) = self.ask(&[(":protocol", "websocket"), version]).await?;
        Ok(Box::new(Kept {
            socket: ByteStream::new(send, receive),
            _session: None,
            _quic: self,
        }))
    }

    async fn session(self) -> Result<Box<dyn Socket>> {
        let draft = ("sec-webtransport-http3-draft02", "1");
        let session = self.ask(&[(":protocol", "webtransport"), draft]).await?;
        let (mut send, receive) = self.connection.open_bi().await?;
        let id = VarInt::from(session.0.id()).into_inner();
        send.write_all(&stream_head(id)).await?;
        Ok(Box::new(Kept {
            socket: tokio::io::join(receive, send),
            _session: Some(session),
            _quic: self,
        }))
    }
}

/// A stream, with all that must not end before it does.
struct Kept<S> {
    socket: S,
    _session: Option<(SendStream, RecvStream)>,
    _quic: Quic,
}

impl<S: Socket> AsyncRead for Kept<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: Socket> AsyncWrite for Kept<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
