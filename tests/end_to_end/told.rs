//! Log lines for plugin authors: a handler that meets a limit is logged with the key, the value and the remedy.

use serde_json::{Value, json};

use crate::probe_with;

/// The line of the log with all of these words.
async fn logged(gateway: &lockgate_tests::Gateway, words: &[&str]) -> Value {
    serde_json::from_str(&gateway.log().line(words).await).unwrap()
}

#[tokio::test]
async fn limit_met_in_a_host_call_is_logged_by_name() {
    let gateway = probe_with(
        "limits = { groups = 2, attributes_kib = 1, message_kib = 2 }",
        "limits = { posts = 3 }",
    )
    .await;
    let mut client = gateway.connect("/s").await;
    for (steps, error, words) in [
        (
            json!([{"do": "join", "group": "a"}, {"do": "join", "group": "b"}, {"do": "join", "group": "c"}, {"do": "join", "group": "d"}]),
            "busy",
            [
                "in 2 groups",
                "limits.groups of the stage",
                "leave one, or raise it",
            ],
        ),
        (
            json!([{"do": "set", "name": "a", "value": "x".repeat(1_024)}]),
            "too-large",
            [
                "over 1 KiB",
                "limits.attributes_kib of the stage",
                "or raise it",
            ],
        ),
        (
            json!([{"do": "send", "letters": 2_049}]),
            "too-large",
            [
                "2049 bytes, and 2 KiB",
                "limits.message_kib of the stage",
                "send less, or raise it",
            ],
        ),
        (
            json!([{"do": "publish", "group": "x", "text": ""}, {"do": "publish", "group": "x", "text": ""}, {"do": "publish", "group": "x", "text": ""}, {"do": "publish", "group": "x", "text": ""}]),
            "busy",
            [
                "3 messages for one event",
                "limits.posts of the plugin",
                "or raise it",
            ],
        ),
    ] {
        let answers = client.steps(steps).await;
        assert_eq!(answers.last().unwrap(), error, "{answers:?}");
        let line = logged(&gateway, &words).await;
        assert_eq!(line["level"], "WARN", "{line}");
        assert_eq!(line["plugin"], "probe", "{line}");
        for field in ["connection", "stage", "route", "request_id"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
    }
    // One line an event, however often the handler tries.
    let lines = gateway.log().lines();
    let groups = lines.iter().filter(|line| line.contains("limits.groups"));
    assert_eq!(groups.count(), 1);
}

#[tokio::test]
async fn limit_that_ends_a_call_is_logged_by_name() {
    let gateway = probe_with(
        "",
        "limits = { cpu_ms = 40, deadline_ms = 200, memory_mib = 8, instances = 1, waiting = 0 }",
    )
    .await;
    let mut client = gateway.connect("/s").await;
    for (step, error, words) in [
        (
            json!({"do": "spin"}),
            "Endpoint request timed out",
            &[
                "computed for more than 40 ms",
                "limits.cpu_ms",
                "or raise it",
            ][..],
        ),
        (
            json!({"do": "sleep", "ms": 60_000}),
            "Endpoint request timed out",
            &[
                "computed and waited for more than 200 ms in all",
                "limits.deadline_ms",
                "or raise it",
            ],
        ),
        (
            json!({"do": "hog"}),
            "Internal server error",
            &[
                "refused memory",
                "8 MiB is limits.memory_mib",
                "or raise it",
            ],
        ),
        (
            json!({"do": "recurse"}),
            "Internal server error",
            &["nested too deep", "recurse less deep"],
        ),
        (
            json!({"do": "trap"}),
            "Internal server error",
            &[
                "the plugin trapped: panicked at probe/src/faults.rs:",
                ": trapped on request",
            ],
        ),
    ] {
        client.send(json!([step]).to_string()).await;
        client.expect_error(error).await;
        let line = logged(&gateway, words).await;
        assert_eq!(line["level"], "WARN", "{line}");
        assert_eq!(line["plugin"], "probe", "{line}");
    }
    let mut slow = gateway.connect("/s").await;
    slow.send(json!([{"do": "print", "text": "it runs"}, {"do": "sleep", "ms": 150}]).to_string())
        .await;
    gateway.log().line(&["it runs"]).await;
    client.send("[]").await;
    client.expect_error("Too Many Requests").await;
    logged(
        &gateway,
        &[
            "1 instance (limits.instances of the plugin) may run",
            "limits.waiting",
            "or raise them",
        ],
    )
    .await;
    slow.json().await;
}

#[tokio::test]
async fn panic_is_one_log_line_without_useless_advice() {
    let gateway = probe_with("", "").await;
    let mut client = gateway.connect("/s").await;
    client.send(json!([{"do": "trap"}]).to_string()).await;
    client.expect_error("Internal server error").await;
    gateway.log().line(&["the plugin trapped"]).await;
    let lines = gateway.log().lines();
    let said: Vec<Value> = lines
        .iter()
        .filter(|line| line.contains("\"target\":\"guest\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [said] = said.as_slice() else {
        panic!("{said:?}")
    };
    let message = said["message"].as_str().unwrap();
    assert!(
        message.starts_with("panicked at probe/src/faults.rs:"),
        "{message}"
    );
    assert!(message.ends_with(": trapped on request"), "{message}");
}

#[tokio::test]
async fn message_far_over_the_limit_fails_with_the_limit_named() {
    let gateway = probe_with("limits = { message_kib = 2 }", "").await;
    let mut client = gateway.connect("/s").await;
    for (place, step) in [
        json!({"do": "send", "letters": 2_000_000}),
        json!({"do": "publish", "group": "x", "letters": 2_000_000}),
        json!({"do": "reply", "letters": 2_000_000}),
    ]
    .into_iter()
    .enumerate()
    {
        client.send(json!([step]).to_string()).await;
        client.expect_error("Internal server error").await;
        let words = [
            "the handler failed: too large",
            "more than 1026 KiB",
            "limits.message_kib of the stage, 2; send less, or raise it",
        ];
        gateway.log().nth_line(place, &words).await;
    }
    assert!(!gateway.log().contains(&["the plugin trapped"]));
}

#[tokio::test]
async fn panic_after_the_log_budget_is_spent_is_logged() {
    for log_kib in [0, 1] {
        let gateway = probe_with("", &format!("limits = {{ log_kib = {log_kib} }}")).await;
        let mut client = gateway.connect("/s").await;
        let steps = json!([{"do": "print error", "text": "x".repeat(2_000)}, {"do": "trap"}]);
        client.send(steps.to_string()).await;
        client.expect_error("Internal server error").await;
        let words = [
            "the plugin trapped: panicked at probe/src/faults.rs:",
            ": trapped on request",
        ];
        logged(&gateway, &words).await;
        logged(&gateway, &["limits.log_kib", "128 bytes more"]).await;
        assert!(!gateway.log().contains(&[r#"message":"panicked at"#]));
    }
}

#[tokio::test]
async fn full_outbox_is_logged_once_an_event() {
    let gateway = probe_with("limits = { outbox_messages = 4 }", "").await;
    let mut client = gateway.connect("/s").await;
    let burst = json!({"do": "burst", "times": 100, "text": "x"});
    client.send(json!([burst, burst, burst]).to_string()).await;
    let words = [
        "busy: ",
        "1024 KiB, which is limits.outbox_kib of the stage",
        "4 messages, which is limits.outbox_messages",
        "raise them",
    ];
    let line = logged(&gateway, &words).await;
    assert_eq!(line["level"], "WARN", "{line}");
    assert_eq!(line["plugin"], "probe", "{line}");
    client
        .send(json!([{"do": "print", "text": "the next event"}]).to_string())
        .await;
    gateway.log().line(&["the next event"]).await;
    let lines = gateway.log().lines();
    let named = lines
        .iter()
        .filter(|line| line.contains("limits.outbox_kib"));
    assert_eq!(named.count(), 1);
}

#[tokio::test]
async fn reply_over_the_limit_is_logged_with_the_remedy() {
    let gateway = probe_with("limits = { message_kib = 2 }", "").await;
    let mut client = gateway.connect("/s").await;
    client
        .send(json!([{"do": "reply", "letters": 2_049}]).to_string())
        .await;
    client.expect_error("Internal server error").await;
    let words = [
        "reply is over limits.message_kib of the stage",
        "answer with less, or raise it",
    ];
    let line = logged(&gateway, &words).await;
    assert_eq!(line["bytes"], 2_049, "{line}");
}
