//! Connecting: the upgrade, the decision of `$connect`, and the request that the handler sees.

use lockgate_tests::Answer;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{LOCKGATE, echo, probe, probe_configuration, probe_with};

/// The target at which the probe takes these steps in `$connect`.
pub(crate) fn connecting(steps: &Value) -> String {
    let mut target = String::from("/s?do=");
    for byte in steps.to_string().bytes() {
        target.push_str(&format!("%{byte:02x}"));
    }
    target
}

#[track_caller]
pub(crate) fn check_refusal(answer: &Answer, status: u16, message: &str) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    assert_eq!(
        (answer.status, &body),
        (status, &json!({"message": message})),
        "{answer:?}"
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(
        answer
            .header("connection")
            .unwrap()
            .split(", ")
            .any(|word| word == "close")
    );
    assert!(answer.closed);
}

#[tokio::test]
pub(crate) async fn text_is_echoed() {
    let gateway = echo().await;
    for request in [gateway.ws("/s"), gateway.wss("/s")] {
        let mut client = request.open().await;
        client.send("hello").await;
        client.expect("hello").await;
    }
}

#[tokio::test]
async fn upgrade_is_answered_as_rfc_6455_requires() {
    let gateway = echo().await;
    let client = gateway
        .ws("/s")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header(
            "Sec-WebSocket-Extensions",
            "permessage-deflate; client_max_window_bits",
        )
        .header("Sec-WebSocket-Protocol", "a, b")
        .open()
        .await;
    let answer = client.answer();
    let accept = derive_accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(answer.header("sec-websocket-accept"), Some(accept.as_str()));
    assert!(
        answer
            .header("upgrade")
            .unwrap()
            .eq_ignore_ascii_case("websocket")
    );
    assert!(
        answer
            .header("connection")
            .unwrap()
            .eq_ignore_ascii_case("upgrade")
    );
    // The gateway offers no compression, and chooses no subprotocol by itself.
    assert_eq!(answer.header("sec-websocket-extensions"), None);
    assert_eq!(answer.header("sec-websocket-protocol"), None);
}

#[tokio::test]
async fn handler_chooses_the_subprotocol_and_adds_headers() {
    let gateway = probe().await;
    let steps = json!([{"do": "accept", "subprotocol": "b", "headers": [["x-seat", "12"]]}]);
    let request = gateway
        .ws(&connecting(&steps))
        .header("Sec-WebSocket-Protocol", "a, b,c");
    let mut client = request.open().await;
    assert_eq!(client.answer().header("sec-websocket-protocol"), Some("b"));
    assert_eq!(client.answer().header("x-seat"), Some("12"));
    assert_eq!(client.step(json!({"do": "info"})).await["subprotocol"], "b");
}

#[tokio::test]
async fn header_of_the_gateway_in_an_answer_refuses_with_502() {
    let gateway = probe().await;
    for (name, value) in [
        ("connection", "close"),
        ("Upgrade", "h2c"),
        ("content-length", "1"),
        ("transfer-encoding", "chunked"),
        ("Sec-WebSocket-Accept", "x"),
        ("sec-websocket-protocol", "x"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("", "x"),
        ("two words", "x"),
        ("x", "a\r\nb: c"),
    ] {
        let steps = json!([{"do": "accept", "headers": [[name, value]]}]);
        let refused = gateway.ws(&connecting(&steps)).refused().await;
        check_refusal(&refused, 502, "Bad Gateway");
    }
}

#[tokio::test]
async fn more_headers_than_a_handler_may_set_refuse_with_502() {
    let gateway = probe().await;
    let accepting =
        |count: usize| connecting(&json!([{"do": "accept", "headers": vec![["a", ""]; count]}]));
    gateway.connect(&accepting(64)).await;
    let refused = gateway.ws(&accepting(65)).refused().await;
    check_refusal(&refused, 502, "Bad Gateway");
    gateway.log().line(&["65 headers, and it may set 64"]).await;
}

#[tokio::test]
async fn subprotocol_that_was_not_offered_refuses_with_502() {
    let gateway = probe().await;
    let steps = json!([{"do": "accept", "subprotocol": "d"}]);
    let request = gateway
        .ws(&connecting(&steps))
        .header("Sec-WebSocket-Protocol", "a, b");
    check_refusal(&request.refused().await, 502, "Bad Gateway");
}

#[tokio::test]
async fn handler_sees_the_request() {
    let gateway = probe().await;
    let target = connecting(&json!([{"do": "handshake"}, {"do": "event"}, {"do": "context"}]));
    let mut client = gateway
        .ws(&format!("{target}&tell&room=a%20b+c&room=%E2%82%AC&=x"))
        .header("X-One", "1")
        .and_header("X-Many", "a")
        .and_header("x-many", "b")
        .header("Sec-WebSocket-Protocol", "second, first")
        .header("User-Agent", "a test")
        .open()
        .await;
    let seen = client.json().await;

    let query: Vec<(String, String)> = serde_json::from_value(seen[0]["query"].clone()).unwrap();
    let names: Vec<_> = query
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        names[1..],
        [("tell", ""), ("room", "a b c"), ("room", "€"), ("", "x")]
    );
    let headers: Vec<(String, String)> =
        serde_json::from_value(seen[0]["headers"].clone()).unwrap();
    let of = |name: &str| {
        let values = headers.iter().filter(|(given, _)| given == name);
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(of("x-one"), ["1"]);
    assert_eq!(of("x-many"), ["a", "b"]);
    assert_eq!(of("user-agent"), ["a test"]);
    assert_eq!(seen[0]["subprotocols"], json!(["second", "first"]));
    assert_eq!(seen[0]["source_ip"], "127.0.0.1");
    assert_eq!(seen[0]["domain_name"], "localhost");
    assert_eq!(seen[0]["path"], "/s");
    assert_eq!(seen[0]["http_version"], "1.1");
    assert_eq!(seen[0]["secure"], false);
    assert_eq!(seen[0]["certificate_subject"], Value::Null);
    assert_eq!(seen[1]["route"], "$connect");
    assert_eq!(seen[2]["api"], "a");
    assert_eq!(seen[2]["stage"], "s");
    assert_eq!(seen[2]["message"], Value::Null);
    assert_eq!(seen[1]["connection"], client.id().await);
}

#[tokio::test]
async fn handler_refuses_with_any_error_status() {
    let gateway = probe().await;
    for (status, phrase) in [
        (301, "Moved Permanently"),
        (400, "Bad Request"),
        (401, "Unauthorized"),
        (402, "Payment Required"),
        (403, "Forbidden"),
        (404, "Not Found"),
        (409, "Conflict"),
        (429, "Too Many Requests"),
        (451, "Unavailable For Legal Reasons"),
        (500, "Internal Server Error"),
        (501, "Not Implemented"),
        (503, "Service Unavailable"),
    ] {
        let refused = gateway
            .ws(&connecting(&json!([{"do": "refuse", "status": status}])))
            .refused()
            .await;
        check_refusal(&refused, status, phrase);
        let steps = json!([{"do": "refuse", "status": status, "message": "not \"you\""}]);
        let refused = gateway.ws(&connecting(&steps)).refused().await;
        check_refusal(&refused, status, "not \"you\"");
    }
    let steps = json!([{"do": "refuse", "status": 403, "message": "over TLS"}]);
    check_refusal(
        &gateway.wss(&connecting(&steps)).refused().await,
        403,
        "over TLS",
    );
}

#[tokio::test]
async fn refusal_without_an_error_status_refuses_with_502() {
    let gateway = probe().await;
    for status in [0, 100, 101, 200, 204, 299, 600, 1000, 65_535] {
        let refused = gateway
            .ws(&connecting(&json!([{"do": "refuse", "status": status}])))
            .refused()
            .await;
        check_refusal(&refused, 502, "Bad Gateway");
    }
}

#[tokio::test]
async fn failing_handler_refuses_with_502_and_slow_one_with_504() {
    let gateway = probe_with(
        "",
        "limits = { deadline_ms = 2000, cpu_ms = 1000, memory_mib = 16 }",
    )
    .await;
    for (step, status, message) in [
        (json!({"do": "trap"}), 502, "Bad Gateway"),
        (json!({"do": "recurse"}), 502, "Bad Gateway"),
        (json!({"do": "hog"}), 502, "Bad Gateway"),
        (
            json!({"do": "fail", "reason": "no luck"}),
            500,
            "Internal Server Error",
        ),
        (json!({"do": "spin"}), 504, "Gateway Timeout"),
        (json!({"do": "sleep", "ms": 60_000}), 504, "Gateway Timeout"),
    ] {
        check_refusal(
            &gateway.ws(&connecting(&json!([step]))).refused().await,
            status,
            message,
        );
    }
    // Other clients are unharmed.
    gateway.connect("/s").await;
}

#[tokio::test]
async fn message_sent_in_connect_arrives_first() {
    let gateway = probe().await;
    let steps = json!([
        {"do": "send", "text": "welcome"}, {"do": "send", "bytes": [1, 2]}, {"do": "join", "group": "g"},
        {"do": "set", "name": "seat", "value": "12"}, {"do": "count", "group": "g"},
    ]);
    for request in [
        gateway.ws(&connecting(&steps)),
        gateway.wss(&connecting(&steps)),
    ] {
        let mut client = request.open().await;
        client.expect("welcome").await;
        assert_eq!(client.binary().await.as_ref(), [1, 2]);
        assert_eq!(
            client.step(json!({"do": "attributes"})).await,
            json!([["seat", "12"]])
        );
        assert_eq!(client.step(json!({"do": "count", "group": "g"})).await, 1);
        client.close(1000, "").await;
    }
}

#[tokio::test]
async fn refused_client_leaves_nothing_behind() {
    let gateway = probe().await;
    let mut observer = gateway.connect("/s").await;
    observer.observe().await;
    let steps = json!([
        {"do": "join", "group": "g"}, {"do": "send", "text": "never"}, {"do": "set", "name": "a", "value": "b"},
        {"do": "refuse", "status": 403},
    ]);
    gateway.ws(&connecting(&steps)).refused().await;
    assert_eq!(observer.step(json!({"do": "count", "group": "g"})).await, 0);

    // `$disconnect` runs only for clients that were let in: the first report is of the next client.
    let mut next = gateway.connect("/s").await;
    let id = next.id().await;
    next.close(1000, "").await;
    assert_eq!(observer.json().await["ended"], id);
}

#[tokio::test]
async fn connection_exists_for_others_only_after_its_101() {
    let gateway = probe().await;
    let mut observer = gateway.connect("/s").await;
    observer.observe().await;
    // While `$connect` decides, other clients do not see the client in a group.
    let steps = json!([{"do": "join", "group": "g"}, {"do": "publish", "group": "observers", "text": "deciding"},
        {"do": "sleep", "ms": 1_000}]);
    let target = connecting(&steps);
    let request = gateway.ws(&target);
    let looking = async {
        observer.expect("deciding").await;
        observer.step(json!({"do": "count", "group": "g"})).await
    };
    let (mut client, count) = tokio::join!(request.open(), looking);
    assert_eq!(count, 0);
    client.id().await;
    assert_eq!(observer.step(json!({"do": "count", "group": "g"})).await, 1);
}

#[tokio::test]
async fn stage_is_found_by_host_and_base_path() {
    let stages = r#"
[apis.b.stages.inner]
domains = ["chat.example.com", "example.com/v1"]

[apis.b.routes."$default"]
integration = "probe"
two_way = true
"#;
    let gateway = LOCKGATE
        .serve(&(probe_configuration("", "") + stages))
        .await;
    for (host, target, api) in [
        ("chat.example.com", "/", "b"),
        ("CHAT.example.com", "/", "b"),
        ("chat.example.com:8443", "/", "b"),
        ("example.com", "/v1", "b"),
        ("localhost", "/s", "a"),
        ("elsewhere.example", "/s", "a"),
    ] {
        let mut client = gateway.ws(target).header("Host", host).open().await;
        assert_eq!(
            client.step(json!({"do": "context"})).await["api"],
            api,
            "{host}{target}"
        );
        let domain = client.step(json!({"do": "info"})).await["domain_name"].clone();
        let domain = domain.as_str().unwrap();
        assert!(
            domain.eq_ignore_ascii_case(host.split(':').next().unwrap()),
            "{domain}"
        );
    }
    for (host, target) in [
        ("example.com", "/"),
        ("example.com", "/v2"),
        ("example.com", "/v11"),
        ("localhost", "/inner"),
    ] {
        let refused = gateway.ws(target).header("Host", host).refused().await;
        check_refusal(&refused, UNKNOWN_STAGE, "Forbidden");
    }
}

/// The status that API Gateway answers where nothing is deployed.
const UNKNOWN_STAGE: u16 = 403;

#[tokio::test]
async fn path_without_a_stage_is_refused() {
    let gateway = echo().await;
    for target in ["/", "/t", "/S", "/ss", "//s", "/../s", "/%73", "/?/s"] {
        let refused = gateway.ws(target).refused().await;
        check_refusal(&refused, UNKNOWN_STAGE, "Forbidden");
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_kept_out() {
    let gateway = echo().await;
    let address = gateway.plain();
    let port = address.port();
    for origin in [
        format!("http://localhost:{port}"),
        format!("http://LOCALHOST:{port}"),
    ] {
        gateway.ws("/s").header("Origin", &origin).open().await;
    }
    let secure = gateway.secure().port();
    gateway
        .wss("/s")
        .header("Origin", &format!("https://localhost:{secure}"))
        .open()
        .await;
    let other_ports = [
        format!("http://localhost:{}", port ^ 1),
        format!("http://localhost:{port}0"),
    ];
    let foreign = [
        "http://localhost",
        "https://example.com",
        "http://localhost.example.com",
        "http://xlocalhost",
        "null",
        "",
        "*",
        "localhost",
        "//localhost",
        "file://",
        "http://",
        "http://localhost:99999",
        "http://localhost:",
        "ä",
        "http://localhost@evil.example",
        "http://evil.example/localhost",
        "javascript:alert(1)",
    ];
    for origin in foreign
        .into_iter()
        .chain(other_ports.iter().map(String::as_str))
    {
        let refused = gateway.ws("/s").header("Origin", origin).refused().await;
        assert_eq!(refused.status, 403, "origin {origin:?}");
        check_refusal(&refused, 403, "Forbidden");
    }
}

#[tokio::test]
async fn origins_on_the_list_get_in() {
    let gateway = crate::echo_with(r#"origins = ["https://app.example.com"]"#).await;
    gateway
        .ws("/s")
        .header("Origin", "https://app.example.com")
        .open()
        .await;
    gateway
        .ws("/s")
        .header("Origin", "https://app.example.com:443")
        .open()
        .await;
    // This list does not have "self".
    let own = format!("http://localhost:{}", gateway.plain().port());
    for origin in [
        own.as_str(),
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://example.com",
    ] {
        check_refusal(
            &gateway.ws("/s").header("Origin", origin).refused().await,
            403,
            "Forbidden",
        );
    }
    gateway.ws("/s").open().await;
}

#[tokio::test]
async fn every_origin_gets_in_where_the_stage_allows_any() {
    let gateway = crate::echo_with("allow_any_origin = true").await;
    for origin in ["https://example.com", "http://localhost", "null"] {
        gateway.ws("/s").header("Origin", origin).open().await;
    }
}
