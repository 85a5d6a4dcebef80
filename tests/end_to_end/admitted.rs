//! Connections that were let in, when what let them in changes: authorizers renamed and removed by a reload, principals who
//! connect again and again, stages that go and come back.

use std::collections::BTreeSet;

use lockgate_tests::{Client, Gateway, within};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::LOCKGATE;
use crate::api_keys::Keys;
use crate::authorizers::{behind_a_door, saying};

/// The probe behind the doorman and an API key whose plan has three uses, with a route that asks for a scope.
async fn guarded(keys: &Keys) -> Gateway {
    let door = "authorizer = \"door\"";
    let both = format!("{door}\napi_key = \"keys\"");
    let route = "quietly = { integration = \"probe\" }";
    let scoped = "scoped = { integration = \"probe\", two_way = true, scopes = [\"write\"] }";
    let configuration = behind_a_door("on_expiry = \"close\"", "")
        .replacen(door, &both, 1)
        .replacen(route, &format!("{route}\n{scoped}"), 1);
    let file = keys.path().join("api-keys.toml");
    LOCKGATE
        .serve(&format!(
            "{configuration}\n[authorizers.keys]\napi_keys = {{ file = {file:?}, usage_plan = \"few\" }}\n\
             [usage_plans.few]\nquota = {{ limit = 4, per = \"month\" }}\nmessages = true\n"
        ))
        .await
}

async fn scoped(client: &mut Client) -> Value {
    client.send(json!({"action": "scoped"}).to_string()).await;
    client.json().await
}

/// Promised in docs/authorizers.md: an authorizer lets clients in, and a reload takes nothing from those that are.
#[tokio::test]
async fn connection_keeps_who_it_is_and_its_plan_when_its_authorizers_are_renamed_and_removed() {
    let keys = Keys::new();
    let key = keys.make("mobile", &[]).await;
    let gateway = guarded(&keys).await;
    let say = json!({"principal": "ada", "scopes": ["write"], "values": {"team": "blue"}});
    let request = gateway.ws(&saying(&say)).header("X-Api-Key", &key);
    let mut client = request.open().await;
    let who = client.step(json!({"do": "who"})).await;
    assert_eq!(
        (&who["principal"], &who["values"]["team"]),
        (&json!("ada"), &json!("blue"))
    );
    let renamed = [
        ("authorizer = \"door\"", "authorizer = \"gate\""),
        ("[authorizers.door]", "[authorizers.gate]"),
        ("api_key = \"keys\"", "api_key = \"plans\""),
        ("[authorizers.keys]", "[authorizers.plans]"),
    ];
    gateway.change(&renamed).await;
    assert_eq!(client.step(json!({"do": "who"})).await, who);
    let gone = [("authorizer = \"gate\"", ""), ("api_key = \"plans\"", "")];
    gateway.change(&gone).await;
    let answer = scoped(&mut client).await;
    assert_ne!(answer["message"], "Forbidden", "{answer}");
    // The plan has had its four uses: the handshake, and three messages.
    assert_eq!(scoped(&mut client).await["message"], "Too Many Requests");
    // Whoever comes now is nobody, has no scope, and no plan.
    let mut newcomer = gateway.connect("/s").await;
    assert_eq!(scoped(&mut newcomer).await["message"], "Forbidden");
    for _ in 0..5 {
        let nobody = newcomer.step(json!({"do": "who"})).await;
        assert_eq!(nobody["principal"], Value::Null);
    }
}

#[tokio::test]
async fn expiry_ends_a_connection_by_the_authorizer_that_its_stage_has_now() {
    let configuration = behind_a_door("on_expiry = \"close\"", "");
    let gateway = LOCKGATE.serve(&configuration).await;
    let mut kept = gateway.connect(&saying(&json!({"expires_in": 1}))).await;
    gateway
        .change(&[("authorizer = \"door\"", "authorizer = \"none\"")])
        .await;
    kept.step(json!({"do": "sleep", "ms": 1_200})).await;
    kept.step(json!({"do": "event"})).await;
    let back = [("authorizer = \"none\"", "authorizer = \"door\"")];
    gateway.change(&back).await;
    kept.send("[]").await;
    assert_eq!(
        kept.closed().await,
        (1008, "authorization expired".to_owned())
    );
}

/// A gateway whose stage has this limit of connections of one principal.
async fn bounded(beyond: &str) -> Gateway {
    let limits = format!(
        "limits = {{ connections_per_principal = 2, beyond_connections_per_principal = \"{beyond}\" }}"
    );
    let door = "authorizer = \"door\"";
    let configuration = behind_a_door("", "").replacen(door, &format!("{door}\n{limits}"), 1);
    LOCKGATE.serve(&configuration).await
}

/// The open connections of `ada`, by id.
async fn connections_of_ada(gateway: &Gateway) -> BTreeSet<String> {
    let (status, page) = gateway.page("/connections?principal=ada").await;
    assert_eq!(status, 200, "{page}");
    let page: Value = serde_json::from_str(&page).unwrap();
    let ids = page["connections"].as_array().unwrap().iter();
    ids.map(|connection| connection["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Connects many times at once. Gives the clients that were let in, and the statuses of the others.
async fn storm(gateway: &Gateway, clients: usize) -> (Vec<Client>, Vec<u16>) {
    let mut attempts = JoinSet::new();
    for _ in 0..clients {
        let request = gateway.ws(&saying(&json!({"principal": "ada"})));
        attempts.spawn(async move { request.attempt().await });
    }
    let (mut open, mut refused) = (Vec::new(), Vec::new());
    for attempt in attempts.join_all().await {
        match attempt {
            Ok(client) => open.push(client),
            Err(answer) => refused.push(answer.status),
        }
    }
    (open, refused)
}

#[tokio::test]
async fn storm_of_reconnects_leaves_as_many_of_a_principal_open_as_may_be() {
    let gateway = bounded("close-oldest").await;
    let (clients, refused) = storm(&gateway, 40).await;
    // As many close at once as may be open: clients that do not answer a close take no more places. Others get 429.
    assert_eq!(clients.len() + refused.len(), 40);
    assert!(clients.len() >= 2 && refused.iter().all(|status| *status == 429));
    let closed = clients.len() - 2;
    let mut closing = JoinSet::new();
    for mut client in clients {
        closing.spawn(async move { client.closed().await });
    }
    for _ in 0..closed {
        let closed = within("a close", closing.join_next())
            .await
            .unwrap()
            .unwrap();
        let reason = "a newer connection of the same principal".to_owned();
        assert_eq!(closed, (4_000, reason));
    }
    // One that closes is listed until its client has answered.
    within("two are left", async {
        while connections_of_ada(&gateway).await.len() != 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Two at once: the two that were there go, and these two stay.
    let before = connections_of_ada(&gateway).await;
    let (two, _) = storm(&gateway, 2).await;
    let mut ids = BTreeSet::new();
    for mut client in two {
        ids.insert(client.id().await);
        closing.spawn(async move { client.closed().await });
    }
    within("the two before are gone", async {
        while connections_of_ada(&gateway).await != ids {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(before.is_disjoint(&ids));
}

#[tokio::test]
async fn storm_of_connects_lets_in_as_many_of_a_principal_as_may_be() {
    let gateway = bounded("refuse").await;
    for _ in 0..3 {
        let (clients, refused) = storm(&gateway, 30).await;
        assert_eq!((clients.len(), refused), (2, vec![429; 28]));
        assert_eq!(connections_of_ada(&gateway).await.len(), 2);
        for client in clients {
            client.close(1000, "").await;
        }
        within("both have ended", async {
            while !connections_of_ada(&gateway).await.is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// The samples of the page about stages, without their values, and the number of all lines.
async fn labels(gateway: &Gateway) -> (BTreeSet<String>, usize) {
    let (_, page) = gateway.page("/metrics").await;
    let samples = page.lines().filter(|line| line.contains("stage=\""));
    let names = samples.map(|line| line.rsplit_once("} ").unwrap().0.to_owned());
    (names.collect(), page.lines().count())
}

#[tokio::test]
async fn stage_that_goes_and_comes_back_has_its_metrics_once() {
    let gateway = LOCKGATE.serve(&behind_a_door("", "")).await;
    gateway.connect(&saying(&json!({"principal": "ada"}))).await;
    let (before, lines) = labels(&gateway).await;
    for round in 0..8 {
        let other = format!("[apis.a.stages.other-{round}]");
        let away = [("[apis.a.stages.s]", &*other)];
        gateway.change(&away).await;
        let (names, _) = labels(&gateway).await;
        assert!(
            names.iter().all(|name| !name.contains("stage=\"s\"")),
            "{names:?}"
        );
        gateway.change(&[(&other, "[apis.a.stages.s]")]).await;
    }
    // The connection of the first stage has ended, and so have the stages between.
    within("the page is as long as before", async {
        while labels(&gateway).await != (before.clone(), lines) {
            gateway.connect(&saying(&json!({"principal": "ada"}))).await;
        }
    })
    .await;
}
