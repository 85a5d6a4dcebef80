//! A line of the log, as OTLP writes it (`opentelemetry/proto/logs/v1/logs.proto`).

use tracing::Level;

use super::protobuf::Message;
use super::span::nanoseconds;
use super::{Attribute, PREFIX, Signal, attribute, current};
use crate::clock::now;
use crate::trace_context::{SpanId, TraceId};

/// A line being written.
#[derive(Debug)]
pub(crate) struct LogRecord(Message);

impl LogRecord {
    pub(crate) fn new(level: Level) -> Self {
        let severity = match level {
            Level::TRACE => 1,
            Level::DEBUG => 5,
            Level::INFO => 9,
            Level::WARN => 13,
            Level::ERROR => 17,
        };
        let mut record = Message::default();
        record.fixed64(1, nanoseconds(now()));
        record.integer(2, severity);
        record.bytes(3, level.as_str().as_bytes());
        Self(record)
    }

    /// Adds the message.
    pub(crate) fn body(&mut self, text: &str) {
        self.0.message(5, |value| value.bytes(1, text.as_bytes()));
    }

    /// Adds a field. `trace_id` and `span_id` are those of the line's span.
    pub(crate) fn field(&mut self, name: &str, value: Attribute<'_>) {
        match (name, value) {
            ("trace_id", Attribute::Text(id)) if let Some(id) = TraceId::parse(id) => {
                self.0.bytes(9, id.bytes());
            }
            ("span_id", Attribute::Text(id)) if let Some(id) = SpanId::parse(id) => {
                self.0.bytes(10, id.bytes());
            }
            _ => attribute(&mut self.0, 6, (PREFIX, name), value),
        }
    }

    /// Queues the line for the collector. Waits for nobody.
    pub(crate) fn queue(&self) {
        if let Some(exporter) = &*current() {
            let mut item = Message::default();
            item.bytes(2, self.0.as_bytes());
            exporter.add(Signal::Logs, item.as_bytes());
        }
    }
}
