//! Who a client or a caller is: identities, signatures, keys. Pure, given a clock: no socket, no task.

mod access_keys;
pub(crate) mod api_keys;
mod certificate;
mod identity;
pub(crate) mod jwt;
pub(crate) mod sigv4;
mod usage;

pub(crate) use access_keys::{AccessKey, AccessKeys};
pub(crate) use certificate::ClientCertificate;
pub(crate) use identity::{Identity, IdentityError, MAX_IDENTITY, Value};
pub(crate) use usage::{Allowance, Exceeded, Unsaved, Usage};
