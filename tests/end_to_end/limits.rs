//! The deadlines of a connection, and the treatment of a slow reader.

use lockgate_tests::{Frame, Opcode, RawClient, within};
use serde_json::{Value, json};

use crate::last_bytes::{QUEUED, QUEUED_LETTERS, behind_a_slow_link, queue_and};
use crate::{probe, probe_with};

/// The id of a raw client's connection, from the probe.
async fn id(client: &mut RawClient) -> String {
    client.send(&Frame::text(r#"[{"do": "event"}]"#)).await;
    let answer: Value = serde_json::from_slice(&client.data().await.unwrap().payload).unwrap();
    answer[0]["connection"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn quiet_connection_is_closed() {
    let gateway = probe_with("limits = { idle_timeout_s = 1 }", "").await;
    for request in [gateway.ws("/s"), gateway.wss("/s")] {
        let mut client = request.open().await;
        client.id().await;
        client.expect_close(1001, "Going away").await;
        client.expect_end().await;
    }
}

#[tokio::test]
async fn disconnect_is_told_that_a_connection_was_quiet() {
    let gateway = probe_with("limits = { idle_timeout_s = 2 }", "").await;
    let mut client = gateway.connect("/s").await;
    let id = client.id().await;
    // The handler's output is awaited, since an observer would be closed as well.
    client.expect_close(1001, "Going away").await;
    gateway
        .log()
        .line(&[&format!("ended: {id} 1001 \\\"Going away\\\"")])
        .await;
}

/// Messages in either direction count, and those that others send too.
#[tokio::test]
async fn message_of_others_keeps_a_quiet_connection_open() {
    let gateway = probe_with("limits = { idle_timeout_s = 2 }", "").await;
    let mut quiet = gateway.connect("/s").await;
    let mut other = gateway.connect("/s").await;
    let id = quiet.id().await;
    // Longer than the limit, in steps that are shorter.
    for _ in 0..6 {
        let steps = json!([{"do": "sleep", "ms": 500}, {"do": "send", "id": id, "text": "hi"}]);
        other.steps(steps).await;
        quiet.expect("hi").await;
    }
}

#[tokio::test]
async fn pings_do_not_keep_a_quiet_connection_open() {
    let gateway = probe_with("limits = { idle_timeout_s = 2, ping_interval_s = 1 }", "").await;
    let mut client = gateway.connect("/s").await;
    // The client answers the pings while it waits.
    client.expect_close(1001, "Going away").await;
}

#[tokio::test]
async fn busy_connection_is_closed_at_its_maximum_age() {
    let gateway = probe_with("limits = { max_age_s = 1 }", "").await;
    for request in [gateway.ws("/s"), gateway.wss("/s")] {
        let mut client = request.open().await;
        let id = client.id().await;
        let code = loop {
            if let Err(code) = client.echo("[]").await {
                break code;
            }
        };
        assert_eq!(code, 1001);
        gateway
            .log()
            .line(&[&format!("ended: {id} 1001 \\\"Going away\\\"")])
            .await;
    }
}

#[tokio::test]
async fn client_that_does_not_answer_pings_is_closed() {
    let gateway = probe_with("limits = { ping_interval_s = 1, pong_timeout_s = 1 }", "").await;
    for request in [gateway.ws("/s"), gateway.wss("/s")] {
        let mut client = request.open_raw().await;
        let id = id(&mut client).await;
        let ping = client.frame().await.unwrap();
        assert_eq!(ping.opcode, Opcode::PING);
        // Without a pong the connection ends; a close frame may still come.
        while client.frame().await.is_some() {}
        gateway.log().line(&[&format!("ended: {id} 1006")]).await;
    }
}

#[tokio::test]
async fn client_that_answers_pings_stays() {
    let gateway = probe_with("limits = { ping_interval_s = 1, pong_timeout_s = 1 }", "").await;
    let mut client = gateway.ws("/s").open_raw().await;
    for _ in 0..3 {
        let ping = client.frame().await.unwrap();
        assert_eq!(ping.opcode, Opcode::PING);
        client.send(&Frame::new(Opcode::PONG, ping.payload)).await;
    }
    id(&mut client).await;
}

/// The kernel takes what waits for it, and the ping behind that.
#[tokio::test]
async fn client_behind_a_slow_link_has_time_to_answer_once_it_has_seen_the_ping() {
    let gateway = probe_with("limits = { ping_interval_s = 1, pong_timeout_s = 1 }", "").await;
    for kind in ["ws", "wss", "HTTP/2"] {
        let (mut client, _link, _http2) = behind_a_slow_link(&gateway, kind).await;
        client.send(queue_and(&json!({"do": "event"}))).await;
        for _ in 0..QUEUED {
            assert_eq!(client.text().await.len(), QUEUED_LETTERS, "{kind}");
        }
        client.id().await;
    }
}

#[tokio::test]
async fn client_that_takes_nothing_and_answers_no_ping_is_closed() {
    let gateway = probe_with("limits = { ping_interval_s = 1, pong_timeout_s = 1 }", "").await;
    for request in [gateway.ws("/s"), gateway.wss("/s")] {
        let mut client = request.receive_buffer(4_096).open_raw().await;
        let id = id(&mut client).await;
        let queue = queue_and(&json!({"do": "event"}));
        client.send(&Frame::text(&queue)).await;
        gateway.log().line(&[&format!("ended: {id} 1006")]).await;
    }
}

/// It cannot answer a ping in the middle of a frame (RFC 6455 §5.4).
#[tokio::test]
async fn client_that_sends_a_large_message_slowly_is_alive() {
    let gateway = probe_with("limits = { ping_interval_s = 1, pong_timeout_s = 1 }", "").await;
    for request in [gateway.ws("/s"), gateway.wss("/s")] {
        let mut client = request.open_raw().await;
        let message = Frame::text(r#"[{"do": "event"}]"#).bytes();
        let (beginning, rest) = message.split_at(message.len() - 3);
        client.send_bytes(beginning).await;
        for byte in rest {
            assert_eq!(client.frame().await.unwrap().opcode, Opcode::PING);
            client.send_bytes(&[*byte]).await;
        }
        assert!(client.data().await.is_some(), "its message is answered");
    }
}

/// Enough to fill the buffers of two kernels and the gateway's.
const FLOOD: &str = r#"{"do": "burst", "times": 200, "letters": 65536}"#;

#[tokio::test]
async fn stalled_reader_is_closed_with_1013() {
    let stage = "limits = { outbox_kib = 65536, stall_timeout_s = 1 }";
    let gateway = probe_with(stage, "limits = { cpu_ms = 2000 }").await;
    for request in [gateway.ws("/s"), gateway.wss("/s")] {
        let mut client = request.receive_buffer(4_096).open_raw().await;
        let id = id(&mut client).await;
        client.send(&Frame::text(&format!("[{FLOOD}]"))).await;
        // The client reads nothing until the gateway has closed.
        gateway.log().line(&[&format!("ended: {id} 1013")]).await;
    }
}

#[tokio::test]
async fn full_outbox_is_busy_and_takes_messages_again_once_read() {
    let stage = "limits = { outbox_kib = 256, message_kib = 128, stall_timeout_s = 60 }";
    let gateway = probe_with(stage, "limits = { cpu_ms = 2000 }").await;
    let mut sender = gateway.connect("/s").await;
    let mut slow = gateway.ws("/s").receive_buffer(4_096).open_raw().await;
    let id = id(&mut slow).await;

    let flood = json!({"do": "burst", "id": id, "times": 250, "letters": 65_536});
    let mut taken = 0;
    loop {
        let answer = sender.step(flood.clone()).await;
        taken += answer[0].as_u64().unwrap();
        if answer[1] == "busy" {
            break;
        }
        assert_eq!(answer[1], Value::Null);
        assert!(taken < 5_000, "a client that reads nothing is never busy");
    }
    // Once the client reads, every queued message arrives, and there is room again.
    for _ in 0..taken {
        assert_eq!(slow.data().await.unwrap().payload.len(), 65_536);
    }
    assert_eq!(
        sender
            .step(json!({"do": "send", "id": id, "text": "again"}))
            .await,
        "ok"
    );
    slow.expect("again").await;
}

/// The queue of a client that reads may hold four times as many until its session comes round to write.
#[tokio::test]
async fn message_over_the_count_of_an_outbox_is_busy() {
    let gateway = probe_with("limits = { outbox_messages = 4 }", "").await;
    let mut client = gateway.connect("/s").await;
    // A fast handler sends to its own client before the session can write anything. A handler that is held up may find
    // room again, and so it gets a few tries.
    for _ in 0..20 {
        client
            .send(json!([{"do": "burst", "times": 17, "text": "x"}]).to_string())
            .await;
        let mut received = 0;
        let answer = loop {
            match client.text().await.as_str() {
                "x" => received += 1,
                answer => break answer.to_owned(),
            }
        };
        if answer == r#"[[16,"busy"]]"# {
            assert_eq!(received, 16);
            return;
        }
        assert_eq!(answer, "[[17,null]]");
    }
    panic!("an outbox of 16 messages took 17 of them, 20 times");
}

#[tokio::test]
async fn member_that_reads_too_slowly_is_closed() {
    let stage = "limits = { outbox_kib = 256, message_kib = 128, stall_timeout_s = 5 }";
    let gateway = probe_with(stage, "limits = { cpu_ms = 2000 }").await;
    let mut sender = gateway.connect("/s").await;
    let mut slow = gateway.ws("/s").receive_buffer(4_096).open_raw().await;
    let id = id(&mut slow).await;
    assert_eq!(
        sender
            .step(json!({"do": "join", "group": "g", "id": id}))
            .await,
        "ok"
    );
    let publish = json!({"do": "publish", "group": "g", "letters": 65_536});
    let mut rounds = 0;
    while sender.step(publish.clone()).await == 1 {
        rounds += 1;
        assert!(
            rounds < 5_000,
            "a member that reads nothing is never too slow"
        );
    }
    gateway.log().line(&[&format!("ended: {id} 1013")]).await;
    assert_eq!(sender.step(json!({"do": "count", "group": "g"})).await, 0);
}

#[tokio::test]
async fn slow_reader_delays_no_other_member() {
    let gateway = probe().await;
    let mut sender = gateway.connect("/s").await;
    let mut slow = gateway.ws("/s").receive_buffer(4_096).open_raw().await;
    let mut good = gateway.connect("/s").await;
    let slow_id = id(&mut slow).await;
    let good_id = good.id().await;
    for id in [&slow_id, &good_id] {
        assert_eq!(
            sender
                .step(json!({"do": "join", "group": "g", "id": id}))
                .await,
            "ok"
        );
    }
    let letters = 65_536;
    for _ in 0..200 {
        sender
            .step(json!({"do": "publish", "group": "g", "letters": letters}))
            .await;
        assert_eq!(good.text().await.len(), letters);
    }
}

#[tokio::test]
async fn message_over_the_stages_limit_is_too_large_to_send() {
    let gateway = probe_with("limits = { message_kib = 4 }", "").await;
    let mut client = gateway.connect("/s").await;
    let steps = json!([
        {"do": "send", "letters": 4_096}, {"do": "send", "letters": 4_097}, {"do": "join", "group": "g"},
        {"do": "publish", "group": "g", "letters": 4_097}, {"do": "publish", "group": "g", "letters": 4_096},
    ]);
    client.send(steps.to_string()).await;
    for _ in 0..2 {
        assert_eq!(client.text().await.len(), 4_096);
    }
    client
        .expect(r#"["ok","too-large","ok","too-large",1]"#)
        .await;
    // The same bound holds for an answer.
    client
        .send(json!([{"do": "reply", "letters": 4_097}]).to_string())
        .await;
    client.expect_error("Internal server error").await;
}

#[tokio::test]
async fn connection_over_the_limit_is_refused() {
    let configuration = format!(
        "[limits]\nconnections = 2\n{}",
        crate::probe_configuration("", "")
    );
    let gateway = crate::LOCKGATE.serve(&configuration).await;
    let first = gateway.connect("/s").await;
    let mut second = gateway.connect("/s").await;
    let refused = gateway.ws("/s").refused().await;
    assert_eq!(refused.status, 503);
    // A connection that ends makes room once its `$disconnect` is over.
    first.close(1000, "").await;
    let mut third = within("room for another connection", async {
        loop {
            if let Ok(client) = gateway.ws("/s").attempt().await {
                return client;
            }
        }
    })
    .await;
    third.id().await;
    second.id().await;
}

#[tokio::test]
async fn handshake_over_the_limit_is_refused() {
    let limits = "[limits]\nhandshakes = 1\nhandshake_timeout_s = 1\n".to_owned();
    let gateway = crate::LOCKGATE
        .serve(&(limits + &crate::probe_configuration("", "")))
        .await;
    let silent = gateway.ws("/s").stream().await.unwrap();
    assert_eq!(gateway.ws("/s").refused().await.status, 503);
    let client = within("room for another handshake", async {
        loop {
            if let Ok(client) = gateway.ws("/s").attempt().await {
                return client;
            }
        }
    });
    client.await.id().await;
    drop(silent);
}
