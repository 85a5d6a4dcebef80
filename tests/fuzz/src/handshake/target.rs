//! Heads, as the listener has them read: by hyper, from a socket that is watched.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::header::ORIGIN;
use http::uri::Authority;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::runtime::{Builder, Runtime};

use super::head::{self, Opening};
use super::origin;
use super::refusal::Refusal;
use super::strict::{Seen, Strict};
use crate::bytes::Socket;
use crate::config::Origins;
use crate::connections::RequestId;

/// As the listener has them.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// Input that hyper takes in one read.
const ONE_READ: usize = 4 << 10;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().unwrap();
}

/// Whatever comes, one request is answered; what is let in is one head of CRLF lines and nothing else.
pub(crate) fn head(input: &[u8]) {
    let Some((piece, bytes)) = input.split_first() else {
        return;
    };
    // 0 is all at once.
    let piece = if *piece == 0 {
        usize::MAX
    } else {
        usize::from(*piece)
    };
    let opened = Rc::new(RefCell::new(Vec::new()));
    let answered = Rc::clone(&opened);
    let socket = Strict::new(Socket::new(bytes, piece));
    let seen = socket.seen();
    let connection = hyper::server::conn::http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .header_read_timeout(None)
        .serve_connection(
            TokioIo::new(socket),
            service_fn(move |request| {
                let (response, opening) = answer(&request, &seen);
                answered.borrow_mut().push(opening);
                async move { Ok::<_, Infallible>(response) }
            }),
        )
        .without_shutdown();
    // An error is one of its ways to end.
    let _ = RUNTIME.with(|runtime| runtime.block_on(connection));
    let opened = opened.borrow();
    assert!(opened.len() <= 1, "{} requests were answered", opened.len());
    if let [Some(Opening::Upgrade { .. })] = opened.as_slice() {
        check_head(bytes, piece == usize::MAX);
    }
}

/// Decides as the handshake does, up to where it needs a stage.
fn answer(request: &Request<Incoming>, seen: &Seen) -> (Response<Full<Bytes>>, Option<Opening>) {
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
        let opening = head::check(&parts)?;
        if seen.lone_line_feed() {
            return Err(Refusal::Malformed("a line of the head ends without CR"));
        }
        if seen.beyond_the_head() {
            return Err(Refusal::Malformed("bytes came before the answer"));
        }
        let authority =
            head::authority(&parts).ok_or(Refusal::Malformed("the Host is not a host"))?;
        if let Some(origin) = parts.headers.get(ORIGIN)
            && !origin::allowed(&Origins::default(), origin.as_bytes(), &authority)
        {
            return Err(Refusal::ForeignOrigin);
        }
        head::subprotocols(&parts.headers);
        Ok(opening)
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

/// What was let in, read again by the rules of RFC 9112 and RFC 6455 alone.
fn check_head(bytes: &[u8], at_once: bool) {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.expect("a head has an end");
    let head = &bytes[..end + 2];
    let blank = head
        .iter()
        .take_while(|byte| b"\r\n".contains(byte))
        .count();
    let text = String::from_utf8_lossy(&head[blank..]);
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

/// The input is an origin and, in a second line, a host. What a list of one lets in is that one, however written.
pub(crate) fn origins(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let (origin, host) = (lines.next().unwrap_or_default(), lines.next());
    let listed = "https://app.example.com:8443";
    let list = Origins {
        any: false,
        same_host: false,
        list: vec![listed.to_owned()],
    };
    let authority: Authority = host
        .and_then(|host| Authority::try_from(host).ok())
        .unwrap_or_else(|| Authority::from_static("localhost"));
    if origin::allowed(&list, origin, &authority) {
        assert!(origin.eq_ignore_ascii_case(listed.as_bytes()));
    }
    if origin::allowed(&Origins::default(), origin, &authority) {
        let origin = String::from_utf8(origin.to_ascii_lowercase()).unwrap();
        let (_, rest) = origin.split_once("://").unwrap();
        let given: Authority = rest.parse().unwrap();
        assert!(
            given.host().eq_ignore_ascii_case(authority.host()),
            "{origin:?} is let in to {authority}"
        );
    }
}
