//! The three methods on a connection: post to it, describe it, close it.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;
use time::format_description::well_known::iso8601::{Config, EncodedConfig, TimePrecision};
use tokio::time::{Instant, timeout_at};

use super::refusal::Refusal;
use crate::config::KeyMethods;
use crate::connections::{Closer, Closing, ConnectionId, Info, Message, MessageKind, PostError};
use crate::stage::Stage;

/// The body of a request.
pub(crate) trait RequestBody: Body<Data = Bytes, Error: Into<BoxError>> {}

impl<B: Body<Data = Bytes, Error: Into<BoxError>>> RequestBody for B {}

type BoxError = Box<dyn Error + Send + Sync>;

/// A valid request for a stage.
pub(super) struct Call<'c> {
    pub(super) stage: &'c Stage,
    /// The connection's id as the path has it, decoded.
    pub(super) id: &'c str,
    /// The time at which the body must have come.
    pub(super) deadline: Instant,
}

/// The result of a request that was carried out.
#[derive(Debug)]
pub(super) enum Done {
    Posted {
        bytes: usize,
    },
    /// JSON, as API Gateway writes it.
    Described(String),
    Closed,
}

/// The method of a request, as access keys allow it; none if the API has none of that name.
pub(super) fn method(method: &Method) -> Option<KeyMethods> {
    match *method {
        Method::POST => Some(KeyMethods::POST),
        Method::GET => Some(KeyMethods::GET),
        Method::DELETE => Some(KeyMethods::DELETE),
        _ => None,
    }
}

/// Whether a body has a transfer coding beside `chunked`, as which the server below would read it (RFC 9112 §6.1).
pub(in crate::management) fn has_unknown_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    codings.next().is_some_and(|first| !is_chunked(first)) || codings.next().is_some()
}

impl Call<'_> {
    /// Reads the body, has it verified, and does what is asked. Whether a connection is another stage's or was never
    /// there makes no difference: only the stage's own directory is asked.
    pub(super) async fn run<B: RequestBody>(
        &self,
        method: KeyMethods,
        headers: &HeaderMap,
        body: B,
        verify: impl FnOnce(&[u8]) -> Result<(), Refusal>,
    ) -> Result<Done, Refusal> {
        let limit = match method {
            KeyMethods::POST => self.stage.limits.message_bytes,
            _ => 0,
        };
        let body = self.read(headers, body, limit).await?;
        verify(&body)?;
        let id = ConnectionId::parse(self.id);
        let id = id.ok_or_else(|| Refusal::MalformedId(self.id.to_owned()))?;
        let scope = &self.stage.scope;
        let directory = scope.directory.view(&scope.limits, None);
        match method {
            KeyMethods::POST => {
                let bytes = body.len();
                let message = message(body);
                if message.kind() == MessageKind::Binary && !self.stage.limits.compat.posts_binary()
                {
                    return Err(Refusal::NotText);
                }
                let sent = directory.send(id, message);
                sent.map(|()| Done::Posted { bytes })
                    .map_err(|error| match error {
                        PostError::Gone => Refusal::Gone,
                        PostError::Busy => Refusal::Busy,
                        PostError::TooLarge => Refusal::TooLarge(limit),
                    })
            }
            KeyMethods::DELETE => {
                let closing = Closing::new(1000, "Connection Closed Normally");
                let closing = closing.by(Closer::Operator);
                let closed = directory.close(id, closing);
                closed.map(|()| Done::Closed).map_err(|_| Refusal::Gone)
            }
            _ => {
                let info = directory.info(id).ok();
                // As for the other methods, one that closes is gone.
                let info = info.filter(|info| !info.is_closing).ok_or(Refusal::Gone)?;
                Ok(Done::Described(describe(&info)))
            }
        }
    }

    /// Reads a body of at most `limit` bytes before the deadline.
    async fn read<B: RequestBody>(
        &self,
        headers: &HeaderMap,
        body: B,
        limit: usize,
    ) -> Result<Bytes, Refusal> {
        let length = headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > limit as u64) {
            return Err(Refusal::TooLarge(limit));
        }
        match timeout_at(self.deadline, Limited::new(body, limit).collect()).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge(limit)),
            Ok(Err(_)) => Err(Refusal::CutBody),
            Err(_) => Err(Refusal::SlowBody),
        }
    }
}

/// Bytes that are UTF-8 go as text, others as binary.
fn message(body: Bytes) -> Message {
    match String::from_utf8(body.into()) {
        Ok(text) => Message::Text(text),
        Err(error) => Message::Binary(error.into_bytes()),
    }
}

fn describe(info: &Info) -> String {
    json!({
        "connectedAt": timestamp(info.connected_at),
        "identity": {
            "sourceIp": info.client.source_ip.to_string(),
            "userAgent": info.client.user_agent.as_deref(),
        },
        "lastActiveAt": timestamp(info.last_active_at),
    })
    .to_string()
}

/// `2025-02-03T01:46:33.523Z`.
const MILLISECONDS: EncodedConfig = Config::DEFAULT
    .set_time_precision(TimePrecision::Second {
        decimal_digits: std::num::NonZeroU8::new(3),
    })
    .encode();

/// Writes a time in milliseconds since the Unix epoch.
fn timestamp(milliseconds: u64) -> String {
    let time = OffsetDateTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
    time.format(&Iso8601::<MILLISECONDS>).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_api_gateway_writes_them() {
        assert_eq!(timestamp(1_738_547_193_523), "2025-02-03T01:46:33.523Z");
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_a_binary_message() {
        assert_eq!(
            message(Bytes::from_static(b"hi")),
            Message::Text("hi".into())
        );
        assert_eq!(
            message(Bytes::from_static(b"\xff")),
            Message::Binary(vec![0xff])
        );
    }
}
