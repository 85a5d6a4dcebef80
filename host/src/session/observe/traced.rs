//! What a session tells those who look at its connection.

use std::sync::Arc;
use std::time::Duration;

use super::super::end::End;
use crate::connections::{Connection, Message, RequestId, TraceStep};
use crate::invocation::{Invocation, InvokeError};
use crate::stage::Route;

/// Tells those who look at the connection of a message that was handled.
pub(super) fn handled(
    invocation: &Invocation,
    route: &Route,
    bytes: usize,
    took: Duration,
    answer: &Result<Option<Message>, InvokeError>,
) {
    if !invocation.connection.is_traced() {
        return;
    }
    let reply = answer.as_ref().ok().and_then(Option::as_ref);
    invocation.connection.trace(TraceStep::Handled {
        request_id: invocation.request_id,
        route: Some(Arc::clone(&route.key)),
        bytes,
        took,
        answer: reply.filter(|_| route.two_way).map(Message::len),
        error: answer.as_ref().err().map(|error| error.to_string().into()),
    });
}

/// Tells them of a message that was turned away before any handler.
pub(super) fn turned_away(connection: &Connection, request_id: RequestId, bytes: usize, why: &str) {
    if connection.is_traced() {
        connection.trace(TraceStep::Handled {
            request_id,
            route: None,
            bytes,
            took: Duration::ZERO,
            answer: None,
            error: Some(why.to_owned().into()),
        });
    }
}

/// Tells them that it ends, before its close frame.
pub(in super::super) fn ending(connection: &Connection, end: &End) {
    if connection.is_traced() {
        connection.trace(TraceStep::Ended(end.closing()));
    }
}
