//! The last bytes: a close of the gateway waits for messages that are on their way to a slow client, and over QUIC is told
//! to one that takes none.

use std::time::Duration;

use lockgate_tests::{Client, Frame, Gateway, Http2, Http3, Http3Options, Relay};
use serde_json::json;
use tokio::time::{Interval, interval};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    LOCKGATE, connect::connecting, http2::room_again, http3::probe, probe_configuration,
    webtransport::id,
};

/// Fewer bytes than the gateway has on its way to a client.
const MESSAGES: usize = 200;
const LETTERS: usize = 1_000;

/// Sends the messages, and closes behind them.
fn burst_and_close() -> String {
    let burst = json!({"do": "burst", "times": MESSAGES, "letters": LETTERS});
    let close = json!({"do": "close", "code": 4_001, "reason": "enough"});
    json!([burst, close, {"do": "silence"}]).to_string()
}

/// A gateway whose other limits are soon over.
async fn gateway() -> Gateway {
    let stage = "limits = { stall_timeout_s = 1 }";
    probe("handshake_timeout_s = 1", stage).await
}

/// A client that has room for few messages, and the times at which it takes one.
async fn slow(gateway: &Gateway) -> (Http3, Interval) {
    let mut options = Http3Options::default();
    let window = (16_u32 << 10).into();
    options.transport.stream_receive_window(window);
    let http3 = Http3::try_connect(gateway.secure(), options).await.unwrap();
    (http3, interval(Duration::from_millis(60)))
}

/// What a client queues for itself, which its kernel does not take before it reads: more than the gateway waits for without
/// looking whether it arrives.
pub(crate) const QUEUED: usize = 80;
pub(crate) const QUEUED_LETTERS: usize = 8_000;

/// Bytes that a slow link brings every 50 ms: all in eight seconds.
const SLOWLY: usize = 4_000;

/// A client behind a slow link; what keeps its link and its connection is returned with it.
pub(crate) type Behind = (Client, Relay, Option<Http2>);

pub(crate) async fn behind_a_slow_link(gateway: &Gateway, kind: &str) -> Behind {
    let target = match kind {
        "ws" => gateway.plain(),
        _ => gateway.secure(),
    };
    let link = Relay::slow(target, SLOWLY).await;
    let (request, http2) = match kind {
        "ws" => (gateway.ws("/s"), None),
        "wss" => (gateway.wss("/s"), None),
        _ => {
            let http2 = Http2::connect_with_room(link.address()).await;
            return (http2.open("/s").await, link, Some(http2));
        }
    };
    (request.by_way_of(link.address()).open().await, link, http2)
}

/// Checks that the client has all that is queued for it and then this close, while it goes on sending.
async fn has_everything(client: &mut Client, code: u16, reason: &str) {
    for _ in 0..QUEUED {
        assert_eq!(client.text().await.len(), QUEUED_LETTERS);
        client.ping_in_vain().await;
    }
    client.expect_close(code, reason).await;
    client.expect_end().await;
}

pub(crate) fn queue_and(then: &serde_json::Value) -> String {
    let burst = json!({"do": "burst", "times": QUEUED, "letters": QUEUED_LETTERS});
    json!([burst, then, {"do": "silence"}]).to_string()
}

/// A gateway whose connections without a WebSocket soon end.
async fn impatient() -> Gateway {
    let configuration = probe_configuration("", "");
    LOCKGATE
        .serve(&format!(
            "[limits]\nhandshake_timeout_s = 2\n{configuration}"
        ))
        .await
}

async fn check_close_by_a_handler(kind: &str) {
    let gateway = impatient().await;
    let (mut client, _link, _http2) = behind_a_slow_link(&gateway, kind).await;
    let close = json!({"do": "close", "code": 4_001, "reason": "enough"});
    client.send(queue_and(&close)).await;
    has_everything(&mut client, 4_001, "enough").await;
}

async fn check_stop(kind: &str) {
    let mut gateway = impatient().await;
    let (mut client, _link, _http2) = behind_a_slow_link(&gateway, kind).await;
    let print = json!({"do": "print", "text": "all is queued"});
    client.send(queue_and(&print)).await;
    gateway.log().line(&["all is queued"]).await;
    gateway.terminate();
    has_everything(&mut client, 1_001, "Going away").await;
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn slow_client_that_sends_has_every_message_and_the_close_of_a_handler_over_ws() {
    check_close_by_a_handler("ws").await;
}

#[tokio::test]
async fn slow_client_that_sends_has_every_message_and_the_close_of_a_handler_over_wss() {
    check_close_by_a_handler("wss").await;
}

#[tokio::test]
async fn slow_client_that_sends_has_every_message_and_the_close_of_a_handler_over_http_2() {
    check_close_by_a_handler("HTTP/2").await;
}

#[tokio::test]
async fn slow_client_that_sends_has_every_message_and_the_close_of_a_stop_over_ws() {
    check_stop("ws").await;
}

#[tokio::test]
async fn slow_client_that_sends_has_every_message_and_the_close_of_a_stop_over_wss() {
    check_stop("wss").await;
}

#[tokio::test]
async fn slow_client_that_sends_has_every_message_and_the_close_of_a_stop_over_http_2() {
    check_stop("HTTP/2").await;
}

/// Its kernel, or the buffers of the proxy, have everything when the gateway's half ends.
#[tokio::test]
async fn slow_client_that_sends_has_every_message_and_the_close_behind_a_proxy() {
    let gateway = impatient().await;
    for (target, request) in [
        (gateway.plain(), gateway.ws("/s")),
        (gateway.secure(), gateway.wss("/s")),
    ] {
        let proxy = Relay::proxy(target, SLOWLY).await;
        let mut client = request.by_way_of(proxy.address()).open().await;
        let close = json!({"do": "close", "code": 4_001, "reason": "enough"});
        client.send(queue_and(&close)).await;
        has_everything(&mut client, 4_001, "enough").await;
    }
}

/// The other limit, of 25 s, would be longer than a test waits.
#[tokio::test]
async fn closed_client_that_takes_nothing_has_its_place_for_no_longer_than_its_limit() {
    let stage = "limits = { stall_timeout_s = 1 }";
    let configuration = probe_configuration(stage, "");
    let configuration = format!("[limits]\nconnections = 1\n{configuration}");
    let gateway = LOCKGATE.serve(&configuration).await;
    let mut client = gateway.ws("/s").receive_buffer(4_096).open_raw().await;
    let close = json!({"do": "close", "code": 4_001, "reason": "enough"});
    client.send(&Frame::text(&queue_and(&close))).await;
    room_again(&gateway).await;
    gateway.log().line(&["ended: ", " 4001 "]).await;
}

#[tokio::test]
async fn slow_session_has_every_message_and_then_the_close() {
    let gateway = gateway().await;
    let (http3, mut times) = slow(&gateway).await;
    let mut session = http3.session("/s", &[]).await;
    session.send(&Message::text(burst_and_close())).await;
    for _ in 0..MESSAGES {
        times.tick().await;
        assert_eq!(session.next().await.expect("a message").len(), LETTERS);
    }
    assert_eq!(session.next().await, None);
    assert_eq!(session.closed().await, (4_001, "enough".to_owned()));
}

#[tokio::test]
async fn session_that_takes_no_messages_is_told_so_on_its_own_stream() {
    let gateway = gateway().await;
    let (http3, _) = slow(&gateway).await;
    let mut session = http3.session("/s", &[]).await;
    // More than the gateway has on its way.
    let burst =
        json!([{"do": "burst", "times": 2 * MESSAGES, "letters": LETTERS}, {"do": "silence"}]);
    session.send(&Message::text(burst.to_string())).await;
    assert_eq!(session.closed().await, (1_013, "slow consumer".to_owned()));
}

/// A client that does not answer the close is cut off by the end of a stop.
#[tokio::test]
async fn close_of_a_session_ends_its_stream_before_the_client_answers() {
    let gateway = probe("drain_s = 0", "").await;
    let http3 = gateway.http3().await;
    let mut session = http3.session("/s", &[]).await;
    session.json("[]").await;
    gateway.terminate();
    let close = session.beside().await;
    assert!(close.ends_with(b"Going away"), "no close: {close:?}");
    // Nothing is waited for.
    gateway.terminate();
    assert!(session.ends_in_order().await);
}

/// A client ends its stream first, and its close may be lost a few times.
#[tokio::test]
async fn session_is_open_from_the_end_of_its_stream_to_its_close() {
    let gateway = probe("", "").await;
    let http3 = gateway.http3().await;
    let (mut session, mut forgotten) = (
        http3.session("/s", &[]).await,
        http3.session("/s", &[]).await,
    );
    let own = id(&mut session).await;
    let without_a_close = id(&mut forgotten).await;
    session.end_messages();
    forgotten.end_messages();
    // Longer than a client that has closed may be silent.
    let slow = connecting(&json!([{"do": "sleep", "ms": 4_000}, {"do": "accept"}]));
    let mut neighbour = gateway.connect(&slow).await;
    let post = json!({"do": "send", "id": own, "text": "one more"});
    neighbour.step(post).await;
    assert_eq!(session.next().await, Some(Message::text("one more")));
    session.close(4_003, "bye").await;
    gateway.log().line(&[&format!("ended: {own} 4003")]).await;
    let lost = format!("ended: {without_a_close} 1006");
    let limit = Duration::from_secs(60);
    gateway.log().line_within(limit, &[&lost]).await;
}
