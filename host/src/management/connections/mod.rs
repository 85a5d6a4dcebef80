//! The connections API, as API Gateway's `@connections`: programs post to a connection, describe it, or close it.
//!
//! The client listeners serve it below the address of a stage with `connections_api`, to callers with an access key. The
//! management listener serves that of every stage, to everyone who may use that listener, and where that takes a token
//! also to callers with an access key.

mod access;
mod methods;
mod refusal;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request as AxumRequest, State};
use axum::response::{IntoResponse as _, Response as AxumResponse};
use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use self::access::Access;
pub(super) use self::methods::has_unknown_coding;
use self::methods::{Call, Done, RequestBody};
use self::refusal::Refusal;
use super::Control;
use super::access::Caller;
use crate::access_log::{self, Entry, Event, milliseconds};
use crate::auth::AccessKeys;
use crate::connections::{ConnectionId, RequestId};
use crate::handshake::head::{shown, version};
use crate::handshake::{HandshakeContext, Peer, authority};
use crate::stage::{CurrentStage, Stage, Stages};

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

/// Beside an answer: the request's access key or signature is wrong.
#[derive(Clone)]
pub(super) struct Forged;

/// Whether a request shows an access key, by a signature or by the token of one of these. It is not judged here.
pub(super) fn shows_access_key(parts: &Parts, keys: &AccessKeys) -> bool {
    access::shows_key(parts, keys)
}

/// Whether a path is of the connections API: one with the segment `@connections`, however it is encoded. One that is not
/// `…/@connections/ID` is of no stage.
pub(crate) fn is_target(path: &str) -> bool {
    // Most paths have none of both.
    (path.contains('@') || path.contains('%')) && {
        let path = percent_decode_str(path).decode_utf8_lossy();
        path.split('/').any(|segment| segment == SEGMENT)
    }
}

/// Answers a request on a client listener, with a time limit for its body. It holds the permit of a handshake meanwhile.
pub(crate) async fn answer<B: RequestBody>(
    context: &HandshakeContext,
    mut peer: Peer,
    time_limit: Duration,
    request: Request<B>,
) -> Answer {
    let deadline = Instant::now() + time_limit;
    let (parts, body) = request.into_parts();
    let mut record = Record::new(Some(peer.client(&parts.headers)), peer.tls);
    let own = peer.handshake_permit.take();
    let permit = own.or_else(|| context.permits.take().map(Arc::new));
    let served = if permit.is_none() || context.stopping.is_cancelled() {
        Err(Refusal::NoRoom)
    } else if peer.head_faults.lone_line_feed() {
        Err(Refusal::MalformedHead)
    } else if has_unknown_coding(&parts.headers) {
        Err(Refusal::UnknownCoding)
    } else {
        let stages = context.stages.load_full();
        serve(&stages, &parts, body, deadline, &mut record).await
    };
    let has_key = served.as_ref().err().is_none_or(Refusal::has_key);
    record.write(&parts, &served);
    let mut response = refusal::response(served, record.request_id);
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
    Extension(caller): Extension<Caller>,
    request: AxumRequest,
) -> AxumResponse {
    let deadline = Instant::now() + BODY_TIMEOUT;
    let (parts, body) = request.into_parts();
    if !is_target(parts.uri.path()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let mut record = Record::new(caller.address(), None);
    record.by = caller.name();
    let stages = control.stages();
    let keys = caller.is_by_access_key().then_some(&*stages.access_keys);
    let served = match has_unknown_coding(&parts.headers) {
        true => Err(Refusal::UnknownCoding),
        false => serve_operator(&stages, keys, &parts, body, deadline, &mut record).await,
    };
    record.write(&parts, &served);
    let is_forged = served.as_ref().is_err_and(Refusal::is_forgery);
    let mut response = refusal::response(served, record.request_id).into_response();
    if is_forged {
        response.extensions_mut().insert(Forged);
    }
    response
}

/// Serves a caller with an access key: finds the stage, judges the key, and does what is asked.
async fn serve<B: RequestBody>(
    stages: &Stages,
    parts: &Parts,
    body: B,
    deadline: Instant,
    record: &mut Record,
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
    record.stage = Some(Arc::clone(&stage));
    let method = methods::method(&parts.method).ok_or(Refusal::NoMethod)?;
    let keys = &stages.access_keys;
    let access = Access::judge(keys, parts, authority.as_str(), &stage, method)?;
    record.by = Some(by_key(&access.key.name));
    let call = Call {
        stage: &stage,
        id: &target.id,
        deadline,
    };
    let verify = |body: &[u8]| access.verify(body);
    call.run(method, &parts.headers, body, verify).await
}

/// Serves a caller of the management listener: an operator, or one of whom one of these access keys decides.
async fn serve_operator<B: RequestBody>(
    stages: &Stages,
    keys: Option<&AccessKeys>,
    parts: &Parts,
    body: B,
    deadline: Instant,
    record: &mut Record,
) -> Result<Done, Refusal> {
    let target = Target::parse(parts.uri.path()).ok_or(Refusal::NoStage)?;
    let current = find_by_operator(stages, target.stage).ok_or(Refusal::NoStage)?;
    let stage = current.load_full();
    record.stage = Some(Arc::clone(&stage));
    let method = methods::method(&parts.method).ok_or(Refusal::NoMethod)?;
    let authority = authority(parts);
    let access = match keys {
        Some(keys) => {
            let host = authority.as_ref().ok_or(Refusal::NoStage)?.as_str();
            let access = Access::judge(keys, parts, host, &stage, method)?;
            record.by = Some(by_key(&access.key.name));
            Some(access)
        }
        None => None,
    };
    let call = Call {
        stage: &stage,
        id: &target.id,
        deadline,
    };
    let verify = |body: &[u8]| access.as_ref().map_or(Ok(()), |access| access.verify(body));
    call.run(method, &parts.headers, body, verify).await
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

/// What the access log has of a call, as far as it is known.
struct Record {
    request_id: RequestId,
    client: Option<IpAddr>,
    tls: Option<&'static str>,
    stage: Option<Arc<Stage>>,
    by: Option<String>,
    since: Instant,
}

impl Record {
    fn new(client: Option<IpAddr>, tls: Option<&'static str>) -> Self {
        Self {
            request_id: RequestId::next(),
            client,
            tls,
            stage: None,
            by: None,
            since: Instant::now(),
        }
    }

    /// Writes the call's line. The path is in it only where no stage is: it has the stage and the connection.
    fn write(&self, parts: &Parts, served: &Result<Done, Refusal>) {
        let stage = self.stage.as_deref();
        let target = Target::parse(parts.uri.path());
        let why = served.as_ref().err().map(ToString::to_string);
        let by = if let Err(Refusal::NotAllowed { key, .. }) = served {
            Some(by_key(key))
        } else {
            self.by.clone()
        };
        let host = authority(parts).map(|authority| authority.host.to_string());
        let user_agent = parts.headers.get(USER_AGENT).map(shown);
        let (bytes_in, bytes_out) = match served {
            Ok(Done::Posted { bytes }) => (Some(*bytes as u64), None),
            Ok(Done::Described(json)) => (None, Some(json.len() as u64)),
            Ok(Done::Closed) | Err(_) => (None, None),
        };
        access_log::write(&Entry {
            event: Event::Call,
            request_id: Some(self.request_id),
            connection: target.and_then(|target| ConnectionId::parse(&target.id)),
            by: by.as_deref().map(Into::into),
            client: self.client.map(|client| client.to_canonical()),
            stage: stage.map(|stage| stage.scope.name()),
            host: host.as_deref().map(Into::into),
            method: Some(parts.method.as_str().into()),
            path: stage.is_none().then(|| parts.uri.path().into()),
            user_agent: user_agent.as_deref().map(Into::into),
            tls: self.tls,
            http: Some(version(parts.version)),
            status: Some(refusal::status(served).as_u16()),
            refused: why.as_deref().map(Into::into),
            took_ms: Some(milliseconds(self.since.elapsed())),
            bytes_in,
            bytes_out,
            ..Entry::default()
        });
    }
}

fn by_key(name: &str) -> String {
    format!("access_keys.{name}")
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

    #[test]
    fn path_with_the_segment_is_answered_here_in_every_form() {
        for path in [
            "/prod/@connections/a",
            "/prod/%40connections/a%3D",
            "/prod/@connections",
            "/prod/@connections/a/",
            "/prod/@connections%2Fa",
            "/prod%2f%40connections/a",
            "/prod/@connections/a/b",
        ] {
            assert!(is_target(path), "{path}");
        }
        for path in [
            "/",
            "/prod",
            "/prod/a@connections",
            "/@connection/a",
            "/%40",
        ] {
            assert!(!is_target(path), "{path}");
        }
    }
}
