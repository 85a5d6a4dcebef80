//! The circumstances of the present invocation. Every plugin has this module.

use std::time::Duration;

use crate::Fields;
use crate::gateway::context as contract;

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

/// Returns how long the present invocation may go on, waits included: what is left of the plugin's `limits.deadline_ms`.
/// The gateway ends an invocation that takes longer.
pub fn time_left() -> Duration {
    Duration::from_millis(contract::time_left().into())
}

/// Returns who the client is, as the API's authorizer says; `None` when the API has no authorizer.
pub fn principal() -> Option<String> {
    contract::principal()
}

/// Returns what the API's authorizer says about the client beside that, ordered by name.
pub fn authorizer() -> Vec<(String, Value)> {
    contract::authorizer()
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
