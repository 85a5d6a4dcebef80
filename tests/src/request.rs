//! The handshake of a client: its request, and the answer of a refusal.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use crate::{
    Cable, Client, Duplex, RawClient,
    cable::Host,
    records::Records,
    tls::{Tls, Trust},
    within,
};

/// An HTTP/1.1 request to upgrade, valid unless a test changes it.
#[derive(Clone)]
pub struct Request {
    address: SocketAddr,
    socket: Option<PathBuf>,
    tls: Option<Tls>,
    receive_buffer: Option<u32>,
    from: Option<IpAddr>,
    host: Option<Host>,
    preface: Vec<u8>,
    records: Arc<AtomicUsize>,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// The server's answer before a WebSocket, or in place of one.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the server closed the connection after the body. An open WebSocket has none.
    pub closed: bool,
}

impl Answer {
    /// The value of the only header of that name, if there is one.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(given, _)| given.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(
            values.next().is_none(),
            "two headers {name}: {:?}",
            self.headers
        );
        value
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Request {
    #[must_use]
    pub fn new(address: SocketAddr, target: &str) -> Self {
        let headers = [
            ("Host", format!("localhost:{}", address.port())),
            ("Connection", "Upgrade".to_owned()),
            ("Upgrade", "websocket".to_owned()),
            ("Sec-WebSocket-Version", "13".to_owned()),
            ("Sec-WebSocket-Key", generate_key()),
        ];
        Self {
            address,
            socket: None,
            tls: None,
            receive_buffer: None,
            from: None,
            host: None,
            preface: Vec::new(),
            records: Arc::default(),
            method: "GET".to_owned(),
            target: target.to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
            body: Vec::new(),
        }
    }

    /// Connects by a Unix socket.
    #[must_use]
    pub fn by_socket(mut self, path: &Path) -> Self {
        self.socket = Some(path.to_owned());
        self
    }

    /// Connects over TLS.
    pub(crate) fn over(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    #[must_use]
    pub fn trusting(mut self, trust: Trust) -> Self {
        self.tls.as_mut().expect("the request goes over TLS").trust = trust;
        self
    }

    #[must_use]
    pub fn tls_versions(
        mut self,
        versions: &'static [&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        self.tls
            .as_mut()
            .expect("the request goes over TLS")
            .versions = versions;
        self
    }

    /// Has the client list a cipher suite first.
    #[must_use]
    pub fn preferring(mut self, suite: rustls::CipherSuite) -> Self {
        let tls = self.tls.as_mut().expect("the request goes over TLS");
        tls.first_suite = Some(suite);
        self
    }

    #[must_use]
    pub fn alpn(mut self, protocol: &str) -> Self {
        self.tls.as_mut().expect("the request goes over TLS").alpn =
            vec![protocol.as_bytes().to_vec()];
        self
    }

    /// Limits the bytes that the client's kernel buffers before the client reads.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Connects here in place of the listener's address.
    #[must_use]
    pub fn by_way_of(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Connects from this address of the loopback network.
    ///
    /// # Panics
    ///
    /// When the text is no address.
    #[must_use]
    pub fn from_address(mut self, address: &str) -> Self {
        self.from = Some(address.parse().unwrap());
        self
    }

    /// Connects from the far end of a cable.
    #[must_use]
    pub fn over_cable(mut self, cable: &Cable) -> Self {
        self.host = Some(cable.client());
        self
    }

    /// Sends these bytes first, before TLS.
    #[must_use]
    pub fn preface(mut self, bytes: &[u8]) -> Self {
        self.preface = bytes.to_vec();
        self
    }

    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// Changes the target.
    #[must_use]
    pub fn target(mut self, change: impl FnOnce(&str) -> String) -> Self {
        self.target = change(&self.target);
        self
    }

    /// Sets a header, in place of one of that name.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.without(name).and_header(name, value)
    }

    /// Adds a header, beside one of that name.
    #[must_use]
    pub fn and_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(given, _)| !given.eq_ignore_ascii_case(name));
        self
    }

    #[must_use]
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// How many TLS records have come, over every connection of this request.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    /// The bytes of the head and the body.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(&self.body);
        bytes
    }

    /// A stream to the listener, with only the preface sent.
    pub async fn stream(&self) -> std::io::Result<Box<dyn Duplex>> {
        if let Some(path) = &self.socket {
            return Ok(Box::new(UnixStream::connect(path).await?));
        }
        let socket = match &self.host {
            None if self.address.is_ipv6() => TcpSocket::new_v6()?,
            None => TcpSocket::new_v4()?,
            Some(host) => host.socket()?,
        };
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(from) = self.from {
            socket.bind((from, 0).into())?;
        }
        let mut socket = socket.connect(self.address).await?;
        socket.set_nodelay(true)?;
        socket.write_all(&self.preface).await?;
        Ok(match &self.tls {
            None => Box::new(socket),
            Some(tls) => Box::new(
                tls.wrap(Records::new(socket, Arc::clone(&self.records)))
                    .await?,
            ),
        })
    }

    /// Names this host in the TLS handshake, or none.
    #[must_use]
    pub fn server_name(mut self, name: Option<&str>) -> Self {
        let tls = self.tls.as_mut().expect("the request goes over TLS");
        tls.name = name.map(str::to_owned);
        self
    }

    /// The cipher suite that the server chooses.
    ///
    /// # Panics
    ///
    /// When there is no TLS handshake.
    pub async fn cipher_suite(&self) -> rustls::CipherSuite {
        let suite = self.handshake().await.get_ref().1.negotiated_cipher_suite();
        suite.unwrap().suite()
    }

    /// The certificate that the server shows.
    pub async fn certificate(&self) -> CertificateDer<'static> {
        self.chain().await.swap_remove(0)
    }

    /// The certificates that the server sends.
    ///
    /// # Panics
    ///
    /// When there is no TLS handshake.
    pub async fn chain(&self) -> Vec<CertificateDer<'static>> {
        let stream = self.handshake().await;
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        chain.iter().map(|der| der.clone().into_owned()).collect()
    }

    async fn handshake(&self) -> TlsStream<TcpStream> {
        let tls = self.tls.as_ref().expect("the request goes over TLS");
        let socket = within("the TCP connection", TcpStream::connect(self.address))
            .await
            .unwrap();
        within("the TLS handshake", tls.wrap(socket)).await.unwrap()
    }

    /// Connects, and checks that the server lets the client in.
    ///
    /// # Panics
    ///
    /// When it does not; the message has the server's answer.
    pub async fn open(&self) -> Client {
        let (answer, stream, rest) = self.upgraded().await;
        Client::new(stream, rest, answer).await
    }

    /// As [`Self::open`], for a client that writes frames byte by byte.
    pub async fn open_raw(&self) -> RawClient {
        let (_, stream, rest) = self.upgraded().await;
        RawClient::new(stream, rest)
    }

    /// Connects; fails with the server's answer if it does not let the client in.
    pub async fn attempt(&self) -> Result<Client, Answer> {
        let (answer, stream, rest) = self.send().await;
        if answer.status == 101 {
            Ok(Client::new(stream, rest, answer).await)
        } else {
            Err(answer)
        }
    }

    async fn upgraded(&self) -> (Answer, Box<dyn Duplex>, Vec<u8>) {
        let (answer, stream, rest) = self.send().await;
        assert_eq!(
            answer.status,
            101,
            "not let in: {answer:?} {}",
            String::from_utf8_lossy(&answer.body)
        );
        (answer, stream, rest)
    }

    /// Connects, checks that the server refuses, and returns its answer.
    ///
    /// # Panics
    ///
    /// When the client is let in.
    pub async fn refused(&self) -> Answer {
        let (answer, ..) = self.send().await;
        assert_ne!(answer.status, 101, "the client was let in: {answer:?}");
        answer
    }

    async fn send(&self) -> (Answer, Box<dyn Duplex>, Vec<u8>) {
        let mut stream = within("the connection", self.stream()).await.unwrap();
        within("the request to go out", stream.write_all(&self.bytes()))
            .await
            .unwrap();
        let (answer, rest) = within("the answer to the handshake", read_answer(&mut stream)).await;
        (answer, stream, rest)
    }
}

/// Reads the head of an answer, and its body unless it is a 101. Returns the bytes after it, too.
pub(crate) async fn read_answer(stream: &mut Box<dyn Duplex>) -> (Answer, Vec<u8>) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        assert!(
            fill(stream, &mut bytes).await,
            "closed without an answer: {:?}",
            String::from_utf8_lossy(&bytes)
        );
    };
    let mut body = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
        closed: false,
    };
    if status == 101 {
        return (answer, body);
    }

    // A refusal closes, so the body extends to the end of the connection. A connection that stays open shows here as a
    // body longer than its Content-Length, or as a missed deadline.
    let length: Option<usize> = answer
        .header("content-length")
        .map(|length| length.parse().unwrap())
        .or_else(|| (status == 204).then_some(0));
    while length.is_none_or(|length| body.len() < length) && fill(stream, &mut body).await {}
    if answer
        .header("connection")
        .is_some_and(|words| words.split(',').any(|word| word.trim() == "close"))
    {
        while fill(stream, &mut body).await {}
        answer.closed = true;
    }
    answer.body = body;
    (answer, Vec::new())
}

/// Reads more into `bytes`; false at the end, also where a TLS stream ends without its close_notify.
async fn fill(stream: &mut Box<dyn Duplex>, bytes: &mut Vec<u8>) -> bool {
    stream.read_buf(bytes).await.is_ok_and(|length| length > 0)
}
