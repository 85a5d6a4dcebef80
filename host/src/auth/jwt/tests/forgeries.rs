//! Tokens that are forged, stolen from another purpose, or out of their time (RFC 8725 §2). None is taken.

use aws_lc_rs::hmac;

use super::*;

const EXPIRED: Invalid = Invalid::Expired;
const SIGNATURE: Invalid = Invalid::Signature;

fn claim(name: &str) -> Invalid {
    Invalid::Claim(name.into())
}

/// A token whose signature is an HMAC with a public key as the secret.
fn hs256(header: &Value, secret: &[u8]) -> String {
    let signed = format!(
        "{}.{}",
        base64(header.to_string()),
        base64(claims().to_string())
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    format!("{signed}.{}", base64(hmac::sign(&key, signed.as_bytes())))
}

/// Exchanges one of the three parts.
fn part(token: &str, index: usize, replacement: &str) -> String {
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[index] = replacement;
    parts.join(".")
}

#[track_caller]
fn check(forgeries: Vec<(&str, String, Invalid)>) {
    for (name, token, expected) in forgeries {
        assert_eq!(verify(&token), Err(expected), "{name}: {token}");
    }
}

#[test]
fn algorithm_of_the_forgers_choice_is_refused() {
    let good = es256(&ec_header(), &claims());
    let alg = |name: &str| with(ec_header(), "alg", name);
    let mut forgeries: Vec<_> = [
        "none", "None", "NONE", "nOnE", "", "es256", "ES256 ", "HS256", "RS512", "ES256K",
    ]
    .into_iter()
    .flat_map(|name| {
        let header = base64(alg(name).to_string());
        [
            ("another name", part(&good, 0, &header), Invalid::Algorithm),
            (
                "and no signature",
                part(&part(&good, 0, &header), 2, ""),
                Invalid::Algorithm,
            ),
            ("signed", es256(&alg(name), &claims()), Invalid::Algorithm),
        ]
    })
    .collect();
    let point = EC.public_key().as_ref().to_vec();
    let der = RSA.public_key().as_ref().to_vec();
    let rsa = json!({ "alg": "HS256", "kid": "rsa" });
    forgeries.extend([
        (
            "HMAC by the curve's point",
            hs256(&alg("HS256"), &point),
            Invalid::Algorithm,
        ),
        ("HMAC by the RSA key", hs256(&rsa, &der), Invalid::Algorithm),
        ("HMAC as ES256", hs256(&ec_header(), &point), SIGNATURE),
        (
            "RS256 by the other key's id",
            es256(&with(alg("RS256"), "kid", "rsa"), &claims()),
            SIGNATURE,
        ),
        (
            "ES256 by the RSA key",
            rsa_token(&RSA_PKCS1_SHA256, &ec_header(), &claims()),
            SIGNATURE,
        ),
        (
            "PS256 that is PKCS#1",
            rsa_token(
                &RSA_PKCS1_SHA256,
                &json!({ "alg": "PS256", "kid": "rsa" }),
                &claims(),
            ),
            SIGNATURE,
        ),
        (
            "a curve's token with the id of the RSA key",
            es256(&with(ec_header(), "kid", "rsa"), &claims()),
            Invalid::UnknownKey,
        ),
    ]);
    check(forgeries);
    // One algorithm of the same key that the configuration does not name.
    let only = JwtIssuer {
        algorithms: vec![JwtAlgorithm::Es256],
        ..issuer()
    };
    let token = rsa_token(
        &RSA_PKCS1_SHA256,
        &json!({ "alg": "RS256", "kid": "rsa" }),
        &claims(),
    );
    assert_eq!(verify_by(&token, &only, &keys()), Err(Invalid::Algorithm));
}

#[test]
fn key_of_the_forgers_choice_is_refused() {
    let forger = ec_key();
    let forged = |header: Value| es256_text(&forger, &header.to_string(), &claims().to_string());
    let jwk = ec_jwk("ec", &forger);
    check(vec![
        ("his own", forged(ec_header()), SIGNATURE),
        (
            "his own without an id",
            forged(without(ec_header(), "kid")),
            SIGNATURE,
        ),
        (
            "embedded",
            forged(with(ec_header(), "jwk", jwk.clone())),
            SIGNATURE,
        ),
        (
            "at his address",
            forged(with(ec_header(), "jku", "https://evil.example/keys")),
            SIGNATURE,
        ),
        (
            "his certificate's address",
            forged(with(ec_header(), "x5u", "https://evil.example/c")),
            SIGNATURE,
        ),
        (
            "his certificate",
            forged(with(ec_header(), "x5c", json!(["MIIB"]))),
            SIGNATURE,
        ),
        (
            "an unknown id",
            forged(with(ec_header(), "kid", "other")),
            Invalid::UnknownKey,
        ),
        (
            "a path as id",
            forged(with(ec_header(), "kid", "../../../dev/null")),
            Invalid::UnknownKey,
        ),
        (
            "a statement as id",
            forged(with(ec_header(), "kid", "' OR 1=1 --")),
            Invalid::UnknownKey,
        ),
        (
            "an empty id",
            forged(with(ec_header(), "kid", "")),
            Invalid::UnknownKey,
        ),
    ]);
    for id in [json!(["ec"]), json!(1), json!(null), json!({ "a": "ec" })] {
        let token = es256(&with(ec_header(), "kid", id), &claims());
        let refused = verify(&token).expect_err("an id is a text");
        assert!(matches!(refused, Invalid::Malformed(_)), "{refused}");
    }
}

#[test]
fn header_that_changes_the_meaning_is_refused() {
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", json!(["b64"])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("enc", json!("A128GCM")),
    ] {
        let token = es256(&with(ec_header(), name, value), &claims());
        assert_eq!(verify(&token), Err(Invalid::Header(name)));
    }
    for kind in [
        json!("logout+jwt"),
        json!("dpop+jwt"),
        json!("secevent+jwt"),
        json!("application/logout+jwt"),
        json!("JWS"),
        json!("jwt "),
        json!(""),
        json!(1),
        json!(["JWT"]),
        json!(null),
    ] {
        let token = es256(&with(ec_header(), "typ", kind), &claims());
        assert_eq!(verify(&token), Err(Invalid::Header("another `typ`")));
    }
}

#[test]
fn changed_signature_is_refused() {
    let good = es256(&ec_header(), &claims());
    let signature = good.rsplit('.').next().expect("it has parts").to_owned();
    let bytes = URL_SAFE_NO_PAD.decode(&signature).expect("base64url");
    let replaced = |bytes: &[u8]| part(&good, 2, &base64(bytes));
    let (r, s) = bytes.split_at(32);
    check(vec![
        ("none", part(&good, 2, ""), SIGNATURE),
        ("zeros", replaced(&[0; 64]), SIGNATURE),
        ("r alone", replaced(r), SIGNATURE),
        ("s and r", replaced(&[s, r].concat()), SIGNATURE),
        (
            "with a byte more",
            replaced(&[&*bytes, &[0]].concat()),
            SIGNATURE,
        ),
        (
            "as in ASN.1",
            replaced(&[&[0x30, 68, 2, 32], r, &[2, 32], s].concat()),
            SIGNATURE,
        ),
        (
            "for other claims",
            part(&good, 1, &base64(with(claims(), "sub", "eve").to_string())),
            SIGNATURE,
        ),
        (
            "for another header",
            part(&good, 0, &base64(with(ec_header(), "x", 1).to_string())),
            SIGNATURE,
        ),
    ]);
    for text in [
        format!("{signature}="),
        format!("{signature}\n"),
        "+/+/".to_owned(),
        "a".to_owned(),
    ] {
        let refused = verify(&part(&good, 2, &text)).expect_err("it is not base64url");
        assert!(
            matches!(refused, Invalid::Malformed(_)),
            "{text}: {refused}"
        );
    }
}

#[test]
fn token_of_another_form_is_refused() {
    let good = es256(&ec_header(), &claims());
    let json_form = json!({ "payload": "e30", "protected": "e30", "signature": "AA" }).to_string();
    let header = |text: &str| es256_text(&EC, text, &claims().to_string());
    let body = |text: &str| es256_text(&EC, &ec_header().to_string(), text);
    let latin1 = part(
        &good,
        1,
        &base64([b"{\"sub\":\"", &[0xe9][..], b"\"}"].concat()),
    );
    for (name, token) in [
        ("empty", String::new()),
        ("one part", "e30".to_owned()),
        (
            "two parts",
            good.rsplit_once('.').expect("parts").0.to_owned(),
        ),
        ("four parts", format!("{good}.e30")),
        ("five parts, encrypted", format!("{good}.e30.e30")),
        ("dots alone", "..".to_owned()),
        ("a dot before", format!(".{good}")),
        ("a space before", format!(" {good}")),
        ("a line's end", format!("{good}\r\n")),
        ("the JSON form", json_form),
        (
            "padding",
            part(&good, 0, &format!("{}=", base64(ec_header().to_string()))),
        ),
        ("a list as header", header("[]")),
        ("no header", header("")),
        ("no algorithm", header(r#"{"kid":"ec"}"#)),
        (
            "an algorithm that is a list",
            header(r#"{"alg":["ES256"],"kid":"ec"}"#),
        ),
        (
            "two algorithms",
            header(r#"{"alg":"none","alg":"ES256","kid":"ec"}"#),
        ),
        (
            "two ids",
            header(r#"{"alg":"ES256","kid":"ec","k\u0069d":"ec"}"#),
        ),
        (
            "text behind the header",
            header(r#"{"alg":"ES256","kid":"ec"}{}"#),
        ),
        ("a list as claims", body("[]")),
        ("no claims", body("")),
        ("a byte order mark", body(&format!("\u{feff}{}", claims()))),
        ("not UTF-8", latin1),
    ] {
        let refused = verify(&token).expect_err(name);
        assert!(
            matches!(refused, Invalid::Malformed(_)),
            "{name}: {refused}"
        );
    }
}

#[test]
fn token_over_its_bound_is_refused() {
    use super::super::MAX_TOKEN;
    let bare = es256(&ec_header(), &claims()).len();
    let room = (MAX_TOKEN - bare) / 4 * 3;
    let filled = |letters| es256(&ec_header(), &with(claims(), "filler", "x".repeat(letters)));
    let lengths: Vec<_> = (room - 20..room + 20)
        .map(|letters| {
            let token = filled(letters);
            let refused = verify(&token).err();
            let expected = (token.len() > MAX_TOKEN).then_some(Invalid::TooLong);
            assert_eq!(refused, expected, "{}", token.len());
            token.len()
        })
        .collect();
    let beside = |length: usize| MAX_TOKEN.abs_diff(length) <= 1;
    assert!(
        lengths
            .iter()
            .any(|length| *length <= MAX_TOKEN && beside(*length))
    );
    assert!(
        lengths
            .iter()
            .any(|length| *length > MAX_TOKEN && beside(*length))
    );
}

#[test]
fn time_beyond_those_of_the_contract_is_refused() {
    let until = |exp: u64| verify(&es256(&ec_header(), &with(claims(), "exp", exp)));
    let last = (1_u64 << 53) - 1;
    assert!(until(last).is_ok());
    assert_eq!(until(last + 1), Err(Invalid::Claim("exp".into())));
}

#[test]
fn claim_that_is_written_twice_is_refused() {
    let object = claims().to_string();
    let inner = object.strip_suffix('}').expect("an object");
    for added in [
        r#""exp":1900000000"#,
        r#""aud":"chat""#,
        r#""iss":"https://id.example.com/""#,
        r#""sub":"eve""#,
        r#""\u0061ud":"chat""#,
        r#""tenant":"a","tenant":"b""#,
        r#""nested":{"a":1,"a":2}"#,
    ] {
        let token = es256_text(&EC, &ec_header().to_string(), &format!("{inner},{added}}}"));
        let refused = verify(&token).expect_err(added);
        assert!(
            matches!(refused, Invalid::Malformed(_)),
            "{added}: {refused}"
        );
    }
}

#[test]
fn token_out_of_its_time_is_refused() {
    let set = |name: &str, value: Value| es256(&ec_header(), &with(claims(), name, value));
    check(vec![
        ("now", set("exp", json!(NOW)), EXPIRED),
        ("a second ago", set("exp", json!(NOW - 1)), EXPIRED),
        ("long ago", set("exp", json!(0)), EXPIRED),
        (
            "in milliseconds, as too far away",
            set("exp", json!(1.0e16)),
            claim("exp"),
        ),
        (
            "never",
            es256(&ec_header(), &without(claims(), "exp")),
            claim("exp"),
        ),
        ("null", set("exp", json!(null)), claim("exp")),
        (
            "a text",
            set("exp", json!((NOW + 60).to_string())),
            claim("exp"),
        ),
        ("a list", set("exp", json!([NOW + 60])), claim("exp")),
        ("true", set("exp", json!(true)), claim("exp")),
        ("negative", set("exp", json!(-1)), claim("exp")),
        (
            "not before later",
            set("nbf", json!(NOW + 1)),
            Invalid::Early("nbf"),
        ),
        ("not before a text", set("nbf", json!("0")), claim("nbf")),
        ("not before null", set("nbf", json!(null)), claim("nbf")),
        (
            "issued later",
            set("iat", json!(NOW + 1)),
            Invalid::Early("iat"),
        ),
        ("issued a text", set("iat", json!("0")), claim("iat")),
    ]);
    let text = claims()
        .to_string()
        .replace(&(NOW + 60).to_string(), "1e999");
    let infinite = es256_text(&EC, &ec_header().to_string(), &text);
    assert!(matches!(verify(&infinite), Err(Invalid::Malformed(_))));
}

#[test]
fn token_of_another_issuer_or_for_another_audience_is_refused() {
    let set = |name: &str, value: Value| es256(&ec_header(), &with(claims(), name, value));
    for other in [
        json!("https://id.example.com"),
        json!("https://ID.example.com/"),
        json!("https://id.example.com/evil"),
        json!("http://id.example.com/"),
        json!([ISSUER]),
        json!({ "iss": ISSUER }),
        json!(""),
        json!(null),
        json!(1),
    ] {
        assert_eq!(
            verify(&set("iss", other.clone())),
            Err(Invalid::Issuer),
            "{other}"
        );
    }
    assert_eq!(
        verify(&es256(&ec_header(), &without(claims(), "iss"))),
        Err(Invalid::Issuer)
    );
    for other in [
        json!("other"),
        json!("chat2"),
        json!("Chat"),
        json!("chat other"),
        json!(""),
        json!([]),
        json!(["other"]),
        json!([["chat"]]),
        json!(["chat", 1]),
        json!({ "chat": true }),
        json!(true),
        json!(null),
    ] {
        assert_eq!(
            verify(&set("aud", other.clone())),
            Err(Invalid::Audience),
            "{other}"
        );
    }
    assert_eq!(
        verify(&es256(&ec_header(), &without(claims(), "aud"))),
        Err(Invalid::Audience)
    );
}

#[test]
fn token_without_a_usable_principal_is_refused() {
    let set = |value: Value| es256(&ec_header(), &with(claims(), "sub", value));
    check(vec![
        (
            "absent",
            es256(&ec_header(), &without(claims(), "sub")),
            claim("sub"),
        ),
        ("a number", set(json!(7)), claim("sub")),
        ("a list", set(json!(["ada"])), claim("sub")),
        ("null", set(json!(null)), claim("sub")),
    ]);
    for text in ["", "ada\nlevel=error", "\u{1b}[31mada"] {
        assert!(
            matches!(verify(&set(json!(text))), Err(Invalid::Identity(_))),
            "{text:?}"
        );
    }
    let rules = JwtIssuer {
        values: vec!["large".to_owned()],
        ..issuer()
    };
    let large = with(claims(), "large", "x".repeat(5_000));
    verify_by(&es256(&ec_header(), &large), &rules, &keys()).expect("it is within 8 KiB");
}

/// As in GHSA-g6vg-wj8f-48cj, where a cache of keys had the key's id alone.
#[test]
fn key_of_another_issuer_with_the_same_id_does_not_count() {
    let other = ec_key();
    let other_issuer = JwtIssuer {
        issuer: "https://other.example.com/".into(),
        ..issuer()
    };
    let set = json!({ "keys": [ec_jwk("ec", &other)] }).to_string();
    let other_keys = Keys::from_set(set.as_bytes(), &other_issuer.algorithms).expect("it fits");
    let header = ec_header().to_string();
    let others = with(claims(), "iss", "https://other.example.com/").to_string();
    // Each issuer's own tokens.
    verify(&es256(&ec_header(), &claims())).expect("it is valid");
    verify_by(
        &es256_text(&other, &header, &others),
        &other_issuer,
        &other_keys,
    )
    .expect("it is valid");
    // Tokens in the name of one, signed by the other.
    assert_eq!(
        verify(&es256_text(&other, &header, &claims().to_string())),
        Err(SIGNATURE)
    );
    let forged = es256_text(&EC, &header, &others);
    assert_eq!(
        verify_by(&forged, &other_issuer, &other_keys),
        Err(SIGNATURE)
    );
    assert_eq!(verify(&forged), Err(Invalid::Issuer));
}
