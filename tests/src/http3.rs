//! A WebSocket over a stream of an HTTP/3 connection (RFC 9220), by quinn and the little of HTTP/3 that a client needs.
//!
//! [`Http3::quic`] is the connection itself, for tests that break the protocol.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use quinn::{
    ClientConfig, ConnectionError, Endpoint, RecvStream, SendStream,
    crypto::rustls::QuicClientConfig,
};
use rustls_pki_types::CertificateDer;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    Answer, Client,
    http3_wire::{
        ByteStream, DATA, GOAWAY, HEADERS, SETTINGS, decode, encode, put_frame, read_frame,
        read_integer, take_integer,
    },
    tls::Tls,
    within,
};

/// An HTTP/3 connection whose server has sent its settings.
pub struct Http3 {
    pub quic: quinn::Connection,
    host: String,
    port: u16,
    /// The settings, as numbers.
    pub settings: Vec<(u64, u64)>,
    going_away: watch::Receiver<Option<u64>>,
    control: SendStream,
    _reading: JoinSet<()>,
    /// The client's socket.
    pub endpoint: Endpoint,
}

/// What a client does in another way than usual.
pub struct Http3Options {
    /// The host that it names in the TLS handshake, or none.
    pub name: Option<String>,
    /// The address that it comes from.
    pub from: SocketAddr,
    pub transport: quinn::TransportConfig,
    /// Its settings, in a frame's form.
    pub settings: Vec<u8>,
}

impl Default for Http3Options {
    fn default() -> Self {
        Self {
            name: Some("localhost".to_owned()),
            from: ([127, 0, 0, 1], 0).into(),
            transport: quinn::TransportConfig::default(),
            // Datagrams are taken.
            settings: vec![0x33, 1],
        }
    }
}

impl Http3 {
    /// Connects, and waits until the server's settings allow extended CONNECT.
    pub async fn connect(address: SocketAddr) -> Self {
        let connected = Self::try_connect(address, Http3Options::default()).await;
        connected.expect("the server lets the client connect")
    }

    /// As [`Self::connect`], with this host named in the TLS handshake, or none.
    pub async fn connect_to(address: SocketAddr, name: Option<&str>) -> Self {
        let options = Http3Options {
            name: name.map(str::to_owned),
            ..Http3Options::default()
        };
        Self::try_connect(address, options).await.unwrap()
    }

    /// As [`Self::connect`]; the error of a connection that does not come about.
    pub async fn try_connect(
        address: SocketAddr,
        options: Http3Options,
    ) -> Result<Self, ConnectionError> {
        let settings = options.settings.clone();
        let (endpoint, quic) = Self::quic(address, options).await?;
        let mut control = quic.open_uni().await?;
        let mut start = vec![0];
        put_frame(&mut start, SETTINGS, &settings);
        control.write_all(&start).await.unwrap();
        let mut receive = within("the control stream", quic.accept_uni()).await?;
        let (kind, frame) = within("the settings", async {
            assert_eq!(
                read_integer(&mut receive).await,
                Some(0),
                "no control stream"
            );
            read_frame(&mut receive).await.expect("settings")
        })
        .await;
        assert_eq!(kind, SETTINGS);
        let (mut settings, mut rest) = (Vec::new(), &frame[..]);
        while let Some(id) = take_integer(&mut rest) {
            settings.push((id, take_integer(&mut rest).unwrap()));
        }
        let (tell, going_away) = watch::channel(None);
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            while let Some((kind, payload)) = read_frame(&mut receive).await {
                if kind == GOAWAY {
                    tell.send_replace(take_integer(&mut &payload[..]));
                }
            }
        });
        let http3 = Self {
            quic,
            host: "localhost".to_owned(),
            port: address.port(),
            settings,
            going_away,
            control,
            _reading: reading,
            endpoint,
        };
        assert_eq!(http3.setting(0x08), Some(1), "no extended CONNECT");
        Ok(http3)
    }

    /// A QUIC connection with ALPN `h3` and nothing on it.
    pub async fn quic(
        address: SocketAddr,
        options: Http3Options,
    ) -> Result<(Endpoint, quinn::Connection), ConnectionError> {
        let mut config = config(false);
        config.transport_config(Arc::new(options.transport));
        let endpoint = Endpoint::client(options.from).unwrap();
        let name = options.name.unwrap_or_else(|| "127.0.0.1".to_owned());
        let connecting = endpoint.connect_with(config, address, &name).unwrap();
        let quic = within("the QUIC handshake", connecting).await?;
        Ok((endpoint, quic))
    }

    /// Whether a second connection may send data before its handshake is over.
    pub async fn takes_early_data(address: SocketAddr) -> bool {
        let (config, endpoint) = (
            config(true),
            Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap(),
        );
        let connect = || {
            endpoint
                .connect_with(config.clone(), address, "localhost")
                .unwrap()
        };
        let quic = within("the QUIC handshake", connect()).await.unwrap();
        // Tickets come with the first packets after the handshake, before the settings.
        within("the control stream", quic.accept_uni())
            .await
            .unwrap();
        connect().into_0rtt().is_ok()
    }

    /// The value of a setting.
    #[must_use]
    pub fn setting(&self, id: u64) -> Option<u64> {
        let mut settings = self.settings.iter();
        settings
            .find(|(own, _)| *own == id)
            .map(|(_, value)| *value)
    }

    /// The certificate that the server has shown.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        let chain = self.quic.peer_identity().unwrap();
        let chain = chain.downcast::<Vec<CertificateDer<'static>>>().unwrap();
        chain[0].clone()
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the host of later requests.
    pub fn set_host(&mut self, host: &str) {
        host.clone_into(&mut self.host);
    }

    /// Sends bytes on the control stream.
    pub async fn control(&mut self, bytes: &[u8]) {
        // The server may have ended the connection.
        let _ = self.control.write_all(bytes).await;
    }

    /// Waits until the server tells that it takes no more requests, and gives the first stream that it does not serve.
    pub async fn going_away(&mut self) -> u64 {
        let going = self.going_away.wait_for(Option::is_some);
        within("GOAWAY", going).await.unwrap().unwrap()
    }

    /// Waits until the connection ends, and gives the code with which the server has closed it.
    pub async fn ended(&self) -> u64 {
        match within("the end of the connection", self.quic.closed()).await {
            ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("not closed by HTTP/3: {other}"),
        }
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
        self.ask(path, headers).await.answer().await
    }

    /// Requests a WebSocket, and does not wait for the answer.
    pub async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Http3Request {
        let authority = format!("{}:{}", self.host, self.port);
        let fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":authority", &authority),
            (":path", path),
            ("sec-websocket-version", "13"),
        ];
        self.request(&[&fields[..], headers].concat()).await
    }

    /// The answer to a request with a body.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Answer {
        let mut request = self.begin(method, path, headers).await;
        let mut bytes = Vec::new();
        put_frame(&mut bytes, DATA, body);
        // The server may have answered already.
        let _ = request.send.write_all(&bytes).await;
        let _ = request.send.finish();
        request.answer().await
    }

    /// Sends the head of a request.
    pub async fn begin(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
    ) -> Http3Request {
        let authority = format!("{}:{}", self.host, self.port);
        let fields = [
            (":method", method),
            (":scheme", "https"),
            (":authority", &authority),
            (":path", path),
        ];
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.to_lowercase(), value.as_str()))
            .collect();
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (&**name, *value))
            .collect();
        self.request(&[&fields[..], &headers].concat()).await
    }

    /// Makes a request of these fields alone.
    pub async fn request(&self, fields: &[(&str, &str)]) -> Http3Request {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, HEADERS, &encode(fields));
        self.send(&bytes).await
    }

    /// Sends bytes on a stream of its own.
    pub async fn send(&self, bytes: &[u8]) -> Http3Request {
        let opened = within("room for a stream", self.quic.open_bi()).await;
        let (mut send, receive) = opened.unwrap();
        // The server may have ended the connection.
        let _ = send.write_all(bytes).await;
        Http3Request { send, receive }
    }
}

/// Makes the first packets of clients, which can be sent from any address.
pub struct FirstPackets {
    endpoint: quinn_proto::Endpoint,
    config: ClientConfig,
    server: SocketAddr,
}

impl FirstPackets {
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let own = Arc::new(quinn::EndpointConfig::default());
        Self {
            endpoint: quinn_proto::Endpoint::new(own, None, false, None),
            config: config(false),
            server,
        }
    }

    /// The first packet of one more client.
    pub fn make(&mut self) -> Vec<u8> {
        let (config, now) = (self.config.clone(), Instant::now());
        let connecting = self.endpoint.connect(now, config, self.server, "localhost");
        let (_, mut connection) = connecting.unwrap();
        let mut packet = Vec::new();
        let sent = connection.poll_transmit(now, 1, &mut packet);
        assert!(sent.is_some(), "no packet");
        packet
    }
}

/// A request on a stream of its own, without an answer yet.
pub struct Http3Request {
    pub send: SendStream,
    pub receive: RecvStream,
}

impl Http3Request {
    /// Waits for the answer, checks that it lets the client in, and returns the WebSocket.
    pub async fn open(mut self) -> Client {
        let answer = self.head().await;
        assert_eq!(answer.status, 200, "not let in: {answer:?}");
        Client::new(Box::new(self.bytes()), Vec::new(), answer).await
    }

    /// The stream of bytes that an answer has opened.
    pub(crate) fn bytes(self) -> ByteStream {
        ByteStream::new(self.send, self.receive)
    }

    /// Waits for the whole answer to a request.
    pub async fn answer(mut self) -> Answer {
        let mut answer = self.head().await;
        answer.body = within("the body", self.data()).await;
        answer
    }

    /// The data of the stream, up to its end.
    pub async fn data(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some((DATA, data)) = read_frame(&mut self.receive).await {
            all.extend_from_slice(&data);
        }
        all
    }

    /// The head of the answer.
    pub async fn head(&mut self) -> Answer {
        let frame = within("the answer to CONNECT", read_frame(&mut self.receive)).await;
        let (kind, section) = frame.expect("an answer");
        assert_eq!(kind, HEADERS);
        let fields = decode(&section);
        let (name, status) = &fields[0];
        assert_eq!(name, ":status");
        Answer {
            status: status.parse().unwrap(),
            headers: fields[1..].to_vec(),
            body: Vec::new(),
            closed: false,
        }
    }

    /// The number of its stream.
    #[must_use]
    pub fn id(&self) -> u64 {
        quinn::VarInt::from(self.send.id()).into_inner()
    }

    /// Waits until the server resets the stream, and gives its code.
    pub async fn reset_by_server(&mut self) -> u64 {
        let reset = within("the reset", self.receive.received_reset()).await;
        reset.unwrap().expect("a reset, and no end").into_inner()
    }

    /// Resets the stream.
    pub fn reset(mut self) {
        let cancelled = quinn::VarInt::from_u32(0x10c);
        let _ = self.send.reset(cancelled);
        let _ = self.receive.stop(cancelled);
    }
}

/// The configuration of a client of HTTP/3.
fn config(early_data: bool) -> ClientConfig {
    let tls = Tls {
        alpn: vec![b"h3".to_vec()],
        ..Tls::default()
    };
    let mut tls = tls.config();
    tls.enable_early_data = early_data;
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}
