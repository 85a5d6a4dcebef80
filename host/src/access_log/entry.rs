//! One line of the access log: what it may hold, and how it is written.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use crate::connections::{Closer, ConnectionId, RequestId};
use crate::trace_context::{SpanId, TraceId};

/// The most bytes of one value that a stranger has chosen.
const MAX_TEXT: usize = 512;

/// The event that a line is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Event {
    /// A handshake: accepted or refused.
    #[default]
    Connect,
    Message,
    /// The end of a connection.
    Disconnect,
    /// A request of the connections API or the admin API.
    Call,
}

/// A text of bounded length. What makes a line of it escapes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a>(&'a str);

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        let (kept, _) = text.split_at(text.floor_char_boundary(MAX_TEXT));
        Self(kept)
    }
}

impl<'a> Text<'a> {
    /// The text, of 512 bytes at most.
    pub(crate) fn as_str(self) -> &'a str {
        self.0
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

/// A stage: the API's name and its own, as other lines of the log show them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageName<'a> {
    pub(crate) api: &'a str,
    pub(crate) stage: &'a str,
}

impl fmt::Display for StageName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.api, self.stage)
    }
}

impl Serialize for StageName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One line. A value that does not apply, or is not known, is left out. No value is of a query string, a header with
/// credentials or a payload.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Entry<'a> {
    /// Whether it is a handshake, a message, an end or a call.
    pub(crate) event: Event,
    /// The handshake's, the message's, that of the `$disconnect` event, or a call's.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub(crate) request_id: Option<RequestId>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub(crate) connection: Option<ConnectionId>,
    /// Milliseconds since the Unix epoch; in formats alone.
    #[serde(skip)]
    pub(crate) connected_at: Option<u64>,
    /// Who calls: an access key, a token of management, or a user of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<Text<'a>>,
    /// The client's address, as trusted proxies name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stage: Option<StageName<'a>>,
    /// The route key of a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) route: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<Text<'a>>,
    /// The method of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<Text<'a>>,
    /// Without the query string, which may hold a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user_agent: Option<Text<'a>>,
    /// The client's name, by its authorizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) principal: Option<Text<'a>>,
    /// The trace of the event, if it is recorded, or of a handshake's `traceparent`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub(crate) trace_id: Option<TraceId>,
    /// The event's span, if it is recorded.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub(crate) span_id: Option<SpanId>,
    /// The version of TLS between the client, or the nearest proxy, and the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<&'static str>,
    /// The version of HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<&'static str>,
    /// The protocol of the messages: `websocket` or `webtransport`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<&'static str>,
    /// The status of a handshake's or a call's answer, or the one that API Gateway's log has for a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// Why a client or a call was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<Text<'a>>,
    /// Why a message has no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Text<'a>>,
    /// Milliseconds from a request's head to its answer, or of a message's handler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) took_ms: Option<f64>,
    /// The close code, as the `$disconnect` handler gets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<u16>,
    /// The reason of the close.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) closed_by: Option<Closer>,
    /// The cause of a close that nobody asked for, such as the limit that it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<&'static str>,
    /// Seconds from the handshake to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open_s: Option<f64>,
    /// Messages from the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) messages_in: Option<u64>,
    /// Messages to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) messages_out: Option<u64>,
    /// Bytes of the messages from the client, or of a call's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_in: Option<u64>,
    /// Bytes of the messages to the client, or of an answer's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_out: Option<u64>,
    /// The most bytes that waited for the client at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outbox_peak_bytes: Option<usize>,
}

/// The target of the log's lines.
const ACCESS: &str = "access";

/// A duration in milliseconds, exact to a microsecond.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}

impl Entry<'_> {
    /// Writes the line to the log. Its fields have the same names there.
    pub(super) fn log(&self) {
        match (self.event, self.refused) {
            (Event::Connect, None) => {
                tracing::info!(target: ACCESS, request_id = self.request_id.map(display), connection = self.connection.map(display), client = self.client.map(display), stage = self.stage.map(display), host = text(self.host), path = text(self.path), origin = text(self.origin), user_agent = text(self.user_agent), principal = text(self.principal), trace_id = self.trace_id.map(display), span_id = self.span_id.map(display), tls = self.tls, http = self.http, protocol = self.protocol, status = self.status, took_ms = self.took_ms, "connected")
            }
            (Event::Connect, Some(Text(why))) => {
                tracing::info!(target: ACCESS, request_id = self.request_id.map(display), connection = self.connection.map(display), client = self.client.map(display), stage = self.stage.map(display), host = text(self.host), path = text(self.path), origin = text(self.origin), user_agent = text(self.user_agent), principal = text(self.principal), trace_id = self.trace_id.map(display), span_id = self.span_id.map(display), tls = self.tls, http = self.http, protocol = self.protocol, status = self.status, took_ms = self.took_ms, "refused: {why}")
            }
            (Event::Message, _) => {
                tracing::info!(target: ACCESS, request_id = self.request_id.map(display), connection = self.connection.map(display), client = self.client.map(display), stage = self.stage.map(display), route = text(self.route), principal = text(self.principal), trace_id = self.trace_id.map(display), span_id = self.span_id.map(display), status = self.status, error = text(self.error), took_ms = self.took_ms, bytes_in = self.bytes_in, bytes_out = self.bytes_out, "message")
            }
            (Event::Call, why) => {
                tracing::info!(target: ACCESS, request_id = self.request_id.map(display), connection = self.connection.map(display), by = text(self.by), client = self.client.map(display), stage = self.stage.map(display), host = text(self.host), method = text(self.method), path = text(self.path), user_agent = text(self.user_agent), tls = self.tls, http = self.http, status = self.status, took_ms = self.took_ms, bytes_in = self.bytes_in, bytes_out = self.bytes_out, refused = text(why), "call")
            }
            (Event::Disconnect, _) => {
                tracing::info!(target: ACCESS, request_id = self.request_id.map(display), connection = self.connection.map(display), client = self.client.map(display), stage = self.stage.map(display), principal = text(self.principal), http = self.http, protocol = self.protocol, code = self.code, reason = text(self.reason), closed_by = self.closed_by.map(Closer::as_str), cause = self.cause, open_s = self.open_s, messages_in = self.messages_in, messages_out = self.messages_out, bytes_in = self.bytes_in, bytes_out = self.bytes_out, outbox_peak_bytes = self.outbox_peak_bytes, "disconnected")
            }
        }
    }

    /// The line as one JSON object, with its end.
    pub(super) fn json(&self) -> String {
        let fields = serde_json::to_string(self).unwrap_or_default();
        let fields = fields.strip_prefix('{').unwrap_or("}");
        let mut line = format!("{{\"timestamp\":\"{}\",", timestamp());
        push_escaped(fields, &mut line);
        line.push('\n');
        line
    }
}

/// Adds a text with its control characters escaped (RFC 8259 §7), also those that a terminal obeys beyond ASCII.
pub(super) fn push_escaped(text: &str, line: &mut String) {
    for character in text.chars() {
        if character.is_control() {
            // Only a writer fails.
            let _ = write!(line, "\\u{:04x}", u32::from(character));
        } else {
            line.push(character);
        }
    }
}

/// The time, by RFC 3339, in UTC.
pub(crate) fn timestamp() -> String {
    let mut time = String::new();
    // Only a writer fails.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time
}

fn text(value: Option<Text<'_>>) -> Option<&str> {
    value.map(Text::as_str)
}

fn shown<T: ToString, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(&value.to_string()),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn line_is_one_line_of_json_whatever_a_stranger_sends() {
        let long = "é".repeat(400);
        let entry = Entry {
            host: Some("a\"}\n\u{1b}[2J\u{9b}é".into()),
            path: Some(Text::from(&*long)),
            status: Some(403),
            took_ms: Some(milliseconds(Duration::from_micros(1_500))),
            ..Entry::default()
        };
        let line = entry.json();
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(!line.contains(['\u{1b}', '\u{9b}']), "{line}");
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["event"], "connect");
        assert_eq!(line["host"], "a\"}\n\u{1b}[2J\u{9b}é");
        assert_eq!(line["path"].as_str().unwrap().len(), MAX_TEXT);
        assert_eq!(
            (&line["took_ms"], &line["code"]),
            (&1.5.into(), &Value::Null)
        );
    }
}
