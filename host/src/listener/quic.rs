//! QUIC: HTTP/3 on the UDP port with the number of the listener's TCP port. Each WebSocket is a stream (RFC 9220), and a
//! connection lives no longer than its WebSockets.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;
use http::{Request, Version};
use hyper::ext::Protocol;
use quinn::Incoming;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::quic_addresses::canonical;
use super::quic_bounds::bounded;
use super::quic_socket::{QuicSocket, end};
use super::streams::{MAX_QUIC_STREAMS, Streams};
use super::tls::Tls;
use super::{Accepted, ListenerContext, ListenerOptions, admit_peer, in_time};
use crate::counters::Outcome;
use crate::handshake::{self, Http3Socket, Peer, Upgrade};
use crate::http3::{self, Code, NoHead, RequestStream};
use crate::management::connections;

/// Time for which a process that another one succeeds accepts the clients that began with it: those in its queue, and those
/// that it told to come again, with one packet lost.
const LATE: Duration = Duration::from_secs(2);

/// QUIC of one listener.
pub(super) struct QuicListener {
    socket: Arc<QuicSocket>,
    tls: Arc<Tls>,
    config: Arc<quinn::ServerConfig>,
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
        self.socket
            .begin_to_accept(endpoint, &self.tls, &self.config);
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
        let local = local.map_or_else(|| self.socket.address.ip(), |ip| ip.to_canonical());
        let from = Accepted {
            address: canonical(incoming.remote_address()),
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
    let (mut has_left, mut has_many) = (false, false);
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
                    if !has_many && streams.are_many() {
                        has_many = true;
                        connection.raise_limit(MAX_QUIC_STREAMS);
                    }
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
