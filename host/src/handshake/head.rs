//! The judgement of a request's head: whether it is a well-formed request to open a WebSocket.
//!
//! hyper has parsed the head. This module refuses what hyper lets pass and RFC 6455 §4.2.1, RFC 8441 §4 or RFC 9112
//! forbids.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderValue, ORIGIN,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
    USER_AGENT,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Version, uri};
use hyper::ext::Protocol;

use super::refusal::Refusal;
use crate::config::{Host, port_unless_implied};
use crate::connections::Carrier;

/// Longest path with its query in bytes, as in API Gateway.
const MAX_TARGET: usize = 4_096;

/// Limit of headers in one request.
pub(crate) const MAX_HEADERS: usize = 64;

/// Headers that are meaningless or dangerous if there are two of them.
const AT_MOST_ONCE: [HeaderName; 6] = [
    HOST,
    UPGRADE,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION,
    ORIGIN,
    AUTHORIZATION,
];

/// A WebTransport client's subprotocols, as a structured list of strings.
pub(super) const WT_AVAILABLE_PROTOCOLS: &str = "wt-available-protocols";

/// Headers that turn an HTTP/1.1 connection into a WebSocket; other versions do without.
const OF_UPGRADE: [HeaderName; 3] = [CONNECTION, UPGRADE, SEC_WEBSOCKET_KEY];

/// A request to open a WebSocket, the same for every version of HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) opening: Opening,
    pub(crate) authority: Authority,
    /// The version of HTTP, as handlers get it.
    pub(crate) http_version: &'static str,
    pub(crate) path: String,
    pub(crate) query: String,
    /// The headers as handlers get them: names in lower case, values that are UTF-8. `host` comes first, `cookie` is
    /// one.
    pub(crate) headers: Vec<(String, String)>,
    /// The origin of the page that asks, by its browser.
    pub(crate) origin: Option<HeaderValue>,
    pub(crate) user_agent: Option<String>,
    /// The client's subprotocols, preferred first.
    pub(crate) subprotocols: Vec<String>,
}

/// The way in which the connection becomes a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// HTTP/1.1: a 101 with this key (RFC 6455 §4.2.2).
    Upgrade { key: String },
    /// HTTP/2 and later: a 200 to an extended CONNECT (RFC 8441 §4, RFC 9220 §3).
    Connect,
    /// HTTP/3: a 200 that opens a WebTransport session.
    WebTransport,
}

/// The host that a request is for, and the port if it names one.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
    /// The client's spelling.
    text: String,
}

/// The authority that a request is for; none if it names none, or two.
pub(crate) fn authority(parts: &Parts) -> Option<Authority> {
    let is_one = parts.headers.get_all(HOST).iter().nth(1).is_none();
    Authority::of(parts).ok().filter(|_| is_one)
}

/// Whether a request asks for a WebSocket at all, well-formed or not.
pub(crate) fn wants_websocket(parts: &Parts) -> bool {
    parts.extensions.get::<Protocol>().is_some() || parts.headers.contains_key(UPGRADE)
}

impl Head {
    /// Checks a head, as far as that takes no stage.
    pub(crate) fn read(parts: &Parts) -> Result<Self, Refusal> {
        check_bounds(parts)?;
        let opening = if parts.version < Version::HTTP_2 {
            check_upgrade(parts)?
        } else {
            check_connect(parts)?
        };
        let authority = Authority::of(parts)?;
        let (headers, uri) = (&parts.headers, &parts.uri);
        Ok(Self {
            http_version: version(parts.version),
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            headers: handler_headers(headers, &authority),
            origin: headers.get(ORIGIN).cloned(),
            user_agent: headers
                .get(USER_AGENT)
                .map(|agent| shown(agent).into_owned()),
            subprotocols: match opening {
                Opening::WebTransport => strings(headers, WT_AVAILABLE_PROTOCOLS),
                Opening::Upgrade { .. } | Opening::Connect => {
                    let tokens = tokens(headers, &SEC_WEBSOCKET_PROTOCOL);
                    tokens.map(str::to_owned).collect()
                }
            },
            authority,
            opening,
        })
    }
}

impl Head {
    /// What is to carry the client's messages.
    pub(super) fn carrier(&self) -> Carrier {
        match (&self.opening, self.http_version) {
            (Opening::Upgrade { .. }, _) => Carrier::Http1,
            (Opening::Connect, "2") => Carrier::Http2,
            (Opening::Connect, _) => Carrier::Http3,
            (Opening::WebTransport, _) => Carrier::WebTransport,
        }
    }
}

/// The number of a version of HTTP. hyper knows no others than these.
pub(crate) fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_3 => "3",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

/// Makes the headers that handlers get. Those that turn HTTP/1.1 into a WebSocket are left out. HTTP/2, which may split
/// a `cookie` and has its host in `:authority`, is written as HTTP/1.1 (RFC 9113 §8.2.3, §8.3.1).
fn handler_headers(headers: &HeaderMap, authority: &Authority) -> Vec<(String, String)> {
    let mut list = vec![(HOST.as_str().to_owned(), authority.text.clone())];
    let mut cookie: Option<usize> = None;
    for (name, value) in headers {
        if OF_UPGRADE.contains(name) || name == HOST {
            continue;
        }
        let Ok(value) = str::from_utf8(value.as_bytes()) else {
            continue;
        };
        if name == COOKIE {
            if let Some((_, whole)) = cookie.and_then(|index| list.get_mut(index)) {
                whole.push_str("; ");
                whole.push_str(value);
                continue;
            }
            cookie = Some(list.len());
        }
        list.push((name.as_str().to_owned(), value.to_owned()));
    }
    list
}

fn check_bounds(parts: &Parts) -> Result<(), Refusal> {
    // On HTTP/1.1, where a `cookie` is one header, hyper counts them itself.
    let cookies = parts.headers.get_all(COOKIE).iter().count();
    if parts.headers.len() - cookies.saturating_sub(1) > MAX_HEADERS {
        return Err(Refusal::TooManyHeaders);
    }
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
    Ok(())
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
    // A hop removes the headers that `Connection` names: the judgement must not rest on one of them.
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
        Some(protocol)
            if protocol.as_str() == "webtransport" && parts.version == Version::HTTP_3 =>
        {
            return Ok(Opening::WebTransport);
        }
        Some(_) if parts.version == Version::HTTP_3 => return Err(Refusal::UnknownProtocol),
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

/// Whether it is the base64 of 16 bytes. The last character has unused bits, which some clients set.
fn is_key(key: &str) -> bool {
    let engine = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    engine.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

impl Authority {
    /// The client's spelling.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Takes the target's host if there is one (RFC 9112 §3.2.2), else that of `Host`, which must be valid either way.
    fn of(parts: &Parts) -> Result<Self, Refusal> {
        let host = match parts.headers.get(HOST) {
            Some(host) => Some(
                host.to_str()
                    .ok()
                    .and_then(|host| host.parse().ok())
                    .and_then(|host| Self::parse(&host))
                    .ok_or(Refusal::Malformed("the Host is not a host"))?,
            ),
            None => None,
        };
        let target = match parts.uri.authority() {
            Some(target) => Some(
                Self::parse(target).ok_or(Refusal::Malformed("the target's host is not a host"))?,
            ),
            None => None,
        };
        match (target, host) {
            // On HTTP/2 both must agree: no proxy rewrites one of them (RFC 9113 §8.3.1).
            (Some(target), Some(host))
                if parts.version >= Version::HTTP_2
                    && !target.is_same(&host, parts.uri.scheme_str().unwrap_or("https")) =>
            {
                Err(Refusal::Malformed("the Host is not that of :authority"))
            }
            (Some(authority), _) | (None, Some(authority)) => Ok(authority),
            (None, None) => Err(Refusal::Malformed("there is no Host")),
        }
    }

    /// Parses an authority. None if RFC 9112 §3.2 does not allow it: a user, a port that is no number.
    pub(crate) fn parse(authority: &uri::Authority) -> Option<Self> {
        let text = authority.as_str();
        let port = text.strip_prefix(authority.host())?;
        let valid = port.is_empty() || port == ":" || authority.port_u16().is_some();
        valid.then_some(Self {
            host: Host::of_authority(authority.host())?,
            port: authority.port_u16(),
            text: text.to_owned(),
        })
    }

    fn is_same(&self, other: &Self, scheme: &str) -> bool {
        let port = |authority: &Self| port_unless_implied(authority.port, scheme);
        self.host == other.host && port(self) == port(other)
    }
}

/// The strings of a structured list (RFC 9651 §3.3.3). Items of other kinds, and those with a backslash, are left out.
fn strings(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let items = values.flat_map(|value| value.split(','));
    let strings = items.filter_map(|item| item.trim().strip_prefix('"')?.strip_suffix('"'));
    let plain = strings.filter(|string| !string.contains(['"', '\\']));
    plain.map(str::to_owned).collect()
}

/// The value of a header that nothing depends on. Clients send UTF-8 there too; other bytes become U+FFFD.
pub(crate) fn shown(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|candidate| candidate.eq_ignore_ascii_case(token))
}

/// Splits a comma-separated list, over all headers of a name.
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
