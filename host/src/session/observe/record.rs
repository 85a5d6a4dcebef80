//! What a session counts and writes to the access log.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::driver::Traffic;
use super::super::end::End;
use crate::access_log::{self, Entry, Event, milliseconds};
use crate::clock::now_ms;
use crate::connections::{Connection, Message, RequestId};
use crate::invocation::{Invocation, InvokeError, Scope};
use crate::otlp;
use crate::stage::{Route, Stage};

/// Counts a connection's end, and writes its line. `leaves_by` is the limit by which it was told to end.
pub(in super::super) fn ended(
    end: &End,
    leaves_by: Option<&'static str>,
    scope: &Scope,
    connection: &Connection,
    traffic: Traffic,
    request_id: RequestId,
) {
    let closing = end.closing();
    let peak = connection.outbox.peak();
    scope.counters.note_close(closing.code, closing.by);
    scope.counters.outbox_peak.observe(peak);
    let principal = connection.principal();
    let open = Duration::from_millis(now_ms().saturating_sub(connection.connected_at));
    access_log::write(&Entry {
        event: Event::Disconnect,
        principal: principal.as_deref().map(Into::into),
        request_id: Some(request_id),
        code: Some(closing.code),
        reason: (!closing.reason.is_empty()).then(|| closing.reason.as_str().into()),
        closed_by: Some(closing.by),
        cause: end.cause().or(leaves_by),
        open_s: Some(open.as_secs_f64()),
        messages_in: Some(traffic.messages_in),
        messages_out: Some(traffic.messages_out),
        bytes_in: Some(traffic.bytes_in),
        bytes_out: Some(traffic.bytes_out),
        outbox_peak_bytes: Some(peak),
        http: Some(connection.client.carrier.http()),
        protocol: Some(connection.client.carrier.protocol()),
        ..of(scope, connection)
    });
}

/// What all lines about a connection have.
fn of<'a>(scope: &'a Scope, connection: &'a Connection) -> Entry<'a> {
    Entry {
        connection: Some(connection.id),
        connected_at: Some(connection.connected_at),
        client: Some(connection.client.source_ip),
        stage: Some(scope.name()),
        host: Some((&*connection.client.domain_name).into()),
        user_agent: connection.client.user_agent.as_deref().map(Into::into),
        ..Entry::default()
    }
}

/// Counts a message that was handled, and writes its line if it has one.
pub(super) fn handled(
    invocation: &Invocation,
    route: &Route,
    bytes: usize,
    took: Duration,
    answer: &Result<Option<Message>, InvokeError>,
) {
    route.counters.note_message(bytes);
    if !route.integration.is_mock() {
        invocation.scope.counters.latency.observe(took);
    }
    if !invocation.request_id.is_one_in(route.logged_one_in) {
        return;
    }
    let (status, error, bytes_out) = match answer {
        Ok(reply) => {
            let sent = reply.as_ref().filter(|_| route.two_way);
            (200, None, sent.map(|reply| reply.len() as u64))
        }
        Err(error) => (error.status(), Some(error.to_string()), None),
    };
    let principal = invocation.connection.principal();
    let span = otlp::span_of(invocation.request_id);
    access_log::write(&Entry {
        event: Event::Message,
        principal: principal.as_deref().map(Into::into),
        request_id: Some(invocation.request_id),
        trace_id: span.map(|span| span.trace),
        span_id: span.map(|span| span.span),
        route: Some((&*route.key).into()),
        status: Some(status),
        error: error.as_deref().map(Into::into),
        took_ms: Some(milliseconds(took)),
        bytes_in: Some(bytes as u64),
        bytes_out,
        ..of(&invocation.scope, &invocation.connection)
    });
}

/// Counts a message that no handler gets, and writes its line if it has one: with this status and this reason.
pub(super) fn turned_away(
    stage: &Stage,
    connection: &Connection,
    request_id: RequestId,
    bytes: usize,
    (status, why): (u16, &str),
) {
    let counters = &stage.scope.counters;
    counters.unrouted.add(1, bytes as u64);
    if status < 500 {
        counters.client_errors.fetch_add(1, Ordering::Relaxed);
    }
    if status == 429 {
        counters.throttled.fetch_add(1, Ordering::Relaxed);
    }
    if !request_id.is_one_in(stage.logged_one_in) {
        return;
    }
    let principal = connection.principal();
    let span = otlp::span_of(request_id);
    access_log::write(&Entry {
        event: Event::Message,
        request_id: Some(request_id),
        trace_id: span.map(|span| span.trace),
        span_id: span.map(|span| span.span),
        principal: principal.as_deref().map(Into::into),
        status: Some(status),
        error: Some(why.into()),
        bytes_in: Some(bytes as u64),
        ..of(&stage.scope, connection)
    });
}
