//! The handshake, from a request's head to a session or a refusal: the form of the request, the stage, the origin, the
//! authorizer, the `$connect` handler, and only then the 101.

mod admission;
mod begin;
mod connect;
pub(crate) mod forwarded;
pub(crate) mod head;
pub(crate) mod head_watch;
mod header_case;
pub(crate) mod origin;
mod record;
pub(crate) mod refusal;
mod spans;
mod token_offer;
mod trace;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::Full;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub(crate) use self::admission::{Admission, ConnectionPermit, NotAdmitted};
pub(crate) use self::begin::{Http3Socket, Upgrade};
use self::connect::Candidate;
use self::forwarded::RequestSender;
use self::head::Head;
pub(crate) use self::head::{MAX_HEADERS, authority};
pub(crate) use self::head_watch::{HeadFaults, HeadWatch};
use self::origin::Destination;
use self::record::Arrival;
pub(crate) use self::record::EarlyLines;
use self::refusal::Refusal;
use crate::auth::{ClientCertificate, Identity};
use crate::config::{Compat, Proxies};
use crate::connections::{Client, Connection, ConnectionId, RequestId};
use crate::counters::{Counters, Outcome};
use crate::invocation::InvokeError;
use crate::permits::{Permit, Permits};
use crate::stage::{CurrentStage, Stages};

/// Limit of a `User-Agent` that is kept with a connection, in characters.
const MAX_USER_AGENT: usize = 512;

/// The state shared by all handshakes.
pub(crate) struct HandshakeContext {
    pub(crate) stages: ArcSwap<Stages>,
    /// One task for each handshake being decided. It outlives the HTTP request: a `$connect` handler that was called is
    /// followed by its outcome, even if the client is gone.
    pub(crate) deciding: TaskTracker,
    /// One permit for each handshake under way.
    pub(crate) permits: Arc<Permits>,
    /// One permit for each of them that waits for what an authorizer asks over the network: half as many, so that an
    /// endpoint that hangs leaves room for clients who need it not.
    pub(crate) waiting: Arc<Permits>,
    /// One task for each open connection.
    pub(crate) sessions: TaskTracker,
    /// Gives each connection its permit.
    pub(crate) admission: ArcSwap<Admission>,
    /// The bound of the lines of clients whose request was not read.
    pub(crate) early_lines: EarlyLines,
    pub(crate) counters: Arc<Counters>,
    /// Cancelled when the gateway stops: no client is admitted any more.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when the stop's time is over: handshakes being decided are refused, whatever the handler says later.
    pub(crate) overdue: CancellationToken,
}

/// What a client has shown in TLS.
pub(crate) trait Proof: Send + Sync {
    /// Whether its listener would let the client in now.
    fn holds(&self) -> bool;
}

/// The peer of a request.
#[derive(Clone)]
pub(crate) struct Peer {
    /// The other end of the socket, or the client that its PROXY header names.
    pub(crate) address: SocketAddr,
    /// The address tells clients apart. That of clients on a socket in the file system does not.
    pub(crate) has_address: bool,
    /// The listener's proxies: if `address` is one of them, the request may be another client's.
    pub(crate) proxies: Arc<Proxies>,
    /// The socket's permit among the open connections. A proxy's does not count for a client yet.
    pub(crate) connection_permit: Arc<ConnectionPermit>,
    /// The socket's permit for its handshake. On HTTP/2 and HTTP/3 only the connection's first request has it.
    pub(crate) handshake_permit: Option<Arc<Permit>>,
    /// Counts the request among the streams of its HTTP/2 or HTTP/3 connection.
    pub(crate) stream: Option<[TaskTrackerToken; 2]>,
    /// The faults that its socket has seen in the head, on HTTP/1.1.
    pub(crate) head_faults: Arc<HeadFaults>,
    /// The peer speaks TLS.
    pub(crate) secure: bool,
    /// The version of TLS that it speaks with this gateway.
    pub(crate) tls: Option<&'static str>,
    /// The certificate that the client has shown in TLS.
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    /// What it has shown; none without TLS.
    pub(crate) proof: Option<Arc<dyn Proof>>,
    /// Who the client is, if a dialogue says it: then no authorizer is asked.
    pub(crate) identity: Option<Arc<Identity>>,
    /// The peer may be this machine's browser: its socket came to a loopback address, without a PROXY header.
    pub(crate) loopback: bool,
}

impl Peer {
    /// The address of the client that has sent a request, which may be another than the peer.
    pub(crate) fn client(&self, headers: &HeaderMap) -> IpAddr {
        forwarded::sender(&self.proxies, self.address.ip(), headers).address
    }

    /// Whether its listener would let it in now.
    pub(crate) fn is_trusted(&self) -> bool {
        holds(&self.proof)
    }
}

fn holds(proof: &Option<Arc<dyn Proof>>) -> bool {
    proof.as_ref().is_none_or(|proof| proof.holds())
}

/// Whether a request asks for a WebSocket at all, well-formed or not.
pub(crate) fn wants_websocket(request: &Parts) -> bool {
    head::wants_websocket(request)
}

/// Makes the refusal for want of room.
pub(crate) fn refuse<B>(
    context: &HandshakeContext,
    peer: &Peer,
    request: &Request<B>,
    reason: NotAdmitted,
) -> Response<Full<Bytes>> {
    refuse_unjudged(context, peer, request, &Refusal::NotAdmitted(reason))
}

/// Makes the answer to a request for a host that the connection's certificate does not cover (RFC 9110 §15.5.20).
pub(crate) fn misdirected<B>(
    context: &HandshakeContext,
    peer: &Peer,
    request: &Request<B>,
) -> Response<Full<Bytes>> {
    refuse_unjudged(context, peer, request, &Refusal::Misdirected)
}

/// Makes the answer to a request that comes long after its connection was to take no more.
pub(crate) fn late<B>(
    context: &HandshakeContext,
    peer: &Peer,
    request: &Request<B>,
) -> Response<Full<Bytes>> {
    refuse_unjudged(context, peer, request, &Refusal::Late)
}

/// Makes the answer to a request of a client whose certificate the listener trusts no more.
pub(crate) fn distrusted<B>(
    context: &HandshakeContext,
    peer: &Peer,
    request: &Request<B>,
) -> Response<Full<Bytes>> {
    refuse_unjudged(context, peer, request, &Refusal::Distrusted)
}

fn refuse_unjudged<B>(
    context: &HandshakeContext,
    peer: &Peer,
    request: &Request<B>,
    refusal: &Refusal,
) -> Response<Full<Bytes>> {
    let sender = forwarded::sender(&peer.proxies, peer.address.ip(), request.headers());
    let arrival = Arrival::new(peer, &sender, request.headers());
    arrival.refused(context, request, refusal);
    refusal.response(request.version(), arrival.request_id)
}

/// Makes the refusal of a head that is too large to be read.
pub(crate) fn too_large(
    context: &HandshakeContext,
    peer: &Peer,
    version: Version,
) -> Response<Full<Bytes>> {
    let refusal = Refusal::TooManyHeaders;
    let (client, status) = (peer.address.ip(), refusal.status().as_u16());
    let why = "the head of the request is too large";
    context.refused_early(Outcome::Unread, client, Some(status), why);
    refusal.response(version, RequestId::next())
}

/// Answers a request that hyper has read. If it admits the client, a session begins once the answer is written.
pub(crate) async fn answer<B>(
    context: &Arc<HandshakeContext>,
    peer: Peer,
    mut request: Request<B>,
) -> Response<Full<Bytes>> {
    let upgrade = Upgrade::Hyper(hyper::upgrade::on(&mut request), None);
    let (parts, _) = request.into_parts();
    answer_with(context, peer, parts, upgrade).await
}

/// As [`answer`]; `upgrade` gives the socket of an admitted client.
pub(crate) async fn answer_with(
    context: &Arc<HandshakeContext>,
    peer: Peer,
    parts: Parts,
    upgrade: Upgrade,
) -> Response<Full<Bytes>> {
    let sender = forwarded::sender(&peer.proxies, peer.address.ip(), &parts.headers);
    let mut arrival = Arrival::new(&peer, &sender, &parts.headers);
    let mut compat = Compat::default();
    let answer = match judge(context, peer, sender, &parts, arrival) {
        Ok(pending) => {
            arrival = pending.arrival;
            compat = pending.current.load().limits.compat;
            decide_in_task(context, pending, upgrade).await
        }
        Err(refusal) => {
            arrival.refused(context, &Request::from_parts(parts.clone(), ()), &refusal);
            Err(refusal)
        }
    };
    let mut response = answer.unwrap_or_else(|refusal| {
        let response = refusal.response(parts.version, arrival.request_id);
        match compat.refuses_as_aws() {
            true => refusal.as_aws(response, arrival.request_id),
            false => response,
        }
    });
    header_case::set(&mut response);
    response
}

/// Decides on a client in a task of its own: hyper drops the request of a client that is gone.
async fn decide_in_task(
    context: &Arc<HandshakeContext>,
    pending: PendingHandshake,
    upgrade: Upgrade,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let (reply, decided) = oneshot::channel();
    let (admit, admitted) = oneshot::channel();
    // Boxed: tokio copies a task of 5 KiB five times from its start to its end.
    let deciding = Box::pin(pending.decide(Arc::clone(context), reply, admitted));
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
        // Only here: hyper would give a refused client's socket to a waiter, too.
        let _ = admit.send(upgrade);
    }
    answer
}

/// A well-formed request for a stage, not decided yet.
struct PendingHandshake {
    current: Arc<CurrentStage>,
    connection: Arc<Connection>,
    head: Head,
    destination: Destination,
    head_faults: Arc<HeadFaults>,
    arrival: Arrival,
    certificate: Option<Arc<ClientCertificate>>,
    /// As [`Peer::proof`].
    proof: Option<Arc<dyn Proof>>,
    /// As [`Peer::identity`].
    identity: Option<Arc<Identity>>,
    guards: ConnectionGuards,
    /// Held until the client has its answer, or is gone and its call has ended: clients that come and go get no more
    /// calls under way than those that wait.
    permit: Arc<Permit>,
}

/// Counts a connection until its `$disconnect` has run.
struct ConnectionGuards {
    _permit: Arc<ConnectionPermit>,
    _stream: Option<[TaskTrackerToken; 2]>,
}

/// Makes every check that needs no waiting.
fn judge(
    context: &HandshakeContext,
    peer: Peer,
    sender: RequestSender,
    parts: &Parts,
    mut arrival: Arrival,
) -> Result<PendingHandshake, Refusal> {
    let head = Head::read(parts)?;
    if peer.head_faults.lone_line_feed() {
        return Err(Refusal::Malformed("a line of the head ends without CR"));
    }
    check_silence(&peer.head_faults)?;
    if context.stopping.is_cancelled() {
        return Err(Refusal::Stopping);
    }
    let admission = context.admission.load();
    // Clients without a name that share an address are not one client.
    let is_one = peer.has_address || sender.address != peer.address.ip();
    let permit = match peer.handshake_permit {
        Some(permit) => permit,
        // A further stream of a connection is a handshake of its own.
        None => {
            let permit = context.permits.take();
            let too_many = Refusal::NotAdmitted(NotAdmitted::TooManyHandshakes);
            Arc::new(permit.ok_or(too_many)?)
        }
    };
    let connection_permit = match &peer.stream {
        // Each stream of a connection is a WebSocket of its own.
        Some(_) => {
            let permit = match is_one {
                true => admission.admit(sender.address),
                false => admission.admit_proxy(),
            };
            Arc::new(permit.map_err(Refusal::NotAdmitted)?)
        }
        // The proxy's socket has a permit, and its client is not judged yet.
        None if is_one && peer.proxies.trust(peer.address.ip()) => {
            let named = admission.admit_named(peer.connection_permit, sender.address);
            Arc::new(named.map_err(Refusal::NotAdmitted)?)
        }
        None => peer.connection_permit,
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
        loopback: peer.loopback && !sender.via_proxy,
        configured: stages.domains.contains(host.as_str()),
    };
    let user_agent = head.user_agent.as_deref();
    let mut connection = Connection::new(Client {
        source_ip: sender.address,
        user_agent: user_agent.map(|agent| agent.chars().take(MAX_USER_AGENT).collect()),
        domain_name: host.into(),
        over_quic: parts.version == Version::HTTP_3,
        carrier: head.carrier(),
    });
    let pads_ids = current.load().limits.compat.pads_ids();
    if pads_ids {
        connection.id = ConnectionId::random_padded();
    }
    connection.span = arrival.span.map(Box::new);
    arrival.request_id = arrival.request_id.padded(pads_ids);
    Ok(PendingHandshake {
        current,
        connection: Arc::new(connection),
        head,
        destination,
        head_faults: peer.head_faults,
        arrival,
        // That of a proxy is not its clients'.
        certificate: peer.certificate.filter(|_| !sender.via_proxy),
        proof: peer.proof,
        identity: peer.identity,
        guards: ConnectionGuards {
            _permit: connection_permit,
            _stream: peer.stream,
        },
        permit,
    })
}

impl PendingHandshake {
    /// Counts the client in the rate of its API.
    fn check_rate(&self) -> Result<(), Refusal> {
        match &self.current.load().connect_rate {
            Some(rate) if !rate.takes_one() => {
                Err(Refusal::NotAdmitted(NotAdmitted::TooFastForApi))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Asks the authorizer and the `$connect` handler, answers, and starts the session of an admitted client.
    async fn decide(
        self,
        context: Arc<HandshakeContext>,
        reply: oneshot::Sender<Result<Response<Full<Bytes>>, Refusal>>,
        admitted: oneshot::Receiver<Upgrade>,
    ) {
        let candidate = Candidate {
            connection: &self.connection,
            head: &self.head,
            destination: &self.destination,
            request_id: self.arrival.request_id,
            certificate: &self.certificate,
            identity: self.identity.as_ref(),
            waiting: &context.waiting,
            overdue: &context.overdue,
        };
        let admitting = async {
            self.check_rate()?;
            connect::admit(&self.current, &candidate).await
        };
        let acceptance = match admitting.await {
            Ok(acceptance) => acceptance,
            Err(refusal) => {
                self.record(&context, Err(&refusal));
                // A client that is gone needs no refusal.
                let _ = reply.send(Err(refusal));
                return;
            }
        };
        self.connection
            .set_subprotocol(acceptance.subprotocol.as_deref());
        let answer = check_silence(&self.head_faults)
            .and_then(|()| connect::accept(&self.head.opening, acceptance));
        // Before its 101: a client that has it can be sent to.
        let admitted_answer = answer.and_then(|response| {
            let scope = Arc::clone(&self.current.load().scope);
            let connection = Arc::clone(&self.connection);
            let registration = scope.directory.admit(connection, scope.limits.principal);
            Ok((response, registration.map_err(Refusal::TooManyOfPrincipal)?))
        });
        let (answer, registration) = match admitted_answer {
            // Once it is registered: of a client that is trusted until here, a close of all its connections finds this one.
            Ok((_, registration)) if !holds(&self.proof) => {
                (Err(Refusal::Distrusted), Some(registration))
            }
            Ok((response, registration)) => (Ok(response), Some(registration)),
            Err(refusal) => (Err(refusal), None),
        };
        let outcome = answer.as_ref();
        self.record(&context, outcome.map(|response| response.status().as_u16()));
        let _ = reply.send(answer);
        context.sessions.spawn(begin::begin(
            self.current,
            self.connection,
            registration,
            admitted,
            self.permit,
            self.guards,
        ));
    }

    /// Writes the line of the decision, which the client gets unless the gateway's time was over first.
    fn record(&self, context: &HandshakeContext, outcome: Result<u16, &Refusal>) {
        let outcome = match context.overdue.is_cancelled() {
            true => Err(&Refusal::Stopping),
            false => outcome,
        };
        let scope = &self.current.load().scope;
        self.arrival
            .decided(context, &self.head, scope, &self.connection, outcome);
    }
}

/// Refuses bytes before the 101, for which a client must wait: they are meant for someone behind the gateway, or for a
/// gateway that has not decided.
fn check_silence(faults: &HeadFaults) -> Result<(), Refusal> {
    if faults.beyond_the_head() {
        return Err(Refusal::Malformed("bytes came before the answer"));
    }
    Ok(())
}
