//! The rules of an issuer, as the verification of tokens takes them: the gateway's source file itself.

#[path = "../../../host/src/config/issuer.rs"]
mod issuer;

pub(crate) use issuer::{JwtAlgorithm, JwtIssuer, JwtKeys};
