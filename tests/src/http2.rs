//! A WebSocket over a stream of an HTTP/2 connection (RFC 8441).

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::{
    Reason, RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
    ext::Protocol,
};
use http::{Method, Request, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::client::TlsStream;

use crate::{Answer, Client, tls::Tls, within};

/// An HTTP/2 connection whose server offers extended CONNECT.
pub struct Http2 {
    requests: SendRequest<Bytes>,
    host: String,
    port: u16,
    ended: watch::Receiver<bool>,
    /// The driver of the connection, which ends when this value is dropped.
    _connection: JoinSet<()>,
}

impl Http2 {
    /// Connects by TLS with ALPN `h2`, and waits until the server's settings allow extended CONNECT.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_to(address, Some("localhost")).await
    }

    /// As [`Self::connect`], with this host named in the TLS handshake, or none.
    pub async fn connect_to(address: SocketAddr, name: Option<&str>) -> Self {
        Self::over(Self::secured(address, name).await, address).await
    }

    /// As [`Self::connect`], with windows of megabytes, as browsers have them.
    pub async fn connect_with_room(address: SocketAddr) -> Self {
        const WINDOW: u32 = 4 << 20;
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(WINDOW)
            .initial_connection_window_size(2 * WINDOW);
        let stream = Self::secured(address, Some("localhost")).await;
        Self::begin(&builder, stream, address).await
    }

    async fn secured(address: SocketAddr, name: Option<&str>) -> TlsStream<TcpStream> {
        let tls = Tls {
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            name: name.map(str::to_owned),
            ..Tls::default()
        };
        let stream = within("the TLS handshake", tls.connect(address))
            .await
            .unwrap();
        assert_eq!(
            stream.get_ref().1.alpn_protocol(),
            Some(b"h2".as_slice()),
            "the server did not choose h2"
        );
        stream
    }

    /// Speaks HTTP/2 over a stream to this address.
    pub async fn over(stream: TlsStream<TcpStream>, address: SocketAddr) -> Self {
        Self::begin(&h2::client::Builder::new(), stream, address).await
    }

    async fn begin(
        builder: &h2::client::Builder,
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
    ) -> Self {
        let (requests, connection) = within("the HTTP/2 handshake", builder.handshake(stream))
            .await
            .unwrap();
        let mut driver = JoinSet::new();
        let (ending, ended) = watch::channel(false);
        driver.spawn(async move {
            // Errors of the connection show in its streams.
            let _ = connection.await;
            ending.send_replace(true);
        });
        let settled = async {
            while !requests.is_extended_connect_protocol_enabled() {
                tokio::task::yield_now().await;
            }
        };
        within("the server to offer extended CONNECT", settled).await;
        Self {
            requests,
            host: "localhost".to_owned(),
            port: address.port(),
            ended,
            _connection: driver,
        }
    }

    /// Sets the host of later requests.
    pub fn set_host(&mut self, host: &str) {
        host.clone_into(&mut self.host);
    }

    /// Opens a WebSocket on a stream of its own.
    pub async fn open(&self, path: &str) -> Client {
        self.open_with(path, &[]).await
    }

    /// As [`Self::open`], with these headers beside the usual ones.
    pub async fn open_with(&self, path: &str, headers: &[(&str, &str)]) -> Client {
        self.ask(path, headers).await.open().await
    }

    /// The answer to a request to open a WebSocket that is refused.
    pub async fn refused(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(path, headers).await.refused().await
    }

    /// Whether the connection is still open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !*self.ended.borrow()
    }

    /// Waits until the server ends the connection.
    pub async fn ended(&mut self) {
        let ended = self.ended.wait_for(|ended| *ended);
        within("the end of the connection", ended).await.unwrap();
    }

    /// Sends a request that opens no WebSocket, and waits for the answer.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://{}:{}{path}", self.host, self.port));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let requests = within("room for a stream", self.requests.clone().ready()).await;
        let request = request.body(()).unwrap();
        let (response, mut stream) = requests.unwrap().send_request(request, false).unwrap();
        stream
            .send_data(Bytes::copy_from_slice(body), true)
            .unwrap();
        let response = within("the answer", response).await.unwrap();
        let (parts, mut received) = response.into_parts();
        let mut whole = Vec::new();
        while let Some(data) = within("the body", received.data()).await {
            whole.extend_from_slice(&data.unwrap());
        }
        answer(&Response::from_parts(parts, ()), whole)
    }

    /// Requests a WebSocket, and does not wait for the answer.
    pub async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> PendingRequest {
        let asked = self.try_ask(path, headers).await;
        asked.expect("the connection is open")
    }

    /// As [`Self::ask`]; none when the server has ended the connection.
    pub async fn try_ask(&self, path: &str, headers: &[(&str, &str)]) -> Option<PendingRequest> {
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("https://{}:{}{path}", self.host, self.port))
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut requests = within("room for a stream", self.requests.clone().ready())
            .await
            .ok()?;
        let (response, stream) = requests
            .send_request(request.body(()).unwrap(), false)
            .ok()?;
        Some(PendingRequest { response, stream })
    }
}

/// A request on a stream of its own, without an answer yet.
pub struct PendingRequest {
    response: ResponseFuture,
    stream: SendStream<Bytes>,
}

impl PendingRequest {
    /// Waits for the answer, checks that it lets the client in, and returns the WebSocket.
    pub async fn open(self) -> Client {
        let response = within("the answer to CONNECT", self.response)
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "not let in: {response:?}");
        let answer = answer(&response, Vec::new());
        let stream = ByteStream {
            sending: self.stream,
            receiving: response.into_body(),
            received: Bytes::new(),
        };
        Client::new(Box::new(stream), Vec::new(), answer).await
    }

    /// Waits for the answer, checks that it is a refusal, and returns it.
    pub async fn refused(self) -> Answer {
        let response = within("the answer to CONNECT", self.response)
            .await
            .unwrap();
        assert_ne!(response.status(), 200, "let in: {response:?}");
        let (parts, mut body) = response.into_parts();
        let mut whole = Vec::new();
        let read = async {
            while let Some(Ok(data)) = body.data().await {
                whole.extend_from_slice(&data);
            }
        };
        within("the body", read).await;
        answer(&Response::from_parts(parts, ()), whole)
    }

    /// The status of the answer; none when the connection ends without one.
    pub async fn status(self) -> Option<u16> {
        let response = within("the answer to CONNECT", self.response).await.ok()?;
        Some(response.status().as_u16())
    }

    /// Resets the stream.
    pub fn reset(mut self) {
        self.stream.send_reset(Reason::CANCEL);
    }
}

fn answer<T>(response: &Response<T>, body: Vec<u8>) -> Answer {
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
        .collect();
    Answer {
        status: response.status().as_u16(),
        headers,
        body,
        closed: false,
    }
}

/// The two halves of an HTTP/2 stream as one stream of bytes.
struct ByteStream {
    sending: SendStream<Bytes>,
    receiving: RecvStream,
    received: Bytes,
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
                Some(Ok(data)) => {
                    stream
                        .receiving
                        .flow_control()
                        .release_capacity(data.len())
                        .map_err(io::Error::other)?;
                    stream.received = data;
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = buffer.remaining().min(stream.received.len());
        buffer.put_slice(&stream.received[..length]);
        stream.received.advance(length);
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
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let length = bytes.len().min(stream.sending.capacity());
        let data = Bytes::copy_from_slice(&bytes[..length]);
        stream
            .sending
            .send_data(data, false)
            .map_err(io::Error::other)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(
            self.get_mut()
                .sending
                .send_data(Bytes::new(), true)
                .map_err(io::Error::other),
        )
    }
}
