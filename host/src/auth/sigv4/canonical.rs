//! The canonical form of a request, over which a signature is made.

use http::HeaderMap;

use super::{HASH, SignedRequest};

/// The query parameter that holds the signature itself, which it cannot cover.
pub(super) const QUERY_TAG: &[u8] = b"X-Amz-Signature";

/// Makes the canonical request; none if the query is malformed.
pub(super) fn request(
    request: &SignedRequest<'_>,
    signed_headers: &str,
    body_hash: &[u8; HASH],
) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(512);
    text.extend_from_slice(request.method.as_bytes());
    text.push(b'\n');
    // The received path is encoded once more: a `%` of it is written `%25`.
    encode(request.path.as_bytes(), true, &mut text);
    text.push(b'\n');
    query(request.query, &mut text)?;
    text.push(b'\n');
    for name in signed_headers.split(';') {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        if name == "host" {
            value(request.host.as_bytes(), &mut text);
        } else {
            values(request.headers, name, &mut text);
        }
        text.push(b'\n');
    }
    text.push(b'\n');
    text.extend_from_slice(signed_headers.as_bytes());
    text.push(b'\n');
    text.extend_from_slice(hex(body_hash).as_bytes());
    Some(text)
}

/// Splits a query into its parameters, decoded. None if one is malformed.
///
/// A plus is refused: a signer means itself by it, and a reader of forms a space. So are empty parameters.
pub(super) fn parameters(query: &str) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    if query.is_empty() {
        return Some(Vec::new());
    }
    let parameters = query.split('&').map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let is_empty = parameter.is_empty();
        (!is_empty).then_some((decode(name)?, decode(value)?))
    });
    parameters.collect()
}

fn query(query: &str, text: &mut Vec<u8>) -> Option<()> {
    let encoded = |(name, value): (Vec<u8>, Vec<u8>)| {
        let (mut name_text, mut value_text) = (Vec::new(), Vec::new());
        encode(&name, false, &mut name_text);
        encode(&value, false, &mut value_text);
        (name_text, value_text)
    };
    let parameters = parameters(query)?.into_iter();
    let mut parameters: Vec<_> = parameters
        .filter(|(name, _)| name != QUERY_TAG)
        .map(encoded)
        .collect();
    parameters.sort_unstable();
    for (index, (name, value)) in parameters.iter().enumerate() {
        if index > 0 {
            text.push(b'&');
        }
        text.extend_from_slice(name);
        text.push(b'=');
        text.extend_from_slice(value);
    }
    Some(())
}

/// Writes the values of a header, joined by commas.
fn values(headers: &HeaderMap, name: &str, text: &mut Vec<u8>) {
    for (index, each) in headers.get_all(name).iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        value(each.as_bytes(), text);
    }
}

/// Writes a header's value without spaces around it, and with one for several inside.
fn value(value: &[u8], text: &mut Vec<u8>) {
    let mut words = value
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    if let Some(first) = words.next() {
        text.extend_from_slice(first);
    }
    for word in words {
        text.push(b' ');
        text.extend_from_slice(word);
    }
}

/// Percent-encodes all bytes but unreserved ones (RFC 3986 §2.3), and slashes if they are kept.
fn encode(bytes: &[u8], keep_slashes: bool, text: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(*byte),
            b'/' if keep_slashes => text.push(b'/'),
            _ => {
                text.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
        }
    }
}

/// Decodes percent-encoded text; none if an escape is malformed.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => nibble(rest.next()?)? << 4 | nibble(rest.next()?)?,
            b'+' => return None,
            other => other,
        });
    }
    Some(bytes)
}

/// Reads a hash that is written in lower-case digits.
pub(super) fn unhex(text: &[u8]) -> Option<[u8; HASH]> {
    let mut hash = [0; HASH];
    if text.len() != 2 * HASH || text.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = digits else { return None };
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(hash)
}

pub(super) fn hex(hash: &[u8; HASH]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn nibble(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}
