//! The request's head, judged: is this one well-formed request to open a WebSocket?
//!
//! hyper has parsed it; here stands what hyper lets pass and RFC 6455 §4.2.1, RFC 8441 §4 and RFC 9112 do not.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, ORIGIN, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Method, Version};
use hyper::ext::Protocol;

use super::refusal::Refusal;

/// Bytes of the longest path with its query, as API Gateway has it.
const MAX_TARGET: usize = 4_096;

/// Headers that mean nothing, or something dangerous, when there are two of them.
const AT_MOST_ONCE: [HeaderName; 6] = [
    HOST,
    UPGRADE,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION,
    ORIGIN,
    AUTHORIZATION,
];

/// How the connection becomes a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// HTTP/1.1: a 101 with this key (RFC 6455 §4.2.2).
    Upgrade { key: String },
    /// HTTP/2: a 200 to an extended CONNECT (RFC 8441 §4).
    Connect,
}

/// Whether a request asks for a WebSocket at all, well-formed or not.
pub(super) fn wants_websocket(parts: &Parts) -> bool {
    parts.extensions.get::<Protocol>().is_some() || parts.headers.contains_key(UPGRADE)
}

/// Checks everything that can be checked without knowing any stage.
pub(super) fn check(parts: &Parts) -> Result<Opening, Refusal> {
    let target = parts
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET {
        return Err(Refusal::Malformed(
            "the path and query are longer than 4096 bytes",
        ));
    }
    for name in &AT_MOST_ONCE {
        if parts.headers.get_all(name).iter().nth(1).is_some() {
            return Err(Refusal::Malformed(
                "a header occurs twice that may occur once",
            ));
        }
    }
    if has_body(&parts.headers) {
        return Err(Refusal::Malformed(
            "a request to open a WebSocket has no body",
        ));
    }
    if parts.version == Version::HTTP_2 {
        check_connect(parts)
    } else {
        check_upgrade(parts)
    }
}

fn check_upgrade(parts: &Parts) -> Result<Opening, Refusal> {
    let headers = &parts.headers;
    if parts.version != Version::HTTP_11 {
        return Err(Refusal::Malformed("HTTP/1.1 is needed"));
    }
    if !headers.contains_key(HOST) {
        return Err(Refusal::Malformed("there is no Host"));
    }
    if !wants_websocket(parts) {
        return Err(Refusal::UpgradeRequired);
    }
    if parts.method != Method::GET {
        return Err(Refusal::Malformed("the method is not GET"));
    }
    if !has_token(headers, &UPGRADE, "websocket") || !has_token(headers, &CONNECTION, "upgrade") {
        return Err(Refusal::UpgradeRequired);
    }
    // A header that a hop would take away must not be one that we judge by.
    for name in AT_MOST_ONCE.iter().filter(|name| **name != UPGRADE) {
        if has_token(headers, &CONNECTION, name.as_str()) {
            return Err(Refusal::Malformed(
                "Connection names a header of the handshake",
            ));
        }
    }
    check_version(headers)?;
    let key = text(headers, &SEC_WEBSOCKET_KEY).unwrap_or_default();
    if !is_key(key) {
        return Err(Refusal::Malformed(
            "Sec-WebSocket-Key is not 16 bytes in base64",
        ));
    }
    Ok(Opening::Upgrade {
        key: key.to_owned(),
    })
}

fn check_connect(parts: &Parts) -> Result<Opening, Refusal> {
    match parts.extensions.get::<Protocol>() {
        Some(protocol) if protocol.as_str() == "websocket" => {}
        Some(_) => return Err(Refusal::Malformed("the :protocol is not websocket")),
        None => return Err(Refusal::UpgradeRequired),
    }
    check_version(&parts.headers)?;
    Ok(Opening::Connect)
}

fn check_version(headers: &HeaderMap) -> Result<(), Refusal> {
    match text(headers, &SEC_WEBSOCKET_VERSION) {
        Some("13") => Ok(()),
        _ => Err(Refusal::UpgradeRequired),
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get_all(CONTENT_LENGTH)
            .iter()
            .any(|length| length.as_bytes() != b"0")
}

fn is_key(key: &str) -> bool {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD.decode(key);
    decoded.is_ok_and(|bytes| bytes.len() == 16)
}

/// The host of a request with its port, if it names one. A target that names another host than `Host` names none,
/// nor does what RFC 9112 §3.2 does not allow there: a user, a port that is no number.
pub(super) fn authority(parts: &Parts) -> Option<Authority> {
    let host = match parts.headers.get(HOST) {
        Some(host) => Some(host.to_str().ok()?.parse::<Authority>().ok()?),
        None => None,
    };
    let authority = match (parts.uri.authority(), host) {
        (Some(target), Some(host)) => (*target == host).then_some(host),
        (target, host) => host.or_else(|| target.cloned()),
    }?;
    let (text, host) = (authority.as_str(), authority.host());
    let port = text.strip_prefix(host)?;
    let valid = port.is_empty() || port == ":" || authority.port_u16().is_some();
    (valid && !host.is_empty() && !text.contains('@')).then_some(authority)
}

/// The subprotocols that the client offers, most wanted first.
pub(super) fn subprotocols(headers: &HeaderMap) -> Vec<String> {
    tokens(headers, &SEC_WEBSOCKET_PROTOCOL)
        .map(str::to_owned)
        .collect()
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|candidate| candidate.eq_ignore_ascii_case(token))
}

/// The members of a comma-separated list, over all headers of that name.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}
