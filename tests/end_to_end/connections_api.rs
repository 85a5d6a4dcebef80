//! The connections API: posts, descriptions and closes from outside, signed or by token.

use std::fs;

use lockgate_tests::{Answer, Client, Gateway, Http, Signer, probe_configuration};
use serde_json::{Value, json};

use crate::LOCKGATE;

const SECRET: &str = "canary-of-a-secret-4711";
pub(crate) const TOKEN: &str = "canary-of-a-token-4711";

/// Two stages with the connections API, one without, and one at a domain.
const STAGES: &str = r#"
[apis.a.stages.t]
connections_api = true

[apis.a.stages.closed]

[apis.a.stages.at-domain]
domains = ["chat.example.com", "example.com/v1"]
connections_api = true
"#;

const KEYS: &str = r#"
[access_keys.backend]
id = "AKIDBACKEND"
secret = "canary-of-a-secret-4711"
allow = ["a/s:POST,GET,DELETE", "*/at-domain:*"]

[access_keys.reader]
token = "canary-of-a-token-4711"
allow = ["*/s:GET"]
"#;

/// A gateway with the guest `probe` behind `/s`, whose stage has these lines too.
pub(crate) async fn serve(stage: &str) -> Gateway {
    serve_with("", stage).await
}

/// As [`serve`], with these lines in front.
pub(crate) async fn serve_with(before: &str, stage: &str) -> Gateway {
    let stage = format!("connections_api = true\n{stage}\n{STAGES}\n{KEYS}");
    LOCKGATE
        .serve(&(before.to_owned() + &probe_configuration(&stage, "")))
        .await
}

pub(crate) fn backend() -> Signer {
    Signer::new("AKIDBACKEND", SECRET)
}

/// Sends a signed request.
pub(crate) async fn ask(
    http: &mut Http,
    signer: &Signer,
    method: &str,
    path: &str,
    body: &[u8],
) -> Answer {
    let headers = signer.sign(method, path, http.host_name(), body);
    http.ask(method, path, &headers, body).await
}

/// The path of a connection in the stage `s`.
pub(crate) fn path(id: &str) -> String {
    format!("/s/@connections/{id}")
}

pub(crate) fn bearer(token: &str) -> Vec<(String, String)> {
    vec![("Authorization".to_owned(), format!("Bearer {token}"))]
}

/// Checks an error as AWS's SDKs read it. The text is that of the body's `message`; empty is an empty body.
#[track_caller]
pub(crate) fn check(answer: &Answer, status: u16, error: &str, message: &str) {
    assert_eq!(answer.status, status, "{answer:?} {}", answer.text());
    assert_eq!(answer.header("x-amzn-errortype"), Some(error), "{answer:?}");
    assert!(answer.header("x-amzn-requestid").is_some(), "{answer:?}");
    if message.is_empty() {
        return assert_eq!(answer.text(), "");
    }
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let text = body["message"].as_str().unwrap();
    assert!(text.contains(message), "{text}");
}

pub(crate) async fn connected(gateway: &Gateway, target: &str) -> (Client, String) {
    let mut client = gateway.connect(target).await;
    let id = client.id().await;
    (client, id)
}

#[tokio::test]
async fn signed_posts_on_a_kept_connection_reach_the_client_in_order() {
    let gateway = serve("").await;
    let (mut client, id) = connected(&gateway, "/s").await;
    let mut http = gateway.http().await;
    let hashing = Signer {
        declares_hash: true,
        ..backend()
    };
    for signer in [backend(), hashing] {
        for body in ["hello", "", "κόσμε", "{\"a\": [1]}"] {
            let posted = ask(&mut http, &signer, "POST", &path(&id), body.as_bytes()).await;
            assert_eq!((posted.status, posted.text()), (200, ""), "{posted:?}");
            assert!(!posted.closed);
            client.expect(body).await;
        }
        let posted = ask(&mut http, &signer, "POST", &path(&id), &[0, 255]).await;
        assert_eq!(posted.status, 200);
        assert_eq!(client.binary().await.as_ref(), [0, 255]);
    }
    // As SDKs write the path.
    let escaped = path(&id).replace('@', "%40");
    let headers = bearer(TOKEN);
    assert_eq!(http.ask("GET", &escaped, &headers, b"").await.status, 200);
}

#[tokio::test]
async fn signed_post_over_http2_reaches_the_client() {
    let gateway = serve("").await;
    let mut client = gateway.wss("/s").open().await;
    let id = client.id().await;
    let http2 = gateway.http2().await;
    let host = format!("localhost:{}", gateway.secure().port());
    for body in ["one", "two"] {
        let headers = backend().sign("POST", &path(&id), &host, body.as_bytes());
        let posted = http2
            .call("POST", &path(&id), &headers, body.as_bytes())
            .await;
        assert_eq!(posted.status, 200, "{posted:?}");
        client.expect(body).await;
    }
    let refused = http2.call("GET", &path(&id), &[], b"").await;
    check(
        &refused,
        403,
        "MissingAuthenticationTokenException",
        "Missing Authentication Token",
    );
    // On the connection of a browser, too.
    let mut other = http2.open("/s").await;
    let id = other.id().await;
    let headers = backend().sign("POST", &path(&id), &host, b"three");
    assert_eq!(
        http2
            .call("POST", &path(&id), &headers, b"three")
            .await
            .status,
        200
    );
    other.expect("three").await;
}

#[tokio::test]
async fn every_method_works_over_http3() {
    let stage = format!("connections_api = true\n{STAGES}\n{KEYS}");
    let configuration = probe_configuration(&stage, "");
    let gateway = LOCKGATE.serve_quic(&configuration).await;
    let http3 = gateway.http3().await;
    // On the connection of its client.
    let mut client = http3.open("/s").await;
    let id = client.id().await;
    let host = format!("localhost:{}", gateway.secure().port());
    let sign = |method: &str, body: &[u8]| backend().sign(method, &path(&id), &host, body);
    let large = "x".repeat(100_000);
    for body in ["one", "", &large] {
        let headers = sign("POST", body.as_bytes());
        let body_of = body.as_bytes();
        let posted = http3.call("POST", &path(&id), &headers, body_of).await;
        assert_eq!(posted.status, 200, "{posted:?}");
        client.expect(body).await;
    }
    let described = http3.call("GET", &path(&id), &sign("GET", b""), b"").await;
    assert_eq!(described.status, 200);
    assert!(described.text().contains("connectedAt"), "{described:?}");
    for (headers, status) in [
        (Vec::new(), 403),
        (sign("POST", b"other"), 403),
        (
            [
                sign("POST", b"two"),
                vec![("content-length".to_owned(), "3".to_owned())],
            ]
            .concat(),
            200,
        ),
        (
            [
                sign("POST", b"two"),
                vec![("content-length".to_owned(), "4".to_owned())],
            ]
            .concat(),
            400,
        ),
    ] {
        let answer = http3.call("POST", &path(&id), &headers, b"two").await;
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
    }
    client.expect("two").await;
    let too_large = "x".repeat((128 << 10) + 1);
    let headers = sign("POST", too_large.as_bytes());
    let refused = http3
        .call("POST", &path(&id), &headers, too_large.as_bytes())
        .await;
    check(&refused, 413, "PayloadTooLargeException", "larger than");
    let closed = http3
        .call("DELETE", &path(&id), &sign("DELETE", b""), b"")
        .await;
    assert_eq!(closed.status, 204);
    client
        .expect_close(1000, "Connection Closed Normally")
        .await;
    let gone = http3.call("GET", &path(&id), &sign("GET", b""), b"").await;
    check(&gone, 410, "GoneException", "");
    // A session's connection is one as any other.
    let mut session = http3.session("/s", &[]).await;
    let event = json!([{"do": "event"}]).to_string();
    let id = session.json(&event).await[0]["connection"].clone();
    let target = path(id.as_str().unwrap());
    let headers = backend().sign("POST", &target, &host, b"to a session");
    assert_eq!(
        http3
            .call("POST", &target, &headers, b"to a session")
            .await
            .status,
        200
    );
    assert_eq!(
        session.next().await.unwrap().to_text().unwrap(),
        "to a session"
    );
}

#[tokio::test]
async fn body_over_http3_that_does_not_come_or_breaks_the_protocol_is_given_up() {
    let stage = format!("connections_api = true\n{STAGES}\n{KEYS}");
    let limits = "[limits]\nhandshake_timeout_s = 1\n";
    let configuration = limits.to_owned() + &probe_configuration(&stage, "");
    let gateway = LOCKGATE.serve_quic(&configuration).await;
    let unknown = path("AAAAAAAAAAAAAAAA");
    let host = format!("localhost:{}", gateway.secure().port());
    let headers = backend().sign("POST", &unknown, &host, b"0123456789");
    let http3 = gateway.http3().await;
    let _open = http3.open("/s").await;
    let slow = http3.begin("POST", &unknown, &headers).await;
    let answer = slow.answer().await;
    check(
        &answer,
        408,
        "RequestTimeoutException",
        "did not come in time",
    );
    // Settings within a body.
    let mut broken = http3.begin("POST", &unknown, &headers).await;
    broken.send.write_all(&[4, 0]).await.unwrap();
    assert_eq!(http3.ended().await, 0x105);
}

#[tokio::test]
async fn get_describes_a_connection_as_api_gateway_does() {
    let gateway = serve("").await;
    let request = gateway.ws("/s").header("User-Agent", "a test");
    let mut client = request.open().await;
    let id = client.id().await;
    let mut http = gateway.http().await;
    let got = ask(&mut http, &backend(), "GET", &path(&id), b"").await;
    assert_eq!(got.status, 200);
    assert_eq!(got.header("content-type"), Some("application/json"));
    let described: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(
        described["identity"],
        json!({"sourceIp": "127.0.0.1", "userAgent": "a test"})
    );
    for time in [&described["connectedAt"], &described["lastActiveAt"]] {
        let time = time.as_str().unwrap();
        assert_eq!(
            (time.len(), &time[10..11], &time[23..]),
            (24, "T", "Z"),
            "{time}"
        );
    }
    let (_other, id) = connected(&gateway, "/s").await;
    let got = http.ask("GET", &path(&id), &bearer(TOKEN), b"").await;
    let described: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(described["identity"]["userAgent"], Value::Null);
}

#[tokio::test]
async fn delete_closes_normally_and_disconnect_is_told() {
    let gateway = serve("").await;
    let mut observer = gateway.connect("/s").await;
    observer.observe().await;
    let (mut client, id) = connected(&gateway, "/s").await;
    let mut http = gateway.http().await;
    let deleted = ask(&mut http, &backend(), "DELETE", &path(&id), b"").await;
    assert_eq!((deleted.status, deleted.text()), (204, ""));
    client
        .expect_close(1000, "Connection Closed Normally")
        .await;
    let report = observer.ended(&id).await;
    assert_eq!(
        (report.code, &*report.reason),
        (1000, "Connection Closed Normally")
    );
    for method in ["POST", "GET", "DELETE"] {
        let gone = ask(&mut http, &backend(), method, &path(&id), b"").await;
        check(&gone, 410, "GoneException", "");
    }
}

#[tokio::test]
async fn connection_that_closes_is_gone_for_every_method() {
    let gateway = serve("").await;
    let (_client, id) = connected(&gateway, "/s").await;
    let mut http = gateway.http().await;
    let deleted = ask(&mut http, &backend(), "DELETE", &path(&id), b"").await;
    assert_eq!(deleted.status, 204);
    // The client does not answer the close, since nobody reads it: the connection stays for a while.
    for method in ["GET", "POST", "DELETE"] {
        let gone = ask(&mut http, &backend(), method, &path(&id), b"").await;
        check(&gone, 410, "GoneException", "");
    }
}

#[tokio::test]
async fn request_without_a_valid_key_is_refused_and_its_connection_closed() {
    let gateway = serve("").await;
    let (_client, id) = connected(&gateway, "/s").await;
    let path = path(&id);
    let sign = |signer: &Signer| {
        let host = format!("localhost:{}", gateway.plain().port());
        signer.sign("POST", &path, &host, b"x")
    };
    let of_key = |id: &str, secret: &str| sign(&Signer::new(id, secret));
    let shifted = |ahead| sign(&Signer { ahead, ..backend() });
    let without = |name: &str| {
        let mut headers = sign(&backend());
        headers.retain(|(given, _)| given != name);
        headers
    };
    for (headers, error, message) in [
        (
            vec![],
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        ),
        (
            of_key("AKIDOTHER", SECRET),
            "UnrecognizedClientException",
            "security token",
        ),
        (
            of_key("AKIDBACKEND", "wrong"),
            "InvalidSignatureException",
            "does not match",
        ),
        (shifted(400), "InvalidSignatureException", "not yet current"),
        (shifted(-400), "InvalidSignatureException", "expired"),
        (
            without("x-amz-date"),
            "IncompleteSignatureException",
            "no date",
        ),
        (
            bearer("wrong"),
            "UnrecognizedClientException",
            "security token",
        ),
        (
            bearer(SECRET),
            "UnrecognizedClientException",
            "security token",
        ),
        (
            bearer(TOKEN),
            "AccessDeniedException",
            "User: reader is not authorized to perform: execute-api:ManageConnections on resource: a/s/POST/@connections/{connectionId}",
        ),
    ] {
        let mut http = gateway.http().await;
        let refused = http.ask("POST", &path, &headers, b"x").await;
        check(&refused, 403, error, message);
        assert!(refused.closed, "{refused:?}");
    }
    // The hash is right, and the signature is of another body.
    let mut http = gateway.http().await;
    let headers = sign(&backend());
    let refused = http.ask("POST", &path, &headers, b"y").await;
    check(&refused, 403, "InvalidSignatureException", "does not match");
}

#[tokio::test]
async fn path_without_a_served_stage_is_forbidden() {
    let gateway = serve("").await;
    let (_client, id) = connected(&gateway, "/s").await;
    for path in [
        format!("/closed/@connections/{id}"),
        format!("/S/@connections/{id}"),
        format!("/@connections/{id}"),
        format!("/a/s/@connections/{id}"),
    ] {
        let mut http = gateway.http().await;
        let refused = ask(&mut http, &backend(), "POST", &path, b"x").await;
        check(&refused, 403, "ForbiddenException", "Forbidden");
    }
    let mut http = gateway.http().await;
    let refused = ask(&mut http, &backend(), "PUT", &path(&id), b"x").await;
    check(
        &refused,
        403,
        "MissingAuthenticationTokenException",
        "Missing Authentication Token",
    );
}

#[tokio::test]
async fn foreign_id_is_answered_exactly_like_an_unknown_one() {
    let gateway = serve("").await;
    let (mut foreign, foreign_id) = connected(&gateway, "/t").await;
    let mut http = gateway.http().await;
    for method in ["POST", "GET", "DELETE"] {
        let mut answers = Vec::new();
        for id in [&*foreign_id, "AAAAAAAAAAAAAAAA"] {
            let mut answer = ask(&mut http, &backend(), method, &path(id), b"").await;
            check(&answer, 410, "GoneException", "");
            let varies = |name: &str| name == "x-amzn-requestid" || name == "date";
            answer.headers.retain(|(name, _)| !varies(name));
            answers.push((answer.status, answer.headers, answer.body));
        }
        assert_eq!(answers[0], answers[1], "{method}");
    }
    foreign.step(json!({"do": "event"})).await;
    let malformed = ask(&mut http, &backend(), "POST", &path("short%3D"), b"").await;
    check(
        &malformed,
        400,
        "BadRequestException",
        "Invalid connectionId: short=",
    );
}

#[tokio::test]
async fn stage_at_a_domain_is_asked_below_its_base_path() {
    let gateway = serve("").await;
    let target = gateway.ws("/v1").header("Host", "example.com");
    let mut client = target.open().await;
    let id = client.id().await;
    for (host, path) in [
        ("example.com", format!("/v1/@connections/{id}")),
        ("chat.example.com:443", format!("/@connections/{id}")),
    ] {
        let mut http = gateway.http().await.host(host);
        let posted = ask(&mut http, &backend(), "POST", &path, b"hi").await;
        assert_eq!(posted.status, 200, "{posted:?}");
        client.expect("hi").await;
    }
    let mut http = gateway.http().await.host("example.com");
    let refused = ask(
        &mut http,
        &backend(),
        "POST",
        &format!("/s/@connections/{id}"),
        b"",
    )
    .await;
    check(&refused, 403, "ForbiddenException", "Forbidden");
}

#[tokio::test]
async fn reload_changes_who_has_access() {
    let gateway = serve("").await;
    let (mut client, id) = connected(&gateway, "/s").await;
    let mut http = gateway.http().await;
    let posted = ask(&mut http, &backend(), "POST", &path(&id), b"1").await;
    assert_eq!(posted.status, 200);
    client.expect("1").await;

    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    let rotated = text
        .replace(SECRET, "another-secret-4712")
        .replace("*/s:GET", "*/s:POST");
    fs::write(&file, rotated).unwrap();
    let (status, said) = gateway.post("/reload", "").await;
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("access_keys: changed"), "{said}");
    let refused = ask(&mut http, &backend(), "POST", &path(&id), b"2").await;
    check(&refused, 403, "InvalidSignatureException", "does not match");
    let mut http = gateway.http().await;
    let rotated = Signer::new("AKIDBACKEND", "another-secret-4712");
    let posted = ask(&mut http, &rotated, "POST", &path(&id), b"3").await;
    assert_eq!(posted.status, 200);
    client.expect("3").await;
    let posted = http.ask("POST", &path(&id), &bearer(TOKEN), b"4").await;
    assert_eq!(posted.status, 200);
    client.expect("4").await;
}

#[tokio::test]
async fn secrets_and_tokens_are_in_no_log_answer_or_metric() {
    let gateway = serve("").await;
    let (_client, id) = connected(&gateway, "/s").await;
    let mut said = String::new();
    for (signer, token) in [
        (backend(), TOKEN),
        (
            Signer::new("AKIDBACKEND", "wrong-canary-4711"),
            "wrong-canary-4711",
        ),
    ] {
        let mut http = gateway.http().await;
        let answer = http.ask("GET", &path(&id), &bearer(token), b"").await;
        said.push_str(answer.text());
        let mut http = gateway.http().await;
        let answer = ask(&mut http, &signer, "POST", &path(&id), b"").await;
        said.push_str(answer.text());
    }
    said.push_str(&gateway.page("/metrics").await.1);
    let refused = "no access key has this id or token";
    gateway.log().line(&[refused]).await;
    said.push_str(&gateway.log().lines().join("\n"));
    said.push_str(&gateway.output().lines().join("\n"));
    assert!(
        said.contains("no access key has this id or token"),
        "{said}"
    );
    for secret in ["canary-of", "canary-4711", "Signature=", "AWS4-HMAC"] {
        assert!(!said.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn management_listener_serves_every_stage_without_a_key() {
    let gateway = serve("").await;
    let target = gateway.ws("/v1").header("Host", "example.com");
    let mut at_domain = target.open().await;
    let domain_id = at_domain.id().await;
    let mut closed = gateway.connect("/closed").await;
    let closed_id = closed.id().await;
    let host = "Host: localhost\r\n";
    for (path, at_closed) in [
        (format!("/a/at-domain/@connections/{domain_id}"), false),
        (format!("/closed/@connections/{closed_id}"), true),
        (format!("/a/closed/@connections/{closed_id}"), true),
    ] {
        let (status, said) = gateway.request(&format!("POST {path}"), host, "hi").await;
        assert_eq!((status, &*said), (200, ""), "{path}");
        let client = if at_closed {
            &mut closed
        } else {
            &mut at_domain
        };
        client.expect("hi").await;
        let (status, said) = gateway.ask("GET", &path, host).await;
        assert_eq!(status, 200, "{said}");
        assert!(said.contains("connectedAt"), "{said}");
    }
    let path = format!("/closed/@connections/{closed_id}");
    // A web page gets nowhere.
    let of_page = "Host: localhost\r\nOrigin: https://evil.example\r\n";
    assert_eq!(
        gateway
            .request(&format!("POST {path}"), of_page, "hi")
            .await
            .0,
        403
    );
    let rebound = "Host: evil.example\r\n";
    assert_eq!(
        gateway
            .request(&format!("POST {path}"), rebound, "hi")
            .await
            .0,
        403
    );
    let (status, _) = gateway.ask("DELETE", &path, host).await;
    assert_eq!(status, 204);
    closed
        .expect_close(1000, "Connection Closed Normally")
        .await;
    let unknown = gateway
        .ask("GET", "/nowhere/@connections/AAAAAAAAAAAAAAAA", host)
        .await;
    assert_eq!(unknown.0, 403);
    assert_eq!(gateway.ask("GET", "/nowhere", host).await.0, 404);
}
