//! A line by a format of API Gateway: text with `$context` variables.

use time::OffsetDateTime;

use super::entry::{Entry, Event, Text, push_escaped, timestamp};
use crate::clock::now_ms;
use crate::config::{TemplatePart, Variable};
use crate::route;

/// The text for a variable without a value.
const NO_VALUE: &str = "-";

/// Makes the line, with its end. Values are escaped as in JSON, so that a line is one line, and a format that is JSON
/// gives JSON.
pub(super) fn line(parts: &[TemplatePart], entry: &Entry<'_>) -> String {
    let mut line = String::new();
    for part in parts {
        match part {
            TemplatePart::Text(text) => line.push_str(text),
            TemplatePart::Variable(variable) => match value(*variable, entry) {
                Some(value) if *variable == Variable::ErrorString => {
                    line.push('"');
                    escape(&value, &mut line);
                    line.push('"');
                }
                Some(value) => escape(&value, &mut line),
                None => line.push_str(NO_VALUE),
            },
        }
    }
    line.push('\n');
    line
}

/// Adds a value, with its quotes, backslashes and control characters escaped (RFC 8259 §7).
fn escape(value: &str, line: &mut String) {
    for part in value.split_inclusive(['"', '\\']) {
        let plain = part.trim_end_matches(['"', '\\']);
        push_escaped(plain, line);
        if let Some(quote) = part.strip_prefix(plain).filter(|quote| !quote.is_empty()) {
            line.push('\\');
            line.push_str(quote);
        }
    }
}

fn value(variable: Variable, entry: &Entry<'_>) -> Option<String> {
    let text = |value: Option<Text<'_>>| value.map(|text| text.as_str().to_owned());
    let number = |value: Option<u64>| value.map(|number| number.to_string());
    let decimal = |value: Option<f64>| value.map(|number| number.to_string());
    match variable {
        Variable::Timestamp => Some(timestamp()),
        Variable::RequestTime => Some(common_log_time(OffsetDateTime::now_utc())),
        Variable::RequestTimeEpoch => Some(now_ms().to_string()),
        Variable::RequestId => entry.request_id.map(|id| id.to_string()),
        Variable::EventType => Some(
            match entry.event {
                Event::Connect => "CONNECT",
                Event::Message => "MESSAGE",
                Event::Disconnect => "DISCONNECT",
                Event::Call => "CALL",
            }
            .to_owned(),
        ),
        Variable::Event => Some(
            match entry.event {
                Event::Connect => "connect",
                Event::Message => "message",
                Event::Disconnect => "disconnect",
                Event::Call => "call",
            }
            .to_owned(),
        ),
        Variable::Api => entry.stage.map(|stage| stage.api.to_owned()),
        Variable::StageName => entry.stage.map(|stage| stage.stage.to_owned()),
        Variable::Route => match entry.event {
            Event::Connect => Some(route::CONNECT.to_owned()),
            Event::Message => text(entry.route),
            Event::Disconnect => Some(route::DISCONNECT.to_owned()),
            Event::Call => None,
        },
        Variable::Connection => entry.connection.map(|id| id.to_string()),
        Variable::ConnectedAt => number(entry.connected_at),
        Variable::Client => entry.client.map(|client| client.to_string()),
        Variable::By => text(entry.by),
        Variable::Host => text(entry.host),
        Variable::Method => text(entry.method),
        Variable::Path => text(entry.path),
        Variable::Origin => text(entry.origin),
        Variable::UserAgent => text(entry.user_agent),
        Variable::Principal => text(entry.principal),
        Variable::Trace => entry.trace_id.map(|id| id.to_string()),
        Variable::Span => entry.span_id.map(|id| id.to_string()),
        Variable::Tls => entry.tls.map(str::to_owned),
        Variable::Http => entry.http.map(str::to_owned),
        Variable::Protocol => entry.protocol.map(str::to_owned),
        Variable::Status => entry.status.map(|status| status.to_string()),
        // API Gateway has whole milliseconds here.
        Variable::Latency => entry.took_ms.map(|took| format!("{took:.0}")),
        Variable::TookMs => decimal(entry.took_ms),
        Variable::Error | Variable::ErrorString => text(entry.refused.or(entry.error)),
        Variable::Code => entry.code.map(|code| code.to_string()),
        Variable::Reason => text(entry.reason),
        Variable::ClosedBy => entry.closed_by.map(|closer| closer.as_str().to_owned()),
        Variable::Cause => entry.cause.map(str::to_owned),
        Variable::OpenS => decimal(entry.open_s),
        Variable::MessagesIn => number(entry.messages_in),
        Variable::MessagesOut => number(entry.messages_out),
        Variable::BytesIn => number(entry.bytes_in),
        Variable::BytesOut => number(entry.bytes_out),
        Variable::OutboxPeak => entry.outbox_peak_bytes.map(|bytes| bytes.to_string()),
        Variable::Absent => None,
    }
}

/// The time as in the common log format of web servers, in UTC.
fn common_log_time(time: OffsetDateTime) -> String {
    let (hour, minute, second) = time.to_hms();
    let (day, month, year) = (time.day(), time.month().to_string(), time.year());
    format!("{day:02}/{month:.3}/{year}:{hour:02}:{minute:02}:{second:02} +0000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_gives_escaped_values_and_a_dash_for_none() {
        let parts = [
            TemplatePart::Variable(Variable::Host),
            TemplatePart::Text(" ".to_owned()),
            TemplatePart::Variable(Variable::Status),
            TemplatePart::Text(" ".to_owned()),
            TemplatePart::Variable(Variable::Code),
        ];
        let entry = Entry {
            host: Some("a\"\n\u{1b}\u{9b}é".into()),
            status: Some(101),
            ..Entry::default()
        };
        assert_eq!(line(&parts, &entry), "a\\\"\\u000a\\u001b\\u009bé 101 -\n");
    }

    #[test]
    fn time_is_that_of_web_servers() {
        let time = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        assert_eq!(common_log_time(time), "14/Nov/2023:22:13:20 +0000");
    }
}
