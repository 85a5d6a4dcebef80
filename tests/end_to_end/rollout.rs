//! Versions: rollback, rollout to a share of the connections, and automatic rollback.

use std::time::{Duration, Instant};

use lockgate_tests::{Client, replace, version};
use serde_json::Value;

use crate::{
    LOCKGATE,
    reload::{Served, expect},
};

async fn json(served: &Served, path: &str) -> Value {
    let (status, body) = served.gateway.page(path).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn post(served: &Served, what: &str, body: &str) -> (u16, String) {
    served
        .gateway
        .post(&format!("/plugins/v/{what}"), body)
        .await
}

async fn swap(served: &Served, number: u32, fault: char) {
    replace(&served.component, &version(number, fault));
    served.reload().await;
}

/// The version that answers a client.
async fn answering(client: &mut Client) -> u32 {
    client.send("x").await;
    let text = client.text().await;
    text.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn rollback_compiles_nothing_and_outlives_reloads() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    for number in 2..=5 {
        swap(&served, number, '-').await;
    }
    expect(&mut client, 5).await;
    let began = Instant::now();
    let (status, said) = post(&served, "rollback", "{}").await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(status, 200, "{said}");
    expect(&mut client, 4).await;
    // The file is unchanged: a reload for another reason does not undo the rollback.
    served.reload().await;
    expect(&mut client, 4).await;

    let address = served.gateway.management().to_string();
    let run = async |words: &[&str]| {
        let mut words = words.to_vec();
        words.extend(["--management", &address]);
        LOCKGATE.run(&words).await
    };
    let ended = run(&["plugins", "rollback", "v", "--to", "3"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    expect(&mut client, 3).await;
    let ended = run(&["plugins", "rollback", "v", "--to", "1"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.error.contains("version 1 is not kept compiled"),
        "{}",
        ended.error
    );
    let listed = run(&["plugins", "list"]).await.output;
    assert!(
        listed.contains("PLUGIN") && listed.contains("sha256:"),
        "{listed}"
    );
    let history = run(&["plugins", "history", "v"]).await.output;
    assert!(
        history.contains("rollback to version 3") && history.contains("rolled back by command"),
        "{history}"
    );
    let ended = run(&["plugins", "rollback", "w"]).await;
    assert!(
        ended.error.contains("no plugin is called \"w\""),
        "{}",
        ended.error
    );

    swap(&served, 6, '-').await;
    expect(&mut client, 6).await;
    let history = json(&served, "/plugins/v/history").await;
    assert_eq!(history[0]["version"], 8);
    assert_eq!(history[0]["ended"], Value::Null);
}

#[tokio::test]
async fn trapping_version_is_rolled_back() {
    let served = Served::with("rollback = { trap_percent = 25, calls = 8, within_s = 60 }").await;
    let mut client = served.connect().await;
    expect(&mut client, 1).await;
    swap(&served, 2, 't').await;
    for _ in 0..8 {
        client.send("x").await;
        client.expect_error("Internal server error").await;
    }
    let log = served.gateway.log();
    log.line(&["ERROR", "rolled itself back", "\"traps\":8"])
        .await;
    expect(&mut client, 1).await;
    let (_, page) = served.gateway.page("/metrics").await;
    for line in [
        "lockgate_self_rollbacks_total{plugin=\"v\"} 1",
        "lockgate_traps_total{plugin=\"v\"} 8",
        "lockgate_connections{api=\"a\",stage=\"s\"} 1",
        "lockgate_invocations_total{plugin=\"v\"} 10",
        "lockgate_swaps_total{plugin=\"v\"} 1",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    // A version that was rolled back automatically is no target.
    let (status, said) = post(&served, "rollback", "{}").await;
    assert_eq!(status, 409, "{said}");
}

#[tokio::test]
async fn spinning_version_is_rolled_back() {
    let served = Served::with("rollback = { calls = 4 }\nlimits = { cpu_ms = 10 }").await;
    let mut client = served.connect().await;
    swap(&served, 2, 'm').await;
    for _ in 0..4 {
        client.send("x").await;
        client.expect_error("Endpoint request timed out").await;
    }
    let log = served.gateway.log();
    log.line(&["ERROR", "rolled itself back", "\"traps\":4"])
        .await;
    expect(&mut client, 1).await;
}

/// Timeouts of waiting calls do not count: a client could force a rollback by making a handler wait.
#[tokio::test]
async fn version_whose_calls_wait_too_long_is_not_rolled_back() {
    let served = Served::with("rollback = { calls = 4 }\nlimits = { deadline_ms = 60 }").await;
    let mut client = served.connect().await;
    swap(&served, 2, '-').await;
    for _ in 0..8 {
        client.send("wait 10000").await;
        client.expect_error("Endpoint request timed out").await;
    }
    expect(&mut client, 2).await;
    let history = json(&served, "/plugins/v/history").await;
    assert_eq!(history[0]["calls"], 9);
    assert_eq!(history[0]["traps"], 0);
    assert!(!served.gateway.log().contains(&["traps too often"]));
}

#[tokio::test]
async fn trapping_version_stays_where_rollback_is_off() {
    let served = Served::with("rollback = { trap_percent = 0 }").await;
    let mut client = served.connect().await;
    swap(&served, 2, 't').await;
    for _ in 0..40 {
        client.send("x").await;
        client.expect_error("Internal server error").await;
    }
    assert!(!served.gateway.log().contains(&["traps too often"]));
}

#[tokio::test]
async fn rollout_serves_its_share_and_no_connection_flips_back() {
    let served = Served::new().await;
    let mut clients = Vec::new();
    for _ in 0..60 {
        clients.push(served.connect().await);
    }
    let (status, said) = post(&served, "rollout", "{\"share\": 30}").await;
    assert_eq!(status, 200, "{said}");
    swap(&served, 2, '-').await;
    let mut before = Vec::new();
    for client in &mut clients {
        before.push(answering(client).await);
    }
    let newer = before.iter().filter(|version| **version == 2).count();
    assert!((3..45).contains(&newer), "{newer} of 60 for 30 %");
    for (client, version) in clients.iter_mut().zip(&before) {
        expect(client, *version).await;
    }
    // A larger share only adds connections.
    post(&served, "rollout", "{\"share\": 70}").await;
    let mut after = Vec::new();
    for (client, before) in clients.iter_mut().zip(&before) {
        let now = answering(client).await;
        assert!(now >= *before);
        after.push(now);
    }
    assert!(after.iter().filter(|version| **version == 2).count() > newer);

    post(&served, "abort", "{}").await;
    for client in &mut clients {
        expect(client, 1).await;
    }
    post(&served, "rollout", "{\"share\": 50}").await;
    swap(&served, 3, '-').await;
    let (status, said) = post(&served, "promote", "{}").await;
    assert_eq!(status, 200, "{said}");
    for client in &mut clients {
        expect(client, 3).await;
    }
    let (status, _) = post(&served, "promote", "{}").await;
    assert_eq!(status, 409);
}

#[tokio::test]
async fn trapping_candidate_ends_its_rollout() {
    let served = Served::with("rollback = { trap_percent = 25, calls = 4 }").await;
    post(&served, "rollout", "{\"share\": 100}").await;
    swap(&served, 2, 't').await;
    let mut client = served.connect().await;
    for _ in 0..4 {
        client.send("x").await;
        client.expect_error("Internal server error").await;
    }
    served
        .gateway
        .log()
        .line(&["ERROR", "rolled itself back"])
        .await;
    expect(&mut client, 1).await;
    assert_eq!(json(&served, "/plugins").await[0]["candidate"], Value::Null);
}

/// The version before the candidate continues: the operator wants the candidate out.
#[tokio::test]
async fn rollback_during_a_rollout_ends_the_rollout() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    swap(&served, 2, '-').await;
    post(&served, "rollout", "{\"share\": 100}").await;
    swap(&served, 3, '-').await;
    expect(&mut client, 3).await;
    let (status, said) = post(&served, "rollback", "{}").await;
    assert_eq!(status, 200, "{said}");
    assert!(
        said.contains("the rollout has ended, and version 2 serves all connections"),
        "{said}"
    );
    expect(&mut client, 2).await;
    let plugin = &json(&served, "/plugins").await[0];
    assert_eq!(plugin["serving"]["version"], 2);
    assert_eq!(plugin["share"], Value::Null);
}

#[tokio::test]
async fn aborted_candidate_is_no_target_of_a_rollback() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    swap(&served, 2, '-').await;
    post(&served, "rollout", "{\"share\": 1}").await;
    swap(&served, 3, '-').await;
    swap(&served, 4, '-').await;
    post(&served, "abort", "{}").await;
    let (status, said) = post(&served, "rollback", "{}").await;
    assert_eq!(status, 200, "{said}");
    expect(&mut client, 1).await;
}

#[tokio::test]
async fn waiting_rollout_is_listed_and_cannot_be_promoted() {
    let served = Served::new().await;
    let (_, said) = post(&served, "promote", "{}").await;
    assert!(said.contains("no rollout is under way"), "{said}");
    post(&served, "rollout", "{\"share\": 20}").await;
    let (status, said) = post(&served, "promote", "{}").await;
    assert_eq!(status, 409, "{said}");
    assert!(
        said.contains("a rollout to 20 % waits for the next file"),
        "{said}"
    );
    let address = served.gateway.management().to_string();
    let words = ["plugins", "list", "--management", &address];
    let listed = LOCKGATE.run(&words).await.output;
    assert!(
        listed.contains("20 %") && listed.contains("waits for the next file"),
        "{listed}"
    );
}

#[tokio::test]
async fn admin_request_without_a_body_is_answered_in_json() {
    let served = Served::new().await;
    swap(&served, 2, '-').await;
    for (what, body) in [
        ("rollout", ""),
        ("rollback", "{"),
        ("rollback", "{\"to\": 1}"),
    ] {
        let (status, said) = post(&served, what, body).await;
        assert_eq!(status, 400, "{said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert!(said["error"].is_string(), "{said}");
    }
    let (status, said) = post(&served, "rollback", "").await;
    assert_eq!(status, 200, "{said}");
    expect(&mut served.connect().await, 1).await;
}

#[tokio::test]
async fn reload_says_that_a_rollback_holds() {
    let served = Served::new().await;
    swap(&served, 2, '-').await;
    post(&served, "rollback", "{}").await;
    let note = "plugin v: the file holds version 2, which was rolled back; version 3 serves";
    let said: Value = serde_json::from_str(&served.reload().await).unwrap();
    assert_eq!(said["changed"], serde_json::json!([]));
    assert_eq!(said["notes"], serde_json::json!([note]));
    let address = served.gateway.management().to_string();
    let said = LOCKGATE.run(&["reload", &address]).await.output;
    assert_eq!(said, format!("nothing has changed\n{note}\n"));
    served.gateway.log().line(&["INFO", note]).await;
    swap(&served, 4, '-').await;
    let said: Value = serde_json::from_str(&served.reload().await).unwrap();
    assert_eq!(said["notes"], serde_json::json!([]));
}

#[tokio::test]
async fn history_is_bounded_while_a_rollout_stands() {
    let served = Served::new().await;
    let (status, said) = post(&served, "rollout", r#"{"share": 10}"#).await;
    assert_eq!(status, 200, "{said}");
    for number in 2..=22 {
        swap(&served, number, '-').await;
    }
    let history = json(&served, "/plugins/v/history").await;
    let versions = history.as_array().unwrap();
    // The stable version, the candidate, and those that ended last.
    assert_eq!(versions.len(), 16, "{history}");
    assert_eq!(versions[15]["version"], 1);
    assert_eq!(versions[0]["version"], 22);
}
