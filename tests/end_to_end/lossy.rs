//! QUIC over a network that loses one packet in fifty and delays the others by 50 ms, as a phone's does.

use lockgate_tests::{Http3, LossyNetwork};
use tokio_tungstenite::tungstenite::Message;

use crate::http3::echo;

/// Enough packets for losses in either direction.
const MESSAGES: usize = 400;

/// A message with its number, about a packet long.
fn numbered(number: usize) -> String {
    format!("{number} {}", "x".repeat(1_000))
}

#[tokio::test]
async fn messages_of_a_session_come_once_and_in_order_when_packets_are_lost() {
    let gateway = echo().await;
    let network = LossyNetwork::to(gateway.secure()).await;
    let http3 = Http3::connect(network.address()).await;
    let mut session = http3.session("/s", &[]).await;
    for number in 0..MESSAGES {
        session.send(&Message::text(numbered(number))).await;
    }
    for number in 0..MESSAGES {
        let expected = Message::text(numbered(number));
        assert_eq!(session.next().await, Some(expected));
    }
    // Nothing comes twice.
    session.send(&Message::text("the last")).await;
    assert_eq!(session.next().await, Some(Message::text("the last")));
    session.close(4000, "bye").await;
    let line = ["disconnected", "\"code\":4000"];
    gateway.log().line(&line).await;
    check_lost(&network);
}

#[tokio::test]
async fn messages_over_http_3_come_once_and_in_order_when_packets_are_lost() {
    let gateway = echo().await;
    let network = LossyNetwork::to(gateway.secure()).await;
    let http3 = Http3::connect(network.address()).await;
    let mut client = http3.open("/s").await;
    for number in 0..MESSAGES {
        client.send(numbered(number)).await;
    }
    for number in 0..MESSAGES {
        client.expect(&numbered(number)).await;
    }
    client.send("the last").await;
    client.expect("the last").await;
    assert_eq!(client.close(4000, "bye").await, 4000);
    check_lost(&network);
}

#[track_caller]
fn check_lost(network: &LossyNetwork) {
    let [there, back] = network.lost();
    assert!(there > 0 && back > 0, "lost {there} and {back} packets");
}
