//! `$disconnect` under load: each runs exactly once, however busy its plugin is, and delays no message for long.

use std::{collections::HashSet, time::Duration};

use lockgate_tests::{Client, Gateway, LONG_PATIENCE, allow_many_files};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{LOCKGATE, connect::connecting, floods::resident_kib, probe_configuration, probe_with};

/// Duration of a `$disconnect` handler.
const SLOW_MS: u64 = 20;

/// Clients whose `$disconnect` handler waits for `ms`.
async fn leaving(gateway: &Gateway, count: usize, ms: u64) -> Vec<Client> {
    let farewell = json!([{"do": "sleep", "ms": ms}]).to_string();
    let target = connecting(&json!([{"do": "set", "name": "farewell", "value": farewell}]));
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(gateway.connect(&target).await);
    }
    clients
}

/// Waits until `count` `$disconnect` handlers have run, and checks that none ran twice for one client.
async fn all_disconnects_ran(gateway: &Gateway, count: usize) {
    let ended = ["\"message\":\"ended: "];
    let log = gateway.log();
    log.nth_line_within(LONG_PATIENCE, count - 1, &ended).await;
    let lines = log.lines();
    let said: Vec<_> = lines
        .iter()
        .filter_map(|line| line.split_once(ended[0])?.1.split(' ').next())
        .collect();
    let ids: HashSet<_> = said.iter().collect();
    assert_eq!((said.len(), ids.len()), (count, count));
}

#[tokio::test]
async fn every_client_that_leaves_together_has_its_disconnect() {
    const CLIENTS: usize = 300;
    let gateway = probe_with("", "limits = { instances = 4, waiting = 8 }").await;
    for client in leaving(&gateway, CLIENTS, SLOW_MS).await {
        client.vanish();
    }
    all_disconnects_ran(&gateway, CLIENTS).await;
}

#[tokio::test]
async fn slow_messages_and_a_disconnect_take_turns() {
    let gateway = probe_with("", "limits = { instances = 1, waiting = 4 }").await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(gateway.connect("/s").await);
    }
    let leaving = gateway.connect("/s").await;
    let mut answers = JoinSet::new();
    for mut client in slow {
        answers.spawn(async move {
            client
                .send(json!([{"do": "sleep", "ms": 50}]).to_string())
                .await;
            client.text().await
        });
    }
    leaving.vanish();
    all_disconnects_ran(&gateway, 1).await;
    let answers = answers.join_all().await;
    let done = answers.iter().filter(|answer| *answer == "[null]").count();
    assert!(done >= 5, "one runs and four wait: {answers:?}");
}

/// Only one call may wait, and that limit is for messages alone; each message waits for one `$disconnect` at most.
#[tokio::test]
async fn waiting_disconnects_take_no_room_from_messages() {
    const CLIENTS: usize = 200;
    let gateway = probe_with("", "limits = { instances = 1, waiting = 1 }").await;
    let clients = leaving(&gateway, CLIENTS, SLOW_MS).await;
    let mut other = gateway.connect("/s").await;
    for client in clients {
        client.vanish();
    }
    gateway.log().line(&["\"message\":\"ended: "]).await;
    for _ in 0..20 {
        other.id().await;
    }
    let over = gateway.log().lines();
    let over = over
        .iter()
        .filter(|line| line.contains("\"message\":\"ended: "));
    let over = over.count();
    assert!(over < CLIENTS / 2, "{over} have been before 20 messages");
    all_disconnects_ran(&gateway, CLIENTS).await;
}

#[tokio::test]
async fn waiting_disconnects_of_a_replaced_version_run_on_the_next() {
    const CLIENTS: usize = 200;
    let gateway = probe_with("", "limits = { instances = 2, waiting = 0 }").await;
    for client in leaving(&gateway, CLIENTS, SLOW_MS).await {
        client.vanish();
    }
    gateway.log().line(&["\"message\":\"ended: "]).await;
    let file = gateway.folder().join("gateway.toml");
    let configuration = std::fs::read_to_string(&file).unwrap();
    for instances in [3, 4] {
        let changed = configuration.replace("instances = 2", &format!("instances = {instances}"));
        std::fs::write(&file, changed).unwrap();
        let (status, said) = gateway.post("/reload", "{}").await;
        assert_eq!(status, 200, "{said}");
    }
    let (status, said) = gateway
        .post("/plugins/probe/rollback", r#"{"version": 1}"#)
        .await;
    assert_eq!(status, 200, "{said}");
    all_disconnects_ran(&gateway, CLIENTS).await;
}

/// Thousands of clients are closed at once, more than their handler manages within the window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_waits_for_every_disconnect_and_holds_little_for_each() {
    const CLIENTS: usize = 2_000;
    /// KiB for a waiting `$disconnect`: its task, the data of its client, and its entry in the queue.
    const EACH_KIB: usize = 16;
    allow_many_files();
    let limits = "limits = { instances = 8, waiting = 8 }";
    let configuration = probe_configuration("", limits);
    let configuration = format!("[limits]\ndrain_s = 0\ndisconnects_s = 600\n{configuration}");
    let mut gateway = LOCKGATE.serve(&configuration).await;
    let clients = leaving(&gateway, CLIENTS, 2 * SLOW_MS).await;
    let before = resident_kib(&gateway);
    gateway.terminate();
    let log = gateway.log().clone();
    log.nth_line(CLIENTS / 10, &["\"message\":\"ended: "]).await;
    let grown = resident_kib(&gateway).saturating_sub(before);
    drop(clients);
    eprintln!(
        "{CLIENTS} `$disconnect` that wait: {grown} KiB more than {CLIENTS} open connections"
    );
    assert!(grown <= CLIENTS * EACH_KIB, "{grown} KiB");
    assert_eq!(gateway.ended_within(LONG_PATIENCE).await, Some(0));
    all_disconnects_ran(&gateway, CLIENTS).await;
}

/// Each hangs until its deadline, one after the other: together they would take a minute.
#[tokio::test]
async fn hanging_disconnects_delay_a_stop_no_longer_than_configured() {
    const CLIENTS: usize = 60;
    let limits = "limits = { instances = 1, deadline_ms = 1000 }";
    let configuration = probe_configuration("", limits);
    let configuration = format!("[limits]\ndrain_s = 0\ndisconnects_s = 2\n{configuration}");
    let mut gateway = LOCKGATE.serve(&configuration).await;
    let clients = leaving(&gateway, CLIENTS, 60_000).await;
    gateway.terminate();
    // 3 s for the last answers, 2 s for the handlers, 1 s for the rest, and as much again for a busy machine.
    let ended = gateway.ended_within(Duration::from_secs(12)).await;
    assert_eq!(ended, Some(0));
    let given_up = [
        "\"level\":\"ERROR\"",
        "limits.disconnects_s (2 s)",
        "\"left\":",
    ];
    gateway.log().line(&given_up).await;
    drop(clients);
    // The call at work is no failure of the gateway, and there is nobody to cut.
    assert!(!gateway.log().contains(&["the gateway failed"]));
    assert!(!gateway.log().contains(&["cutting the remaining"]));
}
