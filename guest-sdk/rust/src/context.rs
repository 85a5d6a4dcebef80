//! The circumstances of the present invocation. Every plugin has this module.

use crate::Fields;
use crate::gateway::context as contract;

pub use crate::bindings::lockgate::plugin::context::Invocation;

/// Returns the present invocation: its request id, API, stage and time.
///
/// ```no_run
/// # use lockgate_plugin::context;
/// let invocation = context::current();
/// println!("{} in {}", invocation.request_id, invocation.stage);
/// ```
pub fn current() -> Invocation {
    contract::current()
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
