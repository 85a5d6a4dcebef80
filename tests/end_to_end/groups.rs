//! Named sets of connections.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{connect::connecting, probe, probe_with};

#[tokio::test]
async fn publish_reaches_every_member_but_one() {
    let gateway = probe().await;
    let mut one = gateway.connect("/s").await;
    let mut two = gateway.wss("/s").open().await;
    let mut outside = gateway.connect("/s").await;
    let (first, second) = (one.id().await, two.id().await);
    for id in [&first, &second, &first] {
        assert_eq!(
            outside
                .step(json!({"do": "join", "group": "g", "id": id}))
                .await,
            "ok"
        );
    }
    let steps = json!([
        {"do": "count", "group": "g"}, {"do": "publish", "group": "g", "text": "all"},
        {"do": "publish", "group": "g", "text": "but one", "except": first},
        {"do": "publish", "group": "g", "bytes": [7], "except": second},
        {"do": "publish", "group": "g", "text": "but nobody", "except": "nobody"},
        {"do": "publish", "group": "none", "text": "x"},
    ]);
    assert_eq!(outside.steps(steps).await, [2, 2, 1, 1, 2, 0]);
    one.expect("all").await;
    assert_eq!(one.binary().await.as_ref(), [7]);
    one.expect("but nobody").await;
    two.expect("all").await;
    two.expect("but one").await;
    two.expect("but nobody").await;
    // A connection outside the group got nothing: this is its first message.
    outside.send(r#"[{"do": "reply", "text": "quiet"}]"#).await;
    outside.expect("quiet").await;
}

#[tokio::test]
async fn members_are_given_in_pages_ordered_by_id() {
    let gateway = probe().await;
    let mut clients = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..7 {
        let mut client = gateway.connect("/s").await;
        assert_eq!(client.step(json!({"do": "join", "group": "g"})).await, "ok");
        ids.push(client.id().await);
        clients.push(client);
    }
    ids.sort();
    let reader = &mut clients[0];
    let page = |after: Option<String>, limit: u32| json!({"do": "members", "group": "g", "after": after, "limit": limit});
    assert_eq!(reader.step(page(None, 3)).await, json!(ids[..3]));
    assert_eq!(
        reader.step(page(Some(ids[2].clone()), 3)).await,
        json!(ids[3..6])
    );
    assert_eq!(
        reader.step(page(Some(ids[5].clone()), 3)).await,
        json!(ids[6..])
    );
    assert_eq!(reader.step(page(Some(ids[6].clone()), 3)).await, json!([]));
    assert_eq!(reader.step(page(None, 1_000)).await, json!(ids));
    let nobody = reader.step(page(Some(String::new()), 1_000)).await;
    assert!(nobody["invalid"].is_string(), "{nobody}");
    for limit in [0, 1_001] {
        let answer = reader.step(page(None, limit)).await;
        assert!(answer["invalid"].is_string(), "{limit}: {answer}");
    }
    let none = json!({"do": "members", "group": "none", "limit": 10});
    assert_eq!(reader.step(none).await, json!([]));
}

#[tokio::test]
async fn connection_leaves_a_group_by_call_and_by_its_end() {
    let gateway = probe().await;
    let mut observer = gateway.connect("/s").await;
    observer.observe().await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = gateway.connect("/s").await;
        assert_eq!(client.step(json!({"do": "join", "group": "g"})).await, "ok");
        clients.push(client);
    }
    let mut vanishing = clients.pop().unwrap();
    let mut closing = clients.pop().unwrap();
    let leaving = &mut clients[0];
    let leave = json!({"do": "leave", "group": "g"});
    let count = json!({"do": "count", "group": "g"});
    assert_eq!(
        leaving.steps(json!([leave, leave, count])).await,
        [json!("ok"), json!("ok"), json!(2)]
    );
    let id = closing.id().await;
    closing.close(1000, "").await;
    observer.ended(&id).await;
    assert_eq!(observer.step(count.clone()).await, 1);
    let id = vanishing.id().await;
    vanishing.vanish();
    observer.ended(&id).await;
    assert_eq!(observer.step(count).await, 0);
}

#[tokio::test]
async fn group_name_and_number_beyond_their_bounds_are_refused() {
    let gateway = probe_with("limits = { groups = 2 }", "").await;
    let mut client = gateway.connect("/s").await;
    for name in [String::new(), "x".repeat(129), "é".repeat(65)] {
        let answer = client.step(json!({"do": "join", "group": name})).await;
        assert!(answer["invalid"].is_string(), "{name:?}: {answer}");
    }
    let join = |group: &str| json!({"do": "join", "group": group});
    let longest = "é".repeat(64);
    let steps = json!([join(&longest), join(" \u{0}"), join("third"), join(&longest),
        {"do": "leave", "group": longest}, join("third")]);
    assert_eq!(
        client.steps(steps).await,
        ["ok", "ok", "busy", "ok", "ok", "ok"]
    );
    let count: Vec<Value> = client
        .steps(json!([{"do": "count", "group": longest}, {"do": "count", "group": "third"}]))
        .await;
    assert_eq!(count, [0, 1]);
}

#[tokio::test]
async fn publish_to_many_reaches_all_in_order() {
    let gateway = probe().await;
    let mut sender = gateway.connect("/s").await;
    let mut members = Vec::new();
    for _ in 0..50 {
        let mut member = gateway.connect("/s").await;
        assert_eq!(member.step(json!({"do": "join", "group": "g"})).await, "ok");
        members.push(member);
    }
    for number in 0..20 {
        let text = number.to_string();
        assert_eq!(
            sender
                .step(json!({"do": "publish", "group": "g", "text": text}))
                .await,
            50
        );
    }
    for member in &mut members {
        for number in 0..20 {
            member.expect(&number.to_string()).await;
        }
    }
}

/// More messages at once than `outbox_messages`, from one client, and from several at the same time.
#[tokio::test]
async fn burst_of_publishes_reaches_every_member_that_reads() {
    const MEMBERS: usize = 20;
    const PUBLISHES: usize = 250;
    const BURSTS: usize = 8;
    let gateway = probe_with("", "limits = { cpu_ms = 2000 }").await;
    let publish = json!({"do": "publish", "group": "g", "letters": 100});
    let burst = Value::from(vec![publish; PUBLISHES]).to_string();
    for publishers in [1, 4] {
        let mut members = JoinSet::new();
        let http2 = gateway.http2().await;
        for number in 0..MEMBERS {
            // Several publishers send more than four times `outbox_messages`, more than a window of HTTP/2 takes.
            let mut member = if publishers == 1 && number % 2 == 1 {
                http2.open("/s").await
            } else {
                gateway.connect("/s").await
            };
            assert_eq!(member.step(json!({"do": "join", "group": "g"})).await, "ok");
            members.spawn(async move {
                for _ in 0..publishers * BURSTS * PUBLISHES {
                    assert_eq!(member.text().await.len(), 100);
                }
                member
            });
        }
        let mut senders = Vec::new();
        for _ in 0..publishers {
            senders.push(gateway.connect("/s").await);
        }
        for sender in &mut senders {
            for _ in 0..BURSTS {
                sender.feed(burst.clone()).await;
            }
            sender.send("[]").await;
        }
        for sender in &mut senders {
            for _ in 0..BURSTS {
                let reached = vec![MEMBERS; PUBLISHES];
                assert_eq!(sender.json().await, json!(reached));
            }
            sender.expect("[]").await;
        }
        for mut member in members.join_all().await {
            assert_eq!(
                member.step(json!({"do": "leave", "group": "g"})).await,
                "ok"
            );
        }
    }
}

/// A client asks for what is there once it has its 101, and counts on what is published from then on.
#[tokio::test]
async fn client_that_has_its_101_is_a_member_already() {
    let gateway = probe().await;
    let mut publisher = gateway.connect("/s").await;
    let target = connecting(&json!([{"do": "join", "group": "g"}]));
    let mut members = Vec::new();
    for number in 1..=300 {
        members.push(gateway.connect(&target).await);
        let publish = json!({"do": "publish", "group": "g", "text": "x"});
        assert_eq!(publisher.step(publish).await, number);
    }
}
