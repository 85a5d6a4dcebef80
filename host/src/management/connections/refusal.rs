//! The answers of the connections API: one table of refusals, with the statuses and names that AWS's SDKs know.
//!
//! The SDKs raise the error that `x-amzn-ErrorType` names. Names and texts are API Gateway's.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::Full;

use super::methods::Done;
use crate::auth::sigv4::SignatureFault;
use crate::connections::RequestId;

/// The reason why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("no stage serves its connections API there")]
    NoStage,
    #[error("the connections API has no such method")]
    NoMethod,
    #[error("neither a signature nor a token")]
    Unsigned,
    #[error("no access key has this id or token")]
    UnknownKey,
    #[error("{0}")]
    Signature(#[from] SignatureFault),
    #[error("the access key {key:?} does not allow {resource}")]
    NotAllowed { key: Box<str>, resource: String },
    #[error("a line of the head ends without CR")]
    MalformedHead,
    #[error("the body has another transfer coding than chunked")]
    UnknownCoding,
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body is cut short")]
    CutBody,
    #[error("the body did not come in time")]
    SlowBody,
    #[error("{0:?} is no connection id")]
    MalformedId(String),
    #[error("the body is not UTF-8, and API Gateway posts text only")]
    NotText,
    #[error("the connection is gone")]
    Gone,
    #[error("the client reads too slowly, its queue is full")]
    Busy,
    #[error(
        "there are as many requests under way as limits.handshakes allows, or the gateway stops"
    )]
    NoRoom,
}

impl Refusal {
    /// The status, and the error by its name in AWS's SDKs.
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoStage => (StatusCode::FORBIDDEN, "ForbiddenException"),
            Self::NoMethod | Self::Unsigned => {
                (StatusCode::FORBIDDEN, "MissingAuthenticationTokenException")
            }
            Self::UnknownKey => (StatusCode::FORBIDDEN, "UnrecognizedClientException"),
            Self::Signature(SignatureFault::Malformed(_)) => {
                (StatusCode::FORBIDDEN, "IncompleteSignatureException")
            }
            Self::Signature(
                SignatureFault::Expired
                | SignatureFault::Early
                | SignatureFault::Mismatch
                | SignatureFault::OtherBody,
            ) => (StatusCode::FORBIDDEN, "InvalidSignatureException"),
            Self::NotAllowed { .. } => (StatusCode::FORBIDDEN, "AccessDeniedException"),
            Self::UnknownCoding => (StatusCode::NOT_IMPLEMENTED, "NotImplementedException"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLargeException"),
            Self::MalformedHead | Self::CutBody | Self::MalformedId(_) | Self::NotText => {
                (StatusCode::BAD_REQUEST, "BadRequestException")
            }
            Self::SlowBody => (StatusCode::REQUEST_TIMEOUT, "RequestTimeoutException"),
            Self::Gone => (StatusCode::GONE, "GoneException"),
            Self::Busy => (StatusCode::TOO_MANY_REQUESTS, "LimitExceededException"),
            Self::NoRoom => (
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailableException",
            ),
        }
    }

    /// The text for the caller; none for an empty body, as of API Gateway's 410.
    fn message(&self) -> Option<String> {
        Some(match self {
            Self::NoStage => "Forbidden".to_owned(),
            Self::NoMethod | Self::Unsigned => "Missing Authentication Token".to_owned(),
            Self::UnknownKey => "The security token included in the request is invalid.".to_owned(),
            Self::Signature(fault) => match fault {
                SignatureFault::Malformed(_) => fault.to_string(),
                SignatureFault::Expired => {
                    "Signature expired: the clock of the caller is late, or \
                    the request was on its way for more than 5 minutes."
                        .to_owned()
                }
                SignatureFault::Early => "Signature not yet current: the clock of the caller is \
                    more than 5 minutes ahead."
                    .to_owned(),
                SignatureFault::Mismatch | SignatureFault::OtherBody => "The request signature we \
                    calculated does not match the signature you provided. Check your AWS Secret \
                    Access Key and signing method. Consult the service documentation for details."
                    .to_owned(),
            },
            Self::NotAllowed { key, resource } => format!(
                "User: {key} is not authorized to perform: execute-api:ManageConnections on \
                 resource: {resource}"
            ),
            Self::MalformedHead => "Bad request: a line of the head ends without CR".to_owned(),
            Self::UnknownCoding => "The only transfer coding is chunked.".to_owned(),
            Self::TooLarge(limit) => format!("The payload is larger than {limit} bytes."),
            Self::CutBody => "The payload is cut short.".to_owned(),
            Self::SlowBody => "The payload did not come in time.".to_owned(),
            Self::MalformedId(id) => format!("Invalid connectionId: {id}"),
            Self::NotText => "The payload is not UTF-8 text.".to_owned(),
            Self::Gone => return None,
            Self::Busy => "The client reads too slowly, and its queue is full.".to_owned(),
            Self::NoRoom => "Service Unavailable".to_owned(),
        })
    }

    /// Whether the request had a valid key, as far as it was judged.
    pub(super) fn has_key(&self) -> bool {
        match self {
            Self::MalformedId(_) | Self::NotText | Self::Gone | Self::Busy => true,
            Self::NoStage
            | Self::NoMethod
            | Self::Unsigned
            | Self::UnknownKey
            | Self::Signature(_)
            | Self::NotAllowed { .. }
            | Self::MalformedHead
            | Self::UnknownCoding
            | Self::TooLarge(_)
            | Self::CutBody
            | Self::SlowBody
            | Self::NoRoom => false,
        }
    }

    /// Whether the caller has shown a key or a signature that is nobody's.
    pub(super) fn is_forgery(&self) -> bool {
        match self {
            Self::UnknownKey
            | Self::Signature(SignatureFault::Mismatch | SignatureFault::Malformed(_)) => true,
            Self::Signature(
                SignatureFault::Expired | SignatureFault::Early | SignatureFault::OtherBody,
            )
            | Self::NoStage
            | Self::NoMethod
            | Self::Unsigned
            | Self::NotAllowed { .. }
            | Self::MalformedHead
            | Self::UnknownCoding
            | Self::TooLarge(_)
            | Self::CutBody
            | Self::SlowBody
            | Self::MalformedId(_)
            | Self::NotText
            | Self::Gone
            | Self::Busy
            | Self::NoRoom => false,
        }
    }
}

/// The status of the answer to a request.
pub(super) fn status(served: &Result<Done, Refusal>) -> StatusCode {
    match served {
        Ok(Done::Posted { .. } | Done::Described(_)) => StatusCode::OK,
        Ok(Done::Closed) => StatusCode::NO_CONTENT,
        Err(refusal) => refusal.kind().0,
    }
}

/// Makes the answer to a request.
pub(super) fn response(
    served: Result<Done, Refusal>,
    request_id: RequestId,
) -> Response<Full<Bytes>> {
    let status = status(&served);
    let (error, body) = match served {
        Ok(Done::Posted { .. } | Done::Closed) => (None, None),
        Ok(Done::Described(json)) => (None, Some(json)),
        Err(refusal) => {
            let message = refusal.message();
            let body = message.map(|text| serde_json::json!({ "message": text }).to_string());
            (Some(refusal.kind().1), body)
        }
    };
    let has_body = body.is_some();
    let mut response = Response::new(Full::from(body.unwrap_or_default()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if has_body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(error) = error {
        headers.insert("x-amzn-errortype", HeaderValue::from_static(error));
    }
    if let Ok(id) = HeaderValue::from_str(&request_id.to_string()) {
        headers.insert("x-amzn-requestid", id);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
