//! Tokens of clients, and the keys that issuers publish.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::auth::jwt::{Keys, MAX_TOKEN, Token};
use crate::config::{JwtAlgorithm, JwtIssuer, JwtKeys};

/// A public key whose private half is known to RFC 8032 and to no input.
const KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----";

/// Takes a token, or its header and behind the first line its claims, or a JWK set. No token is ever valid.
pub(crate) fn tokens(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    judge(&text);
    let (header, claims) = text.split_once('\n').unwrap_or((&text, "{}"));
    let encode = |part: &str| URL_SAFE_NO_PAD.encode(part);
    judge(&format!("{}.{}.AAAA", encode(header), encode(claims)));
    let algorithms = JwtAlgorithm::ALL.map(|(algorithm, _)| algorithm);
    if let Err(error) = Keys::from_set(input, &algorithms) {
        assert!(!error.to_string().is_empty());
    }
}

fn judge(text: &str) {
    let Ok(token) = Token::read(text) else {
        return;
    };
    assert!(text.len() <= MAX_TOKEN && text.matches('.').count() == 2);
    let issuer = JwtIssuer {
        issuer: token.issuer().unwrap_or_default().into(),
        keys: JwtKeys::Pem(vec![KEY.to_owned()]),
        algorithms: vec![JwtAlgorithm::EdDsa],
        audience: vec!["chat".to_owned()],
        audience_claim: "aud".to_owned(),
        require: BTreeMap::new(),
        leeway: Duration::ZERO,
        principal_claim: "sub".to_owned(),
        scope_claims: vec!["scope".to_owned()],
        scopes: Vec::new(),
        values: vec!["tenant".to_owned()],
    };
    let keys = Keys::from_pem(&[KEY.to_owned()], &issuer.algorithms).unwrap();
    let refused = token.verify(&issuer, &keys, 1_800_000_000_000).unwrap_err();
    assert!(!refused.to_string().is_empty());
}
