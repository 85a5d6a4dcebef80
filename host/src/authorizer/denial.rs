//! The denials of authorizers, each with the answer that the client gets (API Gateway's are in docs/api-gateway.md).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::auth::Exceeded;
use crate::auth::jwt::Invalid;

/// An authorizer does not let a client in. Texts are for the log, without what the client has presented; the client gets
/// the status alone, except where an authorizer speaks to it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denial {
    /// The client has not said who it is, or nothing that counts: 401, with a challenge (RFC 9110 §15.5.2).
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The token lets nobody in: 401, with a challenge that says so (RFC 6750 §3.1).
    #[error("{0}")]
    InvalidToken(Invalid),
    /// The token has not all of these scopes: 403, with a challenge that names them (RFC 6750 §3.1).
    #[error("the token has not all of the scopes {0:?}")]
    MissingScopes(Box<str>),
    /// The client is not one of those that may connect: 403.
    #[error("{0}")]
    Forbidden(String),
    /// The authorizer's own answer.
    #[error("the authorizer turned it away with {status}")]
    Refused {
        status: StatusCode,
        message: Option<String>,
    },
    /// The client has used up what it may use: 429, with the time after which it may come again.
    #[error("{0}")]
    Exceeded(Exceeded),
    /// The answer of an endpoint that decides, for the client as it is.
    #[error("the endpoint turned it away with {}", .0.status)]
    Answer(Box<Answer>),
    /// The authorizer has no room for another client now: 429.
    #[error("the authorizer is busy: {0}")]
    Busy(String),
    /// The authorizer could not decide: 500.
    #[error("the authorizer failed: {0}")]
    Failed(String),
    /// A reload has replaced the authorizer: the newest snapshot of the stage has the new one. 503, if it has none.
    #[error("the authorizer is no longer in the configuration")]
    Replaced,
}

/// What an endpoint answers to a client that it does not let in.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Those that are for the client.
    pub(crate) headers: HeaderMap,
    /// Empty if there was none, or more than is passed on.
    pub(crate) body: Bytes,
}

impl Denial {
    /// No place is left among the handshakes that wait for authorizers.
    pub(super) fn too_many_wait() -> Self {
        Self::Busy(
            "as many handshakes of this authorizer wait for its endpoint or issuers as are left of half of limits.handshakes".to_owned(),
        )
    }

    /// The status of the client's answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized(_) | Self::InvalidToken(_) => StatusCode::UNAUTHORIZED,
            Self::MissingScopes(_) | Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Refused { status, .. } => *status,
            Self::Answer(answer) => answer.status,
            Self::Busy(_) | Self::Exceeded(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Replaced => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What the authorizer says to the client.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::Refused { message, .. } => message.as_deref(),
            Self::Unauthorized(_)
            | Self::InvalidToken(_)
            | Self::MissingScopes(_)
            | Self::Forbidden(_)
            | Self::Exceeded(_)
            | Self::Answer(_)
            | Self::Busy(_)
            | Self::Failed(_)
            | Self::Replaced => None,
        }
    }

    /// The answer that an endpoint has for the client.
    pub(crate) fn answer(&self) -> Option<&Answer> {
        let Self::Answer(answer) = self else {
            return None;
        };
        Some(answer)
    }

    /// The challenge of a 401, and of a token without a scope. It is that of a bearer (RFC 6750 §3), whatever the client
    /// is asked for.
    pub(crate) fn challenge(&self) -> Option<HeaderValue> {
        match self {
            Self::InvalidToken(_) => {
                Some(HeaderValue::from_static("Bearer error=\"invalid_token\""))
            }
            Self::MissingScopes(scopes) => {
                let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scopes}\"");
                HeaderValue::try_from(challenge).ok()
            }
            Self::Unauthorized(_)
            | Self::Forbidden(_)
            | Self::Refused { .. }
            | Self::Answer(_)
            | Self::Exceeded(_)
            | Self::Busy(_)
            | Self::Failed(_)
            | Self::Replaced => {
                let is_challenged = self.status() == StatusCode::UNAUTHORIZED;
                is_challenged.then(|| HeaderValue::from_static("Bearer"))
            }
        }
    }

    /// The seconds after which the client may come again, if that is known.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        let Self::Exceeded(exceeded) = self else {
            return None;
        };
        Some(exceeded.retry_after_s())
    }

    /// Whether the authorizer is to blame, and not the client.
    pub(crate) fn is_fault(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Failed(_))
    }
}
