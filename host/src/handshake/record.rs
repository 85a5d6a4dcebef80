//! The handshake's lines in the access log: one for each, whichever way it ends.

use std::borrow::Cow;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;

use governor::Quota;
use http::header::{HOST, HeaderName, ORIGIN, USER_AGENT};
use http::uri::Authority;
use http::{HeaderMap, Request};
use tokio::time::Instant;

use super::admission::AddressLimiter;
use super::forwarded::RequestSender;
use super::head::{self, Head};
use super::refusal::Refusal;
use super::{HandshakeContext, Peer, spans, trace};
use crate::access_log::{self, Entry, milliseconds};
use crate::connections::{Connection, RequestId};
use crate::counters::Outcome;
use crate::invocation::Scope;
use crate::otlp;
use crate::trace_context::{SpanContext, TraceParent};

/// Lines about clients that were turned away before their request was read, for one address: as many at once, and one
/// a second. Nothing bounds such clients but their number.
const EARLY_LINES: NonZeroU32 = NonZeroU32::new(50).expect("it is not 0");

/// The bound of lines about clients that were turned away before their request was read.
pub(crate) struct EarlyLines(AddressLimiter);

impl Default for EarlyLines {
    fn default() -> Self {
        let quota = Quota::per_second(NonZeroU32::MIN).allow_burst(EARLY_LINES);
        Self(AddressLimiter::new(quota))
    }
}

impl HandshakeContext {
    /// Counts a client whose request was not read, and writes its line. `status` is that of the answer, if it gets one.
    pub(crate) fn refused_early(
        &self,
        outcome: Outcome,
        client: IpAddr,
        status: Option<u16>,
        why: &str,
    ) {
        self.counters.handshakes.add(outcome);
        if !self.early_lines.0.allows(client) {
            return;
        }
        access_log::write(&Entry {
            client: Some(client.to_canonical()),
            refused: Some(why.into()),
            status,
            ..Entry::default()
        });
    }
}

/// What is known of a request before it is judged.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub(super) request_id: RequestId,
    client: IpAddr,
    tls: Option<&'static str>,
    client_trace: Option<TraceParent>,
    /// Its span, if it is recorded.
    pub(super) span: Option<SpanContext>,
    since: Instant,
}

impl Arrival {
    pub(super) fn new(peer: &Peer, sender: &RequestSender, headers: &HeaderMap) -> Self {
        let (request_id, client_trace) = (RequestId::next(), trace::read(headers));
        Self {
            request_id,
            client: sender.address,
            tls: peer.tls,
            client_trace,
            span: otlp::handshake_span(request_id, client_trace),
            since: Instant::now(),
        }
    }

    /// Writes the line of a request that was refused as soon as its head was read.
    pub(super) fn refused<B>(
        &self,
        context: &HandshakeContext,
        request: &Request<B>,
        refusal: &Refusal,
    ) {
        context.counters.handshakes.add(refusal.outcome());
        let why = refusal.to_string();
        let (host, origin) = (host(request), text(request, &ORIGIN));
        let user_agent = text(request, &USER_AGENT);
        self.write(&Entry {
            host: host.as_deref().map(Into::into),
            path: Some(request.uri().path().into()),
            origin: origin.as_deref().map(Into::into),
            user_agent: user_agent.as_deref().map(Into::into),
            http: Some(head::version(request.version())),
            status: Some(refusal.status().as_u16()),
            refused: Some(why.as_str().into()),
            ..self.entry()
        });
    }

    /// Writes the line of a request that was decided: refused, or admitted with this status.
    pub(super) fn decided(
        &self,
        context: &HandshakeContext,
        head: &Head,
        scope: &Scope,
        connection: &Connection,
        outcome: Result<u16, &Refusal>,
    ) {
        let counted = outcome.err().map_or(Outcome::Accepted, Refusal::outcome);
        context.counters.handshakes.add(counted);
        if outcome.is_err_and(Refusal::is_client_error) {
            scope.counters.client_errors.fetch_add(1, Ordering::Relaxed);
        }
        let why = outcome.err().map(ToString::to_string);
        let principal = connection.principal();
        let origin = head.origin.as_ref().map(head::shown);
        self.write(&Entry {
            connection: Some(connection.id),
            connected_at: Some(connection.connected_at),
            stage: Some(scope.name()),
            host: Some((&*connection.client.domain_name).into()),
            path: Some(head.path.as_str().into()),
            origin: origin.as_deref().map(Into::into),
            user_agent: head.user_agent.as_deref().map(Into::into),
            principal: principal.as_deref().map(Into::into),
            http: Some(head.http_version),
            protocol: Some(connection.client.carrier.protocol()),
            status: Some(outcome.unwrap_or_else(|refusal| refusal.status().as_u16())),
            refused: why.as_deref().map(Into::into),
            ..self.entry()
        });
    }

    fn write(&self, entry: &Entry<'_>) {
        access_log::write(entry);
        if let Some(span) = self.span {
            spans::handshake(span, self.client_trace, self.since.elapsed(), entry);
        }
    }

    fn entry(&self) -> Entry<'_> {
        let trace = self.span.map(|span| span.trace);
        let client_trace = self.client_trace.map(|client| client.context.trace);
        Entry {
            request_id: Some(self.request_id),
            client: Some(self.client),
            tls: self.tls,
            trace_id: trace.or(client_trace),
            span_id: self.span.map(|span| span.span),
            took_ms: Some(milliseconds(self.since.elapsed())),
            ..Entry::default()
        }
    }
}

/// The host that a request names.
fn host<B>(request: &Request<B>) -> Option<Cow<'_, str>> {
    let authority = request.uri().authority().map(Authority::as_str);
    let authority = authority.map(Cow::Borrowed);
    authority.or_else(|| text(request, &HOST))
}

fn text<'a, B>(request: &'a Request<B>, name: &HeaderName) -> Option<Cow<'a, str>> {
    request.headers().get(name).map(head::shown)
}
