//! A span, as OTLP writes it (`opentelemetry/proto/trace/v1/trace.proto`).

use std::time::Duration;

use super::protobuf::Message;
use super::{Attribute, Signal, attribute, current, text};
use crate::trace_context::{SpanContext, TraceParent};

/// The span of something that has ended.
#[derive(Debug)]
pub(crate) struct Span<'a> {
    pub(crate) context: SpanContext,
    pub(crate) origin: Origin,
    pub(crate) kind: SpanKind,
    /// Its name, one of few.
    pub(crate) name: &'a str,
    /// Since the Unix epoch.
    pub(crate) ended: Duration,
    pub(crate) took: Duration,
    pub(crate) attributes: &'a [(&'static str, Attribute<'a>)],
    /// The kind of its error, one of few, and what there is to say of it.
    pub(crate) error: Option<(&'a str, &'a str)>,
}

/// What a span comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    /// Nothing: it begins a trace.
    Root,
    /// A client's span, in its trace.
    Client(SpanContext),
    /// A span of this process, in the same trace.
    Own(SpanContext),
    /// Another span, by which it can be found from there. It begins a trace.
    Linked(SpanContext),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum SpanKind {
    /// A step of another one.
    Internal = 1,
    /// A request of a client.
    Server = 2,
    /// A message that is handled, whose sender may have gone on.
    Consumer = 5,
}

/// Flags of a span: it is sampled, and whether its parent is remote is known (`SpanFlags`).
const FLAGS: u32 = 0x101;
/// The parent is remote.
const REMOTE: u32 = 0x200;

/// The status of a span with an error.
const ERROR: u64 = 2;

impl Origin {
    /// What the span of a handshake comes from: in the trace of its client, the client's span.
    pub(crate) fn of_handshake(own: SpanContext, client: Option<TraceParent>) -> Self {
        match client.map(|client| client.context) {
            Some(client) if client.trace == own.trace => Self::Client(client),
            Some(client) => Self::Linked(client),
            None => Self::Root,
        }
    }

    /// What the span of a message comes from: the handshake, if that has one.
    pub(crate) fn of_message(handshake: Option<SpanContext>) -> Self {
        handshake.map_or(Self::Root, Self::Linked)
    }
}

impl Span<'_> {
    /// Queues the span for the collector. Waits for nobody.
    pub(crate) fn record(&self) {
        if let Some(exporter) = &*current() {
            let mut item = Message::default();
            item.message(2, |span| self.write(span));
            exporter.add(Signal::Traces, item.as_bytes());
        }
    }

    fn write(&self, span: &mut Message) {
        let SpanContext { trace, span: id } = &self.context;
        span.bytes(1, trace.bytes());
        span.bytes(2, id.bytes());
        let mut flags = FLAGS;
        match &self.origin {
            Origin::Root => {}
            Origin::Own(parent) => span.bytes(4, parent.span.bytes()),
            Origin::Client(parent) => {
                span.bytes(4, parent.span.bytes());
                flags |= REMOTE;
            }
            Origin::Linked(other) => span.message(13, |link| {
                link.bytes(1, other.trace.bytes());
                link.bytes(2, other.span.bytes());
            }),
        }
        span.bytes(5, text(self.name).as_bytes());
        span.integer(6, self.kind as u64);
        span.fixed64(7, nanoseconds(self.ended.saturating_sub(self.took)));
        span.fixed64(8, nanoseconds(self.ended));
        for (name, value) in self.attributes {
            attribute(span, 9, ("", name), value.cut());
        }
        if let Some((kind, message)) = self.error {
            attribute(span, 9, ("", "error.type"), kind.into());
            span.message(15, |status| {
                status.bytes(2, text(message).as_bytes());
                status.integer(3, ERROR);
            });
        }
        span.fixed32(16, flags);
    }
}

/// Nanoseconds since the Unix epoch.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
