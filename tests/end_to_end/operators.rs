//! Operators see who is connected, send to clients and close them: by the admin API and by the commands.

use std::collections::HashSet;

use lockgate_tests::{Client, Gateway, Opcode};
use serde_json::{Value, json};

use crate::{LOCKGATE, probe_configuration};

/// The guest probe at two stages of one API.
pub(crate) async fn serve() -> Gateway {
    let configuration = probe_configuration("limits = { message_kib = 1 }", "");
    LOCKGATE
        .serve(&format!("{configuration}\n[apis.a.stages.t]\n"))
        .await
}

pub(crate) async fn get(gateway: &Gateway, path: &str) -> Value {
    let (status, body) = gateway.page(path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// The status of a change, and its answer.
async fn post(gateway: &Gateway, path: &str, body: Value) -> (u16, Value) {
    let (status, answer) = gateway.post(path, &body.to_string()).await;
    let answer = serde_json::from_str(&answer);
    (status, answer.unwrap_or_else(|error| panic!("{error}")))
}

/// Runs a command about the gateway, which succeeds, and gives its output.
pub(crate) async fn command(gateway: &Gateway, words: &[&str]) -> String {
    let address = gateway.management().to_string();
    let words = [words, &["--management", &address]].concat();
    let ended = LOCKGATE.run(&words).await;
    assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
    ended.output
}

pub(crate) async fn named(gateway: &Gateway, target: &str, name: &str) -> (Client, String) {
    let mut client = gateway.connect(target).await;
    let id = client.id().await;
    let done = client
        .steps(json!([
            {"do": "set", "name": "name", "value": name},
            {"do": "join", "group": "lobby"},
            {"do": "join", "group": format!("of/{name}")},
        ]))
        .await;
    assert_eq!(done, ["ok", "ok", "ok"]);
    (client, id)
}

fn ids(page: &Value) -> HashSet<String> {
    let connections = page["connections"].as_array().unwrap();
    let ids = connections
        .iter()
        .map(|connection| connection["id"].as_str().unwrap());
    ids.map(str::to_owned).collect()
}

#[tokio::test]
async fn connections_are_listed_by_stage_group_and_attribute() {
    let gateway = serve().await;
    let (_ada, ada) = named(&gateway, "/s", "ada").await;
    let (_bob, bob) = named(&gateway, "/s", "bob").await;
    let (_eve, eve) = named(&gateway, "/t", "ada").await;
    for (query, expected) in [
        ("", vec![&ada, &bob, &eve]),
        ("?stage=a/s", vec![&ada, &bob]),
        ("?group=lobby", vec![&ada, &bob, &eve]),
        ("?group=of%2Fbob", vec![&bob]),
        ("?attribute=name%3Dada", vec![&ada, &eve]),
        ("?attribute=name%3Dada&stage=a/t&group=lobby", vec![&eve]),
        ("?attribute=name%3Dbob&group=of%2Fada", vec![]),
        ("?group=nobody", vec![]),
    ] {
        let page = get(&gateway, &format!("/connections{query}")).await;
        let expected: HashSet<_> = expected.into_iter().cloned().collect();
        assert_eq!(ids(&page), expected, "{query}");
        assert_eq!(page["next"], Value::Null, "{query}");
    }
    for (query, why) in [
        (
            "stage=a/x",
            "no stage is called \"a/x\"; there are: a/s, a/t",
        ),
        ("attribute=name", "is not written as NAME=VALUE"),
        ("limit=0", "limit is 1 to 1000"),
        ("limit=1001", "limit is 1 to 1000"),
        ("after=x", "after: take it from the page before"),
        ("name=ada", "there is no parameter \"name\""),
    ] {
        let (status, body) = gateway.page(&format!("/connections?{query}")).await;
        assert!(matches!(status, 400 | 404), "{query}: {status}");
        assert!(body.contains(&why.replace('"', "\\\"")), "{query}: {body}");
    }
}

#[tokio::test]
async fn every_connection_is_on_one_page() {
    let gateway = serve().await;
    let mut clients = Vec::new();
    for place in 0..60 {
        clients.push(
            gateway
                .connect(if place % 2 == 0 { "/s" } else { "/t" })
                .await,
        );
    }
    let (mut found, mut after) = (HashSet::new(), String::new());
    loop {
        let page = get(&gateway, &format!("/connections?limit=7{after}")).await;
        for id in ids(&page) {
            assert!(found.insert(id), "on two pages");
        }
        let Some(next) = page["next"].as_str() else {
            break;
        };
        assert_eq!(ids(&page).len(), 7);
        after = format!("&after={next}");
    }
    assert_eq!(found.len(), clients.len());
    let listed = command(&gateway, &["connections", "list", "--limit", "1000"]).await;
    assert_eq!(listed.lines().count(), 1 + clients.len(), "{listed}");
    let listed = command(&gateway, &["connections", "list", "--limit", "7"]).await;
    let last = listed.lines().last().unwrap();
    assert!(last.contains("--after 'a/s/"), "{last}");
}

#[tokio::test]
async fn connection_is_shown_with_everything_that_is_known() {
    let gateway = serve().await;
    let request = gateway.ws("/s").header("user-agent", "hostile");
    let mut client = request.open().await;
    let id = client.id().await;
    let steps = json!([
        {"do": "set", "name": "room", "value": "blue\u{7}"},
        {"do": "join", "group": "lobby"},
        {"do": "join", "group": "attic"},
    ]);
    client.steps(steps).await;
    let shown = get(&gateway, &format!("/connections/{id}")).await;
    for (field, expected) in [
        ("id", json!(id)),
        ("stage", json!("a/s")),
        ("source_ip", json!("127.0.0.1")),
        ("http", json!("1.1")),
        ("protocol", json!("websocket")),
        ("domain_name", json!("localhost")),
        ("subprotocol", Value::Null),
        ("groups", json!(["attic", "lobby"])),
        ("attributes", json!({"room": "blue\u{7}"})),
        ("queued_messages", json!(0)),
        ("closing", Value::Null),
        ("plugins", json!({"probe": 1})),
    ] {
        assert_eq!(shown[field], expected, "{field}: {shown}");
    }
    assert_eq!(shown["limits"]["message_bytes"], 1_024);
    let times = ["connected_at", "last_active_at"].map(|time| shown[time].as_u64().unwrap());
    assert!(
        times.is_sorted() && times[0] > 1_700_000_000_000,
        "{times:?}"
    );
    // A terminal is not told what the client or a plugin has written for it.
    let printed = command(&gateway, &["connections", "show", &id]).await;
    assert!(printed.contains("room=blue\\u{7}"), "{printed}");
    assert!(!printed.contains(['\u{7}', '\u{1b}']), "{printed}");
    let printed = command(&gateway, &["connections", "show", &id, "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap()["id"], id);
    for (id, status, why) in [
        ("unknown-unknown-", 410, "no open connection has the id"),
        ("unknown", 400, "is no connection's id"),
    ] {
        let (answered, body) = gateway.page(&format!("/connections/{id}")).await;
        assert_eq!(answered, status);
        assert!(body.contains(why), "{body}");
    }
}

#[tokio::test]
async fn message_reaches_the_connections_that_are_meant() {
    let gateway = serve().await;
    let (mut ada, id) = named(&gateway, "/s", "ada").await;
    let (mut bob, _) = named(&gateway, "/s", "bob").await;
    let (mut eve, _) = named(&gateway, "/t", "eve").await;
    let send = "/connections/send";
    let body = json!({"connections": {"id": id}, "text": "one"});
    assert_eq!(
        post(&gateway, send, body).await,
        (200, json!({"queued": 1, "closed": 0}))
    );
    ada.expect("one").await;
    let body = json!({"connections": {"id": id}, "binary": "AAH/"});
    assert_eq!(post(&gateway, send, body).await.0, 200);
    assert_eq!(&ada.binary().await[..], [0, 1, 255]);
    let body = json!({"connections": {"stage": "a/s", "group": "lobby"}, "text": "group"});
    assert_eq!(post(&gateway, send, body).await.1["queued"], 2);
    let body = json!({"connections": {"stage": "a/s", "all": true}, "text": "all"});
    assert_eq!(post(&gateway, send, body).await.1["queued"], 2);
    for client in [&mut ada, &mut bob] {
        client.expect("group").await;
        client.expect("all").await;
    }
    let said = command(
        &gateway,
        &[
            "connections",
            "send",
            "--stage",
            "a/t",
            "--attribute",
            "name=eve",
            "--text",
            "attribute",
        ],
    )
    .await;
    assert_eq!(said, "sent to: 1 connection\n");
    eve.expect("attribute").await;
    let publish = [
        "groups",
        "publish",
        "lobby",
        "--stage",
        "a/t",
        "--text",
        "published",
    ];
    assert_eq!(command(&gateway, &publish).await, "sent to: 1 connection\n");
    eve.expect("published").await;
    let file = gateway.folder().join("message");
    std::fs::write(&file, [7; 1_024]).unwrap();
    let file = file.to_str().unwrap();
    command(&gateway, &["connections", "send", &id, "--binary", file]).await;
    assert_eq!(ada.binary().await.len(), 1_024);
}

#[tokio::test]
async fn message_that_cannot_be_sent_is_refused_with_the_remedy() {
    let gateway = serve().await;
    let (_ada, id) = named(&gateway, "/s", "ada").await;
    let gone = {
        let (client, gone) = named(&gateway, "/s", "bob").await;
        client.close(1000, "").await;
        gone
    };
    let long = "x".repeat(1_025);
    for (body, status, why) in [
        (
            json!({"connections": {"id": gone}, "text": ""}),
            410,
            "no open connection has the id",
        ),
        (
            json!({"connections": {"id": id}, "text": long}),
            413,
            "limits.message_kib of the stage a/s",
        ),
        (
            json!({"connections": {"stage": "a/s", "all": true}, "text": long}),
            413,
            "1025 bytes",
        ),
        (
            json!({"connections": {"id": id}}),
            400,
            "write the message as text, or as binary",
        ),
        (
            json!({"connections": {"id": id}, "text": "", "binary": ""}),
            400,
            "write the message",
        ),
        (
            json!({"connections": {"id": id}, "binary": "?"}),
            400,
            "binary: ",
        ),
        (
            json!({"connections": {}, "text": ""}),
            400,
            "say which connections",
        ),
        (
            json!({"connections": {"stage": "a/s"}, "text": ""}),
            400,
            "say which connections",
        ),
        (
            json!({"connections": {"id": id, "all": true}, "text": ""}),
            400,
            "an id names one",
        ),
        (
            json!({"connections": {"all": true, "group": "lobby"}, "text": ""}),
            400,
            "all means every connection",
        ),
        (
            json!({"connections": {"all": true}, "text": ""}),
            400,
            "name the stage: a/s, a/t",
        ),
        (
            json!({"connections": {"stage": "x", "all": true}, "text": ""}),
            404,
            "no stage is called",
        ),
        (
            json!({"connections": {"all": true, "who": 1}, "text": ""}),
            400,
            "unknown field `who`",
        ),
        (json!({"text": ""}), 400, "missing field `connections`"),
    ] {
        let (answered, answer) = post(&gateway, "/connections/send", body.clone()).await;
        assert_eq!(answered, status, "{body}: {answer}");
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(why), "{body}: {error}");
    }
    // The body itself has a bound, for a message and for all else.
    for (path, limit) in [("send", 2 << 20), ("close", 64 << 10)] {
        let body = json!({"connections": {"id": id}, "text": "x".repeat(limit)});
        let (answered, answer) = post(&gateway, &format!("/connections/{path}"), body).await;
        assert_eq!(answered, 413, "{answer}");
        assert!(
            answer["error"]
                .as_str()
                .unwrap()
                .contains(&format!("takes {limit}")),
            "{answer}"
        );
    }
    let address = gateway.management().to_string();
    let send = [
        "connections",
        "send",
        &gone,
        "--text",
        "x",
        "--management",
        &address,
    ];
    let ended = LOCKGATE.run(&send).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.error.contains("it has ended, or was never there"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn client_without_room_is_an_error_alone_and_closed_among_many() {
    let limits = "limits = { message_kib = 64 }";
    let gateway = LOCKGATE.serve(&probe_configuration(limits, "")).await;
    // It reads nothing until its queue is full.
    let mut client = gateway.ws("/s").receive_buffer(4_096).open_raw().await;
    let id = {
        let page = get(&gateway, "/connections").await;
        page["connections"][0]["id"].as_str().unwrap().to_owned()
    };
    let text = "x".repeat(60_000);
    let to_one = json!({"connections": {"id": id}, "text": text});
    loop {
        let (status, answer) = post(&gateway, "/connections/send", to_one.clone()).await;
        if status == 429 {
            let error = answer["error"].as_str().unwrap();
            assert!(error.contains("its client reads too slowly"), "{error}");
            break;
        }
        assert_eq!(status, 200, "{answer}");
    }
    let shown = get(&gateway, &format!("/connections/{id}")).await;
    assert!(shown["queued_bytes"].as_u64() > Some(0), "{shown}");
    let to_all = json!({"connections": {"stage": "a/s", "all": true}, "text": text});
    let (_, answer) = post(&gateway, "/connections/send", to_all).await;
    assert_eq!(answer, json!({"queued": 0, "closed": 1}));
    loop {
        let frame = client.data().await.expect("a close frame comes");
        if frame.opcode == Opcode::CLOSE {
            assert_eq!(frame.payload[..2], 1013_u16.to_be_bytes());
            break;
        }
    }
}

#[tokio::test]
async fn close_reaches_the_client_with_code_and_reason_and_runs_disconnect() {
    let gateway = serve().await;
    let mut observer = gateway.connect("/s").await;
    observer.observe().await;
    let (mut ada, id) = named(&gateway, "/s", "ada").await;
    let (mut bob, _) = named(&gateway, "/s", "bob").await;
    let (mut eve, _) = named(&gateway, "/t", "eve").await;
    let close = [
        "connections",
        "close",
        &id,
        "--code",
        "4000",
        "--reason",
        "go home",
    ];
    assert_eq!(command(&gateway, &close).await, "closed: 1 connection\n");
    ada.expect_close(4000, "go home").await;
    let report = observer.ended(&id).await;
    assert_eq!((report.code, &*report.reason), (4000, "go home"));
    let body = json!({"connections": {"stage": "a/s", "group": "lobby"}, "code": 1001});
    assert_eq!(
        post(&gateway, "/connections/close", body).await,
        (200, json!({"closed": 1}))
    );
    bob.expect_close(1001, "").await;
    // The member of the same group in the other stage is not meant.
    let said = command(
        &gateway,
        &["connections", "close", "--stage", "a/t", "--all"],
    )
    .await;
    assert_eq!(said, "closed: 1 connection\n");
    eve.expect_close(1000, "").await;
    for (code, reason, why) in [
        (1005, "", "no endpoint may send the close code 1005"),
        (2999, "", "no endpoint may send the close code 2999"),
        (1000, &*"x".repeat(124), "a reason has at most 123 bytes"),
    ] {
        let body =
            json!({"connections": {"stage": "a/s", "all": true}, "code": code, "reason": reason});
        let (status, answer) = post(&gateway, "/connections/close", body).await;
        assert_eq!((status, answer["error"].as_str()), (400, Some(why)));
    }
    observer.id().await;
}

#[tokio::test]
async fn groups_are_listed_with_their_members() {
    let gateway = serve().await;
    let (_ada, _) = named(&gateway, "/s", "ada").await;
    let (bob, id) = named(&gateway, "/s", "bob").await;
    let (_eve, _) = named(&gateway, "/t", "eve").await;
    let groups = async |query: &str| {
        let page = get(&gateway, &format!("/groups{query}")).await;
        let groups = page["groups"].as_array().unwrap().clone();
        let mut groups: Vec<_> = groups
            .iter()
            .map(|group| format!("{}:{}={}", group["stage"], group["name"], group["members"]))
            .collect();
        groups.sort();
        (groups.join(" ").replace('"', ""), page["next"].clone())
    };
    let (all, next) = groups("").await;
    assert_eq!(
        all,
        "a/s:lobby=2 a/s:of/ada=1 a/s:of/bob=1 a/t:lobby=1 a/t:of/eve=1"
    );
    assert_eq!(next, Value::Null);
    let (mut pages, mut after) = (Vec::new(), String::new());
    loop {
        let (page, next) = groups(&format!("?limit=1{after}")).await;
        let Some(next) = next.as_str() else { break };
        pages.push(page);
        after = format!("&after={next}");
    }
    pages.sort();
    assert_eq!(pages.join(" "), all);
    bob.close(1000, "").await;
    gateway.log().line(&["disconnected", &id]).await;
    let listed = command(&gateway, &["groups", "list", "--stage", "a/s"]).await;
    let words: HashSet<Vec<_>> = listed
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let expected = [
        vec!["GROUP", "STAGE", "MEMBERS"],
        vec!["lobby", "a/s", "1"],
        vec!["of/ada", "a/s", "1"],
    ];
    assert_eq!(words, expected.into_iter().collect());
}

#[tokio::test]
async fn each_described_request_is_answered_with_a_described_status() {
    let gateway = serve().await;
    let document = get(&gateway, "/openapi.json").await;
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 15, "{}", paths.len());
    for (path, methods) in paths {
        let target = path
            .replace("{stage}", "s")
            .replace("{id}", "unknown-unknown-")
            .replace("{name}", "probe");
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_uppercase();
            // A `POST` without the content type of JSON changes nothing.
            let (status, body) = gateway.ask(&method, &target, "Host: localhost\r\n").await;
            let described = &operation["responses"][status.to_string()];
            assert!(described.is_object(), "{method} {path}: {status} {body}");
            if path.contains("@connections") {
                assert_eq!(status, 410, "{method} {path}: {body}");
                continue;
            }
            if method == "POST" {
                assert_eq!(status, 415, "{method} {path}: {body}");
            }
            let other = if method == "POST" { "GET" } else { "DELETE" };
            let (status, _) = gateway.ask(other, &target, "Host: localhost\r\n").await;
            // A path of one connection is another request's.
            assert!(matches!(status, 400 | 405), "{other} {path}: {status}");
        }
    }
    assert_eq!(gateway.page("/unknown").await.0, 404);
}
