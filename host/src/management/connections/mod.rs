//! The connections API, as API Gateway's `@connections`: programs post to a connection, describe it, or close it.
//!
//! The client listeners serve it below the address of a stage with `connections_api`, to callers with an access key. The
//! management listener serves that of every stage, to everyone who may use that listener.

mod access;
mod methods;
mod refusal;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request as AxumRequest, State};
use axum::response::{IntoResponse as _, Response as AxumResponse};
use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use self::access::Access;
use self::methods::{Call, Done, RequestBody};
use self::refusal::Refusal;
use super::Control;
use crate::access_log::Text;
use crate::connections::RequestId;
use crate::handshake::{HandshakeContext, Peer, authority};
use crate::stage::{CurrentStage, Stages};

/// The segment of a path before a connection's id.
const SEGMENT: &str = "@connections";

/// Time limit for the body of a request on the management listener.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The answer to a request on a client listener.
pub(crate) struct Answer {
    pub(crate) response: Response<Full<Bytes>>,
    /// Whether the request had a valid key. A caller without one does not keep its HTTP connection.
    pub(crate) has_key: bool,
}

/// Whether a path is that of the connections API: `…/@connections/ID`.
pub(crate) fn is_target(path: &str) -> bool {
    Target::parse(path).is_some()
}

/// Answers a request on a client listener, with a time limit for its body. It holds the permit of a handshake meanwhile.
pub(crate) async fn answer<B: RequestBody>(
    context: &HandshakeContext,
    mut peer: Peer,
    time_limit: Duration,
    request: Request<B>,
) -> Answer {
    let deadline = Instant::now() + time_limit;
    let request_id = RequestId::next();
    let (parts, body) = request.into_parts();
    let own = peer.handshake_permit.take();
    let permit = own.or_else(|| context.permits.take().map(Arc::new));
    let served = if permit.is_none() || context.stopping.is_cancelled() {
        Err(Refusal::NoRoom)
    } else if peer.head_faults.lone_line_feed() {
        Err(Refusal::MalformedHead)
    } else {
        serve(&context.stages.load_full(), &parts, body, deadline).await
    };
    let has_key = served.as_ref().err().is_none_or(Refusal::has_key);
    log(&peer.client(&parts.headers), &parts, request_id, &served);
    let mut response = refusal::response(served, request_id);
    // No byte behind the request of a stranger is read as another request.
    if parts.version < Version::HTTP_2 && !has_key {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    Answer { response, has_key }
}

/// Answers a request on the management listener.
pub(super) async fn answer_operator(
    State(control): State<Control>,
    request: AxumRequest,
) -> AxumResponse {
    let deadline = Instant::now() + BODY_TIMEOUT;
    let (parts, body) = request.into_parts();
    if !is_target(parts.uri.path()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let request_id = RequestId::next();
    let served = serve_operator(&control.stages(), &parts, body, deadline).await;
    log(&"management", &parts, request_id, &served);
    refusal::response(served, request_id).into_response()
}

/// Serves a caller with an access key: finds the stage, judges the key, and does what is asked.
async fn serve<B: RequestBody>(
    stages: &Stages,
    parts: &Parts,
    body: B,
    deadline: Instant,
) -> Result<Done, Refusal> {
    let target = Target::parse(parts.uri.path()).ok_or(Refusal::NoStage)?;
    let authority = authority(parts).ok_or(Refusal::NoStage)?;
    let host = authority.host.to_string();
    let path = if target.stage.is_empty() {
        "/"
    } else {
        target.stage
    };
    let current = stages.find(&host, path).ok_or(Refusal::NoStage)?;
    let stage = current.load_full();
    if !stage.connections_api {
        return Err(Refusal::NoStage);
    }
    let method = methods::method(&parts.method).ok_or(Refusal::NoMethod)?;
    let keys = &stages.access_keys;
    let access = Access::judge(keys, parts, authority.as_str(), &stage, method)?;
    let call = Call {
        stage: &stage,
        id: &target.id,
        deadline,
    };
    let verify = |body: &[u8]| access.verify(body);
    call.run(method, &parts.headers, body, verify).await
}

/// Serves an operator, who needs no access key.
async fn serve_operator<B: RequestBody>(
    stages: &Stages,
    parts: &Parts,
    body: B,
    deadline: Instant,
) -> Result<Done, Refusal> {
    let target = Target::parse(parts.uri.path()).ok_or(Refusal::NoStage)?;
    let current = find_by_operator(stages, target.stage).ok_or(Refusal::NoStage)?;
    let method = methods::method(&parts.method).ok_or(Refusal::NoMethod)?;
    let call = Call {
        stage: &current.load_full(),
        id: &target.id,
        deadline,
    };
    call.run(method, &parts.headers, body, |_| Ok(())).await
}

/// The stage that an operator names: `/STAGE`, as clients know one without domains, or `/API/STAGE`.
fn find_by_operator<'s>(stages: &'s Stages, path: &str) -> Option<&'s Arc<CurrentStage>> {
    let name = path.strip_prefix('/')?;
    stages.by_name.get(name).or_else(|| stages.by_api.get(name))
}

/// The connection that a path names.
#[derive(Debug, PartialEq, Eq)]
struct Target<'p> {
    /// The path of the stage: empty, or with a slash in front.
    stage: &'p str,
    /// The connection's id, decoded.
    id: Cow<'p, str>,
}

impl<'p> Target<'p> {
    /// Parses a path, in which `@` and the id may be percent-encoded.
    fn parse(path: &'p str) -> Option<Self> {
        let (before, id) = path.rsplit_once('/')?;
        let (stage, segment) = before.rsplit_once('/')?;
        // What is no UTF-8 becomes characters that no id has.
        let id = percent_decode_str(id).decode_utf8_lossy();
        (percent_decode_str(segment).decode_utf8_lossy() == SEGMENT).then_some(Self { stage, id })
    }
}

fn log(
    client: &dyn fmt::Display,
    parts: &Parts,
    request_id: RequestId,
    served: &Result<Done, Refusal>,
) {
    let method = Text::from(parts.method.as_str()).as_str();
    let path = Text::from(parts.uri.path()).as_str();
    match served {
        Ok(_) => tracing::debug!(%client, %request_id, method, path, "connections API"),
        Err(refusal) => {
            let status = refusal.status().as_u16();
            // It may hold the id of the path.
            let why = refusal.to_string();
            let why = Text::from(&*why).as_str();
            tracing::debug!(%client, %request_id, status, method, path, "connections API refused: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<(&str, &str)>) {
        let target = Target::parse(path);
        let found = target.as_ref().map(|target| (target.stage, &*target.id));
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn path_names_a_stage_and_a_connection() {
        check(
            "/prod/@connections/L0SM9cOFvHcCIhw=",
            Some(("/prod", "L0SM9cOFvHcCIhw=")),
        );
        check(
            "/prod/%40connections/L0SM9cOFvHcCIhw%3D",
            Some(("/prod", "L0SM9cOFvHcCIhw=")),
        );
        check("/@connections/abc", Some(("", "abc")));
        check("/v1/prod/@connections/", Some(("/v1/prod", "")));
        check("/prod/@connections/%ff", Some(("/prod", "\u{fffd}")));
        for path in [
            "",
            "/",
            "/prod",
            "/prod/@connections",
            "/@connections",
            "/@connections/a/b",
            "@connections/a",
        ] {
            check(path, None);
        }
    }
}
