//! Authorizers: who may connect, what handlers learn of the client, and what clients learn of a refusal.

use std::fs;

use lockgate_tests::Gateway;
use serde_json::{Value, json};

use crate::connect::{check_refusal, connecting};
use crate::metrics::expect;
use crate::{LOCKGATE, probe_configuration};

/// The probe at `/s` behind the authorizer `door`, with these lines in the authorizer's table and in the plugin's.
pub(crate) fn behind_a_door(authorizer: &str, plugin: &str) -> String {
    let probe = probe_configuration("authorizer = \"door\"", "");
    format!(
        r#"{probe}

[authorizers.door]
plugin = "doorman"
{authorizer}

[plugins.doorman]
component = "{{doorman}}"
{plugin}
"#
    )
}

async fn door() -> Gateway {
    LOCKGATE.serve(&behind_a_door("", "")).await
}

/// The target at which the doorman says this.
pub(crate) fn saying(say: &Value) -> String {
    connecting(say).replace("?do=", "?say=")
}

/// The target at which the doorman says this and the probe takes these steps in `$connect`.
fn saying_and_connecting(say: &Value, steps: &Value) -> String {
    let steps = connecting(steps).replace("/s?", "&");
    saying(say) + &steps
}

async fn asked(gateway: &Gateway, times: usize) {
    if times > 0 {
        let parts = ["asked about", "doorman"];
        gateway.log().nth_line(times - 1, &parts).await;
    }
    let lines = gateway.log().lines();
    let lines = lines.iter().filter(|line| line.contains("asked about"));
    assert_eq!(lines.count(), times);
}

#[tokio::test]
pub(crate) async fn authorizer_lets_in_and_every_event_knows_the_client() {
    let gateway = door().await;
    let say = json!({"principal": "ada", "values": {"plan": "gold", "age": 36.5, "staff": true}});
    let who = json!({"principal": "ada", "values": {"age": 36.5, "plan": "gold", "staff": true}});
    let mut watcher = gateway.connect(&saying(&json!({"principal": "eve"}))).await;
    watcher.observe().await;
    let farewell = json!([{"do": "who"}]).to_string();
    let steps = json!([{"do": "who"}, {"do": "set", "name": "farewell", "value": farewell}]);
    let target = saying_and_connecting(&say, &steps) + "&tell=";
    let mut client = gateway.connect(&target).await;
    assert_eq!(client.json().await, json!([who, "ok"]));
    assert_eq!(client.step(json!({"do": "who"})).await, who);
    assert_eq!(watcher.step(json!({"do": "who"})).await["principal"], "eve");
    let id = client.id().await;
    client.close(1000, "").await;
    assert_eq!(watcher.ended(&id).await.farewell, json!([who]));
    gateway.log().line(&["\"connected\"", "ada", &id]).await;
    gateway.log().line(&["\"disconnected\"", "ada", &id]).await;
}

#[tokio::test]
async fn authorizer_sees_the_request_and_its_circumstances() {
    let gateway = door().await;
    let say = json!({"circumstances": true});
    let request = gateway.ws(&saying(&say)).header("User-Agent", "tester");
    let mut client = request.open().await;
    let values = client.step(json!({"do": "who"})).await["values"].clone();
    assert_eq!(values["id"], client.id().await);
    let expected = [
        ("api", json!("a")),
        ("stage", json!("s")),
        ("unknown", json!(true)),
        ("ip", json!("127.0.0.1")),
        ("agent", json!("tester")),
        ("subject", json!("")),
    ];
    for (name, value) in expected {
        assert_eq!(values[name], value, "{name}");
    }
}

/// The outcomes of an authorizer, as API Gateway has them.
#[tokio::test]
async fn refusal_has_the_status_of_its_reason_and_tells_nothing_of_the_inside() {
    let gateway = door().await;
    for (say, status, message) in [
        (json!({"refuse": 401}), 401, "Unauthorized"),
        (json!({"refuse": 401, "message": "who?"}), 401, "who?"),
        (json!({"refuse": 403}), 403, "Forbidden"),
        (json!({"refuse": 403, "message": "not you"}), 403, "not you"),
        (json!({"refuse": 503}), 503, "Service Unavailable"),
        // Everything else that an authorizer does is a failure: AUTHORIZER_FAILURE.
        (json!({"refuse": 200}), 500, "Internal Server Error"),
        (json!({"panic": true}), 500, "Internal Server Error"),
        (json!({"letters": 9000}), 500, "Internal Server Error"),
        (json!({"nan": true}), 500, "Internal Server Error"),
        (json!({"principal": ""}), 500, "Internal Server Error"),
        (json!({"principal": "a\nb"}), 500, "Internal Server Error"),
        (json!({"expires_in": -1}), 401, "Unauthorized"),
    ] {
        let refused = gateway.ws(&saying(&say)).refused().await;
        check_refusal(&refused, status, message);
        let challenge = refused.header("www-authenticate");
        assert_eq!(challenge, (status == 401).then_some("Bearer"), "{say}");
    }
    for reason in ["it cannot decide", "9", "finite", "control character"] {
        gateway.log().line(&["\"WARN\"", "door", reason]).await;
    }
    // The handler was asked about nobody.
    assert!(!gateway.log().contains(&["\"connected\""]));
}

#[tokio::test]
async fn authorizer_that_misses_its_deadline_refuses_with_500() {
    let plugin = "limits = { deadline_ms = 50 }";
    let gateway = LOCKGATE.serve(&behind_a_door("", plugin)).await;
    let refused = gateway
        .ws(&saying(&json!({"wait": 20_000})))
        .refused()
        .await;
    check_refusal(&refused, 500, "Internal Server Error");
    gateway.log().line(&["\"WARN\"", "deadline_ms"]).await;
}

#[tokio::test]
async fn authorizer_that_catches_its_lack_of_memory_has_a_fresh_instance() {
    let gateway = door().await;
    for times in 0..2 {
        let refused = gateway.ws(&saying(&json!({"keep": 65}))).refused().await;
        check_refusal(&refused, 500, "Internal Server Error");
        let words = [
            "\"WARN\"",
            "door",
            "its instance is thrown away: it was refused memory",
        ];
        gateway.log().nth_line(times, &words).await;
    }
    expect(&gateway, "traps_total{plugin=\"doorman\"} 0").await;
}

#[tokio::test]
async fn missing_identity_source_refuses_with_401_and_asks_nobody() {
    let sources = "identity_source = [\"route.request.header.X-Who\", \"route.request.querystring.say\", \
                   \"route.request.cookie.seat\", \"stageVariables.colour\", \"context.identity.sourceIp\"]";
    let configuration = behind_a_door(sources, "").replace(
        "authorizer = \"door\"",
        "authorizer = \"door\"\nvariables = { colour = \"blue\" }",
    );
    let gateway = LOCKGATE.serve(&configuration).await;
    let whole = |header: &str, cookie: &str| {
        let request = gateway.ws(&saying(&json!({"principal": "ada"})));
        request.header("X-WHO", header).header("Cookie", cookie)
    };
    for request in [
        whole("", "seat=12"),
        whole(" ", "seat=12"),
        whole("ada", "seats=12"),
        whole("ada", "seat="),
        whole("ada", "seat=12").without("X-WHO"),
        gateway
            .ws("/s?say=")
            .header("X-Who", "ada")
            .header("Cookie", "seat=12"),
    ] {
        let refused = request.refused().await;
        check_refusal(&refused, 401, "Unauthorized");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    }
    asked(&gateway, 0).await;
    whole("ada", "x=1; seat=12").open().await;
    asked(&gateway, 1).await;
}

#[tokio::test]
async fn answer_is_kept_for_the_same_sources_until_the_plugin_changes() {
    let folder = tempfile::tempdir().unwrap();
    let component = folder.path().join("doorman.wasm");
    fs::copy(lockgate_tests::Guest::Doorman.path(), &component).unwrap();
    let lines = "cache_s = 3600\nidentity_source = [\"route.request.querystring.say\"]";
    let configuration = behind_a_door(lines, "").replace("{doorman}", component.to_str().unwrap());
    let gateway = LOCKGATE.serve(&configuration).await;
    let ada = saying(&json!({"principal": "ada"}));
    for _ in 0..3 {
        let mut client = gateway.connect(&ada).await;
        assert_eq!(client.step(json!({"do": "who"})).await["principal"], "ada");
    }
    asked(&gateway, 1).await;
    // Others are asked about, refusals are not kept, and an identity is kept no longer than it holds.
    gateway.connect(&saying(&json!({"principal": "eve"}))).await;
    asked(&gateway, 2).await;
    for _ in 0..2 {
        let request = gateway.ws(&saying(&json!({"refuse": 403})));
        assert_eq!(request.refused().await.status, 403);
    }
    asked(&gateway, 4).await;
    // A changed plugin is asked anew: a custom section makes another component of it.
    let mut bytes = fs::read(&component).unwrap();
    bytes.extend_from_slice(&[0, 2, 1, b'x']);
    fs::write(&component, bytes).unwrap();
    let (status, body) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{body}");
    gateway.connect(&ada).await;
    asked(&gateway, 5).await;
    // A reload that changes nothing keeps what is remembered.
    gateway.post("/reload", "{}").await;
    gateway.connect(&ada).await;
    asked(&gateway, 5).await;
}

#[tokio::test]
async fn stage_has_its_own_authorizer_or_none() {
    let configuration = r#"
[apis.a]
authorizer = "door"

[apis.a.stages.s]
[apis.a.stages.open]
authorizer = "none"

[apis.a.routes."$default"]
integration = "echo"
two_way = true

[authorizers.door]
plugin = "doorman"

[plugins.doorman]
component = "{doorman}"

[plugins.echo]
component = "{echo}"
"#;
    let gateway = LOCKGATE.serve(configuration).await;
    let shut = json!({"refuse": 403});
    assert_eq!(gateway.ws(&saying(&shut)).refused().await.status, 403);
    let mut client = gateway
        .connect(&saying(&shut).replace("/s?", "/open?"))
        .await;
    client.send("hello").await;
    client.expect("hello").await;
    // A reload that opens the stage has it open.
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replace("[apis.a]\nauthorizer = \"door\"", "[apis.a]"),
    )
    .unwrap();
    let (status, body) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("a/s"), "{body}");
    gateway.connect(&saying(&shut)).await;
}

#[tokio::test]
async fn origin_is_judged_before_the_authorizer_is_asked() {
    let gateway = door().await;
    let request = gateway.ws(&saying(&json!({"principal": "ada"})));
    let request = request.header("Origin", "https://evil.example");
    check_refusal(&request.refused().await, 403, "Forbidden");
    asked(&gateway, 0).await;
}

#[tokio::test]
async fn what_an_authorizer_and_a_client_say_in_confidence_is_in_no_log() {
    let lines = "identity_source = [\"route.request.header.Authorization\"]";
    let gateway = LOCKGATE.serve(&behind_a_door(lines, "")).await;
    let say = json!({"principal": "ada", "values": {"secret": "canary-value"}});
    let bearing = |say: &Value| {
        let request = gateway.ws(&saying(say));
        request.header("Authorization", "Bearer canary-token")
    };
    let mut client = bearing(&say).open().await;
    client.step(json!({"do": "who"})).await;
    client.send("not steps").await;
    client.expect_error("Internal server error").await;
    let mut refuse = say.clone();
    for (name, value) in [("refuse", json!(401)), ("panic", json!(true))] {
        refuse[name] = value;
        bearing(&refuse).refused().await;
    }
    let (_, metrics) = gateway.page("/metrics").await;
    gateway.terminate();
    let text = gateway.log().whole().await + &gateway.output().whole().await + &metrics;
    assert!(text.contains("ada"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}

/// The probe behind the doorman, with these lines in its authorizer's table, and routes that ask for scopes.
fn with_scopes(authorizer: &str) -> String {
    let door = behind_a_door(authorizer, "");
    door.replace(
        "quietly = { integration = \"probe\" }",
        "read = { integration = \"probe\", two_way = true, scopes = [\"read\"] }\n\
         write = { integration = \"probe\", two_way = true, scopes = [\"write\", \"read\"] }",
    )
}

#[tokio::test]
async fn message_needs_the_scopes_of_its_route() {
    let gateway = LOCKGATE.serve(&with_scopes("")).await;
    let message = |route: &str| json!({"action": route, "steps": [{"do": "event"}]}).to_string();
    for (scopes, may_read, may_write) in [
        (json!([]), false, false),
        (json!(["read"]), true, false),
        (json!(["write"]), false, false),
        (json!(["other", "write", "read"]), true, true),
    ] {
        let mut client = gateway.connect(&saying(&json!({"scopes": scopes}))).await;
        for (route, may) in [("read", may_read), ("write", may_write), ("free", true)] {
            client.send(message(route)).await;
            if may {
                let answer = client.json().await;
                assert!(answer[0]["route"].is_string(), "{scopes} {route}: {answer}");
            } else {
                client.expect_error("Forbidden").await;
            }
        }
    }
    // A reload that asks for less counts for the next message of an open connection.
    let mut client = gateway.connect(&saying(&json!({"scopes": ["read"]}))).await;
    client.send(message("write")).await;
    client.expect_error("Forbidden").await;
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("scopes = [\"write\", \"read\"]", "scopes = [\"read\"]");
    fs::write(&file, text).unwrap();
    let (status, body) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{body}");
    client.send(message("write")).await;
    assert_eq!(client.json().await[0]["route"], "write");
}

#[tokio::test]
async fn connect_needs_the_scopes_of_its_route() {
    let configuration = with_scopes("").replace(
        "\"$connect\" = { integration = \"probe\" }",
        "\"$connect\" = { integration = \"probe\", scopes = [\"chat\"] }",
    );
    let gateway = LOCKGATE.serve(&configuration).await;
    let refused = gateway.ws(&saying(&json!({"scopes": ["read"]})));
    check_refusal(&refused.refused().await, 403, "Forbidden");
    gateway.connect(&saying(&json!({"scopes": ["chat"]}))).await;
}

#[tokio::test]
async fn connection_ends_with_1008_when_what_let_it_in_expires() {
    let configuration = behind_a_door("on_expiry = \"close\"", "");
    let gateway = LOCKGATE.serve(&configuration).await;
    let mut watcher = gateway.connect(&saying(&json!({}))).await;
    watcher.observe().await;
    let mut client = gateway.connect(&saying(&json!({"expires_in": 1.5}))).await;
    let id = client.id().await;
    client.expect_close(1008, "authorization expired").await;
    let report = watcher.ended(&id).await;
    assert_eq!(
        (report.code, report.reason.as_str()),
        (1008, "authorization expired")
    );
    // Without the key nothing ends; a reload that adds it ends those whose time is over, at their next message.
    let file = gateway.folder().join("gateway.toml");
    let closing = fs::read_to_string(&file).unwrap();
    fs::write(&file, closing.replace("on_expiry = \"close\"", "")).unwrap();
    gateway.post("/reload", "{}").await;
    let mut kept = gateway.connect(&saying(&json!({"expires_in": 0.3}))).await;
    let mut lasting = gateway.connect(&saying(&json!({"expires_in": 1e6}))).await;
    kept.step(json!({"do": "sleep", "ms": 400})).await;
    kept.step(json!({"do": "event"})).await;
    fs::write(&file, closing).unwrap();
    gateway.post("/reload", "{}").await;
    kept.send("[]").await;
    assert_eq!(
        kept.closed().await,
        (1008, "authorization expired".to_owned())
    );
    lasting.step(json!({"do": "event"})).await;
}
