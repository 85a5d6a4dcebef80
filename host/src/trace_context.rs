//! Traces: the ids of traces and spans, and the header `traceparent` that carries them (W3C Trace Context). Pure.

use std::fmt;

/// The id of a trace: 16 bytes, not all of them zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceId([u8; 16]);

/// The id of a span: 8 bytes, not all of them zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanId([u8; 8]);

/// A span, as others refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanContext {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
}

/// A caller's span, by the header `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceParent {
    pub(crate) context: SpanContext,
    /// Whether the caller may have recorded it.
    pub(crate) is_sampled: bool,
}

/// The flag of `traceparent` that says so (section 3.2.2.5).
const SAMPLED: u8 = 1;

impl TraceId {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The half that is random by the specification (section 3.2.2.3): samplers compare it with their ratio, so that those
    /// of one ratio choose the same traces.
    pub(crate) fn randomness(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Reads 32 hexadecimal digits in lower case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        parse(text).map(Self)
    }
}

impl SpanId {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads 16 hexadecimal digits in lower case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        parse(text).map(Self)
    }
}

impl SpanContext {
    /// The context of the event with this number: always the same one, so that no event has to carry it. `keys` are random,
    /// and the process's own; numbers that differ give ids that differ.
    pub(crate) fn of_number(number: u64, keys: [u64; 3]) -> Self {
        let [high, low, span] = keys.map(|key| mix(number ^ key).max(1));
        let trace = u128::from(high) << 64 | u128::from(low);
        Self {
            trace: TraceId(trace.to_be_bytes()),
            span: SpanId(span.to_be_bytes()),
        }
    }

    /// The value of the header `traceparent` by which another server goes on in this trace. The span is recorded.
    pub(crate) fn traceparent(self) -> String {
        format!("00-{}-{}-{SAMPLED:02x}", self.trace, self.span)
    }

    /// The span of a step of this one, of which each has a place of its own.
    pub(crate) fn step(self, place: u64) -> Self {
        let span = mix(u64::from_be_bytes(self.span.0) ^ mix(place));
        Self {
            span: SpanId(span.max(1).to_be_bytes()),
            ..self
        }
    }
}

/// A number for another, which it does not show (the last step of SplitMix64).
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

impl TraceParent {
    /// Reads the value of the header. None if it is malformed, which the specification has everyone ignore.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split('-');
        let mut part = || parts.next();
        let (version, trace, span, flags) = (part()?, part()?, part()?, part()?);
        // Later versions may have more parts.
        let [version] = hexadecimal(version)?;
        if version == 0xff || version == 0 && parts.next().is_some() {
            return None;
        }
        let [flags] = hexadecimal(flags)?;
        Some(Self {
            context: SpanContext {
                trace: TraceId::parse(trace)?,
                span: SpanId::parse(span)?,
            },
            is_sampled: flags & SAMPLED != 0,
        })
    }
}

/// Reads an id.
fn parse<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    hexadecimal(text).filter(|bytes| *bytes != [0; BYTES])
}

/// Reads hexadecimal digits in lower case.
fn hexadecimal<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; BYTES];
    if text.len() != 2 * BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

fn write(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Shows it as the header has it.
impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(&self.0, f)
    }
}

/// Shows it as the header has it.
impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    #[track_caller]
    fn check(value: &str, sampled: Option<bool>) {
        let read = TraceParent::parse(value);
        assert_eq!(read.map(|parent| parent.is_sampled), sampled, "{value}");
        if let Some(TraceParent { context, .. }) = read {
            assert_eq!(context.trace.to_string(), TRACE, "{value}");
            assert_eq!(context.span.to_string(), PARENT, "{value}");
        }
    }

    #[test]
    fn well_formed_header_has_a_trace_and_any_other_has_none() {
        check(&format!("00-{TRACE}-{PARENT}-01"), Some(true));
        check(&format!("00-{TRACE}-{PARENT}-00"), Some(false));
        check(&format!("cc-{TRACE}-{PARENT}-03-more"), Some(true));
        let zeros = "0".repeat(32);
        let upper = TRACE.to_uppercase();
        for value in [
            "",
            "00",
            TRACE,
            &format!("00-{TRACE}-{PARENT}"),
            &format!("00-{TRACE}-{PARENT}-1"),
            &format!("00-{TRACE}-{PARENT}-0g"),
            &format!("00-{TRACE}-{PARENT}-01-more"),
            &format!("ff-{TRACE}-{PARENT}-01"),
            &format!("00-{zeros}-{PARENT}-01"),
            &format!("00-{TRACE}-0000000000000000-01"),
            &format!("00-{upper}-{PARENT}-01"),
            &format!("00-+{}-{PARENT}-01", &TRACE[1..]),
            &format!(" 00-{TRACE}-{PARENT}-01"),
        ] {
            check(value, None);
        }
    }

    #[test]
    fn header_is_read_as_it_was_written() {
        let context = SpanContext::of_number(7, [1, 2, 3]);
        let read = TraceParent::parse(&context.traceparent());
        let is_sampled = true;
        assert_eq!(
            read,
            Some(TraceParent {
                context,
                is_sampled
            })
        );
    }

    #[test]
    fn numbers_have_ids_that_differ_and_spread_evenly() {
        let keys = [0x1234, 0x5678, 0x9abc];
        let contexts: Vec<_> = (0..10_000)
            .map(|number| SpanContext::of_number(number, keys))
            .collect();
        assert_eq!(contexts[7], SpanContext::of_number(7, keys));
        let spans: HashSet<_> = contexts.iter().map(|context| context.span.0).collect();
        let traces: HashSet<_> = contexts.iter().map(|context| context.trace.0).collect();
        assert_eq!((spans.len(), traces.len()), (10_000, 10_000));
        let quarter = |context: &&SpanContext| context.trace.randomness() < u64::MAX / 4;
        let chosen = contexts.iter().filter(quarter).count();
        assert!((2_300..2_700).contains(&chosen), "{chosen}");
        let step = contexts[7].step(1);
        assert_eq!(step.trace, contexts[7].trace);
        assert!(step.span != contexts[7].span && step.span != contexts[7].step(2).span);
    }
}
