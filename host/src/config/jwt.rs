//! The issuers of JSON Web Tokens: their keys and the rules for their tokens.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::file;
use super::is_loopback_authority;
use super::report::{Report, join};
use crate::net::told;

/// One issuer, and the rules for its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JwtIssuer {
    /// The issuer as tokens name it; no other entry of the authorizer has the same.
    pub(crate) issuer: String,
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

/// Checks the issuers that stand at `key`.
pub(super) fn issuers(key: &str, written: file::Jwt, report: &mut Report<'_>) -> Vec<JwtIssuer> {
    let several = match written {
        file::Jwt::One(one) => return vec![issuer(key, *one, report)],
        file::Jwt::Several(several) => several,
    };
    if several.is_empty() {
        report.problem(
            key,
            "the list of issuers is empty",
            "write jwt = { issuer = \"…\", audience = [\"…\"] }",
        );
    }
    let mut issuers: Vec<JwtIssuer> = Vec::new();
    for (index, written) in several.into_iter().enumerate() {
        let key = format!("{key}[{index}]");
        if issuers.iter().any(|other| other.issuer == written.issuer) {
            report.problem(
                &join(&key, "issuer"),
                format!("{:?} stands here twice", written.issuer),
                "write each issuer once, with all its audiences",
            );
        }
        issuers.push(issuer(&key, written, report));
    }
    issuers
}

fn issuer(key: &str, written: file::JwtIssuer, report: &mut Report<'_>) -> JwtIssuer {
    for (name, is_empty, remedy) in [
        (
            "audience",
            written.audience.is_empty(),
            "write the name that the issuer has for this API; access tokens of Amazon Cognito have it in another \
             claim: audience_claim = \"client_id\"",
        ),
        (
            "algorithms",
            written.algorithms.is_empty(),
            "write those that the issuer signs with, as in [\"RS256\"]",
        ),
    ] {
        if is_empty && report.is_clean(&join(key, name)) {
            report.problem(&join(key, name), "the list is empty", remedy);
        }
    }
    for (index, scope) in written.scopes.iter().enumerate() {
        if !is_scope(scope) {
            report.problem(
                &format!("{}[{index}]", join(key, "scopes")),
                format!("{scope:?} is not one scope"),
                "write each scope by itself, as in [\"chat:join\", \"chat:send\"]",
            );
        }
    }
    JwtIssuer {
        keys: keys(key, &written, report),
        issuer: written.issuer,
        algorithms: written.algorithms,
        audience: written.audience,
        audience_claim: written.audience_claim,
        require: written
            .require
            .into_iter()
            .map(|(claim, required)| (claim, values(required)))
            .collect(),
        leeway: Duration::from_secs(written.leeway_s.into()),
        principal_claim: written.principal_claim,
        scope_claims: written.scope_claims,
        scopes: written.scopes,
        values: distinct(written.values),
    }
}

/// Whether a text is one scope (RFC 6749 §3.3).
fn is_scope(text: &str) -> bool {
    let is_of_scope = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    !text.is_empty() && text.bytes().all(is_of_scope)
}

fn distinct(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

fn values(required: file::Required) -> Vec<Value> {
    match required {
        file::Required::Text(text) => vec![Value::String(text)],
        file::Required::Flag(flag) => vec![Value::Bool(flag)],
        file::Required::OneOf(texts) => texts.into_iter().map(Value::String).collect(),
    }
}

fn keys(key: &str, written: &file::JwtIssuer, report: &mut Report<'_>) -> JwtKeys {
    let sources = [
        ("jwks_url", written.jwks_url.is_some()),
        ("jwks_file", written.jwks_file.is_some()),
        ("public_keys", !written.public_keys.is_empty()),
    ];
    let mut used = sources.iter().filter(|(_, is_used)| *is_used);
    if let (Some((first, _)), Some((second, _))) = (used.next(), used.next()) {
        report.problem(
            &join(key, second),
            format!("the keys are those of {first} already"),
            "remove one of the two",
        );
    }
    if !written.public_keys.is_empty() {
        return JwtKeys::Pem(written.public_keys.clone());
    }
    if let Some(file) = &written.jwks_file {
        return JwtKeys::File(report.existing_file(&join(key, "jwks_file"), file));
    }
    let (name, address) = match &written.jwks_url {
        Some(url) => ("jwks_url", url),
        None => ("issuer", &written.issuer),
    };
    check_address(&join(key, name), address, report);
    match &written.jwks_url {
        Some(url) => JwtKeys::Url(url.clone()),
        // OpenID Connect Discovery 1.0, section 4.1, removes the slash at the end.
        None => JwtKeys::Discovery(format!(
            "{}/.well-known/openid-configuration",
            address.strip_suffix('/').unwrap_or(address)
        )),
    }
}

/// Checks that keys may come from an address: nobody on the way may change them.
fn check_address(key: &str, address: &str, report: &mut Report<'_>) {
    if !report.is_clean(key) {
        return;
    }
    if may_have_keys(address) {
        if address.ends_with("/common/v2.0") || address.ends_with("/organizations/v2.0") {
            report.problem(
                key,
                "tokens of Microsoft Entra name the tenant that issued them, never \"common\"",
                "write the address with the tenant's id in place of \"common\"",
            );
        }
        return;
    }
    report.problem(
        key,
        format!("{} is no address to get keys from: HTTPS, or HTTP on a loopback address", told(address)),
        "write it as in \"https://id.example.com\", or give the keys by jwks_url, jwks_file or public_keys",
    );
}

/// Whether a JWK set may come from there: by HTTPS, or by HTTP from this machine.
pub(crate) fn may_have_keys(address: &str) -> bool {
    let Ok(uri) = address.parse::<Uri>() else {
        return false;
    };
    let Some(authority) = uri.authority() else {
        return false;
    };
    if authority.as_str().contains('@') {
        return false;
    }
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => is_loopback_authority(authority.as_str()),
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, expected: bool) {
        assert_eq!(may_have_keys(address), expected, "{address}");
    }

    #[test]
    fn keys_come_by_https_or_from_this_machine() {
        check("https://id.example.com/tenant/", true);
        check("https://10.0.0.1:8443/keys", true);
        check("http://127.0.0.1:8080/keys", true);
        check("http://[::1]/keys", true);
        check("http://localhost/keys", true);
        check("http://id.example.com/keys", false);
        check("http://127.0.0.1.example.com/keys", false);
        check("http://127.0.0.1@example.com/keys", false);
        check("https://user:word@example.com/keys", false);
        check("ftp://127.0.0.1/keys", false);
        check("file:///etc/passwd", false);
        check("id.example.com", false);
        check("/keys", false);
        check("", false);
    }

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
