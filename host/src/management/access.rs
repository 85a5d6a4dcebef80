//! Who asks at the management listener. It is decided here, once for each request and before any page.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{Extension, Request, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;

use super::plugins::refused;
use super::{Control, connections};
use crate::access_log::Text;
use crate::config::Secret;
use crate::net::Stream;

/// Wrong tokens that one address may send within [`FORGIVEN_AFTER`]. Its next requests are refused unread: whoever
/// guesses does so slowly, and costs nothing.
const MAX_FAILURES: u32 = 10;

/// Time from an address's first wrong token until it may try again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// Addresses whose failures are remembered. With more at once, all are forgotten: a token is not found by guessing.
const MAX_ADDRESSES: usize = 4_096;

/// The hashes of the tokens that the listener asks for: the process keeps no token that a dump would show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Tokens(Arc<[[u8; 32]]>);

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    Address(SocketAddr),
    /// A process of this user, through a socket in the file system; none if the kernel does not tell.
    User(Option<u32>),
}

/// Who makes a request: the peer, and what it shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    peer: Peer,
    credential: Credential,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credential {
    /// None is asked for.
    None,
    /// A token, by its place in the configuration, from 1.
    Token(usize),
    /// An access key, which the connections API judges.
    AccessKey,
}

/// The judge of tokens.
pub(super) struct Access {
    tokens: Tokens,
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

struct Failures {
    count: u32,
    since: Instant,
}

/// The reason why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denied {
    NoToken,
    WrongToken,
    TooManyFailures,
}

/// Answers requests with a token of the configuration, or all requests if it has none. Each has its [`Caller`] then.
pub(super) async fn identify(
    State(access): State<Arc<Access>>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    match access.judge(peer, request.headers(), Instant::now()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(denied) => refuse(peer, &request, denied),
    }
}

/// As [`identify`], for the connections API: where a token is asked for, an access key will do, which is judged there.
pub(super) async fn identify_or_key(
    State((access, control)): State<(Arc<Access>, Control)>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let keys = Arc::clone(&control.stages().access_keys);
    let is_by_key = !access.tokens.0.is_empty() && connections::shows_access_key(&parts, &keys);
    let mut request = Request::from_parts(parts, body);
    if !is_by_key {
        return identify(State(access), Extension(peer), request, next).await;
    }
    let block = peer.block();
    if block.is_some_and(|block| access.has_failed_often(block, Instant::now())) {
        return refuse(peer, &request, Denied::TooManyFailures);
    }
    let credential = Credential::AccessKey;
    request.extensions_mut().insert(Caller { peer, credential });
    let response = next.run(request).await;
    if let (Some(block), Some(connections::Forged)) = (block, response.extensions().get()) {
        access.note_failure(block, Instant::now());
    }
    response
}

fn refuse(peer: Peer, request: &Request, denied: Denied) -> Response {
    let client = peer.client();
    let path = Text::from(request.uri().path()).as_str();
    tracing::warn!(
        client,
        path,
        "a request to the management API is refused: {}",
        denied.why()
    );
    denied.response()
}

impl Tokens {
    pub(crate) fn new(tokens: &[Secret]) -> Self {
        Self(
            tokens
                .iter()
                .map(|token| hash(token.reveal().as_bytes()))
                .collect(),
        )
    }

    /// The place of a token, from 1. The time does not depend on which one it is, nor on how much of it is right.
    fn place_of(&self, token: &[u8]) -> Option<usize> {
        let hash = hash(token);
        let mut found = None;
        for (place, known) in self.0.iter().enumerate() {
            if verify_slices_are_equal(known, &hash).is_ok() {
                found = Some(place + 1);
            }
        }
        found
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let hash = digest(&SHA256, bytes);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl Peer {
    pub(super) fn of(stream: &Stream, address: SocketAddr) -> Self {
        match stream {
            Stream::Ip(_) => Self::Address(address),
            Stream::Unix(stream) => Self::User(stream.peer_cred().ok().map(|peer| peer.uid())),
        }
    }

    /// The client that a line of the log names: without the port, so that all its connections are one client.
    pub(super) fn client(self) -> String {
        match self {
            Self::Address(address) => address.ip().to_canonical().to_string(),
            Self::User(_) => self.to_string(),
        }
    }

    /// Its address; none through a socket in the file system.
    pub(super) fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address.ip()),
            Self::User(_) => None,
        }
    }

    /// The addresses that count as one: an IPv4 address, or the 2⁶⁴ IPv6 addresses that any host can pick from.
    pub(super) fn block(self) -> Option<IpAddr> {
        let Self::Address(address) = self else {
            return None;
        };
        Some(match address.ip().to_canonical() {
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
            ip @ IpAddr::V4(_) => ip,
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::User(Some(uid)) => write!(f, "user {uid} of this machine"),
            Self::User(None) => f.write_str("a user of this machine"),
        }
    }
}

impl Caller {
    /// Whether it shows a token or an access key, which no web page knows.
    pub(super) fn has_credential(self) -> bool {
        self.credential != Credential::None
    }

    /// Whether the connections API is to judge its access key.
    pub(super) fn is_by_access_key(self) -> bool {
        self.credential == Credential::AccessKey
    }

    /// Its address; none through a socket in the file system.
    pub(super) fn address(self) -> Option<IpAddr> {
        self.peer.address()
    }

    /// Its address and port, or its user on this machine.
    pub(super) fn from(self) -> String {
        self.peer.to_string()
    }

    /// Who it is, apart from its address: the token by its key in the configuration, or a user of this machine.
    pub(super) fn name(self) -> Option<String> {
        match (self.credential, self.peer) {
            (Credential::Token(place), _) => Some(format!("management.tokens[{}]", place - 1)),
            (Credential::AccessKey, _) | (Credential::None, Peer::Address(_)) => None,
            (Credential::None, user @ Peer::User(_)) => Some(user.to_string()),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Credential::Token(place) = self.credential {
            write!(f, "management.tokens[{}] from ", place - 1)?;
        }
        self.peer.fmt(f)
    }
}

impl Access {
    pub(super) fn new(tokens: Tokens) -> Self {
        Self {
            tokens,
            failures: Mutex::default(),
        }
    }

    fn judge(&self, peer: Peer, headers: &HeaderMap, now: Instant) -> Result<Caller, Denied> {
        if self.tokens.0.is_empty() {
            let credential = Credential::None;
            return Ok(Caller { peer, credential });
        }
        let token = bearer(headers).ok_or(Denied::NoToken)?;
        let block = peer.block();
        if block.is_some_and(|block| self.has_failed_often(block, now)) {
            return Err(Denied::TooManyFailures);
        }
        let Some(place) = self.tokens.place_of(token) else {
            if let Some(block) = block {
                self.note_failure(block, now);
            }
            return Err(Denied::WrongToken);
        };
        let credential = Credential::Token(place);
        Ok(Caller { peer, credential })
    }

    fn has_failed_often(&self, block: IpAddr, now: Instant) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = failures.get(&block).filter(|failed| failed.counts(now));
        failed.is_some_and(|failed| failed.count >= MAX_FAILURES)
    }

    fn note_failure(&self, block: IpAddr, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&block) {
            failures.retain(|_, failed| failed.counts(now));
            if failures.len() >= MAX_ADDRESSES {
                failures.clear();
            }
        }
        let first = Failures {
            count: 0,
            since: now,
        };
        let failed = failures.entry(block).or_insert(first);
        if !failed.counts(now) {
            (failed.count, failed.since) = (0, now);
        }
        failed.count += 1;
    }
}

impl Failures {
    fn counts(&self, now: Instant) -> bool {
        now.duration_since(self.since) < FORGIVEN_AFTER
    }
}

/// The token of the only `Authorization` header (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

impl Denied {
    fn why(self) -> &'static str {
        match self {
            Self::NoToken => "it has no token",
            Self::WrongToken => "its token is not one of management.tokens",
            Self::TooManyFailures => "too many wrong tokens came from its address",
        }
    }

    fn response(self) -> Response {
        let (status, error) = match self {
            Self::NoToken => (
                StatusCode::UNAUTHORIZED,
                "send a token of management.tokens: Authorization: Bearer TOKEN; commands take --token-file FILE, or LOCKGATE_MANAGEMENT_TOKEN",
            ),
            Self::WrongToken => (
                StatusCode::UNAUTHORIZED,
                "the token is not one of management.tokens; if the file has changed since the gateway read it, give the token of before by LOCKGATE_MANAGEMENT_TOKEN, or send the gateway SIGHUP",
            ),
            Self::TooManyFailures => (
                StatusCode::TOO_MANY_REQUESTS,
                "too many wrong tokens came from this address; ask again in a minute",
            ),
        };
        let mut response = refused(status, error);
        let headers = response.headers_mut();
        match self {
            Self::NoToken | Self::WrongToken => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::TooManyFailures => {
                let seconds = HeaderValue::from(FORGIVEN_AFTER.as_secs());
                headers.insert(RETRY_AFTER, seconds);
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn access() -> Access {
        Access::new(Tokens(
            ["another-another-another-another-", TOKEN]
                .map(|token| hash(token.as_bytes()))
                .into(),
        ))
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    fn peer(ip: &str) -> Peer {
        Peer::Address(SocketAddr::new(ip.parse().unwrap(), 1))
    }

    #[test]
    fn only_one_whole_token_of_the_configuration_passes() {
        let access = access();
        let now = Instant::now();
        let bearer = format!("Bearer {TOKEN}");
        let caller = access
            .judge(peer("10.0.0.1"), &headers(&[&bearer]), now)
            .unwrap();
        assert_eq!(caller.to_string(), "management.tokens[1] from 10.0.0.1:1");
        let lower = format!("bearer {TOKEN}");
        assert!(
            access
                .judge(peer("10.0.0.1"), &headers(&[&lower]), now)
                .is_ok()
        );
        for (values, why) in [
            (&[][..], Denied::NoToken),
            (&[&*bearer, &*bearer], Denied::NoToken),
            (&[TOKEN], Denied::NoToken),
            (&["Basic QWxhZGRpbg=="], Denied::NoToken),
            (&["Bearer"], Denied::NoToken),
            (&[&bearer[..bearer.len() - 1]], Denied::WrongToken),
            (&[&format!("{bearer}0")], Denied::WrongToken),
            (&[&format!("{bearer},{TOKEN}")], Denied::WrongToken),
        ] {
            let denied = access
                .judge(peer("10.0.0.1"), &headers(values), now)
                .unwrap_err();
            assert_eq!(denied, why, "{values:?}");
        }
    }

    #[test]
    fn connections_of_one_address_are_one_client_in_the_log() {
        for (ip, client) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(peer(ip).client(), client);
        }
    }

    #[test]
    fn wrong_tokens_of_one_address_are_refused_unread_for_a_minute() {
        let access = access();
        let now = Instant::now();
        let (right, wrong) = (
            headers(&[&format!("Bearer {TOKEN}")]),
            headers(&["Bearer wrong"]),
        );
        for _ in 0..MAX_FAILURES {
            let denied = access.judge(peer("2001:db8::1"), &wrong, now).unwrap_err();
            assert_eq!(denied, Denied::WrongToken);
        }
        // Its neighbours in the same /64 count as the same.
        for (ip, passes) in [
            ("2001:db8::2", false),
            ("2001:db8:0:1::1", true),
            ("10.0.0.1", true),
        ] {
            assert_eq!(access.judge(peer(ip), &right, now).is_ok(), passes, "{ip}");
        }
        let later = now + FORGIVEN_AFTER;
        assert!(access.judge(peer("2001:db8::1"), &right, later).is_ok());
        // A user of this machine is known, and not limited.
        for _ in 0..=MAX_FAILURES {
            let denied = access.judge(Peer::User(Some(1)), &wrong, now).unwrap_err();
            assert_eq!(denied, Denied::WrongToken);
        }
    }

    #[test]
    fn failures_are_remembered_of_a_bounded_number_of_addresses() {
        let access = access();
        let now = Instant::now();
        let wrong = headers(&["Bearer wrong"]);
        for address in 0..3 * MAX_ADDRESSES {
            let ip = std::net::Ipv4Addr::from_bits(0x0a00_0000 + address as u32);
            let peer = Peer::Address(SocketAddr::new(ip.into(), 1));
            assert!(access.judge(peer, &wrong, now).is_err());
            assert!(access.failures.lock().unwrap().len() <= MAX_ADDRESSES);
        }
    }
}
