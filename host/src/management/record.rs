//! The lines of the admin API's calls in the access log.

use axum::body::HttpBody as _;
use axum::extract::{Extension, Request};
use axum::http::header::{CONTENT_LENGTH, USER_AGENT};
use axum::http::{Method, StatusCode, Uri, Version};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;

use super::access::Caller;
use crate::access_log::{self, Entry, Event, milliseconds};
use crate::connections::RequestId;
use crate::handshake::head::{shown, version};

/// The page that monitoring asks for every few seconds. It has no line.
const METRICS: &str = "/metrics";

/// Writes the line of a call once it is answered. Its query, which may name a client, is not in it.
pub(super) async fn record(
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    if request.uri().path() == METRICS {
        return next.run(request).await;
    }
    let call = Call::of(&request);
    let response = next.run(request).await;
    let by = caller.name();
    access_log::write(&Entry {
        by: by.as_deref().map(Into::into),
        client: caller.address().map(|address| address.to_canonical()),
        bytes_out: response.body().size_hint().exact(),
        ..call.entry(response.status())
    });
    response
}

/// The parts of a request that the line has.
struct Call {
    since: Instant,
    request_id: RequestId,
    method: Method,
    uri: Uri,
    user_agent: Option<String>,
    /// The bytes of its body, as its head tells.
    length: Option<u64>,
    version: Version,
}

impl Call {
    fn of(request: &Request) -> Self {
        let headers = request.headers();
        let length = headers.get(CONTENT_LENGTH);
        Self {
            since: Instant::now(),
            request_id: RequestId::next(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            user_agent: headers
                .get(USER_AGENT)
                .map(|agent| shown(agent).into_owned()),
            length: length.and_then(|length| length.to_str().ok()?.parse().ok()),
            version: request.version(),
        }
    }

    fn entry(&self, status: StatusCode) -> Entry<'_> {
        Entry {
            event: Event::Call,
            request_id: Some(self.request_id),
            method: Some(self.method.as_str().into()),
            path: Some(self.uri.path().into()),
            user_agent: self.user_agent.as_deref().map(Into::into),
            http: Some(version(self.version)),
            status: Some(status.as_u16()),
            took_ms: Some(milliseconds(self.since.elapsed())),
            bytes_in: self.length,
            ..Entry::default()
        }
    }
}
