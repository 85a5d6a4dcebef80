//! Who a client is: pure, given a clock. No socket, no task.

mod identity;

pub(crate) use identity::{Identity, Value};
