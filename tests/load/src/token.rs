//! Tokens of an issuer whose keys the gateway is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::config::JwtAlgorithm;

/// The issuer of all tokens, which is never asked.
pub(crate) const ISSUER: &str = "https://id.example.com";

pub(crate) const AUDIENCE: &str = "chat";

/// The time for which a token holds: longer than any measurement.
const HOLDS: Duration = Duration::from_secs(86_400);

/// A key that signs tokens.
pub(crate) enum SigningKey {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl SigningKey {
    pub(crate) fn es256() -> Result<Self> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        Ok(Self::Es256(key))
    }

    /// A key of 2,048 bits, as providers have them.
    pub(crate) fn rs256() -> Result<Self> {
        Ok(Self::Rs256(RsaKeyPair::generate(KeySize::Rsa2048)?))
    }

    pub(crate) fn eddsa() -> Result<Self> {
        Ok(Self::EdDsa(Ed25519KeyPair::generate()?))
    }

    pub(crate) fn algorithm(&self) -> JwtAlgorithm {
        match self {
            Self::Es256(_) => JwtAlgorithm::Es256,
            Self::Rs256(_) => JwtAlgorithm::Rs256,
            Self::EdDsa(_) => JwtAlgorithm::EdDsa,
        }
    }

    /// The public half, as a SubjectPublicKeyInfo in PEM.
    pub(crate) fn public_pem(&self) -> Result<String> {
        let info: PublicKeyX509Der<'_> = match self {
            Self::Es256(key) => key.public_key().as_der()?,
            Self::Rs256(key) => key.public_key().as_der()?,
            Self::EdDsa(key) => key.public_key().as_der()?,
        };
        let text = STANDARD.encode(info.as_ref());
        Ok(format!(
            "-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"
        ))
    }

    /// A token with the claims of an access token.
    pub(crate) fn token(&self) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let header = json!({ "alg": self.algorithm().name(), "typ": "at+jwt", "kid": "one" });
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "5f1d2c1e-7f0b-4b36-9d3c-1c2f8f3a7b60",
            "iat": now.as_secs(), "exp": (now + HOLDS).as_secs(), "jti": "0b6fd0a4-6d2f-4c1b-8a57-7f5b7a0f9d11",
            "client_id": "web", "scope": "chat:read chat:write", "tenant": "example",
        });
        let part = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn sign(&self, signed: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        Ok(match self {
            Self::Es256(key) => key.sign(&random, signed)?.as_ref().to_vec(),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, signed, &mut signature)?;
                signature
            }
            Self::EdDsa(key) => key.sign(signed).as_ref().to_vec(),
        })
    }
}
