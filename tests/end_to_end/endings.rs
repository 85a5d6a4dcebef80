//! Ends of connections whose client is slow, or leaves with messages queued: they end in time, with the right code.

use std::time::{Duration, Instant};

use lockgate_tests::{Frame, Gateway, LONG_PATIENCE, Opcode, RawClient, within};
use serde_json::{Value, json};

use crate::{LOCKGATE, floods::resident_kib, probe_configuration, probe_with};

/// Limits that let much be queued for a client.
const ROOM: &str = "limits = { outbox_kib = 65536, stall_timeout_s = 60 }";

/// A client that reads nothing, with its id.
async fn slow(gateway: &Gateway) -> (RawClient, String) {
    let mut client = gateway.ws("/s").receive_buffer(4_096).open_raw().await;
    client.send(&Frame::text(r#"[{"do": "event"}]"#)).await;
    let answer = client.data().await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    let id = answer[0]["connection"].as_str().unwrap().to_owned();
    (client, id)
}

/// Has the handler send the client more than two kernels buffer, and then take the step `then`.
async fn flood(gateway: &Gateway, client: &mut RawClient, id: &str, then: Value) {
    let full = format!("{id} is full");
    let burst = json!({"do": "burst", "times": 200, "letters": 65_536});
    let steps = json!([burst, then, {"do": "print", "text": full}]);
    client.send(&Frame::text(&steps.to_string())).await;
    gateway.log().line(&[&full]).await;
}

/// Its close frame comes after messages that the session no longer reads, since the client takes nothing.
#[tokio::test]
async fn client_that_leaves_with_messages_queued_has_its_own_close_code() {
    for stops in [false, true] {
        let configuration = probe_configuration(ROOM, "limits = { cpu_ms = 2000 }");
        let configuration = format!("[limits]\ndrain_s = 5\n{configuration}");
        let mut gateway = LOCKGATE.serve(&configuration).await;
        let (mut closes, closed) = slow(&gateway).await;
        let (mut resets, reset) = slow(&gateway).await;
        let nothing = json!({"do": "event"});
        for (client, id) in [(&mut closes, &closed), (&mut resets, &reset)] {
            flood(&gateway, client, id, nothing.clone()).await;
            // If the client has taken some since its last message, the session reads once more.
            client.send(&Frame::text(r#"[{"do": "event"}]"#)).await;
        }
        if stops {
            gateway.terminate();
            gateway.log().line(&["\"stopping\""]).await;
        }
        closes.send(&Frame::close(4_000, b"bye")).await;
        closes.vanish();
        resets.vanish();
        let said = format!("ended: {closed} 4000 \\\"bye\\\"");
        gateway.log().line(&[&said]).await;
        let said = format!("ended: {reset} 1006 \\\"\\\"");
        gateway.log().line(&[&said]).await;
        if stops {
            assert_eq!(gateway.ended().await, Some(0));
        }
    }
}

/// A client that reads a little again and again would keep the connection open for hours.
#[tokio::test]
async fn handlers_close_of_a_slow_client_has_a_deadline() {
    /// Queued messages have 25 s to go out.
    const TIME: Duration = Duration::from_secs(28);
    let stage = "limits = { outbox_kib = 65536 }";
    let gateway = probe_with(stage, "limits = { cpu_ms = 2000 }").await;
    let (mut client, id) = slow(&gateway).await;
    let close = json!({"do": "close", "code": 1000, "reason": "done"});
    flood(&gateway, &mut client, &id, close).await;
    let began = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    while began.elapsed() < TIME {
        assert!(client.take_some(4_096).await, "{:?}", began.elapsed());
        pace.tick().await;
    }
    // The client takes nothing more, and would be closed for that.
    let said = format!("ended: {id} 1000 \\\"done\\\"");
    gateway.log().line_within(LONG_PATIENCE, &[&said]).await;
}

/// A client that takes no close frame is cut after the window, even if its session began to end before.
#[tokio::test]
async fn untaken_close_frame_delays_no_stop() {
    let configuration = probe_configuration(ROOM, "limits = { cpu_ms = 2000 }");
    let configuration = format!("[limits]\ndrain_s = 0\n{configuration}");
    let mut gateway = LOCKGATE.serve(&configuration).await;
    let (mut client, id) = slow(&gateway).await;
    flood(&gateway, &mut client, &id, json!({"do": "event"})).await;
    // An invalid frame ends its session.
    client.send(&Frame::text("[]").reserved(4)).await;
    let mut other = gateway.connect("/s").await;
    let info = json!({"do": "info", "id": id});
    within("the session to end", async {
        while other.step(info.clone()).await != "gone" {}
    })
    .await;
    gateway.terminate();
    let ended = gateway.ended_within(Duration::from_secs(12)).await;
    assert_eq!(ended, Some(0));
    let said = format!("ended: {id} 1002 ");
    gateway.log().line(&[&said]).await;
}

#[tokio::test]
async fn client_that_reads_at_a_stop_without_a_window_gets_every_queued_message() {
    let configuration = format!("[limits]\ndrain_s = 0\n{}", probe_configuration("", ""));
    let mut gateway = LOCKGATE.serve(&configuration).await;
    let (mut client, _) = slow(&gateway).await;
    let steps = json!([{"do": "burst", "times": 60, "letters": 8_192}, {"do": "print", "text": "it is full"}]);
    client.send(&Frame::text(&steps.to_string())).await;
    gateway.log().line(&["it is full"]).await;
    gateway.terminate();
    gateway.log().line(&["\"stopping\""]).await;
    for _ in 0..60 {
        assert_eq!(client.data().await.unwrap().payload.len(), 8_192);
    }
    client.expect("[[60,null],null]").await;
    // The client never answers the close.
    assert_eq!(client.expect_close(1_001).await, "Going away");
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn large_message_in_fragments_leaves_no_buffer() {
    const CLIENTS: usize = 40;
    const KIB: usize = 2_048;
    let stage = format!("limits = {{ message_kib = {KIB} }}");
    let gateway = probe_with(&stage, "limits = { cpu_ms = 3000 }").await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(gateway.ws("/s").open_raw().await);
    }
    let mut before = 0;
    for (number, client) in clients.iter_mut().enumerate() {
        let mut steps = br#"[{"do": "counter"}]"#.to_vec();
        steps.resize(KIB << 10, b' ');
        let mut parts = steps.chunks(256 << 10).peekable();
        let mut opcode = Opcode::TEXT;
        while let Some(part) = parts.next() {
            let mut frame = Frame::new(opcode, part);
            frame.fin = parts.peek().is_none();
            client.send(&frame).await;
            opcode = Opcode::CONTINUATION;
        }
        assert_eq!(client.data().await.unwrap().opcode, Opcode::TEXT);
        // The first quarter warms up: fixed costs do not count.
        if number == CLIENTS / 4 {
            before = resident_kib(&gateway);
        }
    }
    let grown = resident_kib(&gateway).saturating_sub(before);
    let each = grown / (CLIENTS - CLIENTS / 4);
    eprintln!("a quiet client that has sent {KIB} KiB in fragments: {each} KiB");
    assert!(each <= 256, "{each} KiB");
}
