//! The issuers of tokens in the file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::issuer::JwtAlgorithm;

/// The issuers whose tokens are taken.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Jwt {
    /// One issuer.
    One(Box<JwtIssuer>),
    /// Several: the token's `iss` chooses the one whose keys and rules judge it.
    Several(Vec<JwtIssuer>),
}

/// One issuer of tokens, such as a provider of OpenID Connect, and the rules for its tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct JwtIssuer {
    /// The issuer, exactly as its tokens name it in `iss`, slash at the end included. Without `jwks_url`, `jwks_file` and
    /// `public_keys` its keys are found by OpenID Connect Discovery, at `ISSUER/.well-known/openid-configuration`.
    #[schemars(extend("x-example" = "issuer = \"https://id.example.com/\", as tokens have it in iss"))]
    pub(in crate::config) issuer: String,
    /// The audiences of which a token must name one. Without it, tokens that the issuer made for any other application
    /// would be taken.
    #[schemars(extend("x-example" = "audience = [\"…\"], the name that the issuer has for this API"))]
    pub(in crate::config) audience: Vec<String>,
    /// The claim that has the audience. Access tokens of Amazon Cognito have `client_id` in its place.
    #[serde(default = "audience_claim")]
    pub(in crate::config) audience_claim: String,
    /// The signature algorithms of the issuer. A token with another is refused, whatever its header says.
    #[serde(default = "algorithms")]
    pub(in crate::config) algorithms: Vec<JwtAlgorithm>,
    /// The address of the issuer's JWK set: HTTPS, or HTTP on a loopback address. Redirects are not followed.
    pub(in crate::config) jwks_url: Option<String>,
    /// A file with the issuer's JWK set. The gateway reads it again when it changes.
    pub(in crate::config) jwks_file: Option<String>,
    /// The issuer's public keys in PEM (`-----BEGIN PUBLIC KEY-----`). Each is tried for tokens with any `kid`.
    #[serde(default)]
    pub(in crate::config) public_keys: Vec<String>,
    /// The claims that must have a value, or one of a list of values, as in `{ token_use = "access" }`.
    #[serde(default)]
    pub(in crate::config) require: BTreeMap<String, Required>,
    /// The seconds by which clocks may differ: a token counts for as long after its `exp` and before its `nbf` and `iat`.
    #[serde(default)]
    #[schemars(range(min = 0, max = 30))]
    pub(in crate::config) leeway_s: u32,
    /// The claim that is the principal of the connection. A token without it is refused.
    #[serde(default = "principal_claim")]
    pub(in crate::config) principal_claim: String,
    /// The claims that have scopes: texts with spaces between the scopes, or lists.
    #[serde(default = "scope_claims")]
    pub(in crate::config) scope_claims: Vec<String>,
    /// The scopes that a token needs to connect, all of them. Without one of them the answer is 403.
    #[serde(default)]
    pub(in crate::config) scopes: Vec<String>,
    /// The claims that handlers get as the authorizer's values: texts, numbers and booleans, of 8 KiB together. A claim
    /// that is absent, a list or an object is left out.
    #[serde(default)]
    pub(in crate::config) values: Vec<String>,
}

/// A value that a claim must have.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Required {
    /// This text.
    Text(String),
    /// True, or false.
    Flag(bool),
    /// One of these texts.
    OneOf(Vec<String>),
}

fn audience_claim() -> String {
    "aud".to_owned()
}

/// The algorithm that every provider of OpenID Connect has (OpenID Connect Core 1.0, section 15.1).
fn algorithms() -> Vec<JwtAlgorithm> {
    vec![JwtAlgorithm::Rs256]
}

fn principal_claim() -> String {
    "sub".to_owned()
}

fn scope_claims() -> Vec<String> {
    vec!["scope".to_owned(), "scp".to_owned()]
}
