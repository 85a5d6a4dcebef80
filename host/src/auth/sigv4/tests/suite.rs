//! AWS's own test suite (`tests/sigv4`).

use serde::Deserialize;

use super::{Recorded, SigningKey};

#[derive(Deserialize)]
struct Case {
    name: String,
    secret: String,
    request: String,
}

/// The cases that are refused on purpose, each with the reason.
const REFUSED: [(&str, &str); 11] = [
    ("-normalized", "the signer normalised the path"),
    ("get-slash", "the signer normalised the path"),
    ("get-space", "a raw space in the target is no HTTP"),
    ("get-relative", "the signer normalised the path"),
    ("get-utf8", "raw UTF-8 in the target is no HTTP"),
    ("get-vanilla-utf8-query", "raw UTF-8 in the target is no HTTP"),
    ("get-header-value-multiline", "a folded header is no HTTP any more"),
    ("post-sts-header-after", "the session token is not signed"),
    ("", ""),
    ("", ""),
    ("", ""),
];

#[test]
fn requests_of_the_suite_of_aws_verify() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../../../../tests/sigv4/aws-suite.json")).unwrap();
    let mut verified = 0;
    for case in &cases {
        let request = Recorded::parse(case.request.as_bytes());
        let key = SigningKey::new(&case.secret);
        let result = request.map(|request| request.verify("service", &key));
        println!("{}: {:?}", case.name, result);
        if result == Some(Ok(())) {
            verified += 1;
        }
    }
    println!("{verified} of {}", cases.len());
}
