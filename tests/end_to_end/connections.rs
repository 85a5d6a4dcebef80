//! Calls of a handler on connections: send, close, info and attributes.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::{probe, probe_with};

/// A post runs no handler, and neither does a publish: both are for clients alone.
#[tokio::test]
async fn message_sent_by_a_handler_runs_no_handler() {
    let gateway = probe_with("", "limits = { instances = 1, waiting = 0 }").await;
    let mut sender = gateway.connect("/s").await;
    let mut receiver = gateway.connect("/s").await;
    let (own, id) = (sender.id().await, receiver.id().await);
    // These would be steps if a handler got them. The only instance is in use, and no call may wait for it.
    let text = r#"[{"do": "print", "text": "re-entered"}, {"do": "counter"}]"#;
    let mut steps = vec![
        json!({"do": "counter"}),
        json!({"do": "join", "group": "g"}),
        json!({"do": "join", "group": "g", "id": id}),
    ];
    for _ in 0..20 {
        steps.push(json!({"do": "send", "id": id, "text": text}));
        steps.push(json!({"do": "send", "id": own, "text": text}));
        steps.push(json!({"do": "publish", "group": "g", "text": text}));
    }
    steps.push(json!({"do": "counter"}));
    sender.send(json!(steps).to_string()).await;
    for client in [&mut sender, &mut receiver] {
        for _ in 0..40 {
            client.expect(text).await;
        }
    }
    let answers = sender.json().await;
    let counter = |place: usize| answers[place].as_u64().unwrap();
    assert_eq!(counter(steps.len() - 1), counter(0) + 1, "{answers}");
    // The counter shows that no invocation came between.
    let next = receiver.step(json!({"do": "counter"})).await;
    assert_eq!(next.as_u64(), Some(counter(0) + 2));
    assert!(!gateway.log().contains(&["re-entered"]));
}

#[tokio::test]
pub(crate) async fn message_reaches_another_connection() {
    let gateway = probe().await;
    let mut one = gateway.connect("/s").await;
    let mut other = gateway.wss("/s").open().await;
    let id = other.id().await;
    let steps = json!([
        {"do": "send", "id": id, "text": "κόσμε"}, {"do": "send", "id": id, "bytes": [0, 255]},
        {"do": "send", "id": id, "text": ""},
    ]);
    assert_eq!(one.steps(steps).await, ["ok", "ok", "ok"]);
    other.expect("κόσμε").await;
    assert_eq!(other.binary().await.as_ref(), [0, 255]);
    other.expect("").await;
}

#[tokio::test]
async fn messages_of_one_handler_arrive_in_order() {
    let gateway = probe().await;
    let mut one = gateway.connect("/s").await;
    let mut other = gateway.connect("/s").await;
    let id = other.id().await;
    for round in 0..20 {
        let sends: Vec<Value> = (0..50)
            .map(|number| json!({"do": "send", "id": id, "text": format!("{round}.{number}")}))
            .collect();
        one.steps(json!(sends)).await;
    }
    for round in 0..20 {
        for number in 0..50 {
            other.expect(&format!("{round}.{number}")).await;
        }
    }
}

#[tokio::test]
async fn gone_and_unknown_connections_get_the_same_answer() {
    let gateway = probe().await;
    let mut client = gateway.connect("/s").await;
    let mut left = gateway.connect("/s").await;
    let gone = left.id().await;
    client.observe().await;
    left.close(1000, "").await;
    client.ended(&gone).await;
    for id in [
        gone.as_str(),
        "",
        "x",
        "../../etc/passwd",
        "AAAAAAAAAAAAAAAAAAAAAA",
        &"x".repeat(5_000),
    ] {
        let steps = json!([
            {"do": "send", "id": id, "text": "x"}, {"do": "close", "id": id, "code": 1000, "reason": ""},
            {"do": "info", "id": id}, {"do": "attribute", "id": id, "name": "x"}, {"do": "attributes", "id": id},
            {"do": "set", "id": id, "name": "x", "value": "y"}, {"do": "join", "id": id, "group": "g"},
            {"do": "leave", "id": id, "group": "g"},
        ]);
        assert_eq!(client.steps(steps).await, ["gone"; 8], "{id}");
    }
}

#[tokio::test]
async fn handler_closes_any_connection_with_its_code() {
    let gateway = probe().await;
    let mut one = gateway.connect("/s").await;
    let reason = "x".repeat(123);
    for (code, reason) in [
        (1000, ""),
        (1001, "a"),
        (1008, "why"),
        (3000, "ä"),
        (4999, &reason),
    ] {
        let mut other = gateway.connect("/s").await;
        let id = other.id().await;
        let close = json!({"do": "close", "id": id, "code": code, "reason": reason});
        assert_eq!(
            one.steps(json!([close, close, {"do": "send", "id": id, "text": "x"}]))
                .await,
            ["ok", "gone", "gone"]
        );
        other.expect_close(code, reason).await;
        other.expect_end().await;
    }
}

#[tokio::test]
async fn invalid_close_code_or_reason_is_refused() {
    let gateway = probe().await;
    let mut client = gateway.connect("/s").await;
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        let answer = client
            .step(json!({"do": "close", "code": code, "reason": ""}))
            .await;
        assert!(answer["invalid"].is_string(), "{code}: {answer}");
    }
    let long = "x".repeat(124);
    let answer = client
        .step(json!({"do": "close", "code": 1000, "reason": long}))
        .await;
    assert!(answer["invalid"].is_string(), "{answer}");
    client.id().await;
}

#[tokio::test]
async fn info_tells_what_the_gateway_knows() {
    let gateway = probe().await;
    let before = now();
    let mut client = gateway
        .ws("/s")
        .header("Host", "localhost:1")
        .header("User-Agent", "test/1")
        .open()
        .await;
    let first = client.step(json!({"do": "info"})).await;
    let connected = first["connected_at"].as_u64().unwrap();
    assert!((before..=now()).contains(&connected), "{first}");
    assert!(first["last_active_at"].as_u64().unwrap() >= connected);
    assert_eq!(first["source_ip"], "127.0.0.1");
    assert_eq!(first["user_agent"], "test/1");
    assert_eq!(first["domain_name"], "localhost");
    assert_eq!(first["subprotocol"], Value::Null);

    // A message in either direction makes a connection active.
    let mut other = gateway.connect("/s").await;
    let id = client.id().await;
    let mut seen = other.step(json!({"do": "info", "id": id})).await;
    assert_eq!(seen["connected_at"], connected);
    while seen["last_active_at"].as_u64().unwrap() <= first["last_active_at"].as_u64().unwrap() {
        assert!(now() < before + 10_000, "never active again: {seen}");
        client.id().await;
        seen = other.step(json!({"do": "info", "id": id})).await;
    }
    assert_eq!(
        other.step(json!({"do": "info"})).await["user_agent"],
        Value::Null
    );
}

#[tokio::test]
async fn context_tells_where_and_when() {
    let gateway = probe_with("variables = { room = \"lobby\", age = \"7\" }", "").await;
    let mut client = gateway.connect("/s").await;
    let before = now();
    let steps = json!([{"do": "context"}, {"do": "variables"}, {"do": "clock"}, {"do": "context"}]);
    let answers = client.steps(steps).await;
    assert_eq!(answers[0]["api"], "a");
    assert_eq!(answers[0]["stage"], "s");
    assert_eq!(answers[1], json!([["age", "7"], ["room", "lobby"]]));
    assert_eq!(answers[0], answers[3]);
    assert!(
        (before..=now()).contains(&answers[0]["requested_at"].as_u64().unwrap()),
        "{}",
        answers[0]
    );
    assert!((before..=now()).contains(&answers[2].as_u64().unwrap()));
    let next = client.step(json!({"do": "context"})).await;
    assert_ne!(next["request"], answers[0]["request"]);
    assert_ne!(next["message"], answers[0]["message"]);
    assert_eq!(next["message"].as_str().unwrap().len(), 16);
    assert_ne!(next["message"], next["request"]);
    // Nothing says who the client is: no API has an authorizer.
    assert_eq!(next["principal"], Value::Null);
    assert_eq!(next["authorizer"], 0);
}

#[tokio::test]
async fn time_left_runs_from_the_deadline_of_each_event() {
    let gateway = probe_with("", "limits = { deadline_ms = 7000 }").await;
    let mut client = gateway.connect("/s").await;
    let ask = json!({"do": "time left"});
    for _ in 0..2 {
        let steps = json!([ask, {"do": "sleep", "ms": 30}, ask]);
        let answers = client.steps(steps).await;
        let [first, _, later] = answers.as_slice() else {
            panic!("three answers: {answers:?}")
        };
        let (first, later) = (first.as_u64().unwrap(), later.as_u64().unwrap());
        assert!((6_990..=7_000).contains(&first), "{first}");
        assert!(later <= first - 29, "{first} {later}");
    }
    // Asked late for the first time, the gateway counts the time before too.
    let late = client.steps(json!([{"do": "sleep", "ms": 30}, ask])).await;
    assert!(late[1].as_u64().unwrap() <= 6_971, "{late:?}");
}

#[tokio::test]
async fn attributes_live_as_long_as_the_connection() {
    let gateway = probe_with("", "isolation = \"per-message\"").await;
    let mut one = gateway.connect("/s").await;
    let mut other = gateway.connect("/s").await;
    let id = one.id().await;
    let steps = json!([
        {"do": "attribute", "name": "b"}, {"do": "set", "name": "b", "value": "2"}, {"do": "set", "name": "a", "value": ""},
        {"do": "set", "name": "b", "value": "3"},
    ]);
    assert_eq!(
        one.steps(steps).await,
        [json!(null), json!("ok"), json!("ok"), json!("ok")]
    );
    let steps = json!([
        {"do": "attributes", "id": id}, {"do": "attribute", "id": id, "name": "a"}, {"do": "attributes"},
        {"do": "set", "id": id, "name": "b"}, {"do": "set", "id": id, "name": "b"},
    ]);
    let answers = other.steps(steps).await;
    assert_eq!(
        answers,
        [
            json!([["a", ""], ["b", "3"]]),
            json!(""),
            json!([]),
            json!("ok"),
            json!("ok")
        ]
    );
    assert_eq!(
        one.step(json!({"do": "attributes"})).await,
        json!([["a", ""]])
    );
    let nameless = one
        .step(json!({"do": "set", "name": "", "value": "x"}))
        .await;
    assert!(nameless["invalid"].is_string(), "{nameless}");
}

#[tokio::test]
async fn attributes_beyond_their_bound_are_refused() {
    let gateway = probe_with("limits = { attributes_kib = 1 }", "").await;
    let mut client = gateway.connect("/s").await;
    let (fits, over) = ("x".repeat(1_024 - 12), "x".repeat(1_024 - 11));
    let steps = json!([
        {"do": "set", "name": "name", "value": over}, {"do": "set", "name": "name", "value": fits},
        {"do": "set", "name": "n", "value": ""}, {"do": "set", "name": "name", "value": over},
        {"do": "set", "name": "name", "value": "x"}, {"do": "set", "name": "n", "value": ""},
    ]);
    let answers = client.steps(steps).await;
    assert_eq!(
        answers,
        ["too-large", "ok", "too-large", "too-large", "ok", "ok"]
    );
    assert_eq!(
        client.step(json!({"do": "attributes"})).await,
        json!([["n", ""], ["name", "x"]])
    );
}

/// Each attribute counts 8 bytes beside its texts, so that a connection holds no more memory than its bound.
#[tokio::test]
async fn empty_attributes_count_too() {
    let gateway = probe_with("limits = { attributes_kib = 1 }", "").await;
    let mut client = gateway.connect("/s").await;
    // 10 bytes each: 102 fit.
    let names = (0..103).map(|number| format!("{}{}", letter(number / 26), letter(number % 26)));
    let steps = names.map(|name| json!({"do": "set", "name": name, "value": ""}));
    let answers = client.steps(Value::Array(steps.collect())).await;
    let refused = answers.iter().position(|answer| answer == "too-large");
    assert_eq!(refused, Some(102), "{answers:?}");
}

fn letter(number: u8) -> char {
    char::from(b'a' + number)
}

#[tokio::test]
async fn sends_beyond_the_share_of_an_invocation_are_refused() {
    let gateway = probe_with("", "limits = { posts = 3 }").await;
    let mut client = gateway.connect("/s").await;
    let steps = json!([{"do": "burst", "times": 4, "text": "x"}, {"do": "join", "group": "g"},
        {"do": "publish", "group": "g", "text": "x"}]);
    client.send(steps.to_string()).await;
    for _ in 0..3 {
        client.expect("x").await;
    }
    client.expect(r#"[[3,"busy"],"ok","busy"]"#).await;
    // The next invocation has a share of its own.
    assert_eq!(
        client
            .step(json!({"do": "close", "code": 1000, "reason": ""}))
            .await,
        "ok"
    );
}

#[tokio::test]
async fn default_share_of_an_invocation_is_256_sends() {
    let gateway = probe().await;
    let mut client = gateway.connect("/s").await;
    client
        .send(json!([{"do": "burst", "times": 257, "text": "x"}]).to_string())
        .await;
    for _ in 0..256 {
        client.expect("x").await;
    }
    client.expect(r#"[[256,"busy"]]"#).await;
}

#[tokio::test]
async fn connection_ids_are_long_distinct_and_url_safe() {
    let gateway = probe().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(gateway.connect("/s").await.id().await);
    }
    for id in &ids {
        assert!(id.len() >= 16, "{id}");
        assert!(
            id.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte)),
            "not safe in a URL: {id}"
        );
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}
