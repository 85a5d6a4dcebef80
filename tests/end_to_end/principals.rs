//! Principals as addresses: handlers and operators reach all connections of one, and there are no more than may be.

use std::collections::HashSet;

use lockgate_tests::{Client, Gateway};
use serde_json::{Value, json};

use crate::LOCKGATE;
use crate::authorizers::{behind_a_door, saying};

/// A gateway whose stage has this limit of connections of one principal.
async fn serve(limits: &str) -> Gateway {
    let configuration = behind_a_door("", "").replace(
        "authorizer = \"door\"",
        &format!("authorizer = \"door\"\nlimits = {{ {limits} }}"),
    );
    LOCKGATE.serve(&configuration).await
}

fn target(principal: &str) -> String {
    saying(&json!({ "principal": principal, "values": { "plan": "gold", "level": 1 } }))
}

async fn connect(gateway: &Gateway, principal: &str) -> (Client, String) {
    let mut client = gateway.connect(&target(principal)).await;
    let id = client.id().await;
    (client, id)
}

async fn get(gateway: &Gateway, path: &str) -> Value {
    let (status, body) = gateway.page(path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn handler_reaches_the_connections_of_a_principal_by_its_group() {
    let gateway = serve("").await;
    let (mut phone, one) = connect(&gateway, "ada").await;
    let (mut laptop, two) = connect(&gateway, "ada").await;
    let (mut bob, _) = connect(&gateway, "bob").await;
    let group = "$principal/ada";
    let mut both = [one, two.clone()];
    both.sort();
    let members = json!({"do": "members", "group": group, "limit": 10});
    let publish = json!({"do": "publish", "group": group, "text": "to all devices"});
    let count = json!({"do": "count", "group": group});
    let answers = bob.steps(json!([members, count, publish])).await;
    assert_eq!(answers, [json!(both), json!(2), json!(2)]);
    for client in [&mut phone, &mut laptop] {
        client.expect("to all devices").await;
    }
    // Nobody joins or leaves it.
    let answers = bob
        .steps(json!([
            {"do": "join", "group": group},
            {"do": "leave", "group": "$principal/bob"},
            {"do": "count", "group": group},
            {"do": "count", "group": "$principal/bob"},
        ]))
        .await;
    let why = "a connection is in the group of its principal as long as it is open";
    for answer in &answers[..2] {
        assert!(answer.to_string().contains(why), "{answer}");
    }
    assert_eq!(answers[2..], [json!(2), json!(1)]);
    laptop.close(1000, "").await;
    gateway.log().line(&["disconnected", &two]).await;
    assert_eq!(bob.step(count).await, json!(1));
}

#[tokio::test]
async fn operator_finds_reaches_and_closes_a_principal() {
    let gateway = serve("").await;
    let (mut phone, one) = connect(&gateway, "ada").await;
    let (mut laptop, two) = connect(&gateway, "ada").await;
    let (mut bob, _) = connect(&gateway, "bob").await;
    phone.step(json!({"do": "join", "group": "phones"})).await;
    for (query, expected) in [
        ("principal=ada", vec![&one, &two]),
        ("principal=ada&group=phones", vec![&one]),
        ("principal=eve", vec![]),
    ] {
        let page = get(&gateway, &format!("/connections?{query}")).await;
        let found = page["connections"].as_array().unwrap().iter();
        let found: HashSet<_> = found.map(|listed| listed["id"].as_str().unwrap()).collect();
        assert_eq!(
            found,
            expected.iter().map(|id| id.as_str()).collect(),
            "{query}"
        );
    }
    let shown = get(&gateway, &format!("/connections/{one}")).await;
    assert_eq!(shown["principal"], "ada");
    assert_eq!(shown["authorizer"], json!({"level": 1, "plan": "gold"}));
    assert_eq!(shown["groups"], json!(["phones"]));
    // A group that nobody chose is in no list.
    let groups = get(&gateway, "/groups").await;
    assert_eq!(groups["groups"].as_array().unwrap().len(), 1, "{groups}");
    let address = gateway.management().to_string();
    let command = async |words: &[&str]| {
        let words = [words, &["--management", &address]].concat();
        let ended = LOCKGATE.run(&words).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.output
    };
    let listed = command(&["connections", "list", "--principal", "ada"]).await;
    assert!(listed.contains(&one) && listed.contains("ada"), "{listed}");
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let said = command(&[
        "connections",
        "send",
        "--principal",
        "ada",
        "--text",
        "hello",
    ])
    .await;
    assert_eq!(said, "sent to: 2 connections\n");
    for client in [&mut phone, &mut laptop] {
        client.expect("hello").await;
    }
    command(&[
        "connections",
        "close",
        "--principal",
        "ada",
        "--code",
        "4003",
    ])
    .await;
    phone.expect_close(4003, "").await;
    laptop.expect_close(4003, "").await;
    bob.id().await;
}

#[tokio::test]
async fn one_connection_too_many_of_a_principal_is_refused() {
    let gateway = serve("connections_per_principal = 2").await;
    let (_phone, _) = connect(&gateway, "ada").await;
    let (laptop, id) = connect(&gateway, "ada").await;
    let answer = gateway.ws(&target("ada")).refused().await;
    assert_eq!(answer.status, 429);
    gateway
        .log()
        .line(&["limits.connections_per_principal", "ada"])
        .await;
    // Others have connections of their own.
    let _bob = connect(&gateway, "bob").await;
    laptop.close(1000, "").await;
    gateway.log().line(&["disconnected", &id]).await;
    let _tablet = connect(&gateway, "ada").await;
}

/// Their places among all connections last as long.
#[tokio::test]
async fn connections_that_say_goodbye_are_bounded_for_a_principal() {
    let slowly = json!([{"do": "sleep", "ms": 25_000}]).to_string();
    let slowly = json!({"do": "set", "name": "farewell", "value": slowly});
    let configuration = behind_a_door("", "")
        .replace(
            "authorizer = \"door\"",
            "authorizer = \"door\"\nlimits = { connections_per_principal = 2 }",
        )
        .replace(
            "[plugins.probe]",
            "[plugins.probe]\nlimits = { deadline_ms = 29_000 }",
        );
    let gateway = LOCKGATE.serve(&configuration).await;
    for _ in 0..8 {
        let (mut client, id) = connect(&gateway, "ada").await;
        client.step(slowly.clone()).await;
        client.close(1000, "").await;
        gateway.log().line(&["ended: ", &id]).await;
    }
    let answer = gateway.ws(&target("ada")).refused().await;
    assert_eq!(answer.status, 429);
    let _bob = connect(&gateway, "bob").await;
}

#[tokio::test]
async fn one_connection_too_many_closes_the_oldest_where_configured() {
    let limits =
        "connections_per_principal = 2, beyond_connections_per_principal = \"close-oldest\"";
    let gateway = serve(limits).await;
    let (mut oldest, _) = connect(&gateway, "ada").await;
    let (mut older, _) = connect(&gateway, "ada").await;
    let (mut newest, _) = connect(&gateway, "ada").await;
    oldest
        .expect_close(4_000, "a newer connection of the same principal")
        .await;
    older.id().await;
    newest.id().await;
    let (_, _) = connect(&gateway, "bob").await;
    older.id().await;
}
