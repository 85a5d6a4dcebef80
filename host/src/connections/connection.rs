//! One open connection, as all but its own session see it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;

use super::attributes::Attributes;
use super::datagram::{Datagram, DatagramError, DatagramSink};
use super::groups::{self, Membership, PrincipalLimit};
use super::id::{ConnectionId, LastRequests, RequestId};
use super::message::{Message, Payload};
use super::outbox::{Closing, Outbox, OutboxLimits, PostError};
use super::trace::{Trace, TraceStep};
use crate::auth::{Allowance, Identity};
use crate::clock::now_ms;
use crate::trace_context::SpanContext;

/// The client, as its handshake shows it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) source_ip: IpAddr,
    /// The `Host` of the request, without port.
    pub(crate) domain_name: Box<str>,
    pub(crate) user_agent: Option<Box<str>>,
    /// It came over QUIC: a process that another one succeeds lets go of it early.
    pub(crate) over_quic: bool,
    pub(crate) carrier: Carrier,
}

/// What carries a client's messages: a WebSocket over a version of HTTP, or a WebTransport session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Http1,
    Http2,
    Http3,
    WebTransport,
}

impl Carrier {
    pub(crate) const ALL: [Self; 4] = [Self::Http1, Self::Http2, Self::Http3, Self::WebTransport];

    /// The version of HTTP.
    pub(crate) fn http(self) -> &'static str {
        match self {
            Self::Http1 => "1.1",
            Self::Http2 => "2",
            Self::Http3 | Self::WebTransport => "3",
        }
    }

    /// The protocol of the messages.
    pub(crate) fn protocol(self) -> &'static str {
        match self {
            Self::Http1 | Self::Http2 | Self::Http3 => "websocket",
            Self::WebTransport => "webtransport",
        }
    }
}

/// The bounds of the memory that one connection takes in the gateway; set by its stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    pub(crate) outbox: OutboxLimits,
    /// Whether datagrams are sent.
    pub(crate) datagrams: bool,
    /// Bytes of one message, either way.
    pub(crate) message_bytes: usize,
    /// Bytes of all attributes together: names and values, with 8 for each attribute.
    pub(crate) attributes_bytes: usize,
    /// Groups a connection may be in.
    pub(crate) groups: usize,
    /// Whether messages are queued before the connection is let in.
    pub(crate) early_posts: bool,
    /// Connections that one principal may have; none is without limit.
    pub(crate) principal: Option<PrincipalLimit>,
}

/// An open connection. Held by its session and by the decision that lets it in; all others ask the directory.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) client: Client,
    /// Milliseconds since the Unix epoch.
    pub(crate) connected_at: u64,
    /// The span of its handshake, if that is recorded.
    pub(crate) span: Option<Box<SpanContext>>,
    last_active_at: AtomicU64,
    pub(crate) outbox: Outbox,
    /// None before its session begins, and for a client that takes none.
    datagrams: OnceLock<Box<dyn DatagramSink>>,
    pub(super) membership: Mutex<Membership>,
    details: Mutex<Details>,
    /// None without an authorizer.
    identity: ArcSwapOption<Identity>,
    /// None without a usage plan.
    allowance: OnceLock<Allowance>,
    pub(super) trace: Trace,
    last_requests: LastRequests,
}

/// The subprotocol and the attributes, which may change while the connection is open.
#[derive(Debug, Default)]
struct Details {
    subprotocol: Option<Box<str>>,
    attributes: Attributes,
}

/// Why an attribute was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttributeError {
    #[error("the connection is gone")]
    Gone,
    #[error("an attribute's name is empty")]
    EmptyName,
    #[error("the attributes of a connection are over the limit")]
    TooLarge,
}

/// Why what lets a client in was not renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenewError {
    #[error("no authorizer has let the client in")]
    NoIdentity,
    #[error("it is of another principal, or another issuer's")]
    OtherClient,
    #[error("the time until which it holds has passed")]
    Expired,
    #[error("the connection is closed or closing")]
    Gone,
}

impl Connection {
    pub(crate) fn new(client: Client) -> Self {
        let now = now_ms();
        Self {
            id: ConnectionId::random(),
            client,
            connected_at: now,
            span: None,
            last_active_at: AtomicU64::new(now),
            outbox: Outbox::new(),
            datagrams: OnceLock::new(),
            membership: Mutex::default(),
            details: Mutex::default(),
            identity: ArcSwapOption::empty(),
            allowance: OnceLock::new(),
            trace: Trace::default(),
            last_requests: LastRequests::default(),
        }
    }

    /// Who the client is, as its authorizer says; none without an authorizer.
    pub(crate) fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.load_full()
    }

    /// The client's name, for the log.
    pub(crate) fn principal(&self) -> Option<String> {
        let identity = self.identity.load();
        let principal = identity.as_ref()?.principal.as_deref();
        principal.map(str::to_owned)
    }

    /// Notes who the client is, before its `$connect`.
    pub(crate) fn set_identity(&self, identity: Option<Arc<Identity>>) {
        self.identity.store(identity);
    }

    /// Renews what lets the client in. It stays the same client: its principal is what it was, by the same issuer. The session finds out at the
    /// end of the message that renews.
    pub(crate) fn renew(&self, identity: Arc<Identity>) -> Result<(), RenewError> {
        let before = self.identity.load();
        let before = before.as_ref().ok_or(RenewError::NoIdentity)?;
        if !before.is_same_client(&identity) {
            return Err(RenewError::OtherClient);
        }
        if identity.has_expired(now_ms()) {
            return Err(RenewError::Expired);
        }
        // A close stands, be it by the expiry that comes too late now.
        if self.outbox.closing().is_some() {
            return Err(RenewError::Gone);
        }
        self.identity.store(Some(identity));
        Ok(())
    }

    /// What the client's usage plan allows; none without a plan.
    pub(crate) fn allowance(&self) -> Option<&Allowance> {
        self.allowance.get()
    }

    /// Gives the client its allowance, once: the first plan that let it in counts.
    pub(crate) fn set_allowance(&self, allowance: Allowance) {
        let _ = self.allowance.set(allowance);
    }

    /// Queues a message for the client.
    pub(super) fn post(
        &self,
        message: Message,
        limits: &ConnectionLimits,
    ) -> Result<(), PostError> {
        if message.len() > limits.message_bytes {
            return Err(PostError::TooLarge);
        }
        if !limits.early_posts && !groups::is_let_in(self) {
            return Err(PostError::Gone);
        }
        self.push(message.into(), limits)
    }

    /// Queues what others have for the client.
    pub(super) fn push(
        &self,
        payload: Payload,
        limits: &ConnectionLimits,
    ) -> Result<(), PostError> {
        let (kind, bytes) = (payload.kind, payload.bytes.len());
        let pushed = self.outbox.push(payload, limits.outbox);
        if self.trace.is_on() {
            match pushed {
                Ok(()) => self.trace.note(TraceStep::Queued { kind, bytes }),
                Err(PostError::Busy) => self.trace.note(TraceStep::NoRoom { bytes }),
                Err(PostError::Gone | PostError::TooLarge) => {}
            }
        }
        pushed
    }

    /// Gives the client's datagrams their way, once.
    pub(crate) fn set_datagrams(&self, sink: Box<dyn DatagramSink>) {
        let _ = self.datagrams.set(sink);
    }

    /// Sends a datagram to the client.
    pub(super) fn send_datagram(
        &self,
        payload: &[u8],
        limits: &ConnectionLimits,
    ) -> Result<Datagram, DatagramError> {
        if !limits.datagrams {
            return Err(DatagramError::Off);
        }
        // The way of a WebTransport client's is there once it is let in.
        if self.client.carrier != Carrier::WebTransport && self.datagrams.get().is_none() {
            return Err(DatagramError::NotTaken);
        }
        if self.outbox.closing().is_some() {
            return Err(DatagramError::Gone);
        }
        if payload.len() > limits.message_bytes {
            return Err(DatagramError::TooLarge(limits.message_bytes));
        }
        // The client has not been let in.
        let Some(sink) = self.datagrams.get() else {
            return Ok(Datagram::Dropped);
        };
        sink.send(payload)
    }

    /// Whether somebody looks at its messages.
    pub(crate) fn is_traced(&self) -> bool {
        self.trace.is_on()
    }

    /// Tells those who look.
    pub(crate) fn trace(&self, step: TraceStep) {
        self.trace.note(step);
    }

    /// Notes the request that handles a message of the client.
    pub(crate) fn note_request(&self, request: RequestId) {
        self.last_requests.note(request);
    }

    /// The last requests, newest first.
    pub(super) fn last_requests(&self) -> Vec<RequestId> {
        self.last_requests.all()
    }

    /// Closes the connection once its queue is written. False when it is closing already.
    pub(crate) fn close(&self, closing: Closing) -> bool {
        self.outbox.close(closing)
    }

    /// Notes the time of a message, in either direction.
    pub(crate) fn set_last_active(&self, now: u64) {
        self.last_active_at.store(now, Ordering::Relaxed);
    }

    /// The time of the last message in either direction, in milliseconds since the Unix epoch.
    pub(super) fn last_active_at(&self) -> u64 {
        self.last_active_at.load(Ordering::Relaxed)
    }

    /// The names of its groups, in order.
    pub(super) fn groups(&self) -> Vec<String> {
        let membership = self.membership.lock();
        let membership = membership.unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = membership.names().map(str::to_owned).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn subprotocol(&self) -> Option<String> {
        self.lock().subprotocol.as_deref().map(str::to_owned)
    }

    pub(crate) fn set_subprotocol(&self, subprotocol: Option<&str>) {
        self.lock().subprotocol = subprotocol.map(Into::into);
    }

    pub(super) fn attribute(&self, name: &str) -> Option<String> {
        self.lock().attributes.get(name).map(str::to_owned)
    }

    /// All attributes, ordered by name.
    pub(super) fn attributes(&self) -> Vec<(String, String)> {
        let details = self.lock();
        let attributes = details.attributes.iter();
        attributes
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Sets an attribute, or removes it.
    pub(super) fn set_attribute(
        &self,
        name: &str,
        value: Option<&str>,
        limits: &ConnectionLimits,
    ) -> Result<(), AttributeError> {
        if name.is_empty() {
            return Err(AttributeError::EmptyName);
        }
        let attributes = &mut self.lock().attributes;
        match attributes.set(name, value, limits.attributes_bytes) {
            true => Ok(()),
            false => Err(AttributeError::TooLarge),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Details> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
