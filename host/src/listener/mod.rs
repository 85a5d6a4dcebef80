//! The listeners: bind, accept under permits and a deadline, speak TLS and HTTP up to the handshake's answer.

mod certificate;
mod clients;
mod distinguished_name;
mod http1;
mod http2;
mod pages;
pub(crate) mod pem;
mod proof;
pub(crate) mod proxy;
mod quic;
mod quic_addresses;
mod quic_bounds;
mod quic_identity;
mod quic_socket;
mod revocation;
mod revocation_list;
mod self_signed;
mod streams;
mod tls;
pub(crate) mod x509;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Response;
use http::header::ALT_SVC;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Identity;
use crate::config::{Address, Proxies};
use crate::counters::Outcome;
use crate::handover::{Acceptor, Listening, Sockets};
use crate::handshake::{HandshakeContext, HeadFaults, NotAdmitted, Peer};
use crate::net::{MemoryStream, Patience, Stream};

pub(crate) use self::certificate::{Certificate, Unusable};
pub(crate) use self::clients::ClientTrust;
pub(crate) use self::pages::Pages;
use self::proxy::NoHeader;
use self::quic::QuicListener;
use self::quic_socket::AltSvc;
pub(crate) use self::quic_socket::QuicSocket;
use self::streams::Streams;
use self::tls::Secured;
pub(crate) use self::tls::{Certificates, Tls, pair_key};

/// Longest request head in bytes.
const MAX_HEAD: usize = 16 << 10;

/// Time limit for writing a last answer: a refusal for want of room, or the end of a connection.
const FAREWELL: Duration = Duration::from_secs(1);

/// Time for a client accepted before a stop to send its request.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// Pause after a failed accept, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound socket. A listener with changed TLS keeps its socket.
pub(crate) type Socket = Arc<Listening>;

/// A bound socket that does not accept yet.
pub(crate) struct Listener {
    /// The bound address.
    pub(crate) address: Address,
    socket: Socket,
    tls: Option<Arc<Tls>>,
    quic: Option<QuicListener>,
    /// What answers over TCP say of QUIC.
    alt_svc: Option<AltSvc>,
    proxies: Arc<Proxies>,
}

/// The options of a listener.
#[derive(Clone, Default)]
struct ListenerOptions {
    tls: Option<Arc<Tls>>,
    proxies: Arc<Proxies>,
}

/// The state shared by all listeners.
#[derive(Clone)]
pub(crate) struct ListenerContext {
    pub(crate) handshakes: Arc<HandshakeContext>,
    /// Time limit from accept to the last byte of the request's head.
    pub(crate) handshake_timeout: Arc<ArcSwap<Duration>>,
    pub(crate) pages: Option<Pages>,
    /// What a listener's answers over TCP say of QUIC.
    pub(crate) alt_svc: Option<AltSvc>,
    /// Ends accepting.
    pub(crate) stop: CancellationToken,
    /// Cancelled before `stop` if the socket closes and the gateway continues.
    pub(crate) closing: CancellationToken,
    /// Cancelled if another process waits for a UDP port.
    pub(crate) releasing: CancellationToken,
    /// One task for each listener while it accepts.
    pub(crate) accepting: TaskTracker,
    pub(crate) tasks: TaskTracker,
}

impl ListenerContext {
    /// Adds to an answer over TCP what it says of QUIC (RFC 7838).
    fn tell_of_quic<B>(&self, mut response: Response<B>) -> Response<B> {
        if let Some(alt_svc) = self.alt_svc.as_ref().and_then(AltSvc::value) {
            response.headers_mut().insert(ALT_SVC, alt_svc.clone());
        }
        response
    }
}

/// What its sockets are for.
const PURPOSE: &str = "clients";

impl Listener {
    /// Reports that an address cannot be bound.
    pub(crate) fn check(address: &Address, sockets: &Sockets) -> io::Result<()> {
        sockets.check(PURPOSE, address)
    }

    /// Binds an address; does not accept yet.
    pub(crate) fn bind(
        address: &Address,
        tls: Option<Arc<Tls>>,
        proxies: Proxies,
        sockets: &Sockets,
    ) -> io::Result<Self> {
        let socket = Arc::new(sockets.listen(PURPOSE, address)?);
        Self::on(socket, address, tls, proxies)
    }

    /// Takes a socket that is bound already.
    pub(crate) fn on(
        socket: Socket,
        address: &Address,
        tls: Option<Arc<Tls>>,
        proxies: Proxies,
    ) -> io::Result<Self> {
        let address = socket.socket.address(address)?;
        Ok(Self {
            address,
            socket,
            tls,
            quic: None,
            alt_svc: None,
            proxies: Arc::new(proxies),
        })
    }

    /// Serves QUIC too, at this socket. Nothing is done without TLS.
    pub(crate) fn add_quic(&mut self, socket: Arc<QuicSocket>) -> anyhow::Result<()> {
        if let Some(tls) = &self.tls {
            self.alt_svc = Some(socket.alt_svc());
            self.quic = Some(QuicListener::new(socket, Arc::clone(tls))?);
        }
        Ok(())
    }

    /// Tells clients to forget that QUIC was served.
    pub(crate) fn clear_quic(&mut self) {
        self.alt_svc = Some(AltSvc::clear());
    }

    pub(crate) fn socket(&self) -> Socket {
        Arc::clone(&self.socket)
    }

    pub(crate) fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// `wss` or `ws`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "wss" } else { "ws" }
    }

    /// Accepts until `stop`. If the socket closes, clients that wait in its queue are taken too.
    pub(crate) fn serve(self, context: &ListenerContext) {
        let options = ListenerOptions {
            tls: self.tls,
            proxies: self.proxies,
        };
        let (stop, mut own_context) = (context.stop.clone(), context.clone());
        own_context.alt_svc = self.alt_svc;
        if let Some(quic) = self.quic {
            if let Some(pages) = &mut own_context.pages {
                pages.quic.clone_from(&options.tls);
            }
            let accepting = quic.accept(options.clone(), own_context.clone());
            context.accepting.spawn(accepting);
        }
        context.accepting.spawn(async move {
            let socket = &self.socket.socket;
            stop.run_until_cancelled(accept(socket, &options, &own_context))
                .await;
            if own_context.closing.is_cancelled() {
                for (stream, address) in socket.waiting() {
                    admit(stream, address, &options, &own_context);
                }
            }
        });
    }
}

async fn accept(socket: &Acceptor, options: &ListenerOptions, context: &ListenerContext) {
    loop {
        match socket.accept().await {
            Ok((stream, address)) => admit(stream, address, options, context),
            Err(error) => {
                tracing::warn!("cannot accept: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Starts to serve a client in memory, or refuses it: as if it had come from `address`. If `identity` says who the
/// client is, no authorizer is asked.
pub(crate) fn serve_in_memory(
    stream: MemoryStream,
    address: SocketAddr,
    identity: Option<Arc<Identity>>,
    context: &ListenerContext,
) {
    let options = ListenerOptions::default();
    let from = Accepted {
        address,
        has_address: true,
        loopback: false,
    };
    match admit_peer(from, &options, context) {
        Ok(peer) => {
            let peer = Peer { identity, ..peer };
            let deadline = Instant::now() + **context.handshake_timeout.load();
            let serving = http1::serve(stream, peer, context.clone(), deadline);
            context.tasks.spawn(serving);
        }
        Err(reason) => drop(context.tasks.spawn(refuse(stream, reason))),
    }
}

/// Starts to serve an accepted client if there are permits for it, and refuses it if not.
fn admit(
    stream: Stream,
    address: SocketAddr,
    options: &ListenerOptions,
    context: &ListenerContext,
) {
    if options.proxies.protocol && !options.proxies.trust(address.ip()) {
        let why = "the listener has proxy_protocol, and its trusted_proxies lack this address";
        let handshakes = &context.handshakes;
        handshakes.refused_early(Outcome::ProxyHeader, address.ip(), None, why);
        return;
    }
    let from = Accepted {
        address,
        has_address: stream.has_address(),
        loopback: stream.is_to_loopback(),
    };
    match admit_peer(from, options, context) {
        Ok(peer) => {
            let (tls, serving) = (options.tls.clone(), context.clone());
            // Boxed: tokio copies a task of 9 KiB five times from its start to its end.
            let serving = Box::pin(serve_stream(stream, tls, peer, serving));
            context.tasks.spawn(serving);
        }
        Err(reason) if options.tls.is_none() => drop(context.tasks.spawn(refuse(stream, reason))),
        Err(_) => {}
    }
}

/// Where an accepted client comes from.
#[derive(Clone, Copy)]
struct Accepted {
    address: SocketAddr,
    /// As [`Stream::has_address`].
    has_address: bool,
    /// As [`Stream::is_to_loopback`].
    loopback: bool,
}

/// Takes the permits of an accepted client.
fn admit_peer(
    from: Accepted,
    options: &ListenerOptions,
    context: &ListenerContext,
) -> Result<Peer, NotAdmitted> {
    let address = from.address;
    let admission = context.handshakes.admission.load();
    // All clients of a socket in the file system have this machine's address; they are not one client.
    let connection_permit = || match options.proxies.trust(address.ip()) || !from.has_address {
        true => admission.admit_proxy(),
        false => admission.admit(address.ip()),
    };
    let admitted = context
        .handshakes
        .permits
        .take()
        .ok_or(NotAdmitted::TooManyHandshakes)
        .and_then(|permit| Ok((permit, connection_permit()?)));
    let has_answer = options.tls.is_none();
    let (handshake_permit, connection_permit) =
        admitted.inspect_err(|reason| turned_away(*reason, address, has_answer, context))?;
    Ok(Peer {
        address,
        has_address: from.has_address,
        proxies: Arc::clone(&options.proxies),
        connection_permit: Arc::new(connection_permit),
        handshake_permit: Some(Arc::new(handshake_permit)),
        stream: None,
        head_faults: Arc::new(HeadFaults::default()),
        secure: options.tls.is_some(),
        tls: None,
        certificate: None,
        proof: None,
        identity: None,
        loopback: from.loopback,
    })
}

/// Writes the line of a client for which there is no room. It has an answer in clear text only.
fn turned_away(
    reason: NotAdmitted,
    address: SocketAddr,
    has_answer: bool,
    context: &ListenerContext,
) {
    let status = has_answer.then(|| reason.status().as_u16());
    let (handshakes, why) = (&context.handshakes, format!("turned away: {reason}"));
    handshakes.refused_early(reason.outcome(), address.ip(), status, &why);
}

/// Refuses a client for want of room: before any TLS or plugin work, and in clear text only.
async fn refuse(mut stream: impl AsyncWrite + Unpin, reason: NotAdmitted) {
    let status = reason.status();
    let answer = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n"
    );
    let _ = timeout(FAREWELL, stream.write_all(answer.as_bytes())).await;
}

/// Reads the PROXY header and does the TLS handshake, if any, then serves HTTP.
async fn serve_stream(
    mut stream: Stream,
    tls: Option<Arc<Tls>>,
    mut peer: Peer,
    context: ListenerContext,
) {
    let deadline = Instant::now() + **context.handshake_timeout.load();
    let handshakes = Arc::clone(&context.handshakes);
    if peer.proxies.protocol {
        let proxy = peer.address.ip();
        let peer_read = read_proxy_header(&mut stream, peer, tls.is_none(), &context);
        peer = match in_time(deadline, &context, peer_read).await {
            Some(Ok(peer)) => peer,
            Some(Err(Some(reason))) if tls.is_none() => return refuse(stream, reason).await,
            Some(Err(_)) => return,
            None => {
                let why = "the PROXY header took too long";
                return handshakes.refused_early(Outcome::ProxyHeader, proxy, None, why);
            }
        };
    }
    stream.set_nodelay();
    let Some(tls) = tls else {
        return http1::serve(stream, peer, context, deadline).await;
    };
    let client = peer.address.ip();
    match in_time(deadline, &context, tls.accept(stream)).await {
        Some(Ok(secured)) => {
            let Secured {
                stream,
                certificate,
                proof,
            } = secured;
            peer.tls = tls::version(stream.get_ref().1);
            peer.certificate = certificate;
            peer.proof = Some(proof);
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                return http1::serve(stream, peer, context, deadline).await;
            }
            // A proxy sends the requests of many clients, for many hosts, on one connection.
            let is_proxy = peer.proxies.trust(peer.address.ip());
            let name = stream.get_ref().1.server_name();
            let shown = tls.shown(name).filter(|_| !is_proxy);
            let streams = Streams::new(shown);
            http2::serve(stream, streams, peer, context, deadline).await;
        }
        // No line: load balancers probe the port and send nothing.
        Some(Err(error)) if tls::is_probe(&error) => {
            tracing::debug!(%client, "TLS handshake failed: {error}");
        }
        Some(Err(error)) => {
            let why = format!("TLS handshake failed: {error}");
            handshakes.refused_early(Outcome::Tls, client, None, &why);
        }
        None => {
            let why = "TLS handshake took too long";
            handshakes.refused_early(Outcome::Tls, client, None, why);
        }
    }
}

/// Runs work until the deadline, or until a stop waits no more; none if it does not end in time.
async fn in_time<T>(
    deadline: Instant,
    context: &ListenerContext,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = Patience::until(deadline) => None,
        () = stopped(&context.handshakes) => None,
    }
}

/// Waits until the gateway stops, and then for the time that requests on their way have.
async fn stopped(handshakes: &HandshakeContext) {
    handshakes.stopping.cancelled().await;
    let on_its_way = sleep(ON_ITS_WAY);
    let _ = handshakes.overdue.run_until_cancelled(on_its_way).await;
}

/// Reads the PROXY header at the beginning of a socket and gives the peer that it names. An error refuses the client,
/// with the reason if there is no room.
async fn read_proxy_header(
    stream: &mut Stream,
    mut peer: Peer,
    has_answer: bool,
    context: &ListenerContext,
) -> Result<Peer, Option<NotAdmitted>> {
    let proxy = peer.address.ip();
    let header = match proxy::read(stream).await {
        Ok(header) => header,
        // No line: load balancers probe the port and send nothing.
        Err(NoHeader::Ended(error)) => {
            tracing::debug!(%proxy, "ended within the PROXY header: {error}");
            return Err(None);
        }
        Err(error @ (NoHeader::Absent | NoHeader::Malformed(_))) => {
            let why = format!("the listener has proxy_protocol, and {error}");
            let handshakes = &context.handshakes;
            handshakes.refused_early(Outcome::ProxyHeader, proxy, None, &why);
            return Err(None);
        }
    };
    peer.secure |= header.tls;
    peer.loopback = false; // No browser sends such a header.
    let Some(client) = header.client else {
        return Ok(peer);
    };
    peer.address = SocketAddr::new(client.ip().to_canonical(), client.port());
    peer.has_address = true;
    if !peer.proxies.trust(client.ip()) {
        let admission = context.handshakes.admission.load();
        let permit = admission.admit_named(peer.connection_permit, client.ip());
        peer.connection_permit = Arc::new(permit.map_err(|reason| {
            turned_away(reason, peer.address, has_answer, context);
            Some(reason)
        })?);
    }
    Ok(peer)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;

    use super::*;
    use crate::config::GatewayLimits;
    use crate::handshake::{Admission, EarlyLines};
    use crate::permits::Permits;

    /// A context without room: every accepted client is told so.
    fn context() -> ListenerContext {
        let limits = GatewayLimits::default();
        ListenerContext {
            handshakes: Arc::new(HandshakeContext {
                stages: ArcSwap::default(),
                deciding: TaskTracker::new(),
                permits: Permits::new(0),
                waiting: Permits::new(0),
                sessions: TaskTracker::new(),
                admission: ArcSwap::from_pointee(Admission::new(0, &limits)),
                early_lines: EarlyLines::default(),
                counters: Arc::default(),
                stopping: CancellationToken::new(),
                overdue: CancellationToken::new(),
            }),
            handshake_timeout: Arc::new(ArcSwap::from_pointee(limits.handshake_timeout)),
            pages: None,
            alt_svc: None,
            stop: CancellationToken::new(),
            closing: CancellationToken::new(),
            releasing: CancellationToken::new(),
            accepting: TaskTracker::new(),
            tasks: TaskTracker::new(),
        }
    }

    #[tokio::test]
    async fn clients_waiting_when_a_socket_closes_have_an_answer() {
        let address = Address::Ip("127.0.0.1:0".parse().unwrap());
        let sockets = Sockets::default();
        let listener = Listener::bind(&address, None, Proxies::default(), &sockets).unwrap();
        let address = listener.address.ip().unwrap();
        let mut clients = Vec::new();
        for _ in 0..10 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let context = context();
        context.closing.cancel();
        context.stop.cancel();
        listener.serve(&context);
        for mut client in clients {
            let mut answer = String::new();
            let read = timeout(Duration::from_secs(20), client.read_to_string(&mut answer));
            read.await.unwrap().unwrap();
            assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        }
        context.accepting.close();
        context.accepting.wait().await;
        assert!(TcpStream::connect(address).await.is_err());
    }
}
