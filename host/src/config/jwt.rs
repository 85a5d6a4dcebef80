//! The check of issuers of JSON Web Tokens.

use std::time::Duration;

use http::Uri;
use serde_json::Value;

use super::file;
use super::is_loopback_authority;
use super::issuer::{JwtIssuer, JwtKeys};
use super::report::{Report, join};
use crate::net::told;

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
        if issuers.iter().any(|other| *other.issuer == *written.issuer) {
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
        issuer: written.issuer.into(),
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
    report.note_url(&join(key, name), address);
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
}
