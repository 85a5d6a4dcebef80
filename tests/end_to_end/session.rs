//! The life of an open connection: its messages in order, its answers, and its end with code and reason.

use lockgate_tests::{Client, DisconnectReport, Frame, Gateway, Opcode};
use serde_json::{Value, json};

use crate::{connect::connecting, echo, probe, probe_with};

#[tokio::test]
async fn text_and_binary_come_back_as_they_were() {
    let gateway = echo().await;
    for request in [gateway.ws("/s"), gateway.wss("/s")] {
        let mut client = request.open().await;
        for text in ["", "x", "κόσμε 🦀 \u{0}\u{1b}[31m", &"long ".repeat(20_000)] {
            client.send(text).await;
            client.expect(text).await;
        }
        for bytes in [vec![], vec![0], vec![0xff; 70_000]] {
            client.send_binary(bytes.clone()).await;
            assert_eq!(client.binary().await, bytes);
        }
    }
}

#[tokio::test]
async fn thousand_messages_stay_in_order() {
    let gateway = echo().await;
    for request in [gateway.ws("/s"), gateway.wss("/s")] {
        let mut client = request.open().await;
        for number in 0..1_000 {
            client.feed(number.to_string()).await;
        }
        client.send("end").await;
        for number in 0..1_000 {
            client.expect(&number.to_string()).await;
        }
        client.expect("end").await;
    }
}

#[tokio::test]
async fn frames_that_are_ready_together_leave_in_one_write() {
    let gateway = probe().await;
    let request = gateway.wss("/s");
    let mut client = request.open().await;
    client.id().await;
    // On a busy machine a handler may outlive its first tick, and its messages so far are written before it ends. Of
    // many bursts at least one fits into its tick.
    let mut fewest = usize::MAX;
    for _ in 0..50 {
        let before = request.records();
        client
            .send(json!([{"do": "burst", "times": 50, "text": "x"}]).to_string())
            .await;
        for _ in 0..50 {
            client.expect("x").await;
        }
        client.expect("[[50,null]]").await;
        fewest = fewest.min(request.records() - before);
        if fewest == 1 {
            return;
        }
    }
    panic!("51 frames left in {fewest} TLS records at best");
}

#[tokio::test]
async fn messages_are_handled_one_at_a_time() {
    let gateway = probe().await;
    let mut client = gateway.connect("/s").await;
    // The first message is slow; answers to the second still come after its own.
    let slow = json!([{"do": "send", "text": "1"}, {"do": "sleep", "ms": 200}, {"do": "send", "text": "2"}]);
    client.feed(slow.to_string()).await;
    client
        .send(json!([{"do": "send", "text": "3"}]).to_string())
        .await;
    for text in ["1", "2", r#"["ok",null,"ok"]"#, "3", r#"["ok"]"#] {
        client.expect(text).await;
    }
}

#[tokio::test]
async fn one_way_route_sends_no_answer() {
    let gateway = probe().await;
    let mut client = gateway.connect("/s").await;
    for step in [
        json!({"do": "reply", "text": "dropped"}),
        json!({"do": "silence"}),
        json!({"do": "event"}),
    ] {
        client
            .send(json!({"action": "quietly", "steps": [step]}).to_string())
            .await;
    }
    let steps = json!({"action": "quietly", "steps": [{"do": "send", "text": "only this"}]});
    client.send(steps.to_string()).await;
    client.expect("only this").await;
    client
        .send(json!([{"do": "reply", "text": "and this"}]).to_string())
        .await;
    client.expect("and this").await;
}

#[tokio::test]
async fn two_way_route_sends_what_the_handler_returned() {
    let gateway = probe().await;
    let mut client = gateway.connect("/s").await;
    client
        .send(json!([{"do": "reply", "text": ""}]).to_string())
        .await;
    client.expect("").await;
    client
        .send(json!([{"do": "reply", "bytes": [0, 255]}]).to_string())
        .await;
    assert_eq!(client.binary().await.as_ref(), [0, 255]);
    // A handler that returns none sends no answer.
    client.send(json!([{"do": "silence"}]).to_string()).await;
    client
        .send(json!([{"do": "reply", "text": "next"}]).to_string())
        .await;
    client.expect("next").await;
    // Messages that the invocation sent come before its answer.
    client
        .send(
            json!([{"do": "send", "text": "first"}, {"do": "reply", "text": "second"}]).to_string(),
        )
        .await;
    client.expect("first").await;
    client.expect("second").await;
}

#[tokio::test]
async fn failing_handler_sends_an_error_frame_on_either_kind_of_route() {
    let gateway = probe().await;
    let mut client = gateway.connect("/s").await;
    let id = client.id().await;
    for step in [
        json!({"do": "fail", "reason": "secret cause"}),
        json!({"do": "trap"}),
        json!({"do": "recurse"}),
    ] {
        for message in [json!([step]), json!({"action": "quietly", "steps": [step]})] {
            client.send(message.to_string()).await;
            let (connection, request) = client.expect_error("Internal server error").await;
            assert_eq!(connection, id);
            gateway.log().line(&[&request]).await;
        }
    }
    // The cause is for the operator only, and the connection stays open.
    gateway.log().line(&["secret cause"]).await;
    gateway.log().line(&["trapped on request"]).await;
    assert_eq!(client.id().await, id);
}

/// Checks that `$disconnect` gets this code and reason for a client that leaves in this way, over TCP and over TLS, and
/// that by then the connection is in no group.
async fn check_end(
    gateway: &Gateway,
    leave: impl AsyncFn(Client),
    code: impl Into<u64>,
    reason: &str,
) {
    let mut observer = gateway.connect("/s").await;
    observer.observe().await;
    let code = code.into();
    for request in [gateway.ws("/s"), gateway.wss("/s")] {
        let mut client = request.open().await;
        let id = client.id().await;
        let farewell = json!([
            {"do": "count", "group": "g"}, {"do": "attribute", "name": "seat"}, {"do": "send", "text": "too late"},
        ]);
        let steps = json!([
            {"do": "join", "group": "g"}, {"do": "set", "name": "seat", "value": "12"},
            {"do": "set", "name": "farewell", "value": farewell.to_string()},
        ]);
        assert_eq!(client.steps(steps).await, ["ok", "ok", "ok"]);
        leave(client).await;
        let closed = DisconnectReport {
            code,
            reason: reason.to_owned(),
            farewell: json!([0, "12", "gone"]),
        };
        assert_eq!(observer.ended(&id).await, closed);
    }
}

#[tokio::test]
async fn disconnect_is_told_the_clients_code_and_reason() {
    let gateway = probe().await;
    check_end(
        &gateway,
        async |client| assert_eq!(client.close(1000, "").await, 1000),
        1000u16,
        "",
    )
    .await;
    check_end(
        &gateway,
        async |client| assert_eq!(client.close(1001, "bye").await, 1001),
        1001u16,
        "bye",
    )
    .await;
    let reason = "é".repeat(61);
    let long: &'static str = Box::leak(reason.clone().into_boxed_str());
    check_end(
        &gateway,
        async |client| assert_eq!(client.close(4999, long).await, 4999),
        4999u16,
        &reason,
    )
    .await;
}

#[tokio::test]
async fn disconnect_is_told_1005_when_the_client_gave_no_code() {
    let gateway = probe().await;
    let reason = "Client-side close frame status not set";
    check_end(
        &gateway,
        async |client| client.close_without_code().await,
        1005u16,
        reason,
    )
    .await;
}

#[tokio::test]
async fn disconnect_is_told_1006_when_the_connection_was_lost() {
    let gateway = probe().await;
    check_end(&gateway, async |client| client.vanish(), 1006u16, "").await;
}

#[tokio::test]
async fn disconnect_is_told_the_handlers_own_close() {
    let gateway = probe().await;
    let leave = async |mut client: Client| {
        // Messages that were queued before the close go out before it.
        let steps = json!([
            {"do": "send", "text": "last"}, {"do": "close", "code": 4001, "reason": "over"},
            {"do": "send", "text": "after"}, {"do": "close", "code": 4002, "reason": "again"},
        ]);
        client.send(steps.to_string()).await;
        client.expect("last").await;
        client.expect_close(4001, "over").await;
        client.expect_end().await;
    };
    check_end(&gateway, leave, 4001u16, "over").await;
}

#[tokio::test]
async fn disconnect_is_told_of_a_broken_frame() {
    let gateway = probe().await;
    let mut observer = gateway.connect("/s").await;
    observer.observe().await;
    for (frame, code) in [
        (Frame::text("x").unmasked(), 1002),
        (Frame::new(Opcode::TEXT, b"\xff"), 1007),
        (
            Frame::new(Opcode::TEXT, "").declaring(u64::from(u32::MAX)),
            1009,
        ),
    ] {
        let mut client = gateway
            .ws(&connecting(&json!([{"do": "event"}])))
            .open_raw()
            .await;
        client.send(&Frame::text(r#"[{"do": "event"}]"#)).await;
        let answer: Value = serde_json::from_slice(&client.data().await.unwrap().payload).unwrap();
        let id = answer[0]["connection"].as_str().unwrap().to_owned();
        client.send(&frame).await;
        let reason = client.expect_close(code).await;
        let closed = observer.ended(&id).await;
        assert_eq!((closed.code, closed.reason), (u64::from(code), reason));
    }
}

#[tokio::test]
async fn client_that_never_answers_the_close_is_cut() {
    let gateway = probe().await;
    let mut observer = gateway.connect("/s").await;
    observer.observe().await;
    let mut client = gateway.ws("/s").open_raw().await;
    let steps = r#"[{"do": "close", "code": 4001, "reason": ""}, {"do": "silence"}]"#;
    client.send(&Frame::text(steps)).await;
    let close = client.data().await.unwrap();
    assert_eq!(close.opcode, Opcode::CLOSE);
    // This client sends neither a close frame nor the end of the TCP connection.
    assert_eq!(client.data().await, None);
    assert_eq!(observer.json().await["code"], 4001);
}

#[tokio::test]
async fn message_under_way_is_answered_before_the_connection_closes() {
    let gateway = probe().await;
    for (frame, code) in [
        (Frame::close(4001, b"bye"), 4001),
        (Frame::close(999, b""), 1002),
        (Frame::close(1000, b"\xff"), 1007),
        (Frame::new(Opcode(3), ""), 1002),
        (Frame::text("x").unmasked(), 1002),
        (Frame::new(Opcode::TEXT, b"\xff"), 1007),
        (
            Frame::new(Opcode::TEXT, "").declaring(u64::from(u32::MAX)),
            1009,
        ),
    ] {
        for request in [gateway.ws("/s"), gateway.wss("/s")] {
            let mut client = request.open_raw().await;
            let steps = r#"[{"do": "sleep", "ms": 100}, {"do": "reply", "text": "answered"}]"#;
            client.send(&Frame::text(steps)).await;
            client.send(&frame).await;
            client.expect("answered").await;
            client.expect_close(code).await;
        }
    }
}

#[tokio::test]
async fn disconnect_runs_after_the_last_message() {
    let gateway = probe().await;
    let mut observer = gateway.connect("/s").await;
    observer.observe().await;
    let mut client = gateway.connect("/s").await;
    let slow = json!([{"do": "sleep", "ms": 300}, {"do": "publish", "group": "observers", "text": "\"handled\""}]);
    client.send(slow.to_string()).await;
    client.vanish();
    assert_eq!(observer.json().await, "handled");
    assert_eq!(observer.json().await["code"], 1006);
}

#[tokio::test]
async fn trapping_disconnect_harms_no_other_connection() {
    let gateway = probe_with("", "limits = { instances = 1, waiting = 64 }").await;
    let mut client = gateway.connect("/s").await;
    let steps = json!([{"do": "set", "name": "farewell", "value": "[{\"do\": \"trap\"}]"}]);
    assert_eq!(client.steps(steps).await, ["ok"]);
    client.close(1000, "").await;
    gateway.log().line(&["trapped on request"]).await;
    gateway.connect("/s").await.id().await;
}
