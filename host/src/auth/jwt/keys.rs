//! The public keys of an issuer: those of a JWK set (RFC 7517) or of PEM texts that fit the issuer's algorithms.

use aws_lc_rs::signature::{ED25519, ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, Value};

use super::algorithm::Verification;
use super::json;
use crate::config::JwtAlgorithm;

/// Limit of the keys of a set. Providers publish fewer than ten.
const MAX_KEYS: usize = 64;

/// Signatures that are tried for one token, when its header does not tell which key it is signed with.
const MAX_TRIED: usize = 4;

/// Least bytes of an RSA modulus: 2,048 bits (RFC 7518 §3.3).
const MIN_RSA_MODULUS: usize = 256;

/// The reason why a set of keys cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadKeys {
    #[error("it is no JWK set: a JSON object with a list `keys`")]
    NotASet,
    #[error("none of its keys is a signing key for {0}")]
    NoneFits(String),
    /// It is well-formed, has keys, and each says itself that it is for something else.
    #[error("all of its keys are for something else than {0}")]
    ForOthers(String),
    #[error("it has more than {MAX_KEYS} keys for the algorithms")]
    TooMany,
    #[error("it is no public key in PEM (BEGIN PUBLIC KEY) for {0}")]
    NotPem(String),
}

/// The keys of one issuer.
pub(crate) struct Keys(pub(super) Vec<Key>);

/// One key with one algorithm. A key that fits several stands here for each.
pub(super) struct Key {
    /// Its `kid`; none fits a token with any.
    id: Option<Box<str>>,
    algorithm: JwtAlgorithm,
    public: ParsedPublicKey,
}

/// The outcome of the search for a token's key.
pub(super) enum Checked {
    Valid,
    Forged,
    /// The issuer has no such key, as far as is known.
    UnknownKey,
}

impl Keys {
    /// Reads a JWK set. Leaves out the keys that are for something else: encryption, other algorithms, curves or key
    /// types, private and symmetric keys, RSA keys that are too short. Fails if none is left.
    pub(crate) fn from_set(set: &[u8], algorithms: &[JwtAlgorithm]) -> Result<Self, BadKeys> {
        let set = json::object(set).ok_or(BadKeys::NotASet)?;
        let Some(Value::Array(entries)) = set.get("keys") else {
            return Err(BadKeys::NotASet);
        };
        let jwks = entries.iter().filter_map(Value::as_object);
        let jwks = jwks.filter(|jwk| may_verify(jwk));
        let mut keys = Vec::new();
        for jwk in jwks {
            for algorithm in algorithms {
                keys.extend(from_jwk(jwk, *algorithm));
            }
            if keys.len() > MAX_KEYS {
                return Err(BadKeys::TooMany);
            }
        }
        let is_for_another = |entry: &Value| {
            let jwk = entry.as_object();
            jwk.is_some_and(|jwk| is_for_another(jwk, algorithms))
        };
        match keys.is_empty() {
            true if !entries.is_empty() && entries.iter().all(is_for_another) => {
                Err(BadKeys::ForOthers(names(algorithms)))
            }
            true => Err(BadKeys::NoneFits(names(algorithms))),
            false => Ok(Self(keys)),
        }
    }

    /// The keys of an issuer that has withdrawn all.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Reads public keys in PEM. They have no `kid`: each fits a token with any. Fails if one fits no algorithm.
    pub(crate) fn from_pem(texts: &[String], algorithms: &[JwtAlgorithm]) -> Result<Self, BadKeys> {
        let mut keys = Vec::new();
        for text in texts {
            let before = keys.len();
            let info = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes());
            let info = info.map_err(|_| BadKeys::NotPem(names(algorithms)))?;
            keys.extend(algorithms.iter().filter_map(|algorithm| {
                let verification = Verification::of(*algorithm);
                Some(Key {
                    id: None,
                    algorithm: *algorithm,
                    public: ParsedPublicKey::new(verification.by_info(), &*info).ok()?,
                })
            }));
            if keys.len() == before {
                return Err(BadKeys::NotPem(names(algorithms)));
            }
            if keys.len() > MAX_KEYS {
                return Err(BadKeys::TooMany);
            }
        }
        Ok(Self(keys))
    }

    /// Checks a signature by the key of this `kid` and algorithm.
    pub(super) fn check(
        &self,
        id: Option<&str>,
        algorithm: JwtAlgorithm,
        signed: &[u8],
        signature: &[u8],
    ) -> Checked {
        let fits = |key: &&Key| {
            let same_id = match (key.id.as_deref(), id) {
                (Some(own), Some(asked)) => own == asked,
                (None, _) | (_, None) => true,
            };
            same_id && key.algorithm == algorithm
        };
        let mut checked = Checked::UnknownKey;
        for key in self.0.iter().filter(fits).take(MAX_TRIED) {
            if key.public.verify_sig(signed, signature).is_ok() {
                return Checked::Valid;
            }
            checked = Checked::Forged;
        }
        checked
    }
}

/// Lists algorithms for an error.
fn names(algorithms: &[JwtAlgorithm]) -> String {
    let names: Vec<_> = algorithms
        .iter()
        .map(|algorithm| algorithm.name())
        .collect();
    names.join(", ")
}

/// Whether a key is for verifying signatures, as far as it says (RFC 7517 §4.2, §4.3).
fn may_verify(jwk: &Map<String, Value>) -> bool {
    let usage = jwk.get("use").is_none_or(|usage| usage == "sig");
    let operations = jwk.get("key_ops").is_none_or(|operations| {
        let mut operations = operations.as_array().into_iter().flatten();
        operations.any(|operation| operation == "verify")
    });
    // A private key that was published is everybody's.
    usage && operations && !jwk.contains_key("d")
}

/// Whether a JWK is well-formed, as far as every kind has to be (RFC 7517 §4.1), and for something else than these algorithms.
fn is_for_another(jwk: &Map<String, Value>, algorithms: &[JwtAlgorithm]) -> bool {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let Some(kind) = text("kty") else {
        return false;
    };
    let is_of = |algorithm: &JwtAlgorithm| {
        let named = text("alg").is_none_or(|named| named == algorithm.name());
        let is_kind = match Verification::of(*algorithm) {
            Verification::Rsa(_) => kind == "RSA",
            Verification::Ec(_, curve, _) => kind == "EC" && text("crv") == Some(curve),
            Verification::Ed25519 => kind == "OKP" && text("crv") == Some("Ed25519"),
        };
        named && is_kind
    };
    !may_verify(jwk) || !algorithms.iter().any(is_of)
}

/// The key of a JWK for one algorithm; none if the JWK is for another.
fn from_jwk(jwk: &Map<String, Value>, algorithm: JwtAlgorithm) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    if jwk.contains_key("alg") && text("alg") != Some(algorithm.name()) {
        return None;
    }
    let public = match (Verification::of(algorithm), text("kty")?) {
        (Verification::Rsa(parameters), "RSA") => {
            // Some providers write a leading zero, against RFC 7518 §2.
            let stripped = |name| bytes(name).map(|bytes| strip_zeros(&bytes).to_vec());
            let (n, e) = (stripped("n")?, stripped("e")?);
            if n.len() < MIN_RSA_MODULUS {
                return None;
            }
            let components = RsaPublicKeyComponents { n, e };
            components.to_parsed_public_key(parameters).ok()?
        }
        (Verification::Ec(verification, curve, coordinate), "EC") if text("crv") == Some(curve) => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            if x.len() != coordinate || y.len() != coordinate {
                return None;
            }
            // The uncompressed form of SEC 1, section 2.3.3.
            let point = [&[4], &*x, &*y].concat();
            ParsedPublicKey::new(verification, point).ok()?
        }
        (Verification::Ed25519, "OKP") if text("crv") == Some("Ed25519") => {
            let point = bytes("x").filter(|point| point.len() == 32)?;
            ParsedPublicKey::new(&ED25519, point).ok()?
        }
        (Verification::Rsa(_) | Verification::Ec(..) | Verification::Ed25519, _) => return None,
    };
    let id = match jwk.get("kid") {
        None => None,
        Some(id) => Some(id.as_str()?.into()),
    };
    Some(Key {
        id,
        algorithm,
        public,
    })
}

fn strip_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}
