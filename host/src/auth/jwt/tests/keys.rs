//! JWK sets and PEM texts: the keys that are used, and those that are left out.

use std::slice;

use super::super::BadKeys;
use super::*;

const ES256: [JwtAlgorithm; 1] = [JwtAlgorithm::Es256];

fn read(keys: &[Value]) -> Result<Keys, BadKeys> {
    let set = json!({ "keys": keys }).to_string();
    Keys::from_set(set.as_bytes(), &issuer().algorithms)
}

#[test]
fn key_for_another_use_is_left_out() {
    let ec = || ec_jwk("ec", &EC);
    let rsa = || rsa_jwk("rsa");
    let (x, y) = (ec()["x"].clone(), ec()["y"].clone());
    for (name, jwk) in [
        ("for encryption", with(ec(), "use", "enc")),
        ("of another use", with(ec(), "use", 1)),
        ("for signing", with(ec(), "key_ops", json!(["sign"]))),
        (
            "with operations that are no list",
            with(ec(), "key_ops", "verify"),
        ),
        ("private", with(ec(), "d", "AAAA")),
        ("of another algorithm", with(ec(), "alg", "ES384")),
        ("of an algorithm that is no text", with(ec(), "alg", 1)),
        (
            "for RSA-OAEP, as Keycloak has one",
            with(rsa(), "alg", "RSA-OAEP"),
        ),
        (
            "symmetric",
            json!({ "kty": "oct", "kid": "ec", "k": "AAAA", "alg": "HS256" }),
        ),
        ("on another curve", with(ec(), "crv", "secp256k1")),
        ("on a curve of another length", with(ec(), "crv", "P-384")),
        ("X25519", json!({ "kty": "OKP", "crv": "X25519", "x": x })),
        (
            "of an unknown kind",
            json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA" }),
        ),
        ("of another kind than its members", with(ec(), "kty", "RSA")),
        ("off the curve", with(ec(), "y", x.clone())),
        ("without y", without(ec(), "y")),
        ("with a short x", with(ec(), "x", "AAAA")),
        (
            "with padding",
            with(ec(), "y", format!("{}=", y.as_str().expect("text"))),
        ),
        ("with an id that is no text", with(ec(), "kid", 1)),
        ("too short", with(rsa(), "n", base64([0xff; 128]))),
        ("too short by a byte", with(rsa(), "n", base64([0xff; 255]))),
        ("without a modulus", without(rsa(), "n")),
        ("no object", json!("key")),
    ] {
        let result = read(&[jwk]).map(|keys| keys.0.len());
        assert!(
            matches!(result, Err(BadKeys::NoneFits(_) | BadKeys::ForOthers(_))),
            "{name}: {result:?}"
        );
    }
    // Others in the set do not matter.
    let keys = read(&[json!({ "kty": "oct", "k": "AAAA" }), ec()]).map(|keys| keys.0.len());
    assert_eq!(keys, Ok(1));
    // An RSA key without `alg` fits each RSA algorithm of the issuer.
    assert_eq!(read(&[rsa()]).map(|keys| keys.0.len()), Ok(2));
    let padded = URL_SAFE_NO_PAD
        .decode(rsa()["n"].as_str().expect("text"))
        .expect("base64url");
    let padded = with(rsa(), "n", base64([&[0], &*padded].concat()));
    assert_eq!(read(&[padded]).map(|keys| keys.0.len()), Ok(2));
}

/// An issuer withdraws its last key so; what is damaged withdraws nothing.
#[test]
fn set_of_keys_for_something_else_is_told_from_a_damaged_one() {
    let ec = || ec_jwk("ec", &EC);
    let encrypting = || with(ec(), "use", "enc");
    let symmetric = || json!({ "kty": "oct", "k": "AAAA" });
    for (name, set, is_for_others) in [
        ("for encryption", vec![encrypting()], true),
        ("of other kinds", vec![symmetric(), encrypting()], true),
        (
            "for another algorithm",
            vec![with(ec(), "alg", "ES384")],
            true,
        ),
        ("on another curve", vec![with(ec(), "crv", "P-521")], true),
        ("without any", vec![], false),
        ("damaged", vec![with(ec(), "x", "AAAA")], false),
        (
            "damaged beside another",
            vec![encrypting(), without(ec(), "y")],
            false,
        ),
        ("without a kind", vec![without(encrypting(), "kty")], false),
        ("no object", vec![encrypting(), json!("key")], false),
    ] {
        let result = read(&set).map(|keys| keys.0.len());
        let told = matches!(result, Err(BadKeys::ForOthers(_)));
        assert!(
            result.is_err() && told == is_for_others,
            "{name}: {result:?}"
        );
    }
}

#[test]
fn what_is_no_set_is_refused() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[],"keys":[]}"#,
        "<html>",
        "{\"keys\":[",
    ] {
        let refused = Keys::from_set(text.as_bytes(), &ES256).err();
        assert_eq!(refused, Some(BadKeys::NotASet), "{text}");
    }
    let empty = Keys::from_set(br#"{"keys":[]}"#, &ES256).err();
    assert_eq!(empty, Some(BadKeys::NoneFits("ES256".into())));
    let many = |count: usize| read(&vec![ec_jwk("ec", &EC); count]).map(|keys| keys.0.len());
    assert_eq!(many(64), Ok(64));
    assert_eq!(many(65), Err(BadKeys::TooMany));
}

#[test]
fn token_without_a_key_id_is_tried_with_few_keys() {
    let others = |count: usize| {
        (0..count)
            .map(|_| ec_jwk("other", &ec_key()))
            .collect::<Vec<_>>()
    };
    let token = es256(&without(ec_header(), "kid"), &claims());
    let check = |before: usize, expected: Option<Invalid>| {
        let mut set = others(before);
        set.push(ec_jwk("ec", &EC));
        let keys = read(&set).expect("they fit");
        assert_eq!(
            verify_by(&token, &issuer(), &keys).err(),
            expected,
            "{before}"
        );
    };
    check(3, None);
    check(4, Some(Invalid::Signature));
}

/// The PEM form of a SubjectPublicKeyInfo.
fn pem(info: &[u8]) -> String {
    use base64::engine::general_purpose::STANDARD;
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(info)
    )
}

#[test]
fn public_key_in_pem_fits_any_key_id() {
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};

    let info: PublicKeyX509Der<'_> = EC.public_key().as_der().expect("it has a form");
    let text = pem(info.as_ref());
    let keys = Keys::from_pem(slice::from_ref(&text), &ES256).expect("it is a key");
    for header in [
        ec_header(),
        with(ec_header(), "kid", "any"),
        without(ec_header(), "kid"),
    ] {
        verify_by(&es256(&header, &claims()), &issuer(), &keys).expect("it is valid");
    }
    let forged = es256_text(&ec_key(), &ec_header().to_string(), &claims().to_string());
    assert_eq!(
        verify_by(&forged, &issuer(), &keys),
        Err(Invalid::Signature)
    );
    let wrong = [
        String::new(),
        "key".to_owned(),
        text.replace("PUBLIC KEY", "PRIVATE KEY"),
        pem(&[0x30, 0]),
    ];
    for text in wrong {
        let refused = Keys::from_pem(&[text], &ES256).err();
        assert_eq!(refused, Some(BadKeys::NotPem("ES256".into())));
    }
    let refused = Keys::from_pem(&[text], &[JwtAlgorithm::Rs256]).err();
    assert_eq!(refused, Some(BadKeys::NotPem("RS256".into())));
}
