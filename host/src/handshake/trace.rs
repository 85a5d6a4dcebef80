//! The client's trace, by the header `traceparent` of its request (W3C Trace Context, section 3.2).

use http::{HeaderMap, HeaderName};

use crate::trace_context::TraceParent;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Reads the header. None if there is none, or a malformed one, or two.
pub(super) fn read(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    TraceParent::parse(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubled_header_is_ignored() {
        let value = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut headers = HeaderMap::new();
        assert_eq!(read(&headers), None);
        headers.append(TRACEPARENT, value.parse().unwrap());
        assert!(read(&headers).is_some());
        headers.append(TRACEPARENT, value.parse().unwrap());
        assert_eq!(read(&headers), None);
    }
}
