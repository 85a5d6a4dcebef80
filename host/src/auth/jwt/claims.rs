//! The claims of a token whose signature is right.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::Invalid;
use crate::auth::{Identity, Value};
use crate::config::JwtIssuer;

/// The latest time that a claim may name, in seconds: whole numbers up to here are exact in a JSON number.
const MAX_TIME: f64 = 9_007_199_254_740_991.0;

/// Judges the claims at `now_ms`, and makes the identity of the client.
pub(super) fn judge(
    claims: &Map<String, Json>,
    issuer: &JwtIssuer,
    now_ms: u64,
) -> Result<Identity, Invalid> {
    let now = now_ms as f64 / 1_000.0;
    let leeway = issuer.leeway.as_secs_f64();
    let expiry = time(claims, "exp")?.ok_or_else(|| Invalid::Claim("exp".into()))? + leeway;
    if now >= expiry {
        return Err(Invalid::Expired);
    }
    for name in ["nbf", "iat"] {
        if time(claims, name)?.is_some_and(|time| time > now + leeway) {
            return Err(Invalid::Early(name));
        }
    }
    check_audience(claims, issuer)?;
    for (name, accepted) in &issuer.require {
        if !claims
            .get(name)
            .is_some_and(|value| accepted.contains(value))
        {
            return Err(Invalid::Required(name.as_str().into()));
        }
    }
    let name = &issuer.principal_claim;
    let principal = claims.get(name).and_then(Json::as_str);
    let principal = principal.ok_or_else(|| Invalid::Claim(name.as_str().into()))?;
    let (values, scopes) = (values(claims, issuer), scopes(claims, issuer));
    let expires_at = Some((expiry * 1_000.0) as u64);
    Ok(Identity {
        issuer: Some(Arc::clone(&issuer.issuer)),
        ..Identity::new(Some(principal.into()), values, scopes, expires_at)?
    })
}

/// A time in seconds (RFC 7519 §2, NumericDate); none if the claim is absent.
fn time(claims: &Map<String, Json>, name: &'static str) -> Result<Option<f64>, Invalid> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let time = value.as_f64();
    let time = time.filter(|time| (0.0..=MAX_TIME).contains(time));
    time.map(Some).ok_or_else(|| Invalid::Claim(name.into()))
}

/// Compares an audience, or a list that contains it (RFC 7519 §4.1.3).
fn check_audience(claims: &Map<String, Json>, issuer: &JwtIssuer) -> Result<(), Invalid> {
    let is_ours = |text: &Json| issuer.audience.iter().any(|ours| text == ours.as_str());
    let accepted = match claims.get(&issuer.audience_claim) {
        Some(Json::Array(list)) => list.iter().all(Json::is_string) && list.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => false,
    };
    match accepted {
        true => Ok(()),
        false => Err(Invalid::Audience),
    }
}

/// The claims that become values. A list or an object is none.
fn values(claims: &Map<String, Json>, issuer: &JwtIssuer) -> Vec<(Box<str>, Value)> {
    let values = issuer.values.iter().filter_map(|name| {
        let value = match claims.get(name)? {
            Json::String(text) => Value::Text(text.as_str().into()),
            Json::Number(number) => Value::Number(number.as_f64()?),
            Json::Bool(flag) => Value::Flag(*flag),
            Json::Null | Json::Array(_) | Json::Object(_) => return None,
        };
        Some((name.as_str().into(), value))
    });
    values.collect()
}

/// The scopes: texts of scopes with spaces between them (RFC 8693 §4.2), or lists of scopes.
fn scopes(claims: &Map<String, Json>, issuer: &JwtIssuer) -> Vec<Box<str>> {
    let mut scopes: Vec<Box<str>> = Vec::new();
    for claim in issuer
        .scope_claims
        .iter()
        .filter_map(|name| claims.get(name))
    {
        match claim {
            Json::String(text) => scopes.extend(text.split_ascii_whitespace().map(Box::from)),
            Json::Array(list) => {
                scopes.extend(list.iter().filter_map(Json::as_str).map(Box::from));
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => {}
        }
    }
    scopes
}
