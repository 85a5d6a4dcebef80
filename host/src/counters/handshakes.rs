//! The handshakes of a gateway, by their outcome.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the outcomes of a handshake, each with its label.
macro_rules! outcomes {
    ($($(#[$doc:meta])* $outcome:ident = $label:literal,)+) => {
        /// The outcome of a handshake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Outcome { $($(#[$doc])* $outcome,)+ }

        impl Outcome {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$outcome,)+];

            /// The reason of a refusal; `none` for a client that is let in.
            pub(crate) fn reason(self) -> &'static str {
                match self { $(Self::$outcome => $label,)+ }
            }
        }
    };
}

outcomes! {
    Accepted = "none",
    /// A request that RFC 6455 does not allow, or one for anything but a WebSocket.
    Malformed = "malformed",
    UnknownStage = "unknown_stage",
    /// For another host than the certificate's.
    Misdirected = "misdirected",
    Origin = "origin",
    /// The authorizer did not let it on.
    Unauthorized = "unauthorized",
    /// The usage plan of its API key has no room for it.
    OverPlan = "over_plan",
    /// The `$connect` handler turned it away.
    Denied = "denied",
    /// The `$connect` handler failed, or its answer cannot be sent.
    HandlerFailed = "handler_failed",
    /// Every instance of the `$connect` handler is busy.
    HandlerBusy = "handler_busy",
    TooManyHandshakes = "too_many_handshakes",
    TooManyStreams = "too_many_streams",
    TooManyConnections = "too_many_connections",
    TooFast = "too_fast",
    TooFastFromOneAddress = "too_fast_from_one_address",
    TooFastForApi = "too_fast_for_api",
    TooManyFromOneAddress = "too_many_from_one_address",
    TooManyOfPrincipal = "too_many_of_principal",
    ProxyHeader = "proxy_header",
    Tls = "tls",
    /// No request came in time, or none that can be read.
    Unread = "unread",
    Stopping = "stopping",
}

impl Outcome {
    pub(crate) fn result(self) -> &'static str {
        if self == Self::Accepted {
            "accepted"
        } else {
            "refused"
        }
    }
}

/// The count of each outcome.
#[derive(Debug)]
pub(crate) struct Handshakes(Box<[AtomicU64]>);

impl Default for Handshakes {
    fn default() -> Self {
        Self(Outcome::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl Handshakes {
    pub(crate) fn add(&self, outcome: Outcome) {
        if let Some(count) = self.0.get(outcome as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Outcome, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        Outcome::ALL.iter().copied().zip(counts)
    }
}
