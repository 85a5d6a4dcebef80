//! The denials of authorizers, each with the answer that the client gets (API Gateway's are in docs/api-gateway.md).

use http::{HeaderValue, StatusCode};

/// An authorizer does not let a client in. Texts are for the log, without what the client has presented; the client gets
/// the status alone, except where an authorizer speaks to it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denial {
    /// The client has not said who it is, or nothing that counts: 401, with a challenge (RFC 9110 §15.5.2).
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The authorizer's own answer.
    #[error("the authorizer turned it away with {status}")]
    Refused {
        status: StatusCode,
        message: Option<String>,
    },
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

impl Denial {
    /// The status of the client's answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Refused { status, .. } => *status,
            Self::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Replaced => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What the authorizer says to the client.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::Refused { message, .. } => message.as_deref(),
            Self::Unauthorized(_) | Self::Busy(_) | Self::Failed(_) | Self::Replaced => None,
        }
    }

    /// The challenge of a 401: what an authorizer's clients present is, in one way or another, a token that they bear.
    pub(crate) fn challenge(&self) -> Option<HeaderValue> {
        let is_challenged = self.status() == StatusCode::UNAUTHORIZED;
        is_challenged.then(|| HeaderValue::from_static("Bearer"))
    }

    /// Whether the authorizer is to blame, and not the client.
    pub(crate) fn is_fault(&self) -> bool {
        match self {
            Self::Busy(_) | Self::Failed(_) => true,
            Self::Unauthorized(_) | Self::Refused { .. } | Self::Replaced => false,
        }
    }
}
