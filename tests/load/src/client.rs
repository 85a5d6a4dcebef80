//! Clients: raw frames over a socket with as little work as possible, so that the figures are the server's.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::frame::Template;
use crate::http2::Http2;
use crate::http3;
use crate::server::Server;
use crate::tls::{self, HTTP1};

/// Handshakes under way when many clients connect.
const CONNECTING: usize = 64;

/// The deadline of one handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The longest read. A buffer is as long as the expected bytes, which are mostly fewer.
const MAX_READ: usize = 128 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scheme {
    Ws,
    Wss,
    /// WebSockets as streams of HTTP/2 connections, over TLS.
    H2,
    /// A WebSocket on a QUIC connection of its own, by HTTP/3.
    H3,
    /// A WebTransport session on a QUIC connection of its own.
    Wt,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::H2 => "h2",
            Self::H3 => "h3",
            Self::Wt => "WebTransport",
        })
    }
}

impl Scheme {
    pub(crate) fn is_quic(self) -> bool {
        matches!(self, Self::H3 | Self::Wt)
    }
}

pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// The shared state of the clients of one measurement.
pub(crate) struct Load {
    /// The messages that a client sends before it waits for an answer.
    pub(crate) window: u64,
    /// Set to stop sending: answers under way are still awaited.
    pub(crate) stop: AtomicBool,
    /// Set to record latencies.
    pub(crate) measuring: AtomicBool,
    pub(crate) answered: AtomicU64,
}

impl Load {
    pub(crate) fn new(window: u64) -> Self {
        Self {
            window,
            stop: AtomicBool::new(false),
            measuring: AtomicBool::new(false),
            answered: AtomicU64::new(0),
        }
    }
}

/// One client, with the messages that it has sent and the answers that it expects.
pub(crate) struct Client {
    socket: Box<dyn Socket>,
    pub(crate) sends: Arc<Template>,
    pub(crate) expects: Arc<Template>,
    sent: u64,
    answered: u64,
    /// The send times of the messages without an answer yet.
    sent_at: VecDeque<Instant>,
    input: BytesMut,
    output: Vec<u8>,
    /// In nanoseconds.
    pub(crate) latencies: Vec<u32>,
}

impl Client {
    pub(crate) fn new(socket: Box<dyn Socket>, template: &Arc<Template>) -> Self {
        Self {
            socket,
            sends: Arc::clone(template),
            expects: Arc::clone(template),
            sent: 0,
            answered: 0,
            sent_at: VecDeque::new(),
            input: BytesMut::new(),
            output: Vec::new(),
            latencies: Vec::new(),
        }
    }

    /// Keeps a window of messages under way until the load stops, and then awaits the last answer.
    pub(crate) async fn exchange(&mut self, load: &Load) -> Result<()> {
        self.send(load.window).await?;
        while !self.sent_at.is_empty() {
            let answers = self.receive(load).await?;
            if !load.stop.load(Ordering::Relaxed) {
                self.send(answers).await?;
            }
        }
        Ok(())
    }

    /// One message and its answer.
    pub(crate) async fn round_trip(&mut self, load: &Load) -> Result<()> {
        self.send(1).await?;
        while !self.sent_at.is_empty() {
            self.receive(load).await?;
        }
        Ok(())
    }

    /// Sends `messages` messages in one write.
    pub(crate) async fn send(&mut self, messages: u64) -> Result<()> {
        self.output.clear();
        let now = Instant::now();
        for _ in 0..messages {
            self.sends.write(self.sent, &mut self.output);
            self.sent += 1;
            self.sent_at.push_back(now);
        }
        self.socket.write_all(&self.output).await?;
        Ok(self.socket.flush().await?)
    }

    /// Reads once, and returns the number of messages that came. Fails unless each is the next expected one.
    pub(crate) async fn receive(&mut self, load: &Load) -> Result<u64> {
        let expected = self.expects.len() * self.sent_at.len().max(1);
        self.input.reserve(expected.min(MAX_READ));
        let read = self.socket.read_buf(&mut self.input).await?;
        ensure!(read > 0, "the server ended the connection");
        let (before, now) = (self.answered, Instant::now());
        let measuring = load.measuring.load(Ordering::Relaxed);
        let mut rest = &*self.input;
        while let Some((payload, after)) = self.expects.read(rest)? {
            if !self.expects.is(self.answered, payload) {
                let text = String::from_utf8_lossy(payload);
                bail!("in place of answer {} came {text}", self.answered);
            }
            self.answered += 1;
            if let Some(sent_at) = self.sent_at.pop_front()
                && measuring
            {
                let nanoseconds = u32::try_from((now - sent_at).as_nanos());
                self.latencies.push(nanoseconds.unwrap_or(u32::MAX));
            }
            rest = after;
        }
        let consumed = self.input.len() - rest.len();
        self.input.advance(consumed);
        let answers = self.answered - before;
        load.answered.fetch_add(answers, Ordering::Relaxed);
        Ok(answers)
    }

    pub(crate) fn into_socket(self) -> Box<dyn Socket> {
        self.socket
    }

    /// Sends a message outside the load, and returns its answer.
    pub(crate) async fn ask(&mut self, message: &Template) -> Result<Vec<u8>> {
        self.output.clear();
        message.write(0, &mut self.output);
        self.socket.write_all(&self.output).await?;
        self.socket.flush().await?;
        loop {
            let read = self.socket.read_buf(&mut self.input).await?;
            ensure!(read > 0, "the server ended the connection");
            if let Some((payload, rest)) = message.read(&self.input)? {
                ensure!(rest.is_empty(), "two answers to one message");
                let answer = payload.to_vec();
                self.input.clear();
                return Ok(answer);
            }
        }
    }
}

/// Connects many clients, [`CONNECTING`] at a time.
pub(crate) async fn connect(
    server: &Server,
    scheme: Scheme,
    count: usize,
    template: &Arc<Template>,
) -> Result<Vec<Client>> {
    let sockets: Vec<Box<dyn Socket>> = match scheme {
        Scheme::H2 => Http2::sockets(server.secure, count).await?,
        Scheme::Ws | Scheme::Wss => {
            let tls = tls::connector(HTTP1);
            let one = |_| open(server, scheme, &tls, "");
            let opened = stream::iter(0..count).map(one).buffer_unordered(CONNECTING);
            opened.try_collect().await?
        }
        Scheme::H3 | Scheme::Wt => http3::sockets(server.secure, scheme, count).await?,
    };
    let clients = sockets
        .into_iter()
        .map(|socket| Client::new(socket, template));
    Ok(clients.collect())
}

/// Connects and upgrades one client over HTTP/1.1, with these header lines in addition. TLS, unless it is `ws`.
pub(crate) async fn open(
    server: &Server,
    scheme: Scheme,
    tls: &TlsConnector,
    headers: &str,
) -> Result<Box<dyn Socket>> {
    let opened = async {
        if scheme == Scheme::Ws {
            let socket = upgrade(tcp(server.plain).await?, headers).await?;
            return Ok(Box::new(socket) as Box<dyn Socket>);
        }
        let socket = upgrade(secure(server.secure, tls).await?, headers).await?;
        Ok(Box::new(socket) as Box<dyn Socket>)
    };
    let done = tokio::time::timeout(HANDSHAKE, opened).await;
    done.context("a handshake took too long")?
}

async fn tcp(address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect(address).await.context("connecting")?;
    socket.set_nodelay(true)?;
    // Thousands of handshakes a second would otherwise use up the ports of this machine.
    socket.set_zero_linger()?;
    Ok(socket)
}

pub(crate) async fn secure(
    address: SocketAddr,
    tls: &TlsConnector,
) -> Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost")?;
    let socket = tls.connect(name, tcp(address).await?).await;
    socket.context("the TLS handshake")
}

async fn upgrade<S: Socket>(mut socket: S, headers: &str) -> Result<S> {
    const REQUEST: &str = "GET /load HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let request = [REQUEST, headers, "\r\n"].concat();
    socket.write_all(request.as_bytes()).await?;
    socket.flush().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let read = socket.read_buf(&mut head).await?;
        ensure!(read > 0, "the server ended the connection in its handshake");
    }
    ensure!(
        head.starts_with(b"HTTP/1.1 101 "),
        "not let in: {}",
        String::from_utf8_lossy(&head)
    );
    Ok(socket)
}
