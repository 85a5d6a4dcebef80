//! WebSockets as streams of HTTP/2 connections (RFC 8441), as sockets for the rest of the bench.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, Bytes};
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinSet;

use crate::client::{self, Socket};
use crate::tls::{self, HTTP2};

/// WebSockets on one connection.
const STREAMS: usize = 16;

/// A connection that offers extended CONNECT. Its streams share it, and it ends with the last of them.
pub(crate) struct Http2 {
    requests: SendRequest<Bytes>,
    _driver: JoinSet<()>,
}

impl Http2 {
    pub(crate) async fn sockets(address: SocketAddr, count: usize) -> Result<Vec<Box<dyn Socket>>> {
        let mut sockets: Vec<Box<dyn Socket>> = Vec::new();
        while sockets.len() < count {
            let connection = Arc::new(Self::connect(address).await?);
            for _ in 0..STREAMS.min(count - sockets.len()) {
                sockets.push(Box::new(ByteStream::open(&connection).await?));
            }
        }
        Ok(sockets)
    }

    async fn connect(address: SocketAddr) -> Result<Self> {
        let socket = client::secure(address, &tls::connector(HTTP2)).await?;
        let (requests, connection) = h2::client::handshake(socket).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Errors of the connection show in its streams.
            let _ = connection.await;
        });
        // The server's settings come with its first bytes.
        let settled = async {
            while !requests.is_extended_connect_protocol_enabled() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        let settled = tokio::time::timeout(std::time::Duration::from_secs(5), settled).await;
        settled.context("the server does not offer extended CONNECT")?;
        Ok(Self {
            requests,
            _driver: driver,
        })
    }
}

/// The two halves of an HTTP/2 stream as one stream of bytes.
struct ByteStream {
    sending: SendStream<Bytes>,
    receiving: RecvStream,
    received: Bytes,
    _connection: Arc<Http2>,
}

impl ByteStream {
    async fn open(connection: &Arc<Http2>) -> Result<Self> {
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri("https://localhost/load")
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(())?;
        let mut requests = connection.requests.clone().ready().await?;
        let (response, sending) = requests.send_request(request, false)?;
        let response = response.await?;
        ensure!(response.status() == 200, "not let in: {response:?}");
        Ok(Self {
            sending,
            receiving: response.into_body(),
            received: Bytes::new(),
            _connection: Arc::clone(connection),
        })
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        while stream.received.is_empty() {
            match ready!(stream.receiving.poll_data(context)) {
                Some(data) => {
                    let data = data.map_err(io::Error::other)?;
                    let control = stream.receiving.flow_control();
                    control
                        .release_capacity(data.len())
                        .map_err(io::Error::other)?;
                    stream.received = data;
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = buffer.remaining().min(stream.received.len());
        buffer.put_slice(&stream.received.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        stream.sending.reserve_capacity(bytes.len());
        while stream.sending.capacity() == 0 {
            match ready!(stream.sending.poll_capacity(context)) {
                Some(room) => drop(room.map_err(io::Error::other)?),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let mut rest = bytes;
        let data = rest.copy_to_bytes(bytes.len().min(stream.sending.capacity()));
        let length = data.len();
        stream
            .sending
            .send_data(data, false)
            .map_err(io::Error::other)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = self.get_mut().sending.send_data(Bytes::new(), true);
        Poll::Ready(done.map_err(io::Error::other))
    }
}
