//! The answers of integrations.

use super::error::InvokeError;
use super::event::Event;

/// The outcome of a call.
pub(crate) enum Called<E: Event> {
    Ended(Result<E::Answer, InvokeError>),
    /// The call did not begin: a reload has replaced the integration. The event comes back, for the newest snapshot.
    Retired(E),
}

/// `$connect` lets the client in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acceptance {
    pub(crate) subprotocol: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

/// `$connect`, or an authorizer, turns the client away. The status is not checked yet.
#[derive(Clone, Debug)]
pub(crate) struct Denial {
    pub(crate) status: u16,
    pub(crate) message: Option<String>,
}
