//! The verification of tokens and signatures: the gateway's source files themselves, since linking the gateway would
//! bring wasmtime into the bench.

#[path = "../../../host/src/auth/identity.rs"]
mod identity;
#[path = "../../../host/src/auth/jwt/mod.rs"]
pub(crate) mod jwt;
#[path = "../../../host/src/auth/sigv4/mod.rs"]
pub(crate) mod sigv4;

pub(crate) use identity::{Identity, IdentityError, Value};
