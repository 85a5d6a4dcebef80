//! The SDK for Go against the gateway, beyond the dialogues of every SDK (`conformance`): what a handler's mistakes do, and
//! what it bears. The plugin is `go-probe`, which does what its client says.

use std::path::PathBuf;

use lockgate_tests::{Client, Gateway, LONG_PATIENCE, write_configuration};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{LOCKGATE, project::resident};

/// Builds the probe, once in a run.
async fn component() -> &'static PathBuf {
    static COMPONENT: OnceCell<PathBuf> = OnceCell::const_new();
    COMPONENT
        .get_or_init(|| async {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/languages/go-probe");
            let built = LOCKGATE.run_within(LONG_PATIENCE, &["build", folder]).await;
            assert_eq!(built.code, Some(0), "{}", built.error);
            built.output.trim().into()
        })
        .await
}

/// Serves the probe in a single instance.
async fn probe() -> Gateway {
    let cache = LOCKGATE.target().join("compiled-guests");
    let configuration = format!(
        r#"
compile_cache = {cache:?}
listeners = [{{ address = "127.0.0.1:0", tls = "off" }}]
log = {{ level = "info,guest=debug", format = "json" }}

[apis.a.stages.s]
limits = {{ message_kib = 2048 }}

[apis.a.stages.guarded]
authorizer = "probe"

[authorizers.probe]
plugin = "probe"
on_expiry = "close"

[apis.a.routes]
"$connect" = {{ integration = "probe" }}
"$disconnect" = {{ integration = "probe" }}
"$default" = {{ integration = "probe", two_way = true, renews = "handler" }}

[plugins.probe]
component = {:?}
grants = ["connections", "groups"]
environment = {{ EARLY = "early", LATE = "late" }}
limits = {{ memory_mib = 256, instances = 1, cpu_ms = 2900, max_uses = 1000000000 }}
rollback = {{ trap_percent = 0 }}
"#,
        component().await
    );
    let folder = TempDir::new().unwrap();
    let file = write_configuration(folder.path(), &configuration);
    let command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    Gateway::start(command, folder, LONG_PATIENCE).await
}

/// Connects, and gives the id and what the handler was told.
async fn connect(gateway: &Gateway, target: &str) -> (Client, String, Value) {
    let mut client = gateway.connect(target).await;
    let told = client.json().await;
    let id = told["event"]["ConnectionID"].as_str().unwrap().to_owned();
    (client, id, told)
}

async fn ask(client: &mut Client, step: Value) -> Value {
    client.send(step.to_string()).await;
    client.json().await
}

pub(crate) async fn go_handler_has_its_environment_and_sends_no_broken_text() {
    let gateway = probe().await;
    let (mut client, _, _) = connect(&gateway, "/s").await;
    for (step, expected) in [
        (json!({"do": "environment"}), json!(["late", "early"])),
        (
            json!({"do": "send broken text"}),
            json!({"error": "invalid argument: the text message is not UTF-8", "invalid": true}),
        ),
    ] {
        assert_eq!(ask(&mut client, step.clone()).await, expected, "{step}");
    }
}

pub(crate) async fn go_handler_refuses_and_fails_as_it_says() {
    let gateway = probe().await;
    for (query, status, body) in [
        ("refuse=403&message=no", 403, r#"{"message":"no"}"#),
        ("refuse=404", 404, r#"{"message":"Not Found"}"#),
        ("refuse=x", 500, r#"{"message":"Internal Server Error"}"#),
        ("panic=1", 500, r#"{"message":"Internal Server Error"}"#),
    ] {
        let refused = gateway.ws(&format!("/s?{query}")).refused().await;
        assert_eq!((refused.status, refused.text()), (status, body), "{query}");
    }
    let log = gateway.log();
    log.line(&["refused with 500: no status: strconv.Atoi"])
        .await;
    log.line(&["refused with 500: panic: no connect"]).await;

    let (mut client, _, _) = connect(&gateway, "/s").await;
    for (step, said) in [
        (
            json!({"do": "fail", "text": "no luck"}),
            "the handler failed: no luck",
        ),
        (
            json!({"do": "broken text"}),
            "the returned text message is not UTF-8",
        ),
        (
            json!({"do": "panic", "text": "X"}),
            "the handler failed: panic: as told: X",
        ),
        (
            json!({"do": "nil"}),
            "panic: runtime error: invalid memory address",
        ),
        // These two end the instance.
        (
            json!({"do": "panic in a goroutine", "text": "Y"}),
            "panic: as told: Y",
        ),
        (json!({"do": "wait for ever"}), "all goroutines are asleep"),
    ] {
        client.send(step.to_string()).await;
        client.expect_error("Internal server error").await;
        gateway.log().line(&[said]).await;
    }
    // The stack has the author's frames, and no other.
    gateway
        .log()
        .line(&["  at main.bear (", "go-probe/main.go:"])
        .await;
    assert!(
        !gateway
            .log()
            .contains(&["  at github.com/lockgate/lockgate/guest-sdk/go.message"])
    );
    let count = ask(&mut client, json!({"do": "count", "group": "g"})).await;
    assert_eq!(count, json!(0));
}

pub(crate) async fn go_authorizer_says_who_a_client_is_or_refuses() {
    let gateway = probe().await;
    for (query, status, body) in [
        ("", 401, r#"{"message":"Unauthorized"}"#),
        ("?as=refused", 418, r#"{"message":"not you"}"#),
        ("?as=error", 500, r#"{"message":"Internal Server Error"}"#),
        ("?as=network", 500, r#"{"message":"Internal Server Error"}"#),
        ("?as=files", 500, r#"{"message":"Internal Server Error"}"#),
        ("?as=panic", 500, r#"{"message":"Internal Server Error"}"#),
        (
            "?as=no+value",
            500,
            r#"{"message":"Internal Server Error"}"#,
        ),
        (
            "?as=before+1970",
            500,
            r#"{"message":"Internal Server Error"}"#,
        ),
        (
            "?as=too+late",
            500,
            r#"{"message":"Internal Server Error"}"#,
        ),
    ] {
        let refused = gateway.ws(&format!("/guarded{query}")).refused().await;
        assert_eq!((refused.status, refused.text()), (status, body), "{query}");
    }
    for said in [
        "refused with 500: no luck",
        "refused with 500: panic: it cannot decide",
        "; a plugin has no network",
        "refused with 500: no hosts: open /etc/hosts: Not supported; a plugin has no files",
        "the value \\\"list\\\" of the identity is []int",
        "the identity expires before 1970",
        "the identity expires too far ahead, in the year",
    ] {
        gateway.log().line(&[said]).await;
    }

    let (mut ada, id, _) = connect(&gateway, "/guarded?as=ada").await;
    let values = json!({
        "id": id, "stage": "guarded", "path": "/guarded", "empty": "", "number": 3, "half": 0.5, "yes": true, "no": false,
    });
    let who = json!({"do": "who"});
    let told = ask(&mut ada, who.clone()).await;
    assert_eq!(told, json!({"principal": "ada", "values": values}));
    for (query, expected) in [
        ("nobody", json!({"principal": "", "values": {}})),
        (
            "broken",
            json!({"principal": "a\u{fffd}", "values": {"b\u{fffd}": "c\u{fffd}"}}),
        ),
    ] {
        let (mut client, _, _) = connect(&gateway, &format!("/guarded?as={query}")).await;
        assert_eq!(ask(&mut client, who.clone()).await, expected);
    }
}

pub(crate) async fn go_handler_renews_what_let_its_client_in() {
    let gateway = probe().await;
    let (mut ada, _, _) = connect(&gateway, "/guarded?as=nobody").await;
    let renew =
        |ms: i64, plan: &str| json!({"do": "renew", "milliseconds": ms, "text": plan, "count": 3});
    let who = json!({"do": "who"});
    for (plan, values) in [
        ("", json!({})),
        ("gold", json!({"plan": "gold", "seats": 3, "yes": true})),
        ("", json!({"plan": "gold", "seats": 3, "yes": true})),
        (
            "a\u{0}b",
            json!({"plan": "a\u{0}b", "seats": 3, "yes": true}),
        ),
    ] {
        assert_eq!(ask(&mut ada, renew(3_600_000, plan)).await, Value::Null);
        let told = ask(&mut ada, who.clone()).await;
        assert_eq!(told, json!({"principal": "", "values": values}));
    }
    let failed = ask(&mut ada, renew(-3_600_000, "")).await;
    assert_eq!(failed["invalid"], true, "{failed}");
    let failed = ask(&mut ada, renew(3_600_000, &"x".repeat(8 << 10))).await;
    assert!(failed["error"].as_str().unwrap().contains("over a limit"));
    // Who has no authorizer is not renewed.
    let (mut bob, _, _) = connect(&gateway, "/s").await;
    let failed = ask(&mut bob, renew(3_600_000, "")).await;
    assert!(failed["error"].as_str().unwrap().contains("configuration"));
    assert_eq!(ask(&mut ada, renew(200, "")).await, Value::Null);
    ada.expect_close(1008, "authorization expired").await;
}

pub(crate) async fn go_log_lines_have_their_levels() {
    let gateway = probe().await;
    let (mut client, _, _) = connect(&gateway, "/s").await;
    ask(&mut client, json!({"do": "print", "text": "T"})).await;
    for (text, level) in [
        ("fmt T", "INFO"),
        ("stderr T", "WARN"),
        ("log T", "INFO"),
        ("debug T", "DEBUG"),
        (r#"info T key=\"a value\""#, "INFO"),
        ("warn T", "WARN"),
        ("second line", "WARN"),
        ("error T group.number=7", "ERROR"),
        ("unfinished T", "INFO"),
    ] {
        let line = gateway
            .log()
            .line(&[&format!("\"message\":\"{text}\"")])
            .await;
        assert!(line.contains(&format!("\"level\":\"{level}\"")), "{line}");
    }
}

pub(crate) async fn go_contexts_end_at_the_deadline_and_with_the_event() {
    let gateway = probe().await;
    let (mut client, id, _) = connect(&gateway, "/s").await;
    let waited = ask(&mut client, json!({"do": "deadline", "milliseconds": 20})).await;
    let left = waited["left"].as_i64().unwrap();
    assert!((2_900..=3_000).contains(&left), "{waited}");
    assert_eq!(
        (&waited["child"], &waited["own"]),
        (&json!("context deadline exceeded"), &json!(""))
    );

    // The gateway cuts the event off at about the time when its context ends.
    client
        .send(json!({"do": "deadline", "milliseconds": 60_000}).to_string())
        .await;
    let end = client.json().await;
    assert!(
        end["own"] == "context deadline exceeded" || end["message"] == "Endpoint request timed out",
        "{end}"
    );

    ask(&mut client, json!({"do": "leave behind", "id": id})).await;
    ask(&mut client, json!({"do": "count", "group": "g"})).await;
    gateway
        .log()
        .line(&["left behind error=\\\"context canceled\\\""])
        .await;
}

pub(crate) async fn go_routines_of_one_event_call_at_the_same_time() {
    let gateway = probe().await;
    let (mut client, _, _) = connect(&gateway, "/s").await;
    for _ in 0..3 {
        assert_eq!(
            ask(&mut client, json!({"do": "goroutines", "count": 40})).await,
            json!(0)
        );
    }
}

/// 40 MB stay, 20 MB an event are garbage, and messages have 2 MB: the garbage collector must keep up.
pub(crate) async fn go_plugin_bears_garbage_and_large_messages() {
    bears_garbage(60).await;
}

async fn bears_garbage(rounds: usize) {
    let gateway = probe().await;
    let (mut client, _, _) = connect(&gateway, "/s").await;
    let large: Vec<u8> = (0..=255).cycle().take(2 << 20).collect();
    for _ in 0..rounds {
        assert_eq!(
            ask(&mut client, json!({"do": "garbage", "count": 20})).await,
            json!("ok")
        );
        client.send_binary(large.clone()).await;
        assert!(client.binary().await == large);
        let sent = json!({"do": "send binary", "count": 2 << 20});
        client.send(sent.to_string()).await;
        assert_eq!(client.binary().await.len(), 2 << 20);
        assert_eq!(client.json().await, Value::Null);
    }
}

/// Takes minutes.
pub(crate) async fn million_calls_of_one_go_instance_need_no_more_memory() {
    let gateway = probe().await;
    let (mut client, _, _) = connect(&gateway, "/s").await;
    let early = (calls(&mut client, 100_000).await, resident(&gateway));
    let late = (calls(&mut client, 900_000).await, resident(&gateway));
    // The guest's memory never shrinks: what it has is what it needed at most.
    assert_eq!(early.0["calls"], json!(100_000 / BATCH));
    assert_eq!(
        late.0["calls"],
        json!(1_000_000 / BATCH),
        "it is the same instance"
    );
    let [early_bytes, late_bytes] =
        [&early, &late].map(|(said, _)| said["bytes"].as_u64().unwrap());
    assert!(
        late_bytes < early_bytes + (1 << 20),
        "{early_bytes} bytes, then {late_bytes}"
    );
    assert!(
        late.1 < early.1 + (8 << 10),
        "{} KiB, then {} KiB",
        early.1,
        late.1
    );
    bears_garbage(1_000).await;
}

/// Calls that go out together.
const BATCH: usize = 200;

/// Calls the handler so many times, and gives what it says of its memory.
async fn calls(client: &mut Client, count: usize) -> Value {
    let mut memory = Value::Null;
    for _ in 0..count / BATCH {
        for _ in 0..BATCH - 1 {
            client.feed(r#"{"do":"count","group":"g"}"#).await;
        }
        client.send(r#"{"do":"memory"}"#).await;
        for _ in 0..BATCH - 1 {
            client.expect("0").await;
        }
        memory = client.json().await;
    }
    memory
}
