//! Who a request is from, and whether its access key may do what it asks. All but the body is judged before the body is
//! read.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::refusal::Refusal;
use crate::auth::sigv4::{Signature, SignedRequest, SigningKey};
use crate::auth::{AccessKey, AccessKeys};
use crate::clock;
use crate::config::KeyMethods;
use crate::stage::Stage;

/// The access of a request whose key is known, and may do what is asked. A signature is not verified wholly yet.
#[derive(Debug)]
pub(super) struct Access<'r> {
    pub(super) key: Arc<AccessKey>,
    /// The signature and the secret that must have made it; none if a token has proved the key.
    signature: Option<(Signature<'r>, Arc<SigningKey>)>,
}

/// Whether a request shows a key: by a signature, well-formed or not, or by the token of one of these.
pub(super) fn shows_key(parts: &Parts, keys: &AccessKeys) -> bool {
    let request = signed_request(parts, "");
    match Signature::read(request) {
        Ok(Some(_)) | Err(_) => true,
        Ok(None) => bearer(&parts.headers).is_some_and(|token| keys.by_token(token).is_some()),
    }
}

/// The parts of a request that a signature covers; `host` as the caller has named it.
fn signed_request<'r>(parts: &'r Parts, host: &'r str) -> SignedRequest<'r> {
    SignedRequest {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        host,
        headers: &parts.headers,
    }
}

impl<'r> Access<'r> {
    /// Judges a request by its head: by the token that it carries, or by its signature.
    pub(super) fn judge(
        keys: &AccessKeys,
        parts: &'r Parts,
        host: &'r str,
        stage: &Stage,
        method: KeyMethods,
    ) -> Result<Self, Refusal> {
        let signature = Signature::read(signed_request(parts, host))?;
        let access = match (signature, bearer(&parts.headers)) {
            (Some(signature), _) => {
                signature.check_time(clock::now().as_secs())?;
                let found = keys.by_id(signature.key_id());
                let (key, signing) = found.ok_or(Refusal::UnknownKey)?;
                signature.verify_head(signing)?;
                Self {
                    key: Arc::clone(key),
                    signature: Some((signature, Arc::clone(signing))),
                }
            }
            (None, Some(token)) => Self {
                key: Arc::clone(keys.by_token(token).ok_or(Refusal::UnknownKey)?),
                signature: None,
            },
            (None, None) => return Err(Refusal::Unsigned),
        };
        let (api, stage) = (&stage.scope.api, &stage.scope.stage);
        if access.key.allows(api, stage, method) {
            return Ok(access);
        }
        // API Gateway's text has no id either.
        let resource = format!(
            "{api}/{stage}/{}/@connections/{{connectionId}}",
            parts.method
        );
        let key = access.key.name.clone();
        Err(Refusal::NotAllowed { key, resource })
    }

    /// Verifies the signature of the whole request.
    pub(super) fn verify(&self, body: &[u8]) -> Result<(), Refusal> {
        match &self.signature {
            Some((signature, signing)) => Ok(signature.verify(signing, body)?),
            None => Ok(()),
        }
    }
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750 §2.1). None if there are two.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
