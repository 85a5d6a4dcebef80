//! Handshakes that an access key has signed.

use lockgate_tests::{Gateway, Request, Signer, probe_configuration};
use serde_json::json;

use crate::LOCKGATE;

const SECRET: &str = "canary-of-a-secret-4713";

async fn serve() -> Gateway {
    let stage = r#"
authorizer = "signed"

[authorizers.signed]
iam = {}

[access_keys.importer]
id = "AKIDIMPORTER"
secret = "canary-of-a-secret-4713"
allow = ["a/s:CONNECT"]

[access_keys.poster]
id = "AKIDPOSTER"
secret = "canary-of-a-secret-4713"
allow = ["a/s:POST,GET,DELETE", "a/t:*"]

[apis.a.stages.t]
"#;
    LOCKGATE.serve(&probe_configuration(stage, "")).await
}

fn importer() -> Signer {
    Signer::new("AKIDIMPORTER", SECRET)
}

fn host(gateway: &Gateway) -> String {
    format!("localhost:{}", gateway.plain().port())
}

/// A handshake that is signed by header.
fn signed(gateway: &Gateway, signer: &Signer) -> Request {
    let headers = signer.sign("GET", "/s", &host(gateway), b"");
    let request = gateway.ws("/s");
    headers.iter().fold(request, |request, (name, value)| {
        request.header(name, value)
    })
}

/// A handshake that is presigned for a minute.
fn presigned(gateway: &Gateway, signer: &Signer, own: &str) -> Request {
    let query = signer.presign("/s", own, &host(gateway), 60);
    gateway.ws(&format!("/s?{query}"))
}

#[tokio::test]
async fn signed_handshake_is_let_in_and_the_key_is_the_principal() {
    let gateway = serve().await;
    let hashing = Signer {
        declares_hash: true,
        ..importer()
    };
    for request in [
        signed(&gateway, &importer()),
        signed(&gateway, &hashing),
        presigned(&gateway, &importer(), ""),
        presigned(&gateway, &importer(), "A=b%20c&B="),
    ] {
        let mut client = request.open().await;
        let who = client.step(json!({"do": "who"})).await;
        assert_eq!(who["principal"], "importer");
    }
}

#[tokio::test]
async fn signed_handshake_over_http2_is_let_in() {
    let gateway = serve().await;
    let host = format!("localhost:{}", gateway.secure().port());
    let http2 = gateway.http2().await;
    let headers = importer().sign("GET", "/s", &host, b"");
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let mut client = http2.open_with("/s", &headers).await;
    let who = client.step(json!({"do": "who"})).await;
    assert_eq!(who["principal"], "importer");
}

#[tokio::test]
async fn handshake_without_a_valid_signature_is_forbidden_and_the_log_says_why() {
    let gateway = serve().await;
    let late = Signer {
        ahead: -400,
        ..importer()
    };
    for (request, why) in [
        (gateway.ws("/s"), "not signed"),
        (
            signed(&gateway, &importer()).header("Host", "example.com"),
            "not that of this request",
        ),
        (
            presigned(&gateway, &importer(), "A=1").target(|target| target.replace("A=1", "A=2")),
            "not that of this request",
        ),
        (signed(&gateway, &late), "older than it may be"),
        (presigned(&gateway, &late, ""), "older than it may be"),
        (
            signed(&gateway, &Signer::new("AKIDIMPORTER", "wrong")),
            "not that of this request",
        ),
        (
            signed(&gateway, &Signer::new("AKIDOTHER", SECRET)),
            "no access key has this id",
        ),
        (
            signed(&gateway, &Signer::new("AKIDPOSTER", SECRET)),
            "does not allow a/s:CONNECT",
        ),
        (
            signed(&gateway, &importer()).without("x-amz-date"),
            "malformed: no date",
        ),
    ] {
        let refused = request.refused().await;
        assert_eq!(refused.status, 403, "{why}: {refused:?}");
        assert_eq!(refused.text(), r#"{"message":"Forbidden"}"#);
        gateway.log().line(&[why]).await;
    }
    let written = gateway.log().lines().join("\n");
    for secret in ["canary-of", "Signature=", "AWS4-HMAC"] {
        assert!(!written.contains(secret), "{secret}");
    }
}
