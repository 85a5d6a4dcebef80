//! Heads, as the listener reads them: by hyper, from a watched socket.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::runtime::{Builder, Runtime};

use super::input::InputSocket;
use crate::config::{ForwardedHeader, Origin, OriginPattern, Origins, Proxies};
use crate::connections::RequestId;
use crate::handshake::forwarded;
use crate::handshake::head::{self, Authority, Head, Opening};
use crate::handshake::head_watch::{HeadFaults, HeadWatch};
use crate::handshake::origin::{self, Destination};
use crate::handshake::refusal::Refusal;

/// The listener's limits.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// Bytes that hyper takes in one read.
const ONE_READ: usize = 4 << 10;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().unwrap();
}

/// For every input at most one request is answered; an admitted one is a single head of CRLF lines and nothing else.
pub(crate) fn head(input: &[u8]) {
    let Some((piece, bytes)) = input.split_first() else {
        return;
    };
    // 0 gives all bytes at once.
    let piece = if *piece == 0 {
        usize::MAX
    } else {
        usize::from(*piece)
    };
    let opened = Rc::new(RefCell::new(Vec::new()));
    let answered = Rc::clone(&opened);
    let socket = HeadWatch::new(InputSocket::new(bytes, piece));
    let faults = socket.faults();
    let connection = hyper::server::conn::http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .header_read_timeout(None)
        .serve_connection(
            TokioIo::new(socket),
            service_fn(move |request| {
                let (response, opening) = answer(&request, &faults);
                answered.borrow_mut().push(opening);
                async move { Ok::<_, Infallible>(response) }
            }),
        )
        .without_shutdown();
    // The connection may end with an error.
    let _ = RUNTIME.with(|runtime| runtime.block_on(connection));
    let opened = opened.borrow();
    assert!(opened.len() <= 1, "{} requests were answered", opened.len());
    if let [Some(Opening::Upgrade { .. })] = opened.as_slice() {
        check_head(bytes, piece == usize::MAX);
    }
}

/// Decides as the handshake does, as far as that takes no stage.
fn answer(
    request: &Request<Incoming>,
    faults: &HeadFaults,
) -> (Response<Full<Bytes>>, Option<Opening>) {
    let version = request.version();
    let (parts, ()) = {
        let mut copy = Request::new(());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = version;
        *copy.headers_mut() = request.headers().clone();
        copy.into_parts()
    };
    let decide = || {
        let head = Head::read(&parts)?;
        if faults.lone_line_feed() {
            return Err(Refusal::Malformed("a line of the head ends without CR"));
        }
        if faults.beyond_the_head() {
            return Err(Refusal::Malformed("bytes came before the answer"));
        }
        check_handler_headers(&head);
        if let Some(origin) = &head.origin
            && !origin::allowed(
                &Origins::default(),
                origin.as_bytes(),
                &destination(&head.authority),
            )
        {
            return Err(Refusal::ForeignOrigin(String::new()));
        }
        Ok(head.opening)
    };
    head::wants_websocket(&parts);
    match decide() {
        Ok(opening) => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            (response, Some(opening))
        }
        Err(refusal) => {
            let response = refusal.response(version, RequestId::next());
            assert!(response.status().is_client_error(), "{refusal}");
            (response, None)
        }
    }
}

/// The headers for a handler have one host, one cookie at most, and none that HTTP/1.1 needs for the upgrade.
fn check_handler_headers(head: &Head) {
    let count = |name| {
        head.headers
            .iter()
            .filter(|(given, _)| given == name)
            .count()
    };
    assert_eq!(count("host"), 1, "{head:?}");
    assert!(count("cookie") <= 1, "{head:?}");
    for name in ["connection", "upgrade", "sec-websocket-key"] {
        assert_eq!(count(name), 0, "{head:?}");
    }
}

/// The destination of a listener without TLS on no loopback address.
fn destination(authority: &Authority) -> Destination {
    Destination {
        authority: authority.clone(),
        secure: false,
        loopback: false,
        configured: false,
    }
}

/// Checks an admitted head by the rules of RFC 9112 and RFC 6455 alone.
fn check_head(bytes: &[u8], at_once: bool) {
    let blank = bytes.chunks(2).take_while(|line| *line == b"\r\n").count();
    let bytes = &bytes[2 * blank..];
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.expect("a head has an end");
    let text = String::from_utf8_lossy(&bytes[..end + 2]);
    assert_eq!(
        text.matches('\n').count(),
        text.matches("\r\n").count(),
        "a lone line feed: {text:?}"
    );
    assert_eq!(
        text.matches('\r').count(),
        text.matches("\r\n").count(),
        "a lone carriage return: {text:?}"
    );
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap();
    assert!(
        first.starts_with("GET ") && first.ends_with(" HTTP/1.1"),
        "{first:?}"
    );
    let names: Vec<_> = lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            line.split_once(':')
                .expect("a name and a value")
                .0
                .to_ascii_lowercase()
        })
        .collect();
    for name in [
        "host",
        "sec-websocket-key",
        "sec-websocket-version",
        "upgrade",
    ] {
        let count = names.iter().filter(|given| *given == name).count();
        assert_eq!(count, 1, "{name}: {text:?}");
    }
    assert!(!names.contains(&"transfer-encoding".to_owned()), "{text:?}");
    if at_once && bytes.len() < ONE_READ {
        assert_eq!(bytes.len(), end + 4, "bytes behind the head: {text:?}");
    }
}

/// Takes an origin and, in a second line, a host. A list of one origin admits that one alone, in every spelling.
pub(crate) fn origins(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let (origin, host) = (lines.next().unwrap_or_default(), lines.next());
    let authority = host
        .and_then(|host| uri::Authority::try_from(host).ok())
        .and_then(|host| Authority::parse(&host))
        .unwrap_or_else(|| Authority::parse(&uri::Authority::from_static("localhost")).unwrap());
    let plain = destination(&authority);
    let listed = "https://app.example.com:8443";
    for (pattern, exact) in [(listed, true), ("https://*.example.com:8443", false)] {
        let list = Origins {
            any: false,
            same_host: false,
            list: vec![OriginPattern::parse(pattern).unwrap()],
        };
        if origin::allowed(&list, origin, &plain) {
            let origin = String::from_utf8(origin.to_ascii_lowercase()).unwrap();
            let origin = origin.replace(".com.:", ".com:");
            assert!(origin == listed || !exact, "{origin:?}");
            assert!(
                origin.starts_with("https://") && origin.ends_with(".example.com:8443"),
                "{origin:?}"
            );
        }
    }
    if !origin::allowed(&Origins::default(), origin, &plain) {
        return;
    }
    let origin = std::str::from_utf8(origin).unwrap();
    let Some(Origin::Site(site)) = Origin::parse(origin) else {
        panic!("{origin:?} is let in to {authority:?}")
    };
    assert_eq!(site.host, authority.host, "{origin:?}");
    let as_seen = |loopback, secure| Destination {
        loopback,
        secure,
        ..plain.clone()
    };
    let own = |destination| origin::allowed(&Origins::default(), origin.as_bytes(), &destination);
    assert_eq!(
        own(as_seen(true, false)),
        site.host.is_loopback(),
        "{origin:?}"
    );
    assert_eq!(
        own(as_seen(false, true)),
        site.scheme == "https",
        "{origin:?}"
    );
}

/// Takes a client's text for either header. The entry that a trusted proxy adds behind it counts, and no entry of an
/// untrusted peer does.
pub(crate) fn forwarded(input: &[u8]) {
    let Ok(written) = HeaderValue::from_bytes(input) else {
        return;
    };
    let [proxy, client] = ["10.0.0.1", "2001:db8::1"].map(|text| text.parse().unwrap());
    for (header, name, added) in [
        (
            ForwardedHeader::XForwardedFor,
            "x-forwarded-for",
            ", 2001:db8::1",
        ),
        (
            ForwardedHeader::Forwarded,
            "forwarded",
            ", for=\"[2001:db8::1]\"",
        ),
    ] {
        let name = HeaderName::from_static(name);
        let proxies = Proxies {
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
            protocol: false,
            header,
        };
        let mut headers = HeaderMap::new();
        headers.append(&name, written.clone());
        forwarded::sender(&proxies, proxy, &headers);
        let untrusted = forwarded::sender(&proxies, client, &headers);
        assert_eq!((untrusted.address, untrusted.via_proxy), (client, false));
        headers.append(&name, HeaderValue::from_static(&added[2..]));
        assert_eq!(forwarded::sender(&proxies, proxy, &headers).address, client);
        // A line that is not text hides its entries, and names nobody.
        if let Ok(text) = written.to_str() {
            let line = HeaderValue::from_str(&format!("{text}{added}")).unwrap();
            headers.insert(&name, line);
            assert_eq!(forwarded::sender(&proxies, proxy, &headers).address, client);
        }
    }
}
