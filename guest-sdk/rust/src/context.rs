//! What surrounds the present invocation. Always granted.

use crate::Fields;
use crate::gateway::context as contract;

pub use crate::bindings::lockgate::plugin::context::Invocation;

/// The present invocation: its request id, API, stage and time.
///
/// ```no_run
/// # use lockgate_plugin::context;
/// let invocation = context::current();
/// println!("{} in {}", invocation.request_id, invocation.stage);
/// ```
pub fn current() -> Invocation {
    contract::current()
}

/// The stage's variables, ordered by name.
pub fn variables() -> Fields {
    contract::variables()
}

/// The value of one of the stage's variables; `None` when the stage has no such variable.
pub fn variable(name: &str) -> Option<String> {
    let (_, value) = variables().into_iter().find(|(key, _)| key == name)?;
    Some(value)
}
