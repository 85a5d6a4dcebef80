//! The circumstances of the present invocation. Every plugin has this module.

use std::time::Duration;

use crate::gateway::context as contract;
use crate::{Error, Fields};

pub use crate::bindings::lockgate::plugin::context::Invocation;

/// A value that an authorizer gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// True or false.
    Flag(bool),
}

/// Returns the present invocation: its request id, API, stage and time, and the id of its message.
///
/// ```no_run
/// # use lockgate_plugin::context;
/// let invocation = context::current();
/// println!("{} in {}", invocation.request_id, invocation.stage);
/// ```
pub fn current() -> Invocation {
    contract::current()
}

/// Returns how long the present invocation may go on: what is left of the plugin's `limits.deadline_ms`, for which its
/// computing and its own waits count. The gateway ends an invocation that takes longer.
pub fn time_left() -> Duration {
    Duration::from_millis(contract::time_left().into())
}

/// Returns whether the message of the present invocation came as a datagram: it may have overtaken others, others may be
/// lost, and an answer goes the way of all messages. False for every other event.
pub fn is_datagram() -> bool {
    contract::is_datagram()
}

/// Returns who the client is, as the API's authorizer says; `None` when the API has no authorizer.
pub fn principal() -> Option<String> {
    contract::principal()
}

/// Returns what the API's authorizer says about the client beside that, ordered by name. It is the same for every event of a
/// connection until the client renews what let it in.
pub fn authorizer() -> Vec<(String, Value)> {
    contract::authorizer()
}

/// Renews what let the client of the present message in, by the handler's own judgement of what the client shows anew: it holds
/// until `expires_at`, in milliseconds since 1970-01-01 UTC, which may be sooner than before. Principal, values and scopes stay.
///
/// Only a message of a route whose configuration says `renews = "handler"` may do that, and only for a client that an authorizer
/// has let in: else it fails with [`Error::Denied`]. It fails with [`Error::Gone`], when the connection is closed or closing, and
/// with [`Error::Invalid`], when the time has passed or is not below 2^53. The last of several calls holds, also when the handler
/// fails afterwards.
///
/// ```no_run
/// # use lockgate_plugin::{Event, Message, Result, context};
/// # fn judge(ticket: &Message) -> Result<u64> { Ok(0) }
/// fn message(event: Event, ticket: Message) -> Result<Option<Message>> {
///     context::renew(judge(&ticket)?)?;
///     Ok(Some("renewed".into()))
/// }
/// ```
pub fn renew(expires_at: u64) -> Result<(), Error> {
    contract::renew(expires_at, None)
}

/// As [`renew`], and the client has these values from now on in place of those that it had.
///
/// Fails with [`Error::Invalid`], too, when a name is empty or occurs twice, or a number is not finite; and with
/// [`Error::TooLarge`], when principal, values and scopes are over 8 KiB.
pub fn renew_with<N: Into<String>, V: Into<Value>>(
    expires_at: u64,
    values: impl IntoIterator<Item = (N, V)>,
) -> Result<(), Error> {
    let values = values.into_iter();
    let values: Vec<_> = values
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    contract::renew(expires_at, Some(&values))
}

/// Returns the stage's variables, ordered by name.
pub fn variables() -> Fields {
    contract::variables()
}

/// Returns the value of a variable of the stage, `None` when the stage has no such variable.
pub fn variable(name: &str) -> Option<String> {
    let (_, value) = variables().into_iter().find(|(key, _)| key == name)?;
    Some(value)
}
