//! The differences between Lockgate and API Gateway that `compat = "aws"` undoes: each is a function here and a row in
//! `docs/api-gateway.md`, which a test walks.
//!
//! Limits are not among them where the stage can set them: `compat` changes their defaults (`units`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose limits, close codes and bytes an API has where the two differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Compat {
    /// Lockgate's own.
    #[default]
    Lockgate,
    /// API Gateway's, to the byte.
    Aws,
}

/// Bytes of the longest frame of API Gateway, in either direction.
pub(super) const AWS_FRAME: usize = 32 << 10;

/// Seconds without a message after which API Gateway closes.
pub(super) const AWS_IDLE_S: u32 = 600;

/// Seconds after which API Gateway closes in any case.
pub(super) const AWS_AGE_S: u32 = 7_200;

/// New connections a second that API Gateway takes.
pub(super) const AWS_CONNECTIONS_PER_S: u32 = 500;

impl Compat {
    fn is_aws(self) -> bool {
        self == Self::Aws
    }

    /// Whether a client may send binary messages. API Gateway closes with 1003.
    pub(crate) fn takes_binary(self) -> bool {
        !self.is_aws()
    }

    /// Bytes of the longest frame to a client: a longer message goes in fragments.
    pub(crate) fn max_frame_out(self) -> usize {
        if self.is_aws() { AWS_FRAME } else { usize::MAX }
    }

    /// Whether connections that opened together end at ages that are spread. API Gateway's end to the second.
    pub(crate) fn spreads_ages(self) -> bool {
        !self.is_aws()
    }

    /// Whether a two-way route without an answer sends an empty text message.
    pub(crate) fn replies_always(self) -> bool {
        self.is_aws()
    }

    /// Whether a `$connect` handler may send to the connection that it decides about.
    pub(crate) fn takes_early_posts(self) -> bool {
        !self.is_aws()
    }

    /// Whether bytes that are no text may be posted by the connections API: they go as a binary message.
    pub(crate) fn posts_binary(self) -> bool {
        !self.is_aws()
    }

    /// Whether the headers of a `$connect` handler's acceptance are in the answer, beside the subprotocol.
    pub(crate) fn passes_headers(self) -> bool {
        !self.is_aws()
    }

    /// Whether a handler may choose a subprotocol that the client does not offer. API Gateway passes on any; the client
    /// then fails.
    pub(crate) fn passes_any_subprotocol(self) -> bool {
        self.is_aws()
    }

    /// Whether a `$connect` handler's error, which the SDKs pass on as a refusal with 500 and without a text, is a failure
    /// as a trap is. API Gateway answers both with 502.
    pub(crate) fn fails_by_error(self) -> bool {
        self.is_aws()
    }

    /// Whether ids of connections, requests and messages have eleven bytes and end with `=`.
    pub(crate) fn pads_ids(self) -> bool {
        self.is_aws()
    }

    /// Whether a refusal has API Gateway's words and headers, `x-amzn-ErrorType` and `x-amzn-RequestId`.
    pub(crate) fn refuses_as_aws(self) -> bool {
        self.is_aws()
    }
}
