//! What a session tells of its events: to the counters and the access log, to those who trace its connection, and to the
//! collector of spans.

mod record;
mod spans;
mod traced;

use std::time::Duration;

pub(super) use self::record::ended;
pub(super) use self::spans::disconnected;
pub(super) use self::traced::ending;
use crate::connections::{Connection, Message, RequestId};
use crate::invocation::{Invocation, InvokeError};
use crate::stage::{Route, Stage};

/// Tells of a message that was handled.
pub(super) fn handled(
    invocation: &Invocation,
    route: &Route,
    bytes: usize,
    took: Duration,
    answer: &Result<Option<Message>, InvokeError>,
) {
    record::handled(invocation, route, bytes, took, answer);
    traced::handled(invocation, route, bytes, took, answer);
    spans::handled(invocation, route, bytes, took, answer);
}

/// Tells of a message that no handler gets, with this status and this reason.
pub(super) fn turned_away(
    stage: &Stage,
    connection: &Connection,
    request_id: RequestId,
    bytes: usize,
    why: (u16, &str),
) {
    record::turned_away(stage, connection, request_id, bytes, why);
    traced::turned_away(connection, request_id, bytes, why.1);
    spans::turned_away(stage, connection, request_id, bytes, why);
}
