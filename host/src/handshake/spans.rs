//! The spans of a handshake: its own, and those of its steps, the authorizer and `$connect`.

use std::time::{Duration, Instant};

use crate::access_log::Entry;
use crate::clock::now;
use crate::connections::Connection;
use crate::otlp::{Attribute, Origin, Span, SpanKind};
use crate::trace_context::{SpanContext, TraceId, TraceParent};

/// Records the span of a handshake that is over, with the values of its line in the access log, by the conventions of
/// OpenTelemetry for servers of HTTP.
pub(super) fn handshake(
    context: SpanContext,
    client: Option<TraceParent>,
    took: Duration,
    entry: &Entry<'_>,
) {
    // What opens a WebSocket over the versions after 1.1 (RFC 8441, RFC 9220).
    let method = if entry.http == Some("1.1") {
        "GET"
    } else {
        "CONNECT"
    };
    let route = entry.stage.map(|stage| format!("/{}", stage.stage));
    let name = match &route {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    };
    let (client_address, stage, api) = (
        entry.client.map(|client| client.to_string()),
        entry.stage.map(|stage| stage.to_string()),
        entry.stage.map(|stage| stage.api),
    );
    let (connection, request_id) = (
        entry.connection.map(|connection| connection.to_string()),
        entry.request_id.map(|request| request.to_string()),
    );
    let status = entry.status.unwrap_or_default();
    let status_text = status.to_string();
    let text =
        |text: Option<crate::access_log::Text<'_>>| text.map(|text| text.as_str().to_owned());
    let (host, path, user_agent) = (text(entry.host), text(entry.path), text(entry.user_agent));
    let (principal, refused) = (text(entry.principal), text(entry.refused));
    let scheme = if entry.tls.is_some() { "https" } else { "http" };
    Span {
        context,
        origin: Origin::of_handshake(context, client),
        kind: SpanKind::Server,
        name: &name,
        ended: now(),
        took,
        attributes: &[
            ("http.request.method", method.into()),
            ("http.route", route.as_deref().into()),
            (
                "http.response.status_code",
                Attribute::Integer(status.into()),
            ),
            ("network.protocol.version", entry.http.into()),
            ("url.scheme", scheme.into()),
            ("url.path", path.as_deref().into()),
            ("server.address", host.as_deref().into()),
            ("client.address", client_address.as_deref().into()),
            ("user_agent.original", user_agent.as_deref().into()),
            ("user.id", principal.as_deref().into()),
            ("lockgate.api", api.into()),
            ("lockgate.stage", stage.as_deref().into()),
            ("lockgate.connection", connection.as_deref().into()),
            ("lockgate.request_id", request_id.as_deref().into()),
            ("lockgate.refused", refused.as_deref().into()),
        ],
        // What a client has done wrong is no error of the server's.
        error: (status >= 500)
            .then(|| (status_text.as_str(), refused.as_deref().unwrap_or_default())),
    }
    .record();
}

/// A step of a handshake whose span is recorded.
pub(super) struct Step {
    handshake: SpanContext,
    place: StepPlace,
    begun: Instant,
}

#[derive(Clone, Copy)]
pub(super) enum StepPlace {
    Authorizer = 1,
    ApiKey = 2,
    Connect = 3,
}

impl Step {
    pub(super) fn begin(connection: &Connection, place: StepPlace) -> Option<Self> {
        let handshake = *connection.span.as_deref()?;
        let begun = Instant::now();
        Some(Self {
            handshake,
            place,
            begun,
        })
    }

    pub(super) fn trace(&self) -> TraceId {
        self.handshake.trace
    }

    /// Records the span. `error` is the kind of the step's error, and what there is to say of it.
    pub(super) fn end(
        self,
        name: &str,
        (attribute, value): (&'static str, &str),
        error: Option<(&str, &str)>,
    ) {
        Span {
            context: self.handshake.step(self.place as u64),
            origin: Origin::Own(self.handshake),
            kind: SpanKind::Internal,
            name,
            ended: now(),
            took: self.begun.elapsed(),
            attributes: &[(attribute, value.into())],
            error,
        }
        .record();
    }
}
