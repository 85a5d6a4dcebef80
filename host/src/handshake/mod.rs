//! From a request's head to a session or a refusal: well-formed, a stage, an origin, the `$connect` handler,
//! and only then the 101.

mod admission;
pub(crate) mod forwarded;
pub(crate) mod head;
pub(crate) mod head_watch;
mod header_case;
pub(crate) mod origin;
mod permits;
pub(crate) mod refusal;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::Authority;
use http::{Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub(crate) use self::admission::{Admission, Admitted, NotAdmitted};
use self::forwarded::Sender;
pub(crate) use self::head::MAX_HEADERS;
use self::head::{Head, Opening};
pub(crate) use self::head_watch::{HeadFaults, HeadWatch};
use self::origin::Destination;
pub(crate) use self::permits::{Permit, Permits};
use self::refusal::Refusal;
use crate::config::Proxies;
use crate::connections::{Client, Connection, RequestId, now_ms};
use crate::invocation::{Acceptance, Called, Handshake, Invocation, InvokeError};
use crate::net::Stream;
use crate::route;
use crate::session;
use crate::stage::{CurrentStage, Stage, Stages};
use crate::transport::websocket::WebSocket;

/// Bytes of a `User-Agent` that are kept with a connection.
const MAX_USER_AGENT: usize = 512;

/// What every handshake needs to know.
pub(crate) struct HandshakeContext {
    pub(crate) stages: ArcSwap<Stages>,
    /// One task for each handshake that is decided about. It does not end with the HTTP request: what the `$connect`
    /// handler has been asked is to be followed by what comes of it, also when the client has gone.
    pub(crate) deciding: TaskTracker,
    /// One permit for each handshake under way.
    pub(crate) permits: Arc<Permits>,
    /// One task for each open connection.
    pub(crate) sessions: TaskTracker,
    /// Gives each connection its place.
    pub(crate) admission: ArcSwap<Admission>,
    /// The gateway stops: no one is let in any more.
    pub(crate) stopping: CancellationToken,
    /// It has waited long enough: who is being decided about is refused, whatever the handler says later.
    pub(crate) overdue: CancellationToken,
}

/// Who is asking.
#[derive(Clone)]
pub(crate) struct Peer {
    /// The other end of the socket, or whom its PROXY header names.
    pub(crate) address: SocketAddr,
    /// The address tells clients apart; that of those who come by a socket in the file system does not.
    pub(crate) has_address: bool,
    /// The listener's: if `address` is one of them, it may be asking for someone else.
    pub(crate) proxies: Arc<Proxies>,
    /// The socket's place among the open connections. A proxy's says nothing yet of its clients.
    pub(crate) place: Arc<Admitted>,
    /// The socket's permit for its handshake, on HTTP/1.1.
    pub(crate) permit: Option<Arc<Permit>>,
    /// Counts it among the streams of its HTTP/2 connection.
    pub(crate) stream: Option<TaskTrackerToken>,
    /// What its socket has seen of the request, on HTTP/1.1.
    pub(crate) seen: Arc<HeadFaults>,
    /// It speaks TLS.
    pub(crate) secure: bool,
    /// It may be this machine's own browser: its socket came to a loopback address, and not by a PROXY header.
    pub(crate) loopback: bool,
}

/// Whether a request asks for a WebSocket at all, well-formed or not.
pub(crate) fn wants_websocket(request: &Parts) -> bool {
    head::wants_websocket(request)
}

/// The answer to a request that there is no room for.
pub(crate) fn turn_away(reason: NotAdmitted, version: Version) -> Response<Full<Bytes>> {
    Refusal::NotAdmitted(reason).response(version, RequestId::next())
}

/// Answers a request; if it lets the client in, a session begins as soon as the answer is written.
pub(crate) async fn answer<B>(
    context: &Arc<HandshakeContext>,
    peer: Peer,
    mut request: Request<B>,
) -> Response<Full<Bytes>> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    let request_id = RequestId::next();
    let sender = forwarded::sender(&peer.proxies, peer.address.ip(), &parts.headers);
    let mut asked = None;
    let answer = match judge(context, peer, sender, &parts, request_id) {
        Ok(arrival) => {
            asked = Some(Arc::clone(&arrival.current));
            decision(context, arrival, upgrade).await
        }
        Err(refusal) => Err(refusal),
    };
    let mut response = answer.unwrap_or_else(|refusal| {
        let (status, path) = (refusal.status().as_u16(), parts.uri.path());
        let stage = asked.map(|stage| tracing::field::display(Arc::clone(&stage.load().scope)));
        let (host, origin) = (host(&parts), said(&parts, &ORIGIN));
        tracing::debug!(client = %sender.address, stage, %request_id, status, host, path, origin, "refused: {refusal}");
        refusal.response(parts.version, request_id)
    });
    header_case::set(&mut response);
    response
}

/// The answer to a request for a host that is none of those of the connection's certificate (RFC 9110 §15.5.20).
pub(crate) fn misdirected<B>(request: &Request<B>) -> Response<Full<Bytes>> {
    let request_id = RequestId::next();
    let refusal = Refusal::Misdirected;
    let (status, path) = (refusal.status().as_u16(), request.uri().path());
    let host = request.uri().authority().map(Authority::as_str);
    tracing::debug!(%request_id, status, host, path, "refused: {refusal}");
    refusal.response(request.version(), request_id)
}

/// The host that a request is for, as it says.
fn host(parts: &Parts) -> Option<&str> {
    let authority = parts.uri.authority().map(Authority::as_str);
    authority.or_else(|| said(parts, &HOST))
}

fn said<'a>(parts: &'a Parts, name: &HeaderName) -> Option<&'a str> {
    parts.headers.get(name)?.to_str().ok()
}

/// What is decided about a client, in a task of its own: hyper drops the request of a client that has gone.
async fn decision(
    context: &Arc<HandshakeContext>,
    arrival: Arrival,
    upgrade: OnUpgrade,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let (reply, decided) = oneshot::channel();
    let (let_in, letting_in) = oneshot::channel();
    let deciding = arrival.decide(Arc::clone(context), reply, letting_in);
    context.deciding.spawn(deciding);
    let answer = tokio::select! {
        biased;
        decided = decided => decided.unwrap_or_else(|_| {
            let failed = anyhow::anyhow!("the task that decides about a handshake panicked");
            Err(Refusal::Failed(InvokeError::Host(failed)))
        }),
        () = context.overdue.cancelled() => Err(Refusal::Stopping),
    };
    if answer.is_ok() {
        // hyper gives the socket of a refused client, too, to whoever waits for it.
        let _ = let_in.send(upgrade);
    }
    answer
}

/// A client with a well-formed request for a stage, not decided about yet.
struct Arrival {
    current: Arc<CurrentStage>,
    connection: Arc<Connection>,
    head: Head,
    destination: Destination,
    seen: Arc<HeadFaults>,
    request_id: RequestId,
    held: Held,
    /// Held until the client has its answer, or has gone and its call is over: clients that come and go do not get
    /// more calls under way than those that wait.
    permit: Arc<Permit>,
}

/// What counts a connection until it has had its `$disconnect`.
struct Held {
    _place: Arc<Admitted>,
    _stream: Option<TaskTrackerToken>,
}

/// Checks all that can be checked without waiting.
fn judge(
    context: &HandshakeContext,
    peer: Peer,
    sender: Sender,
    parts: &Parts,
    request_id: RequestId,
) -> Result<Arrival, Refusal> {
    let head = Head::read(parts)?;
    if peer.seen.lone_line_feed() {
        return Err(Refusal::Malformed("a line of the head ends without CR"));
    }
    check_silence(&peer.seen)?;
    if context.stopping.is_cancelled() {
        return Err(Refusal::Stopping);
    }
    let admission = context.admission.load();
    // Those whom nobody has named, and who share an address, are not one client.
    let is_one = peer.has_address || sender.address != peer.address.ip();
    let (permit, place) = match peer.permit {
        // The proxy has a place already, and its client is not judged yet.
        Some(permit) if is_one && peer.proxies.trust(peer.address.ip()) => {
            let named = admission.admit_named(peer.place, sender.address);
            (permit, Arc::new(named.map_err(Refusal::NotAdmitted)?))
        }
        Some(permit) => (permit, peer.place),
        // An HTTP/2 socket carries many streams: each is a connection of its own.
        None => {
            let permit = context.permits.take();
            let permit = permit.ok_or(Refusal::NotAdmitted(NotAdmitted::TooManyHandshakes))?;
            let place = match is_one {
                true => admission.admit(sender.address),
                false => admission.admit_proxy(),
            }
            .map_err(Refusal::NotAdmitted)?;
            (Arc::new(permit), Arc::new(place))
        }
    };
    let stages = context.stages.load();
    let host = head.authority.host.to_string();
    let current = stages
        .find(&host, &head.path)
        .ok_or(Refusal::UnknownStage)?;
    let current = Arc::clone(current);
    let destination = Destination {
        authority: head.authority.clone(),
        secure: peer.secure || sender.secure,
        loopback: peer.loopback && !sender.passed_on,
        configured: stages.domains.contains(host.as_str()),
    };
    let user_agent = head.user_agent.as_deref();
    let connection = Arc::new(Connection::new(Client {
        source_ip: sender.address,
        user_agent: user_agent.map(|agent| agent.chars().take(MAX_USER_AGENT).collect()),
        domain_name: host.into(),
    }));
    Ok(Arrival {
        current,
        connection,
        head,
        destination,
        seen: peer.seen,
        request_id,
        held: Held {
            _place: place,
            _stream: peer.stream,
        },
        permit,
    })
}

impl Arrival {
    /// Asks the `$connect` handler, answers, and starts the session of a client that is let in.
    async fn decide(
        self,
        context: Arc<HandshakeContext>,
        reply: oneshot::Sender<Result<Response<Full<Bytes>>, Refusal>>,
        letting_in: oneshot::Receiver<OnUpgrade>,
    ) {
        let acceptance = match admit(
            &self.current,
            &self.connection,
            &self.head,
            &self.destination,
            self.request_id,
        )
        .await
        {
            Ok(acceptance) => acceptance,
            Err(refusal) => {
                // Who has gone needs no refusal.
                let _ = reply.send(Err(refusal));
                return;
            }
        };
        self.connection
            .set_subprotocol(acceptance.subprotocol.as_deref());
        let answer =
            check_silence(&self.seen).and_then(|()| accept(&self.head.opening, acceptance));
        let _ = reply.send(answer);
        context.sessions.spawn(begin(
            self.current,
            self.connection,
            letting_in,
            self.permit,
            self.held,
        ));
    }
}

/// A client waits for the 101 before it goes on: what it sends sooner is meant for someone behind us, or for a
/// gateway that has not decided.
fn check_silence(seen: &HeadFaults) -> Result<(), Refusal> {
    if seen.beyond_the_head() {
        return Err(Refusal::Malformed("bytes came before the answer"));
    }
    Ok(())
}

/// Judges a client by one snapshot of its stage: the newest, or when a reload came in between, the one that it made.
async fn admit(
    current: &CurrentStage,
    connection: &Arc<Connection>,
    head: &Head,
    destination: &Destination,
    request_id: RequestId,
) -> Result<Acceptance, Refusal> {
    let mut stage = current.load_full();
    loop {
        if let Some(origin) = &head.origin
            && !origin::allowed(&stage.origins, origin.as_bytes(), destination)
        {
            // The browser shows its page nothing of this.
            tracing::warn!(client = %connection.client.source_ip, stage = %stage.scope, %request_id, origin = ?origin,
                host = %destination.authority.host,
                "a page of another origin is refused\n  remedy: if it may connect, add its origin to apis.NAME.stages.NAME.origins");
            return Err(Refusal::ForeignOrigin);
        }
        if let Some(acceptance) = connect(&stage, connection, head, request_id).await? {
            return Ok(acceptance);
        }
        let newest = current.load_full();
        if Arc::ptr_eq(&stage, &newest) {
            return Err(Refusal::Failed(InvokeError::Removed));
        }
        stage = newest;
    }
}

/// Asks the `$connect` handler; without one every client is let in. None if what the snapshot points to serves no more.
async fn connect(
    stage: &Arc<Stage>,
    connection: &Arc<Connection>,
    head: &Head,
    request_id: RequestId,
) -> Result<Option<Acceptance>, Refusal> {
    let Some(route) = &stage.routes.connect else {
        return Ok(Some(Acceptance::default()));
    };
    let handshake = Handshake {
        query: form_urlencoded::parse(head.query.as_bytes())
            .into_owned()
            .collect(),
        headers: head.headers.clone(),
        subprotocols: head.subprotocols.clone(),
        source_ip: connection.client.source_ip.to_string(),
    };
    let invocation = Arc::new(Invocation {
        request_id,
        scope: Arc::clone(&stage.scope),
        connection: Arc::clone(connection),
        route_key: route::CONNECT.into(),
        requested_at: now_ms(),
    });
    let called = route.integration.invoke(&invocation, handshake);
    let Called::Ended(answer) = called.await else {
        return Ok(None);
    };
    let answer = answer.map_err(|error| {
        session::log_failure(&invocation, route, &error);
        Refusal::Failed(error)
    })?;
    let checked = match answer {
        Ok(acceptance) => check_acceptance(acceptance, &head.subprotocols),
        Err(refusal) => Err(match StatusCode::from_u16(refusal.status) {
            Ok(status) if (300..=599).contains(&refusal.status) => Refusal::Denied {
                status,
                message: refusal.message,
            },
            _ => Refusal::BadAnswer(format!(
                "the status {}, and 300 to 599 refuse",
                refusal.status
            )),
        }),
    };
    checked.map(Some).inspect_err(|refusal| {
        if let Refusal::BadAnswer(_) = refusal {
            tracing::warn!(client = %connection.client.source_ip, connection = %connection.id, stage = %stage.scope, route = route::CONNECT,
                %request_id, plugin = route.integration.name(), "{refusal}");
        }
    })
}

/// A handler may choose among what the client offered, and add headers that are not the gateway's own.
fn check_acceptance(acceptance: Acceptance, offered: &[String]) -> Result<Acceptance, Refusal> {
    if let Some(chosen) = &acceptance.subprotocol
        && !offered.contains(chosen)
    {
        return Err(Refusal::BadAnswer(format!(
            "the subprotocol {chosen:?}, which the client does not offer"
        )));
    }
    for (name, value) in &acceptance.headers {
        let valid = name
            .parse::<HeaderName>()
            .ok()
            .filter(|name| !is_ours(name));
        if valid.is_none() || HeaderValue::from_str(value).is_err() {
            return Err(Refusal::BadAnswer(format!(
                "the header {name:?}, which it may not set or which is malformed"
            )));
        }
    }
    Ok(acceptance)
}

fn is_ours(name: &HeaderName) -> bool {
    [CONNECTION, UPGRADE, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name)
        || name.as_str().starts_with("sec-websocket-")
}

/// The 101, or on HTTP/2 the 200.
fn accept(opening: &Opening, acceptance: Acceptance) -> Result<Response<Full<Bytes>>, Refusal> {
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    for (name, value) in acceptance.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            headers.append(name, value);
        }
    }
    if let Some(subprotocol) = acceptance.subprotocol {
        let value = HeaderValue::from_str(&subprotocol);
        let value = value.map_err(|_| Refusal::Malformed("a subprotocol is not a token"))?;
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    if let Opening::Upgrade { key } = opening {
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
        headers.insert(
            SEC_WEBSOCKET_ACCEPT,
            accept.expect("base64 is a header's value"),
        );
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    }
    Ok(response)
}

/// The task of a session: waits until the 101 is written, takes the socket out of hyper's hands, serves it. Without a
/// 101, since the client has gone or had another answer, the handler that let it in is told of its end.
async fn begin(
    current: Arc<CurrentStage>,
    connection: Arc<Connection>,
    letting_in: oneshot::Receiver<OnUpgrade>,
    permit: Arc<Permit>,
    held: Held,
) {
    let upgraded = match letting_in.await {
        Ok(upgrade) => upgrade.await.ok(),
        Err(_) => None,
    };
    drop(permit);
    match upgraded {
        Some(upgraded) => session(current, connection, upgraded).await,
        None => session::never_opened(&current, connection).await,
    }
    drop(held);
}

/// The session on an upgraded socket. Boxed, so that its task is as large as the kind that it is, and not as the
/// largest.
fn session(
    current: Arc<CurrentStage>,
    connection: Arc<Connection>,
    upgraded: Upgraded,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    match unwrap::<Stream>(upgraded) {
        Ok((socket, early)) => serve(current, connection, socket, &early),
        Err(upgraded) => match unwrap::<TlsStream<Stream>>(upgraded) {
            Ok((socket, early)) => serve(current, connection, socket, &early),
            Err(upgraded) => {
                let stream = TokioIo::new(upgraded); // of an HTTP/2 connection
                serve(current, connection, stream, &[])
            }
        },
    }
}

fn serve<S>(
    current: Arc<CurrentStage>,
    connection: Arc<Connection>,
    socket: S,
    early: &[u8],
) -> Pin<Box<dyn Future<Output = ()> + Send>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let websocket = WebSocket::new(socket, early, &current.load().limits);
    Box::pin(session::serve(current, connection, websocket))
}

/// The socket as it was before hyper had it, and what hyper has read beyond the head.
fn unwrap<S>(upgraded: Upgraded) -> Result<(S, Bytes), Upgraded>
where
    TokioIo<HeadWatch<S>>: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: 'static,
{
    let parts = upgraded.downcast::<TokioIo<HeadWatch<S>>>()?;
    Ok((parts.io.into_inner().into_inner(), parts.read_buf))
}
