//! The authorizer for JSON Web Tokens: the token's issuer, its keys, and the scopes that it takes to connect.

mod fetch;
mod key_source;
mod known_keys;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::fetch::FetchError;
use self::key_source::{KeySource, NotVerified};
pub(crate) use self::known_keys::KnownKeys;
use self::known_keys::KnownSet;
use super::Denial;
use crate::auth::Identity;
use crate::auth::jwt::{Invalid, Token};
use crate::config::{Fault, JwtIssuer, JwtKeys};
use crate::net::watch;
use crate::permits::Share;

/// The scheme before a token in `Authorization` (RFC 6750 §2.1). Other places may have it, too.
const SCHEME: &str = "bearer ";

pub(super) struct JwtAuthorizer {
    /// One for each issuer.
    sources: Vec<KeySource>,
}

impl JwtAuthorizer {
    /// Begins to get the issuers' keys. Those that are known count until then. Needs a runtime.
    pub(super) fn new(issuers: &[JwtIssuer], known: &KnownKeys) -> Self {
        let sources = issuers.iter().map(|issuer| KeySource::start(issuer, known));
        Self {
            sources: sources.collect(),
        }
    }

    /// The keys that are known by now of issuers at addresses.
    pub(super) fn known_keys(&self) -> impl Iterator<Item = KnownSet> {
        self.sources.iter().filter_map(KeySource::known)
    }

    /// Decides on a client that presents this text as its token. It takes a place in `waiting`, if there is a bound, while it
    /// waits for keys.
    pub(super) async fn authorize(
        &self,
        presented: Option<&str>,
        waiting: Option<&Share>,
    ) -> Result<Arc<Identity>, Denial> {
        let presented = presented.ok_or(Denial::Unauthorized("it has no token"))?;
        let token = Token::read(without_scheme(presented)).map_err(Denial::InvalidToken)?;
        let issuer = token.issuer().unwrap_or_default();
        let mut sources = self.sources.iter();
        let source = sources
            .find(|source| *source.issuer().issuer == *issuer)
            .ok_or(Denial::InvalidToken(Invalid::Issuer))?;
        let identity = source.verify(&token, waiting).await;
        let identity = identity.map_err(|error| match error {
            NotVerified::Invalid(invalid) => Denial::InvalidToken(invalid),
            NotVerified::NoKeys => {
                Denial::Failed(format!("the keys of {issuer} are not there yet"))
            }
            NotVerified::Busy => Denial::too_many_wait(),
        })?;
        let needed = &source.issuer().scopes;
        let has = |scope: &String| identity.scopes.iter().any(|own| **own == **scope);
        match needed.iter().all(has) {
            true => Ok(Arc::new(identity)),
            false => Err(Denial::MissingScopes(needed.join(" ").into())),
        }
    }
}

fn without_scheme(presented: &str) -> &str {
    match presented.split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => token.trim(),
        Some(_) | None => presented,
    }
}

/// Finds keys in files and in the configuration that cannot be used; `key` is that of the issuers. Keys at an address
/// are no part of this: an issuer that is down holds up no start.
pub(super) fn check(key: &str, issuers: &[JwtIssuer]) -> Vec<Fault> {
    let faults = issuers.iter().enumerate().filter_map(|(index, issuer)| {
        let (name, error) = match &issuer.keys {
            JwtKeys::Discovery(_) | JwtKeys::Url(_) => return None,
            JwtKeys::File(file) => ("jwks_file", fetch::read_file(file, issuer).err()?),
            JwtKeys::Pem(texts) => ("public_keys", fetch::read_pem(texts, issuer).err()?),
        };
        let key = match issuers {
            [_] => format!("{key}.{name}"),
            _ => format!("{key}[{index}].{name}"),
        };
        Some(Fault {
            key,
            message: format!("the keys of {:?} cannot be used: {error}", issuer.issuer),
            remedy: "give public keys that the issuer signs with, and name its algorithms"
                .to_owned(),
            is_passing: matches!(&error, FetchError::File(_, error) if watch::is_passing(error)),
        })
    });
    faults.collect()
}
