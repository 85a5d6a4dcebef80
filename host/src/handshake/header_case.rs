//! The spelling of header names in answers over HTTP/1.1: some clients on small devices compare them letter by letter.
//!
//! hyper writes `Sec-Websocket-Accept`. Only an extension changes the spelling of a name. Its type is private, and
//! hyper makes it of the names that it parses: so it parses these, once.

use std::convert::Infallible;
use std::future::ready;
use std::pin::pin;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::task::{Context, Waker};

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

/// A request with the names that title case spells wrong.
const NAMES: &[u8] = b"GET / HTTP/1.1\r\nSec-WebSocket-Accept:\r\nSec-WebSocket-Extensions:\r\n\
    Sec-WebSocket-Protocol:\r\nSec-WebSocket-Version:\r\nWWW-Authenticate:\r\n\
    x-amzn-ErrorType:\r\nx-amzn-RequestId:\r\n\r\n";

static SPELLING: LazyLock<Extensions> = LazyLock::new(parse);

/// Makes hyper spell these headers as their specifications do.
pub(super) fn set<B>(response: &mut Response<B>) {
    response.extensions_mut().extend(SPELLING.clone());
}

fn parse() -> Extensions {
    let parsed = Mutex::new(Extensions::new());
    let service = service_fn(|request: Request<Incoming>| {
        let mut parsed = parsed.lock().unwrap_or_else(PoisonError::into_inner);
        parsed.clone_from(request.extensions());
        ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
    });
    let connection = http1::Builder::new()
        .preserve_header_case(true)
        .header_read_timeout(None)
        .serve_connection(
            TokioIo::new(tokio::io::join(NAMES, tokio::io::sink())),
            service,
        );
    // The whole request is there: the first poll ends it.
    let _ = pin!(connection).poll(&mut Context::from_waker(Waker::noop()));
    parsed.into_inner().unwrap_or_else(PoisonError::into_inner)
}
