//! The session's lines in the access log.

use std::time::{Duration, Instant};

use super::driver::Traffic;
use super::end::End;
use crate::access_log::{self, Entry, Event, milliseconds};
use crate::clock::now_ms;
use crate::connections::{Connection, RequestId};
use crate::invocation::{InvokeError, Scope};

/// Writes the line of a connection's end. `leaves_by` is the limit by which it was told to end.
pub(super) fn end(
    end: &End,
    leaves_by: Option<&'static str>,
    scope: &Scope,
    connection: &Connection,
    traffic: Traffic,
    request_id: RequestId,
) {
    let closing = end.closing();
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
        outbox_peak_bytes: Some(connection.outbox.peak()),
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

/// Writes the line of a message that was handled.
pub(super) fn message(message: &Handled<'_>, scope: &Scope, connection: &Connection) {
    let (status, error) = match message.outcome {
        Ok(_) => (200, None),
        Err(None) => (403, Some("no route for it".to_owned())),
        Err(Some(error)) => (error.status(), Some(error.to_string())),
    };
    let bytes_out = message.outcome.ok().flatten();
    let principal = connection.principal();
    access_log::write(&Entry {
        event: Event::Message,
        principal: principal.as_deref().map(Into::into),
        request_id: Some(message.request_id),
        route: message.route.map(Into::into),
        status: Some(status),
        error: error.as_deref().map(Into::into),
        took_ms: message.since.map(|since| milliseconds(since.elapsed())),
        bytes_in: Some(message.bytes as u64),
        bytes_out: bytes_out.map(|bytes| bytes as u64),
        ..of(scope, connection)
    });
}

/// A message that was handled.
pub(super) struct Handled<'a> {
    pub(super) request_id: RequestId,
    /// None if there is none for it.
    pub(super) route: Option<&'a str>,
    /// The start of its call.
    pub(super) since: Option<Instant>,
    pub(super) bytes: usize,
    /// The bytes of the answer, if there is one; no error if there is no route.
    pub(super) outcome: Result<Option<usize>, Option<&'a InvokeError>>,
}
