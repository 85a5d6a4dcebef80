//! The last bytes over QUIC: a close of the gateway waits for messages that are on their way to a slow client, and is told
//! to one that takes none.

use std::time::Duration;

use lockgate_tests::{Gateway, Http3, Http3Options};
use serde_json::json;
use tokio::time::{Interval, interval};
use tokio_tungstenite::tungstenite::Message;

use crate::{connect::connecting, http3::probe, webtransport::id};

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
