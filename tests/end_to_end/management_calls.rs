//! Calls at the management listener where it asks for a token: access keys in a token's place, and the access log's lines.

use lockgate_tests::{Gateway, Signer};
use serde_json::{Value, json};

use crate::connections_api::{ask, bearer, check};
use crate::{LOCKGATE, probe_configuration};

const TOKEN: &str = "canary-0123456789abcdef0123456789abcdef";
const SECRET: &str = "canary-of-a-secret-4711";

/// A gateway with the stages `s` and `t`, neither of which has a connections API of its own.
async fn serve() -> Gateway {
    let probe = probe_configuration("", "");
    LOCKGATE
        .serve_as_written(&format!(
            r#"
listeners = [{{ address = "127.0.0.1:0" }}]
log = {{ level = "info,lockgate=debug", format = "json" }}
management = {{ address = "127.0.0.1:0", tokens = ["{TOKEN}"] }}

[access_keys.backend]
id = "AKIDBACKEND"
secret = "{SECRET}"
allow = ["a/s:POST,GET"]

[access_keys.cron]
token = "canary-of-a-token-4711"
allow = ["a/s:POST"]

[apis.a.stages.t]
{probe}"#
        ))
        .await
}

fn backend() -> Signer {
    Signer::new("AKIDBACKEND", SECRET)
}

/// The lines of calls in the log, each as its fields.
fn calls(gateway: &Gateway) -> Vec<Value> {
    let lines = gateway.log().lines();
    let lines = lines
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines
        .filter(|line: &Value| line["message"] == "call")
        .collect()
}

#[tokio::test]
async fn access_key_takes_the_place_of_a_token_for_the_connections_that_it_may_reach() {
    let gateway = serve().await;
    let mut client = gateway.connect("/s").await;
    let id = client.id().await;
    let mut at_t = gateway.connect("/t").await;
    let other = at_t.id().await;
    let mut http = gateway.http_to(gateway.management()).await;
    for path in [
        format!("/s/@connections/{id}"),
        format!("/a/s/@connections/{id}"),
    ] {
        let posted = ask(&mut http, &backend(), "POST", &path, b"hi").await;
        assert_eq!((posted.status, posted.text()), (200, ""), "{path}");
        client.expect("hi").await;
    }
    let path = format!("/s/@connections/{id}");
    let shown = ask(&mut http, &backend(), "GET", &path, b"").await;
    assert_eq!(shown.status, 200, "{}", shown.text());
    let presigned = backend().presign(&path, "", http.host_name(), 60);
    let shown = http
        .ask("GET", &format!("{path}?{presigned}"), &[], b"")
        .await;
    assert_eq!(shown.status, 200, "{}", shown.text());
    let key = bearer("canary-of-a-token-4711");
    assert_eq!(http.ask("POST", &path, &key, b"by token").await.status, 200);
    client.expect("by token").await;
    // Policies hold: method and stage.
    let denied = ask(&mut http, &backend(), "DELETE", &path, b"").await;
    check(
        &denied,
        403,
        "AccessDeniedException",
        "backend is not authorized",
    );
    let elsewhere = format!("/t/@connections/{other}");
    let denied = ask(&mut http, &backend(), "POST", &elsewhere, b"x").await;
    check(&denied, 403, "AccessDeniedException", "a/t/POST");
    let denied = http.ask("GET", &path, &key, b"").await;
    check(&denied, 403, "AccessDeniedException", "cron is not");
    // The token of management reaches all.
    let closed = http.ask("DELETE", &elsewhere, &bearer(TOKEN), b"").await;
    assert_eq!(closed.status, 204);
    // An access key is none for the admin API.
    for path in ["/connections", "/plugins", "/metrics", "/openapi.json"] {
        let refused = ask(&mut http, &backend(), "GET", path, b"").await;
        assert_eq!(refused.status, 401, "{path}");
        assert_eq!(http.ask("GET", path, &key, b"").await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn forged_signatures_at_the_management_listener_are_refused_and_soon_unread() {
    let gateway = serve().await;
    let id = gateway.connect("/s").await.id().await;
    let path = format!("/s/@connections/{id}");
    let mut http = gateway.http_to(gateway.management()).await;
    let late = Signer {
        ahead: -600,
        ..backend()
    };
    let answer = ask(&mut http, &late, "GET", &path, b"").await;
    check(&answer, 403, "InvalidSignatureException", "expired");
    let unsigned = http.ask("GET", &path, &[], b"").await;
    assert_eq!(unsigned.status, 401);
    assert_eq!(unsigned.header("www-authenticate"), Some("Bearer"));
    let wrong = Signer::new("AKIDBACKEND", "another-canary-of-a-secret");
    for (signer, error) in [
        (wrong.clone(), "InvalidSignatureException"),
        (
            Signer::new("AKIDOTHER", SECRET),
            "UnrecognizedClientException",
        ),
    ] {
        let answer = ask(&mut http, &signer, "GET", &path, b"").await;
        let message = match error {
            "InvalidSignatureException" => "does not match",
            _ => "token included in the request is invalid",
        };
        check(&answer, 403, error, message);
    }
    for _ in 2..10 {
        ask(&mut http, &wrong, "GET", &path, b"").await;
    }
    let answer = ask(&mut http, &backend(), "GET", &path, b"").await;
    assert_eq!(answer.status, 429);
}

#[tokio::test]
async fn every_call_has_a_line_in_the_access_log_and_no_body() {
    let gateway = serve().await;
    let mut client = gateway.connect("/s").await;
    let id = client.id().await;
    let path = format!("/s/@connections/{id}");
    let mut http = gateway.http_to(gateway.management()).await;
    ask(&mut http, &backend(), "POST", &path, b"canary of a body").await;
    client.expect("canary of a body").await;
    ask(&mut http, &backend(), "DELETE", &path, b"").await;
    http.ask(
        "GET",
        &format!("/s/@connections/{}", "A".repeat(16)),
        &bearer(TOKEN),
        b"",
    )
    .await;
    http.ask("GET", "/connections?principal=canary", &bearer(TOKEN), b"")
        .await;
    http.ask("GET", "/metrics", &bearer(TOKEN), b"").await;
    let mut headers = bearer(TOKEN);
    headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    let close = json!({"connections": {"id": id}, "code": 4000, "reason": "bye"}).to_string();
    http.ask("POST", "/connections/close", &headers, close.as_bytes())
        .await;
    gateway
        .log()
        .line(&["\"call\"", "/connections/close"])
        .await;
    let calls = calls(&gateway);
    let shown: Vec<_> = calls
        .iter()
        .map(|call| {
            let text = |name: &str| call[name].as_str().unwrap_or("-").to_owned();
            assert_eq!(text("client"), "127.0.0.1", "{call}");
            assert!(
                call["took_ms"].is_number() && call["request_id"].is_string(),
                "{call}"
            );
            let (by, stage, method, path) =
                (text("by"), text("stage"), text("method"), text("path"));
            let sizes = [&call["bytes_in"], &call["bytes_out"]].map(Value::is_number);
            (
                format!("{by} {method} {stage} {path} {}", call["status"]),
                sizes,
            )
        })
        .collect();
    let key = "access_keys.backend";
    let token = "management.tokens[0]";
    assert_eq!(
        shown,
        [
            (format!("{key} POST a/s - 200"), [true, false]),
            (format!("{key} DELETE a/s - 403"), [false, false]),
            (format!("{token} GET a/s - 410"), [false, false]),
            (format!("{token} GET - /connections 200"), [true, true]),
            (
                format!("{token} POST - /connections/close 200"),
                [true, true]
            ),
        ]
    );
    assert_eq!(calls[0]["connection"], Value::from(id.as_str()));
    assert_eq!(calls[0]["bytes_in"], 16);
    assert!(
        calls[1]["refused"]
            .as_str()
            .unwrap()
            .contains("does not allow")
    );
    let log = gateway.log().lines().join("\n");
    assert!(!log.contains("canary"), "{log}");
}
