//! AWS Signature Version 4 of a request to the service `execute-api`, verified: by header, or presigned in the query.
//!
//! Follows "Signature Version 4 signing process" of the IAM user guide. It is stricter where a signature would cover
//! less than the request: nothing is normalised, every `x-amz-*` header must be signed, and no part may occur twice.

mod canonical;
mod key;
mod read;
#[cfg(test)]
mod tests;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;

pub(crate) use self::key::SigningKey;

/// The service in the scope of a signature.
const SERVICE: &str = "execute-api";

/// The algorithm, as a header or a query names it.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Seconds by which the clocks of signer and gateway may differ.
const MAX_SKEW_S: u64 = 300;

/// Bytes of a SHA-256 hash.
const HASH: usize = 32;

/// The parts of a request that a signature covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignedRequest<'a> {
    pub(crate) method: &'a str,
    /// As received, still percent-encoded.
    pub(crate) path: &'a str,
    /// As received, without the question mark.
    pub(crate) query: &'a str,
    /// The value of `Host`, or of `:authority` on HTTP/2.
    pub(crate) host: &'a str,
    pub(crate) headers: &'a HeaderMap,
}

/// The signature of a request, well-formed and not verified yet.
#[derive(Debug)]
pub(crate) struct Signature<'a> {
    request: SignedRequest<'a>,
    key_id: String,
    /// `YYYYMMDD`, equal to the beginning of `time_text`.
    date: String,
    region: String,
    service: &'static str,
    /// `YYYYMMDDTHHMMSSZ`.
    time_text: String,
    /// The same in seconds since the Unix epoch.
    time: u64,
    /// Seconds for which a presigned request is valid. None for one that is signed by header.
    expires: Option<u64>,
    /// The names of the signed headers as they are written, joined by `;`.
    signed_headers: String,
    tag: [u8; HASH],
    /// The body's hash, as `x-amz-content-sha256` declares it.
    declared_hash: Option<[u8; HASH]>,
}

/// The reason why a signature does not count. No text has a part of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureFault {
    #[error("the signature is malformed: {0}")]
    Malformed(&'static str),
    #[error("the signature is older than it may be")]
    Expired,
    #[error("the signature is of the future")]
    Early,
    #[error("the signature is not that of this request by this key")]
    Mismatch,
    #[error("the body is not the one whose hash is signed")]
    OtherBody,
}

impl<'a> Signature<'a> {
    /// Reads the signature of a request; none if it has none.
    ///
    /// # Errors
    ///
    /// [`SignatureFault::Malformed`] if a part is missing, doubled or malformed, or if the signature leaves out a header
    /// that it must cover.
    pub(crate) fn read(request: SignedRequest<'a>) -> Result<Option<Self>, SignatureFault> {
        read::read(request, SERVICE)
    }

    /// The id of the access key that is said to have signed.
    pub(crate) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Checks that the signature is of `now`, in seconds since the Unix epoch. Takes no key.
    pub(crate) fn check_time(&self, now: u64) -> Result<(), SignatureFault> {
        if self.time > now.saturating_add(MAX_SKEW_S) {
            return Err(SignatureFault::Early);
        }
        if now > self.time.saturating_add(self.expires.unwrap_or(MAX_SKEW_S)) {
            return Err(SignatureFault::Expired);
        }
        Ok(())
    }

    /// Verifies the signature as far as that takes no body: wholly, if it declares the hash of the body.
    pub(crate) fn verify_head(&self, key: &SigningKey) -> Result<(), SignatureFault> {
        match &self.declared_hash {
            Some(hash) => self.verify_with(key, hash),
            None => Ok(()),
        }
    }

    /// Verifies the signature of the whole request. Its time is [`Self::check_time`]'s.
    pub(crate) fn verify(&self, key: &SigningKey, body: &[u8]) -> Result<(), SignatureFault> {
        let hash = sha256(body);
        if self.declared_hash.is_some_and(|declared| declared != hash) {
            return Err(SignatureFault::OtherBody);
        }
        self.verify_with(key, &hash)
    }

    fn verify_with(&self, key: &SigningKey, hash: &[u8; HASH]) -> Result<(), SignatureFault> {
        let request = canonical::request(&self.request, &self.signed_headers, hash)
            .ok_or(SignatureFault::Malformed("the query"))?;
        let message = format!(
            "{ALGORITHM}\n{}\n{}/{}/{}/{TERMINATOR}\n{}",
            self.time_text,
            self.date,
            self.region,
            self.service,
            canonical::hex(&sha256(&request))
        );
        let scope = (&*self.date, &*self.region, self.service);
        match key.has_signed(scope, message.as_bytes(), &self.tag) {
            true => Ok(()),
            false => Err(SignatureFault::Mismatch),
        }
    }
}

/// The last part of every scope.
const TERMINATOR: &str = "aws4_request";

fn sha256(bytes: &[u8]) -> [u8; HASH] {
    let mut hash = [0; HASH];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}
