//! From a request's head to a session or a refusal: well-formed, a stage, an origin, the `$connect` handler,
//! and only then the 101.

mod admission;
mod begin;
mod connect;
pub(crate) mod forwarded;
pub(crate) mod head;
pub(crate) mod head_watch;
mod header_case;
pub(crate) mod origin;
mod permits;
pub(crate) mod refusal;

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{HOST, HeaderName, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub(crate) use self::admission::{Admission, Admitted, NotAdmitted};
use self::forwarded::Sender;
use self::head::Head;
pub(crate) use self::head::MAX_HEADERS;
pub(crate) use self::head_watch::{HeadFaults, HeadWatch};
use self::origin::Destination;
pub(crate) use self::permits::{Permit, Permits};
use self::refusal::Refusal;
use crate::config::Proxies;
use crate::connections::{Client, Connection, RequestId};
use crate::invocation::InvokeError;
use crate::stage::{CurrentStage, Stages};

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
    /// The socket's permit for its handshake; the first request of an HTTP/2 socket has it, and no other.
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
    let permit = match peer.permit {
        Some(permit) => permit,
        // A further stream of an HTTP/2 socket is a handshake of its own.
        None => {
            let permit = context.permits.take();
            let too_many = Refusal::NotAdmitted(NotAdmitted::TooManyHandshakes);
            Arc::new(permit.ok_or(too_many)?)
        }
    };
    let place = match &peer.stream {
        // Each stream of an HTTP/2 socket is a connection of its own.
        Some(_) => {
            let place = match is_one {
                true => admission.admit(sender.address),
                false => admission.admit_proxy(),
            };
            Arc::new(place.map_err(Refusal::NotAdmitted)?)
        }
        // The proxy has a place already, and its client is not judged yet.
        None if is_one && peer.proxies.trust(peer.address.ip()) => {
            let named = admission.admit_named(peer.place, sender.address);
            Arc::new(named.map_err(Refusal::NotAdmitted)?)
        }
        None => peer.place,
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
        let acceptance = match connect::admit(
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
        let answer = check_silence(&self.seen)
            .and_then(|()| connect::accept(&self.head.opening, acceptance));
        let _ = reply.send(answer);
        context.sessions.spawn(begin::begin(
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
