//! JSON Web Tokens (RFC 7519) as providers of OpenID Connect sign them (RFC 7515, compact form), judged as RFC 8725
//! asks. Pure: the keys and the time are given.
//!
//! aws-lc-rs verifies the signature; this module checks the rest. `jsonwebtoken` would leave as much to check here (it
//! takes any `crit`, `zip`, `typ` and future `iat`, an `iss` that is a list, and reads the clock itself).

mod algorithm;
mod claims;
mod json;
mod keys;
#[cfg(test)]
pub(crate) mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use self::keys::Checked;
pub(crate) use self::keys::{BadKeys, Keys};
use super::{Identity, IdentityError};
use crate::config::{JwtAlgorithm, JwtIssuer};

/// Longest token in bytes. Those with a hundred groups have some six thousand.
pub(crate) const MAX_TOKEN: usize = 8 << 10;

/// The media types of tokens that open a connection, without `application/` (RFC 7519 §5.1, RFC 9068 §2.1). A logout
/// token or a proof of possession is signed with the same keys, and is for something else.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// The reason why a token is not taken. It holds nothing of the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("the token is longer than {MAX_TOKEN} bytes")]
    TooLong,
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    #[error("the token's header has {0}, which is not accepted")]
    Header(&'static str),
    #[error("the token's algorithm is not among the issuer's `algorithms`")]
    Algorithm,
    #[error("the token's issuer is not configured")]
    Issuer,
    #[error("the token's key is not among the issuer's")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet: {0} is in the future")]
    Early(&'static str),
    #[error("the token is for another audience")]
    Audience,
    #[error("the token's claim {0} is absent or has another type")]
    Claim(Box<str>),
    #[error("the token's claim {0} has not the value that `require` asks for")]
    Required(Box<str>),
    #[error("{0}")]
    Identity(#[from] IdentityError),
}

/// A token whose form is right. Nothing in it is verified.
pub(crate) struct Token<'t> {
    /// Header and claims as they are signed.
    signed: &'t str,
    signature: Vec<u8>,
    algorithm: Box<str>,
    key_id: Option<Box<str>>,
    claims: Map<String, Value>,
}

impl<'t> Token<'t> {
    /// Reads a token.
    pub(crate) fn read(text: &'t str) -> Result<Self, Invalid> {
        if text.len() > MAX_TOKEN {
            return Err(Invalid::TooLong);
        }
        let three = || Invalid::Malformed("it has no three parts");
        let (signed, signature) = text.rsplit_once('.').ok_or_else(three)?;
        let (header, claims) = signed.split_once('.').ok_or_else(three)?;
        if claims.contains('.') {
            return Err(three());
        }
        let decode = |part| {
            let decoded = URL_SAFE_NO_PAD.decode(part);
            decoded.map_err(|_| Invalid::Malformed("a part is not in base64url"))
        };
        let object = |part, what| json::object(&decode(part)?).ok_or(Invalid::Malformed(what));
        let header = object(header, "its header is no JSON object with each name once")?;
        check_header(&header)?;
        let text = |name| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str().into())),
            Some(_) => Err(Invalid::Malformed("`alg` or `kid` is no text")),
        };
        Ok(Self {
            signature: decode(signature)?,
            algorithm: text("alg")?.ok_or(Invalid::Malformed("it has no `alg`"))?,
            key_id: text("kid")?,
            claims: object(claims, "its claims are no JSON object with each name once")?,
            signed,
        })
    }

    /// The issuer that the token names, if it names one. It only chooses the rules and keys that judge the token.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// Verifies the token by the rules and keys of its issuer, at `now_ms` since the Unix epoch.
    pub(crate) fn verify(
        &self,
        issuer: &JwtIssuer,
        keys: &Keys,
        now_ms: u64,
    ) -> Result<Identity, Invalid> {
        if self.issuer() != Some(&issuer.issuer) {
            return Err(Invalid::Issuer);
        }
        let algorithm = JwtAlgorithm::named(&self.algorithm)
            .filter(|algorithm| issuer.algorithms.contains(algorithm))
            .ok_or(Invalid::Algorithm)?;
        let signed = self.signed.as_bytes();
        match keys.check(self.key_id.as_deref(), algorithm, signed, &self.signature) {
            Checked::Valid => {}
            Checked::Forged => return Err(Invalid::Signature),
            Checked::UnknownKey => return Err(Invalid::UnknownKey),
        }
        claims::judge(&self.claims, issuer, now_ms)
    }
}

/// Refuses what changes the meaning of the token: extensions that must be understood, compression, an unencoded or
/// nested content, encryption, other types of token. Keys and addresses of keys in the header (`jwk`, `jku`, `x5c`,
/// `x5u`) are not read at all.
fn check_header(header: &Map<String, Value>) -> Result<(), Invalid> {
    for name in ["crit", "zip", "b64", "cty", "enc"] {
        if header.contains_key(name) {
            return Err(Invalid::Header(name));
        }
    }
    let Some(kind) = header.get("typ") else {
        return Ok(());
    };
    let kind = kind.as_str().unwrap_or_default().to_ascii_lowercase();
    let kind = kind.strip_prefix("application/").unwrap_or(&kind);
    match TYPES.contains(&kind) {
        true => Ok(()),
        false => Err(Invalid::Header("another `typ`")),
    }
}
