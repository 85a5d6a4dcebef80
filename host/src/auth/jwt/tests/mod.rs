//! Tokens that are taken, and a table of forgeries that are not.

mod forgeries;
mod keys;
mod properties;
mod valid;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
pub(crate) use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Invalid, Keys, Token};
use crate::auth::Identity;
use crate::config::{JwtAlgorithm, JwtIssuer, JwtKeys};

/// The time of all tests, in seconds.
const NOW: u64 = 1_800_000_000;

const ISSUER: &str = "https://id.example.com/";

/// The issuer's signing keys. Making an RSA key takes long.
static EC: LazyLock<EcdsaKeyPair> = LazyLock::new(ec_key);
static RSA: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).expect("a key can be made"));

pub(crate) fn ec_key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key can be made")
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The rules of the issuer: ES256, RS256 and PS256 tokens for `chat`.
pub(crate) fn issuer() -> JwtIssuer {
    JwtIssuer {
        issuer: ISSUER.into(),
        keys: JwtKeys::Pem(Vec::new()),
        algorithms: vec![
            JwtAlgorithm::Es256,
            JwtAlgorithm::Rs256,
            JwtAlgorithm::Ps256,
        ],
        audience: vec!["chat".to_owned()],
        audience_claim: "aud".to_owned(),
        require: BTreeMap::new(),
        leeway: Duration::ZERO,
        principal_claim: "sub".to_owned(),
        scope_claims: vec!["scope".to_owned(), "scp".to_owned()],
        scopes: Vec::new(),
        values: Vec::new(),
    }
}

pub(crate) fn ec_jwk(id: &str, key: &EcdsaKeyPair) -> Value {
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    json!({ "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "alg": "ES256", "x": base64(x), "y": base64(y) })
}

/// As Microsoft Entra writes it, without `alg`.
fn rsa_jwk(id: &str) -> Value {
    let (n, e) = rsa_components(&RSA);
    json!({ "kty": "RSA", "kid": id, "use": "sig", "n": base64(n), "e": base64(e) })
}

/// Modulus and exponent, from the key's PKCS#1 form: a sequence of two integers, with lengths of two bytes but for the
/// exponent's.
fn rsa_components(key: &RsaKeyPair) -> (Vec<u8>, Vec<u8>) {
    let der = key.public_key().as_ref();
    let length = usize::from(u16::from_be_bytes([der[6], der[7]]));
    let (n, e) = der[8..].split_at(length);
    let n = n.strip_prefix(&[0]).unwrap_or(n);
    (n.to_vec(), e[2..].to_vec())
}

/// The issuer's published keys: `ec` and `rsa`.
fn keys() -> Keys {
    let set = json!({ "keys": [ec_jwk("ec", &EC), rsa_jwk("rsa")] });
    Keys::from_set(set.to_string().as_bytes(), &issuer().algorithms).expect("they fit")
}

fn ec_header() -> Value {
    json!({ "alg": "ES256", "typ": "JWT", "kid": "ec" })
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": "chat", "sub": "ada", "iat": NOW - 60, "exp": NOW + 60 })
}

/// Signs as the issuer does, by ES256.
fn es256(header: &Value, claims: &Value) -> String {
    es256_text(&EC, &header.to_string(), &claims.to_string())
}

pub(crate) fn es256_text(key: &EcdsaKeyPair, header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", base64(header), base64(claims));
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes());
    format!("{signed}.{}", base64(signature.expect("it signs")))
}

fn rsa_token(encoding: &'static dyn RsaEncoding, header: &Value, claims: &Value) -> String {
    let signed = format!(
        "{}.{}",
        base64(header.to_string()),
        base64(claims.to_string())
    );
    let mut signature = vec![0; RSA.public_modulus_len()];
    RSA.sign(
        encoding,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .expect("it signs");
    format!("{signed}.{}", base64(signature))
}

/// The header or claims with a member set.
fn with(object: Value, name: &str, value: impl Into<Value>) -> Value {
    let mut object = object;
    object[name] = value.into();
    object
}

fn without(object: Value, name: &str) -> Value {
    let mut object = object;
    object.as_object_mut().expect("an object").remove(name);
    object
}

fn verify_by(token: &str, issuer: &JwtIssuer, keys: &Keys) -> Result<Identity, Invalid> {
    Token::read(token)?.verify(issuer, keys, NOW * 1_000)
}

fn verify(token: &str) -> Result<Identity, Invalid> {
    verify_by(token, &issuer(), &keys())
}
