//! Signed requests: lines of a head, an empty line, a body.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::sigv4::{Signature, SignedRequest, SigningKey};

/// A signature by a secret that nobody has used never verifies, whatever the request; and what is read names a key.
pub(crate) fn signed_requests(input: &[u8]) {
    let end = input.windows(2).position(|two| two == b"\n\n");
    let (head, body) = input.split_at(end.unwrap_or(input.len()));
    let Ok(head) = str::from_utf8(head) else {
        return;
    };
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value.trim())) {
            headers.append(name, value);
        }
    }
    let request = SignedRequest {
        method,
        path,
        query,
        host: "localhost",
        headers: &headers,
    };
    let Ok(Some(signature)) = Signature::read(request) else {
        return;
    };
    assert!(!signature.key_id().is_empty());
    let key = SigningKey::new("a secret of nobody's");
    assert!(signature.verify(&key, body).is_err());
    for now in [0, 1_800_000_000, u64::MAX] {
        let _ = signature.check_time(now);
    }
}
