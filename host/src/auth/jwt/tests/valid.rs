//! Tokens that are taken, and the identities that they give.

use std::time::Instant;

use aws_lc_rs::signature::Ed25519KeyPair;

use super::*;
use crate::auth::Value as Flat;

#[test]
fn token_of_each_kind_of_key_is_taken() {
    let identity = verify(&es256(&ec_header(), &claims())).expect("it is valid");
    assert_eq!(identity.principal.as_deref(), Some("ada"));
    assert_eq!(identity.expires_at, Some((NOW + 60) * 1_000));
    let header = |algorithm: &str| json!({ "alg": algorithm, "kid": "rsa" });
    verify(&rsa_token(&RSA_PKCS1_SHA256, &header("RS256"), &claims())).expect("it is valid");
    verify(&rsa_token(&RSA_PSS_SHA256, &header("PS256"), &claims())).expect("it is valid");
}

#[test]
fn ed25519_token_is_taken() {
    let key = Ed25519KeyPair::generate().expect("a key can be made");
    let rules = JwtIssuer {
        algorithms: vec![JwtAlgorithm::EdDsa],
        ..issuer()
    };
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": base64(key.public_key()) });
    let set = json!({ "keys": [jwk] }).to_string();
    let keys = Keys::from_set(set.as_bytes(), &rules.algorithms).expect("it fits");
    let header = json!({ "alg": "EdDSA" });
    let signed = format!(
        "{}.{}",
        base64(header.to_string()),
        base64(claims().to_string())
    );
    let token = format!("{signed}.{}", base64(key.sign(signed.as_bytes())));
    verify_by(&token, &rules, &keys).expect("it is valid");
}

#[test]
fn header_may_say_what_changes_nothing() {
    for header in [
        json!({ "alg": "ES256", "kid": "ec" }),
        json!({ "alg": "ES256" }),
        json!({ "alg": "ES256", "kid": "ec", "typ": "at+jwt" }),
        json!({ "alg": "ES256", "kid": "ec", "typ": "application/at+JWT" }),
        // A reader that follows none of these is not misled by them.
        json!({ "alg": "ES256", "kid": "ec", "x5t": "abc", "jku": "https://id.example.com/keys" }),
    ] {
        verify(&es256(&header, &claims())).unwrap_or_else(|error| panic!("{header}: {error}"));
    }
}

#[test]
fn audience_may_be_one_of_a_list_or_stand_in_another_claim() {
    let token = es256(
        &ec_header(),
        &with(claims(), "aud", json!(["account", "chat"])),
    );
    verify(&token).expect("it is valid");
    // As an access token of Amazon Cognito.
    let cognito = JwtIssuer {
        audience_claim: "client_id".to_owned(),
        require: [("token_use".to_owned(), vec![json!("access")])].into(),
        ..issuer()
    };
    let access = with(without(claims(), "aud"), "client_id", "chat");
    let access = with(access, "token_use", "access");
    verify_by(&es256(&ec_header(), &access), &cognito, &keys()).expect("it is valid");
    let id = with(access, "token_use", "id");
    let refused = verify_by(&es256(&ec_header(), &id), &cognito, &keys());
    assert_eq!(refused, Err(Invalid::Required("token_use".into())));
}

#[test]
fn claims_become_principal_scopes_and_values() {
    let rules = JwtIssuer {
        principal_claim: "email".to_owned(),
        values: ["tenant", "level", "admin", "groups", "absent"]
            .map(str::to_owned)
            .to_vec(),
        ..issuer()
    };
    let mut claims = claims();
    for (name, value) in [
        ("email", json!("ada@example.com")),
        ("tenant", json!("blue")),
        ("level", json!(7)),
        ("admin", json!(true)),
        ("groups", json!(["a"])),
        ("scope", json!("write read  ")),
        ("scp", json!(["join"])),
    ] {
        claims[name] = value;
    }
    let identity = verify_by(&es256(&ec_header(), &claims), &rules, &keys()).expect("it is valid");
    assert_eq!(identity.principal.as_deref(), Some("ada@example.com"));
    assert_eq!(identity.scopes, ["join", "read", "write"].map(Box::from));
    let values = [
        ("admin".into(), Flat::Flag(true)),
        ("level".into(), Flat::Number(7.0)),
        ("tenant".into(), Flat::Text("blue".into())),
    ];
    assert_eq!(identity.values, values);
}

#[test]
fn leeway_bridges_the_difference_of_clocks() {
    let rules = JwtIssuer {
        leeway: Duration::from_secs(30),
        ..issuer()
    };
    let check = |claims: Value, expected: Option<Invalid>| {
        let result = verify_by(&es256(&ec_header(), &claims), &rules, &keys());
        assert_eq!(result.clone().err(), expected, "{claims}");
        if let Ok(identity) = result {
            assert!(
                !identity.has_expired(NOW * 1_000),
                "it would be closed at once"
            );
        }
    };
    check(with(claims(), "exp", NOW - 29), None);
    check(with(claims(), "exp", NOW - 30), Some(Invalid::Expired));
    for name in ["nbf", "iat"] {
        check(with(claims(), name, NOW + 30), None);
        check(with(claims(), name, NOW + 31), Some(Invalid::Early(name)));
    }
    // Fractions of a second are allowed (RFC 7519 §2).
    check(with(claims(), "exp", NOW as f64 + 0.5), None);
}

/// Prints the time of a verification. A figure on a shared machine is no assertion.
#[test]
fn time_of_a_verification_is_shown() {
    let (rules, keys) = (issuer(), keys());
    let header = |algorithm: &str| json!({ "alg": algorithm, "kid": "rsa" });
    for (name, token) in [
        ("ES256", es256(&ec_header(), &claims())),
        (
            "RS256",
            rsa_token(&RSA_PKCS1_SHA256, &header("RS256"), &claims()),
        ),
    ] {
        let mut times: Vec<_> = (0..200)
            .map(|_| {
                let start = Instant::now();
                verify_by(&token, &rules, &keys).expect("it is valid");
                start.elapsed()
            })
            .collect();
        times.sort();
        eprintln!(
            "{name}: median {:?} of {}",
            times[times.len() / 2],
            times.len()
        );
    }
}
