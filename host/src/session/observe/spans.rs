//! The spans of a session: one for each event that is recorded.
//!
//! A connection may last for days, and a span ends before it can be looked at. So a message has a trace of its own, with
//! a link to its connection's handshake, as OpenTelemetry's conventions for messaging have it of a consumer.

use std::time::Duration;

use crate::clock::now;
use crate::connections::{Connection, Message, RequestId};
use crate::invocation::{Invocation, InvokeError, Scope};
use crate::otlp::{self, Attribute, Origin, Span, SpanKind};
use crate::stage::{Route, Stage};
use crate::trace_context::SpanContext;

/// Records the span of a message that was handled.
pub(super) fn handled(
    invocation: &Invocation,
    route: &Route,
    bytes: usize,
    took: Duration,
    answer: &Result<Option<Message>, InvokeError>,
) {
    if let Some(context) = otlp::span_of(invocation.request_id) {
        let answer = answer
            .as_ref()
            .map(|answer| answer.as_ref().map(Message::len));
        called(context, invocation, route, Some(bytes), took, answer);
    }
}

/// Records the span of a `$disconnect`.
pub(in super::super) fn disconnected(
    invocation: &Invocation,
    route: &Route,
    took: Duration,
    answer: Result<(), &InvokeError>,
) {
    if let Some(context) = otlp::span_of(invocation.request_id) {
        called(
            context,
            invocation,
            route,
            None,
            took,
            answer.map(|()| None),
        );
    }
}

/// Records the span of a message that was turned away, with this status and this reason.
pub(super) fn turned_away(
    stage: &Stage,
    connection: &Connection,
    request_id: RequestId,
    bytes: usize,
    (status, why): (u16, &str),
) {
    if let Some(context) = otlp::span_of(request_id) {
        let status = status.to_string();
        Event {
            context,
            name: "process",
            scope: &stage.scope,
            connection,
            request_id,
            took: Duration::ZERO,
            error: Some((&status, why)),
        }
        .record(&[body_size("messaging.message.body.size", bytes)]);
    }
}

/// Records the span of a call of a route's integration.
#[cold]
fn called(
    context: SpanContext,
    invocation: &Invocation,
    route: &Route,
    bytes: Option<usize>,
    took: Duration,
    answer: Result<Option<usize>, &InvokeError>,
) {
    if !route.integration.is_mock() {
        let latency = &invocation.scope.counters.latency;
        latency.note_traced(took, context.trace);
    }
    let error = answer.err();
    let error = error.map(|error| (error.kind(), error.to_string()));
    let key = &*invocation.route_key;
    let absent = ("", Attribute::Absent);
    let answered = answer.ok().flatten().filter(|_| route.two_way);
    Event {
        context,
        name: &format!("process {key}"),
        scope: &invocation.scope,
        connection: &invocation.connection,
        request_id: invocation.request_id,
        took,
        error: error.as_ref().map(|(kind, text)| (*kind, text.as_str())),
    }
    .record(&[
        ("messaging.destination.name", key.into()),
        ("lockgate.route", key.into()),
        ("lockgate.plugin", route.integration.name().into()),
        (
            "lockgate.took_ms",
            Attribute::Decimal(took.as_secs_f64() * 1e3),
        ),
        bytes.map_or(absent, |bytes| {
            body_size("messaging.message.body.size", bytes)
        }),
        answered.map_or(absent, |bytes| body_size("lockgate.answer.size", bytes)),
    ]);
}

fn body_size(name: &'static str, bytes: usize) -> (&'static str, Attribute<'static>) {
    (
        name,
        Attribute::Integer(bytes.try_into().unwrap_or(i64::MAX)),
    )
}

/// An event of a connection.
struct Event<'a> {
    context: SpanContext,
    name: &'a str,
    scope: &'a Scope,
    connection: &'a Connection,
    request_id: RequestId,
    took: Duration,
    error: Option<(&'a str, &'a str)>,
}

impl Event<'_> {
    /// Records its span, with these attributes beside those that all have.
    fn record(&self, own: &[(&'static str, Attribute<'_>)]) {
        let client = self.connection.client.source_ip.to_string();
        let principal = self.connection.principal();
        let (stage, request_id) = (self.scope.to_string(), self.request_id.to_string());
        let all = [
            (
                "messaging.system",
                self.connection.client.carrier.protocol().into(),
            ),
            ("messaging.operation.name", "process".into()),
            ("messaging.operation.type", "process".into()),
            ("client.address", client.as_str().into()),
            ("user.id", principal.as_deref().into()),
            ("lockgate.api", (&*self.scope.api).into()),
            ("lockgate.stage", stage.as_str().into()),
            ("lockgate.connection", self.connection.id.as_str().into()),
            ("lockgate.request_id", request_id.as_str().into()),
        ];
        Span {
            context: self.context,
            origin: Origin::of_message(self.connection.span.as_deref().copied()),
            kind: SpanKind::Consumer,
            name: self.name,
            ended: now(),
            took: self.took,
            attributes: &[&all, own].concat(),
            error: self.error,
        }
        .record();
    }
}
