//! Who a client or a caller is: identities, signatures, keys. Pure, given a clock: no socket, no task.

mod access_keys;
mod identity;
pub(crate) mod jwt;
pub(crate) mod sigv4;

pub(crate) use access_keys::{AccessKey, AccessKeys};
pub(crate) use identity::{Identity, IdentityError, Value};
