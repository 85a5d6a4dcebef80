//! Guards against web pages: a browser on this machine reaches loopback addresses for any page.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{HttpBody as _, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::access::Caller;
use super::{Control, connections, plugins};
use crate::config::is_loopback_authority;

/// Passes only requests that no web page can send: a browser adds the page's `Origin`, its `Host` is the name that was made
/// to resolve to this machine, and it knows no token.
pub(super) async fn no_web_page(request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>();
    let has_credential = caller.is_some_and(|caller| caller.has_credential());
    match refusal(request.headers(), has_credential) {
        Some(why) => (StatusCode::FORBIDDEN, why).into_response(),
        None => next.run(request).await,
    }
}

/// Passes a `POST` only with the content type of JSON, which a page cannot send to another site without a preflight.
pub(super) async fn json_only(request: Request, next: Next) -> Response {
    if request.method() != Method::POST || is_json(request.headers()) {
        return next.run(request).await;
    }
    let why = "send content-type: application/json";
    plugins::refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, why)
}

/// Limit of a request's body in bytes. The longest has a few words.
pub(super) const MAX_BODY: usize = 64 << 10;

/// Limit of the body of a request that carries a message for clients, in bytes.
pub(super) const MAX_MESSAGE_BODY: usize = 2 << 20;

/// Time limit for a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the whole body, of `limit` bytes at most, before the request is handled, so that a client that stops in the
/// middle holds nothing for long.
pub(super) async fn whole_body(
    State(limit): State<usize>,
    request: Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    if connections::has_unknown_coding(&head.headers) {
        let why = "the only transfer coding is chunked: send a content-length";
        return plugins::refused(StatusCode::NOT_IMPLEMENTED, why);
    }
    let told = body.size_hint().lower();
    if told > limit as u64 {
        let why = format!("the body has {told} bytes, and this request takes {limit}: send less");
        return plugins::refused(StatusCode::PAYLOAD_TOO_LARGE, &why);
    }
    match timeout(BODY_TIMEOUT, to_bytes(body, limit)).await {
        Ok(Ok(body)) => next.run(Request::from_parts(head, body.into())).await,
        Ok(Err(_)) => {
            let why = format!("the body is cut short, or has more than {limit} bytes");
            plugins::refused(StatusCode::BAD_REQUEST, &why)
        }
        Err(_) => plugins::refused(StatusCode::REQUEST_TIMEOUT, "the body did not come"),
    }
}

/// The header in which a command names the configuration that it means, form-encoded.
pub(crate) const CONFIGURATION: &str = "lockgate-configuration";

/// Passes requests that name this gateway's configuration, or none.
pub(super) async fn same_file(
    State(control): State<Control>,
    request: Request,
    next: Next,
) -> Response {
    let Some(expected) = request.headers().get(CONFIGURATION) else {
        return next.run(request).await;
    };
    let expected = form_urlencoded::parse(expected.as_bytes()).next();
    let expected = PathBuf::from(expected.unwrap_or_default().0.into_owned());
    let asked = expected.clone();
    let own = control.file().cloned();
    let is_own = spawn_blocking(move || own.is_some_and(|own| is_same(&own, &asked))).await;
    if is_own.unwrap_or(false) {
        return next.run(request).await;
    }
    let own = control.file();
    let runs = own.map_or_else(
        || "no file".to_owned(),
        |own| {
            std::path::absolute(own)
                .unwrap_or_default()
                .display()
                .to_string()
        },
    );
    let why = format!(
        "the gateway there (process {}) runs {runs} and not {}; name that file, or the gateway by --management ADDR",
        std::process::id(),
        expected.display()
    );
    plugins::refused(StatusCode::MISDIRECTED_REQUEST, &why)
}

/// Whether two paths lead to one file now, through links too.
fn is_same(one: &Path, other: &Path) -> bool {
    let one = one
        .canonicalize()
        .and_then(|one| Ok((one.metadata()?, one)));
    let other = other
        .canonicalize()
        .and_then(|other| Ok((other.metadata()?, other)));
    match (one, other) {
        (Ok((one, one_path)), Ok((other, other_path))) => {
            one_path == other_path || (one.dev(), one.ino()) == (other.dev(), other.ino())
        }
        _ => false,
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    })
}

fn refusal(headers: &HeaderMap, has_credential: bool) -> Option<&'static str> {
    if headers.contains_key(ORIGIN) {
        return Some("a request with an Origin comes from a web page, and is refused\n");
    }
    if has_credential {
        return None;
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    match host {
        Some(host) if hosts.next().is_none() && is_loopback_authority(host) => None,
        Some(_) | None => Some("the Host must be localhost or a loopback address\n"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &'static str)], passes: bool) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (
                    name.parse().expect("a name"),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        assert_eq!(refusal(&headers, false).is_none(), passes, "{headers:?}");
        // A token makes any host right, and no page.
        let is_page = headers.contains_key(ORIGIN);
        assert_eq!(refusal(&headers, true).is_none(), !is_page, "{headers:?}");
    }

    #[test]
    fn only_requests_to_this_machine_from_no_page_pass() {
        for host in [
            "localhost",
            "LocalHost:9090",
            "127.0.0.1:9090",
            "127.1.2.3",
            "[::1]:9090",
        ] {
            check(&[("host", host)], true);
            check(&[("host", host), ("origin", "http://localhost")], false);
            check(&[("host", host), ("origin", "null")], false);
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "10.0.0.1",
            "[::2]",
            "0.0.0.0",
            "a b",
        ] {
            check(&[("host", host)], false);
        }
        check(&[], false);
    }
}
