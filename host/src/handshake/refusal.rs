//! The refusals of a handshake, each with its HTTP status.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE,
    WWW_AUTHENTICATE,
};
use http::{Response, StatusCode, Version};
use http_body_util::Full;

use super::admission::NotAdmitted;
use crate::authorizer::{Answer, Denial};
use crate::connections::{RequestId, TooManyOfPrincipal};
use crate::counters::Outcome;
use crate::invocation::InvokeError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// A request that RFC 6455 does not allow. The client reads the reason.
    #[error("{0}")]
    Malformed(&'static str),
    #[error("there are more headers than a request may have")]
    TooManyHeaders,
    /// A request for anything but a WebSocket of version 13.
    #[error("not a request to open a WebSocket of version 13")]
    UpgradeRequired,
    /// An extended CONNECT of HTTP/3 for another protocol (RFC 9220 §3).
    #[error("the :protocol is not websocket")]
    UnknownProtocol,
    /// An HTTP/2 or HTTP/3 request for a host that the connection's certificate does not cover.
    #[error("for another host than the connection's certificate is for")]
    Misdirected,
    /// A request on a connection that was told long ago to take no more.
    #[error(
        "the connection's listener has changed or gone, and the client was told to open another"
    )]
    Late,
    /// A request on a connection whose client TLS would not let in any more.
    #[error(
        "the listener no longer trusts the certificate that the connection began with, or asks for one now"
    )]
    Distrusted,
    #[error("no stage is served there")]
    UnknownStage,
    /// A page of another site. The log has the key by which it may connect.
    #[error("the page's origin is not allowed; if it may connect, add it to {0}")]
    ForeignOrigin(String),
    /// The authorizer did not let the client on.
    #[error("not authorized: {0}")]
    Unauthorized(Denial),
    /// The `$connect` handler turned the client away.
    #[error("turned away by the $connect handler with {status}")]
    Denied {
        status: StatusCode,
        message: Option<String>,
    },
    #[error("the $connect handler answered what cannot be sent: {0}")]
    BadAnswer(String),
    #[error("{0}")]
    Failed(InvokeError),
    #[error("{0}")]
    NotAdmitted(NotAdmitted),
    #[error("{0}")]
    TooManyOfPrincipal(TooManyOfPrincipal),
    #[error("the gateway is stopping")]
    Stopping,
}

impl Refusal {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Self::UnknownProtocol => StatusCode::NOT_IMPLEMENTED,
            Self::Misdirected | Self::Late => StatusCode::MISDIRECTED_REQUEST,
            Self::Distrusted | Self::UnknownStage | Self::ForeignOrigin(_) => StatusCode::FORBIDDEN,
            Self::Unauthorized(denial) => denial.status(),
            Self::Denied { status, .. } => *status,
            Self::BadAnswer(_) => StatusCode::BAD_GATEWAY,
            Self::Failed(error) => {
                StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::NotAdmitted(reason) => reason.status(),
            Self::TooManyOfPrincipal(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// How the metrics count it.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Malformed(_)
            | Self::TooManyHeaders
            | Self::UpgradeRequired
            | Self::UnknownProtocol => Outcome::Malformed,
            Self::Misdirected | Self::Late => Outcome::Misdirected,
            Self::Distrusted => Outcome::Tls,
            Self::UnknownStage => Outcome::UnknownStage,
            Self::ForeignOrigin(_) => Outcome::Origin,
            Self::Unauthorized(Denial::Exceeded(_)) => Outcome::OverPlan,
            Self::Unauthorized(_) => Outcome::Unauthorized,
            Self::Denied { .. } => Outcome::Denied,
            Self::Failed(InvokeError::Busy(_)) => Outcome::HandlerBusy,
            Self::BadAnswer(_) | Self::Failed(_) => Outcome::HandlerFailed,
            Self::NotAdmitted(reason) => reason.outcome(),
            Self::TooManyOfPrincipal(_) => Outcome::TooManyOfPrincipal,
            Self::Stopping => Outcome::Stopping,
        }
    }

    /// Whether API Gateway counts it as a `ClientError`: a status from 400 to 499 before the integration.
    pub(super) fn is_client_error(&self) -> bool {
        let by_integration = matches!(self, Self::Denied { .. } | Self::Failed(_));
        self.status().is_client_error() && !by_integration
    }

    /// The text for the client: the gateway's own words only where they are about its request.
    fn message(&self) -> String {
        let own = match self {
            Self::Malformed(what) => return format!("Bad request: {what}"),
            Self::Denied { message, .. } => message.as_deref(),
            Self::Unauthorized(denial) => denial.message(),
            Self::TooManyHeaders
            | Self::UpgradeRequired
            | Self::UnknownProtocol
            | Self::Misdirected
            | Self::Late
            | Self::Distrusted
            | Self::UnknownStage
            | Self::ForeignOrigin(_)
            | Self::BadAnswer(_)
            | Self::Failed(_)
            | Self::NotAdmitted(_)
            | Self::TooManyOfPrincipal(_)
            | Self::Stopping => None,
        };
        let phrase = || self.status().canonical_reason().unwrap_or("Refused");
        own.unwrap_or_else(phrase).to_owned()
    }

    /// Changes a response to the words and headers of API Gateway (docs/api-gateway.md).
    pub(crate) fn as_aws(
        &self,
        mut response: Response<Full<Bytes>>,
        request_id: RequestId,
    ) -> Response<Full<Bytes>> {
        if let Ok(id) = HeaderValue::from_str(&request_id.to_string()) {
            response.headers_mut().insert("x-amzn-requestid", id);
        }
        // A handler's own refusal is passed on as it is, and so is that of an endpoint.
        if matches!(self, Self::Denied { .. }) || self.answer().is_some() {
            return response;
        }
        let (error, message) = match self.status().as_u16() {
            400 => ("BadRequestException", None),
            401 => ("UnauthorizedException", None),
            403 => ("ForbiddenException", None),
            429 => ("TooManyRequestsException", None),
            504 => (
                "InternalServerErrorException",
                Some("Endpoint request timed out"),
            ),
            500 | 502 => (
                "InternalServerErrorException",
                Some("Internal server error"),
            ),
            _ => return response,
        };
        let headers = response.headers_mut();
        headers.insert("x-amzn-errortype", HeaderValue::from_static(error));
        if let Some(message) = message {
            let body = serde_json::json!({ "message": message }).to_string();
            *response.body_mut() = Full::from(body);
        }
        response
    }

    /// The answer that an endpoint has for the client.
    fn answer(&self) -> Option<&Answer> {
        if let Self::Unauthorized(denial) = self {
            denial.answer()
        } else {
            None
        }
    }

    /// Makes the response. On HTTP/1.1 it is the last one on its connection: no byte behind the request is read as
    /// another request.
    pub(crate) fn response(
        &self,
        version: Version,
        request_id: RequestId,
    ) -> Response<Full<Bytes>> {
        let own = self.answer();
        let body = own.map(|answer| answer.body.clone());
        let body = body.filter(|body| !body.is_empty()).unwrap_or_else(|| {
            serde_json::json!({ "message": self.message() })
                .to_string()
                .into()
        });
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        if let Some(answer) = own {
            *headers = answer.headers.clone();
        }
        let json = HeaderValue::from_static("application/json");
        headers.entry(CONTENT_TYPE).or_insert(json);
        if let Ok(id) = HeaderValue::from_str(&request_id.to_string()) {
            headers.insert("x-request-id", id);
        }
        if version < Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // The same as for a client that is refused before its request is read.
        if matches!(self, Self::NotAdmitted(_)) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Self::Unauthorized(denial) = self
            && let Some(seconds) = denial.retry_after_s()
        {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // A 401 has a challenge (RFC 9110 §15.5.2).
        if let Self::Unauthorized(denial) = self
            && let Some(challenge) = denial.challenge()
        {
            headers.entry(WWW_AUTHENTICATE).or_insert(challenge);
        }
        if matches!(self, Self::UpgradeRequired) {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            if version < Version::HTTP_2 {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade, close"));
            }
        }
        response
    }
}
