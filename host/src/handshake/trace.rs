//! The trace that a request belongs to, by its header `traceparent` (W3C Trace Context, section 3.2).

use http::{HeaderMap, HeaderName};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Hexadecimal digits of a trace id.
const DIGITS: usize = 32;

/// The id of a trace: 32 hexadecimal digits in lower case, not all of them zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TraceId([u8; DIGITS]);

impl TraceId {
    /// Reads the header. None if there is none, or a malformed one, which the specification has everyone ignore.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?.to_str().ok()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value)
    }

    fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split('-');
        let mut part = |digits: usize| {
            let part = parts.next()?;
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            (part.len() == digits && part.bytes().all(is_digit)).then_some(part)
        };
        let (version, trace, parent, _flags) = (part(2)?, part(DIGITS)?, part(16)?, part(2)?);
        let is_zero = |part: &str| part.bytes().all(|digit| digit == b'0');
        // Later versions may have more parts.
        let is_known = version != "ff" && (version != "00" || parts.next().is_none());
        if !is_known || is_zero(trace) || is_zero(parent) {
            return None;
        }
        trace.as_bytes().try_into().ok().map(Self)
    }

    pub(super) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    #[track_caller]
    fn check(value: &str, expected: Option<&str>) {
        let read = TraceId::parse(value);
        assert_eq!(read.as_ref().map(TraceId::as_str), expected, "{value}");
    }

    #[test]
    fn well_formed_header_has_a_trace_and_any_other_has_none() {
        check(&format!("00-{TRACE}-{PARENT}-01"), Some(TRACE));
        check(&format!("cc-{TRACE}-{PARENT}-01-more"), Some(TRACE));
        let zeros = "0".repeat(DIGITS);
        let upper = TRACE.to_uppercase();
        for value in [
            "",
            "00",
            TRACE,
            &format!("00-{TRACE}-{PARENT}"),
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
    fn doubled_header_is_ignored() {
        let value = format!("00-{TRACE}-{PARENT}-01");
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, value.parse().unwrap());
        assert!(TraceId::read(&headers).is_some());
        headers.append(TRACEPARENT, value.parse().unwrap());
        assert_eq!(TraceId::read(&headers), None);
    }
}
