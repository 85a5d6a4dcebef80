//! QUIC: HTTP/3 on the UDP port with the number of the listener's TCP port. Each WebSocket is a stream (RFC 9220), and a
//! connection lives no longer than its WebSockets.
//!
//! A UDP socket has all connections of a port, so it outlives its listener: a listener that is removed or changed accepts
//! no more, and its connections go on. Only one process can read it: in an upgrade each has its own ([`Port`]), or, where
//! the kernel does not tell their packets apart, one after the other.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Version};
use hyper::ext::Protocol;
use lockgate_steering::separate;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, Incoming, TokioRuntime};
use tokio::sync::{OnceCell, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::quic_bounds::bounded;
use super::quic_identity::{ResetKey, endpoint_config};
use super::streams::Streams;
use super::tls::Tls;
use super::{Accepted, ListenerContext, ListenerOptions, admit_peer, in_time};
use crate::counters::Outcome;
use crate::handover::{Port, Sockets};
use crate::handshake::{self, Http3Socket, Peer, Upgrade};
use crate::http3::{self, Code, NoHead, RequestStream};
use crate::management::connections;
use crate::net::{bind_datagrams, raise_buffers};

/// Time for which a client remembers that QUIC is served: a day, in seconds.
const REMEMBER_S: u32 = 86_400;

/// Interval of looking whether the process before this one has closed its socket.
const LOOK: Duration = Duration::from_millis(50);

/// Time after which the connections of a process that another one succeeds are ended: it waits for the port.
const RELEASE: Duration = Duration::from_secs(6);

/// Time for which a process that another one succeeds accepts the clients that began with it: those in its queue, and those
/// that it told to come again, with one packet lost.
const LATE: Duration = Duration::from_secs(2);

/// A UDP socket and the QUIC connections on it.
pub(crate) struct QuicSocket {
    pub(crate) address: SocketAddr,
    sockets: Sockets,
    /// Empty while another process has the address.
    open: OnceCell<OpenSocket>,
    /// Whether `open` has a socket, for those who do not keep it.
    is_open: Arc<AtomicBool>,
    /// Listeners that accept here.
    accepting: Mutex<usize>,
    reset_key: ResetKey,
}

struct OpenSocket {
    endpoint: Endpoint,
    port: Arc<Port>,
}

/// What answers over TCP say of QUIC.
#[derive(Clone)]
pub(crate) struct AltSvc {
    value: HeaderValue,
    /// False while nobody is served there.
    is_open: Arc<AtomicBool>,
}

/// QUIC of one listener.
pub(super) struct QuicListener {
    socket: Arc<QuicSocket>,
    tls: Arc<Tls>,
    config: Arc<quinn::ServerConfig>,
}

impl QuicSocket {
    /// Reports that an address cannot be bound, unless it is given or to be waited for.
    pub(crate) fn check(address: SocketAddr, sockets: &Sockets) -> io::Result<()> {
        if sockets.are_elsewhere() {
            return Ok(());
        }
        match bind_datagrams(address, false) {
            Err(error) if is_to_be_free(&error, address, sockets) => Ok(()),
            bound => bound.map(drop),
        }
    }

    /// Opens an address. The process before this one may have it, without a socket there for this one: two processes that
    /// read one socket would take each other's packets. Then it is bound as soon as that process has closed its connections.
    /// Until then, clients are not told of it.
    pub(crate) fn bind(address: SocketAddr, sockets: &Sockets) -> io::Result<Self> {
        let reset_key = ResetKey::of(address);
        let open = match open(address, sockets, &reset_key) {
            Ok(open) => Some(open),
            Err(error) if is_to_be_free(&error, address, sockets) => {
                warn_of_wait(address, sockets);
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            address,
            sockets: sockets.clone(),
            is_open: Arc::new(AtomicBool::new(open.is_some())),
            open: OnceCell::new_with(open),
            accepting: Mutex::new(0),
            reset_key,
        })
    }

    /// Whether another process serves here, and packets of this one's connections still come to it.
    pub(crate) fn is_handed_over(&self) -> bool {
        let open = self.open.get();
        open.is_some_and(|open| open.port.is_handed_over())
    }

    /// Gives the endpoint, once the address is free.
    async fn endpoint(&self) -> &Endpoint {
        let opened = self.open.get_or_init(async || {
            let mut said = None;
            loop {
                sleep(LOOK).await;
                let error = match open(self.address, &self.sockets, &self.reset_key) {
                    Ok(open) => return open,
                    Err(error) => error,
                };
                if is_to_be_free(&error, self.address, &self.sockets) || said == Some(error.kind()) {
                    continue;
                }
                said = Some(error.kind());
                tracing::warn!(
                    "QUIC on UDP {} still waits, and the process before this one has ended: {error}\n  remedy: stop the process \
                     that listens there, unless it is one of this gateway that drains (`ss -lunp 'sport = :{}'` shows it), or \
                     write another port",
                    self.address,
                    self.address.port()
                );
            }
        });
        let opened = opened.await;
        self.is_open.store(true, Ordering::Relaxed);
        &opened.endpoint
    }

    /// Whether this process has a socket at the address.
    pub(crate) fn is_open(&self) -> bool {
        self.open.initialized()
    }

    /// Keeps the port without a listener while other processes have sockets there.
    pub(crate) fn keep(self: Arc<Self>, context: &ListenerContext) {
        if let Some(open) = self.open.get() {
            let endpoint = open.endpoint.clone();
            let ending = end(self, endpoint, context.releasing.clone());
            context.tasks.spawn(ending);
        }
    }

    /// Tells clients of TCP that QUIC is served here, once it is.
    pub(super) fn alt_svc(&self) -> AltSvc {
        let port = self.address.port();
        let value = format!("h3=\":{port}\"; ma={REMEMBER_S}");
        AltSvc {
            value: HeaderValue::from_str(&value).expect("these are characters of a header"),
            is_open: Arc::clone(&self.is_open),
        }
    }

    fn begin_to_accept(&self, endpoint: &Endpoint, listener: &QuicListener) {
        self.reset_key.set(&listener.tls);
        let mut accepting = self
            .accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *accepting == 0 {
            tracing::info!("serving QUIC on UDP {}", self.address);
            endpoint.set_server_config(Some((*listener.config).clone()));
        }
        *accepting += 1;
    }

    /// Without a listener, packets of new clients are dropped.
    fn end_to_accept(&self, endpoint: &Endpoint) {
        let mut accepting = self
            .accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *accepting -= 1;
        if *accepting == 0 {
            endpoint.set_server_config(None);
        }
    }
}

impl AltSvc {
    /// Has clients forget what they were told.
    pub(super) fn clear() -> Self {
        Self {
            value: HeaderValue::from_static("clear"),
            is_open: Arc::new(AtomicBool::new(true)),
        }
    }

    /// The header's value; none while there is nothing to tell.
    pub(super) fn value(&self) -> Option<&HeaderValue> {
        self.is_open.load(Ordering::Relaxed).then_some(&self.value)
    }
}

/// Whether an address that cannot be bound may be that of a process before this one, which closes its sockets as it drains.
fn is_to_be_free(error: &io::Error, address: SocketAddr, sockets: &Sockets) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
        && (sockets.are_elsewhere() || sockets.draining().is_some() || Port::is_draining(address))
}

fn warn_of_wait(address: SocketAddr, sockets: &Sockets) {
    let draining = sockets.draining();
    let who = draining.as_ref().map_or_else(
        || "the process before this one".to_owned(),
        |it| format!("the process {} that this one has succeeded", it.id),
    );
    let until = match draining.and_then(|it| it.limit) {
        Some(limit) => format!("within {} s of the upgrade", limit.as_secs()),
        None => "when it has drained".to_owned(),
    };
    tracing::warn!(
        "QUIC on UDP {address} waits for its port, and clients connect over TCP meanwhile: {who}, or one before that, has it, and \
         closes it {until}; if another program has it (`ss -lunp 'sport = :{}'` shows it), stop that, or write another port",
        address.port()
    );
}

fn open(address: SocketAddr, sockets: &Sockets, key: &ResetKey) -> io::Result<OpenSocket> {
    let (socket, port) = sockets.open_port(address)?;
    if let Some(small) = raise_buffers(&socket)? {
        tracing::warn!(
            "the kernel gives the UDP socket on {address} buffers of {} KiB, and packets are lost when they are full\n  \
             remedy: sysctl -w {}={}",
            small.bytes >> 10,
            small.setting,
            small.wanted
        );
    }
    let config = endpoint_config(Arc::clone(&port), key.clone());
    let endpoint = endpoint_on(socket, config)?;
    if let Some(error) = port.refused() {
        tracing::warn!(
            "an upgrade closes the connections of QUIC on UDP {address} at once, and new ones wait for some seconds: the kernel \
             does not tell the packets of two processes apart: {error}\n  remedy: allow the process setsockopt with \
             SO_ATTACH_REUSEPORT_CBPF, which Linux has since 4.5"
        );
    }
    Ok(OpenSocket { endpoint, port })
}

/// An endpoint that gets each packet by itself. quinn has the kernel join up to 64 of one client in a buffer, and any byte
/// that is not read yet keeps the whole buffer: its bounds count a packet for it.
fn endpoint_on(socket: UdpSocket, config: EndpointConfig) -> io::Result<Endpoint> {
    let copy = socket.try_clone()?;
    let endpoint = Endpoint::new(config, None, socket, Arc::new(TokioRuntime))?;
    // A kernel without the option joins none.
    let _ = separate(&copy);
    Ok(endpoint)
}

impl QuicListener {
    pub(super) fn new(socket: Arc<QuicSocket>, tls: Arc<Tls>) -> Result<Self> {
        let crypto = QuicServerConfig::try_from(tls.for_quic()?).context("the TLS of QUIC")?;
        let keys = tls.quic_keys().context("a listener has a certificate")?;
        let config = bounded(Arc::new(crypto), Arc::new(keys.retry));
        Ok(Self {
            socket,
            tls,
            config: Arc::new(config),
        })
    }

    /// Accepts until the listener stops, then the clients that have come before.
    pub(super) async fn accept(self, options: ListenerOptions, context: ListenerContext) {
        let endpoint = self.socket.endpoint();
        let Some(endpoint) = context.stop.run_until_cancelled(endpoint).await else {
            return;
        };
        self.socket.begin_to_accept(endpoint, &self);
        let accept = async || {
            while let Some(incoming) = endpoint.accept().await {
                self.admit(incoming, &options, &context);
            }
        };
        context.stop.run_until_cancelled(accept()).await;
        if self.socket.is_handed_over() {
            let late = timeout(LATE, accept());
            let _ = context.handshakes.overdue.run_until_cancelled(late).await;
        }
        self.socket.end_to_accept(endpoint);
        while let Some(Some(incoming)) = endpoint.accept().now_or_never() {
            self.admit(incoming, &options, &context);
        }
        let socket = Arc::clone(&self.socket);
        let releasing = context.releasing.clone();
        context
            .tasks
            .spawn(end(socket, endpoint.clone(), releasing));
    }

    /// Starts to serve a client if there are permits for it, and refuses it if not.
    fn admit(&self, incoming: Incoming, options: &ListenerOptions, context: &ListenerContext) {
        let handshakes = &context.handshakes;
        // Anyone can send packets from any address, until an answer has reached it: they take no permit from others
        // (RFC 9000 §8.1).
        let must_validate =
            handshakes.permits.are_scarce() || handshakes.admission.load().counts_addresses();
        if must_validate && !incoming.remote_address_validated() && incoming.may_retry() {
            let _ = incoming.retry();
            return;
        }
        let local = incoming.local_ip();
        let local = local.unwrap_or_else(|| self.socket.address.ip());
        let from = Accepted {
            address: incoming.remote_address(),
            has_address: true,
            loopback: local.is_loopback(),
        };
        match admit_peer(from, options, context) {
            Ok(peer) => {
                let (socket, tls) = (Arc::clone(&self.socket), Arc::clone(&self.tls));
                let (config, serving) = (Arc::clone(&self.config), context.clone());
                context.tasks.spawn(async move {
                    serve(incoming, config, &tls, peer, serving).await;
                    // Found by a new listener for this address until here.
                    drop(socket);
                });
            }
            Err(_) => incoming.refuse(),
        }
    }
}

/// Waits until the last connections have told their clients of their end, and no other process has a socket on the port:
/// until then nobody can bind it anew. Ends the connections when another process waits for the port.
///
/// A new listener finds the socket meanwhile.
async fn end(socket: Arc<QuicSocket>, endpoint: Endpoint, releasing: CancellationToken) {
    let releasing = async {
        releasing.cancelled().await;
        sleep(RELEASE).await;
    };
    tokio::select! {
        () = endpoint.wait_idle() => {}
        () = releasing => {
            endpoint.close(Code::None.into(), b"");
            endpoint.wait_idle().await;
        }
    }
    let open = socket.open.get();
    while open.is_some_and(|open| !open.port.is_alone()) {
        sleep(LOOK).await;
    }
}

/// Does the handshake, and serves the requests of a connection. The first one takes over the permit of the handshake;
/// each other takes its own.
async fn serve(
    incoming: Incoming,
    config: Arc<quinn::ServerConfig>,
    tls: &Arc<Tls>,
    mut peer: Peer,
    context: ListenerContext,
) {
    let deadline = Instant::now() + **context.handshake_timeout.load();
    let address = peer.address;
    peer.proof = Some(tls.proof_over_quic());
    let handshakes = &context.handshakes;
    let opened = async {
        let quic = incoming.accept_with(config)?.await?;
        let data = quic.handshake_data().and_then(|data| data.downcast().ok());
        let name = data.and_then(|data: Box<HandshakeData>| data.server_name);
        let connection = http3::Connection::open(quic).await?;
        Ok::<_, quinn::ConnectionError>((connection, name))
    };
    let (mut connection, name) = match in_time(deadline, &context, opened).await {
        Some(Ok(opened)) => opened,
        Some(Err(error)) => {
            let why = format!("QUIC handshake failed: {error}");
            return handshakes.refused_early(Outcome::Tls, address.ip(), None, &why);
        }
        None => {
            let why = "QUIC handshake took too long";
            return handshakes.refused_early(Outcome::Tls, address.ip(), None, why);
        }
    };
    peer.tls = Some("1.3");
    // A proxy sends the requests of many clients, for many hosts, on one connection.
    let is_proxy = peer.proxies.trust(address.ip());
    let shown = tls.shown(name.as_deref()).filter(|_| !is_proxy);
    let streams = Arc::new(Streams::new(shown));
    let mut permit = peer.handshake_permit.take();
    let leave = async {
        tokio::select! {
            () = streams.unused(deadline, &context) => {
                if !streams.have_begun() {
                    let why = "no request came on the HTTP/3 connection";
                    handshakes.refused_early(Outcome::Unread, address.ip(), None, why);
                }
            }
            () = streams.leaving(&context) => {}
        }
    };
    let mut leave = pin!(leave);
    let mut has_left = false;
    // One future: what a client opens meanwhile must not make it begin anew.
    let mut ended = pin!(streams.ended_and_read());
    loop {
        tokio::select! {
            stream = connection.accept() => match stream {
                Ok(stream) if has_left => {
                    let limit = **context.handshake_timeout.load();
                    context.tasks.spawn(take_late(stream, limit));
                }
                Ok(stream) => {
                    let peer = Peer {
                        handshake_permit: permit.take(),
                        ..peer.clone()
                    };
                    let (streams, accepted) = (Arc::clone(&streams), streams.accept());
                    let serving = context.clone();
                    context.tasks.spawn(async move {
                        answer(stream, &streams, peer, serving).await;
                        drop(accepted);
                    });
                }
                Err(error) => return tracing::debug!(%address, "HTTP/3 connection ended: {error}"),
            },
            // Sessions are closed one by one; then the connection ends.
            () = &mut leave, if !has_left => {
                connection.go_away().await;
                has_left = true;
            }
            () = &mut ended, if has_left => return connection.close(),
        }
    }
}

/// Takes a stream that has come after the `GOAWAY`: a session that is open, or being opened, may still need its own
/// (draft-ietf-webtrans-http3, "Interaction with the HTTP/3 GOAWAY Frame"). A request is told to come elsewhere.
async fn take_late(mut stream: RequestStream, limit: Duration) {
    match timeout(limit, stream.head()).await {
        Ok(Err(NoHead::OfSession(id))) => {
            stream.give_to_session(id, limit).await;
        }
        Ok(Err(NoHead::Ended)) => {}
        Ok(Ok(_) | Err(NoHead::TooLarge)) | Err(_) => stream.reset(Code::RequestRejected),
    }
}

/// Answers a request, and gives the stream of one that is admitted to its session.
async fn answer(
    mut stream: RequestStream,
    streams: &Streams,
    mut peer: Peer,
    context: ListenerContext,
) {
    let limit = **context.handshake_timeout.load();
    let parts = match timeout(limit, stream.head()).await {
        Ok(Ok(parts)) => parts,
        Ok(Err(NoHead::TooLarge)) => {
            let refusal = handshake::too_large(&context.handshakes, &peer, Version::HTTP_3);
            return stream.answer(refusal).await;
        }
        Ok(Err(NoHead::OfSession(id))) => {
            drop(peer);
            return stream.give_to_session(id, limit).await;
        }
        Ok(Err(NoHead::Ended)) => return,
        Err(_) => return stream.reset(Code::RequestRejected),
    };
    peer.stream = Some(streams.begin());
    let protocol = parts.extensions.get::<Protocol>();
    let is_session = protocol.is_some_and(|protocol| protocol.as_str() == "webtransport");
    let (open, opened) = oneshot::channel();
    let request = Request::from_parts(parts, ());
    if let Some(refused) = streams.refuse(&request, &peer, &context) {
        return stream.answer(refused).await;
    }
    let (parts, ()) = request.into_parts();
    if !handshake::wants_websocket(&parts) && connections::is_target(parts.uri.path()) {
        let body = stream.body(&parts);
        let request = Request::from_parts(parts, body);
        let answer = connections::answer(&context.handshakes, peer, limit, request).await;
        if answer.has_key {
            streams.keep();
        }
        return stream.answer(answer.response).await;
    }
    let _decided = is_session.then(|| stream.decide_session());
    let upgrade = Upgrade::Http3(opened);
    let answer = streams.answer(parts, upgrade, peer, &context);
    let response = tokio::select! {
        response = answer => response,
        // hyper drops such a request too.
        () = stream.reset_by_client() => return stream.reset(Code::RequestCancelled),
    };
    // Nobody waits for the stream of a refused client.
    if open.is_closed() {
        return stream.answer(response).await;
    }
    let admitted = tokio::select! {
        biased;
        admitted = timeout(limit, stream.admit(&response)) => matches!(admitted, Ok(true)),
        // The stop's time is over.
        () = context.handshakes.overdue.cancelled() => false,
    };
    if !admitted {
        // The session ends with `open`, and gives its permit back.
        return stream.reset(Code::RequestCancelled);
    }
    let socket = match is_session {
        true => Http3Socket::Session(stream.into_session()),
        false => Http3Socket::Stream(stream.into_bytes()),
    };
    // Without a session of the gateway, it is reset.
    let _ = open.send(socket);
}

#[cfg(test)]
mod tests {
    use quinn::udp::{Transmit, UdpSocketState};

    use super::*;

    #[tokio::test]
    async fn packets_that_come_together_are_not_joined() {
        const PACKET: usize = 1_200;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (copy, address) = (socket.try_clone().unwrap(), socket.local_addr().unwrap());
        // It reads nothing before this test waits.
        let _endpoint = endpoint_on(socket, EndpointConfig::default()).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sending = UdpSocketState::new((&client).into()).unwrap();
        let packets = sending.max_gso_segments().min(8);
        let batch = Transmit {
            destination: address,
            ecn: None,
            contents: &vec![7; packets * PACKET],
            segment_size: Some(PACKET).filter(|_| packets > 1),
            src_ip: None,
        };
        sending.try_send((&client).into(), &batch).unwrap();
        let mut buffer = vec![0; 64 << 10];
        for _ in 0..packets {
            assert_eq!(copy.recv(&mut buffer).unwrap(), PACKET);
        }
    }
}
