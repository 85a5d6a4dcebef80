//! An access key that signs the handshake, as API Gateway's AWS_IAM has it: by header, or presigned in the query.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Denial, Request};
use crate::auth::sigv4::{Signature, SignatureFault, SignedRequest};
use crate::auth::{AccessKeys, Identity};
use crate::clock;
use crate::config::KeyMethods;

/// The characters of a query that a signature has escaped: all but the unreserved ones (RFC 3986 §2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

pub(super) struct IamAuthorizer {
    keys: Arc<AccessKeys>,
}

impl IamAuthorizer {
    pub(super) fn new(keys: &Arc<AccessKeys>) -> Self {
        Self {
            keys: Arc::clone(keys),
        }
    }

    /// Lets in a client whose handshake is signed by a key that may `CONNECT` to the stage. The key's name is the
    /// principal.
    pub(super) fn authorize(&self, request: &Request<'_>) -> Result<Arc<Identity>, Denial> {
        let (handshake, scope) = (request.handshake, &request.invocation.scope);
        let mut headers = HeaderMap::new();
        for (name, value) in &handshake.headers {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
                headers.append(name, value);
            }
        }
        let host = headers.get("host").and_then(|host| host.to_str().ok());
        // The query as the handler reads it is what must be signed.
        let query = handshake.query.iter().map(|(name, value)| {
            let [name, value] = [name, value].map(|text| utf8_percent_encode(text, RESERVED));
            format!("{name}={value}")
        });
        let query = query.collect::<Vec<_>>().join("&");
        let signed = SignedRequest {
            method: "GET",
            path: &handshake.path,
            query: &query,
            host: host.unwrap_or_default(),
            headers: &headers,
        };
        let refused = |fault: SignatureFault| Denial::Forbidden(fault.to_string());
        let forbidden = |why: &str| Denial::Forbidden(why.to_owned());
        let signature = Signature::read(signed).map_err(refused)?;
        let signature = signature.ok_or_else(|| forbidden("the handshake is not signed"))?;
        let now = clock::now().as_secs();
        signature.check_time(now).map_err(refused)?;
        let found = self.keys.by_id(signature.key_id());
        let (key, signing) = found.ok_or_else(|| forbidden("no access key has this id"))?;
        signature.verify(signing, b"").map_err(refused)?;
        if !key.allows(&scope.api, &scope.stage, KeyMethods::CONNECT) {
            let name = &key.name;
            let why = format!("the access key {name:?} does not allow {scope}:CONNECT");
            return Err(Denial::Forbidden(why));
        }
        let identity = Identity::new(Some(key.name.clone()), Vec::new(), Vec::new(), None);
        let identity = identity.map_err(|error| Denial::Failed(error.to_string()))?;
        Ok(Arc::new(identity))
    }
}
