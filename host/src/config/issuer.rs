//! An issuer of JSON Web Tokens: its keys and the rules for its tokens. The bench takes this file by itself, so it needs
//! nothing else of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One issuer, and the rules for its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JwtIssuer {
    /// The issuer as tokens name it; no other entry of the authorizer has the same.
    pub(crate) issuer: Arc<str>,
    /// The source of its keys.
    pub(crate) keys: JwtKeys,
    /// The signature algorithms; at least one.
    pub(crate) algorithms: Vec<JwtAlgorithm>,
    /// The audiences of which a token names one; at least one.
    pub(crate) audience: Vec<String>,
    pub(crate) audience_claim: String,
    /// The values of which a claim has one, by claim.
    pub(crate) require: BTreeMap<String, Vec<Value>>,
    /// The difference of clocks; at most 30 s.
    pub(crate) leeway: Duration,
    pub(crate) principal_claim: String,
    pub(crate) scope_claims: Vec<String>,
    /// The scopes that a token needs to connect.
    pub(crate) scopes: Vec<String>,
    /// The claims that become values.
    pub(crate) values: Vec<String>,
}

/// The source of an issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum JwtKeys {
    /// The address of the issuer's OpenID Connect configuration, which names the address of the keys.
    Discovery(String),
    /// The address of a JWK set.
    Url(String),
    /// A file with a JWK set.
    File(PathBuf),
    /// Public keys in PEM.
    Pem(Vec<String>),
}

/// The algorithms of signatures by a private key (RFC 7518 §3.1, RFC 8037 §3.1). There are none with a shared secret:
/// whoever can check such a token can make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub(crate) enum JwtAlgorithm {
    /// RSA, PKCS#1 v1.5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSA, PKCS#1 v1.5 with SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
    /// RSA, PKCS#1 v1.5 with SHA-512.
    #[serde(rename = "RS512")]
    Rs512,
    /// RSA, PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// RSA, PSS with SHA-384.
    #[serde(rename = "PS384")]
    Ps384,
    /// RSA, PSS with SHA-512.
    #[serde(rename = "PS512")]
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// ECDSA on P-521 with SHA-512.
    #[serde(rename = "ES512")]
    Es512,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl JwtAlgorithm {
    /// All, with their names in tokens.
    pub(crate) const ALL: [(Self, &'static str); 10] = [
        (Self::Rs256, "RS256"),
        (Self::Rs384, "RS384"),
        (Self::Rs512, "RS512"),
        (Self::Ps256, "PS256"),
        (Self::Ps384, "PS384"),
        (Self::Ps512, "PS512"),
        (Self::Es256, "ES256"),
        (Self::Es384, "ES384"),
        (Self::Es512, "ES512"),
        (Self::EdDsa, "EdDSA"),
    ];

    /// The algorithm of this name, which is exact (RFC 7515 §4.1.1).
    pub(crate) fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        let (algorithm, _) = all.find(|(_, other)| *other == name)?;
        Some(*algorithm)
    }

    pub(crate) fn name(self) -> &'static str {
        let mut all = Self::ALL.iter();
        all.find(|(other, _)| *other == self)
            .map_or("", |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_have_their_names_in_tokens() {
        for (algorithm, name) in JwtAlgorithm::ALL {
            assert_eq!(JwtAlgorithm::named(name), Some(algorithm));
            assert_eq!(algorithm.name(), name);
            assert_eq!(serde_json::to_value(algorithm).expect("JSON"), name);
        }
        for name in ["none", "None", "HS256", "rs256", "RS256 ", ""] {
            assert_eq!(JwtAlgorithm::named(name), None, "{name}");
        }
    }
}
