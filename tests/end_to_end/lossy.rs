//! QUIC over a network that loses one packet in fifty and delays the others by 50 ms, as a phone's does.

use lockgate_tests::{Http3, Http3Options, LossyNetwork, MovingNetwork};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    http3::{echo, probe},
    webtransport::id,
};

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

/// Behind a balancer that hides the addresses of clients, a phone that leaves its wireless network has the same address and
/// another port.
#[tokio::test]
async fn client_that_moves_to_a_network_with_smaller_packets_has_every_message() {
    const LIMIT: usize = 1_250;
    const LETTERS: usize = 1_000;
    let gateway = probe("", "").await;
    let network = MovingNetwork::to(gateway.secure()).await;
    let mut options = Http3Options::default();
    // Most messages wait in the gateway until it moves.
    let window = (16_u32 << 10).into();
    options.transport.stream_receive_window(window);
    let http3 = Http3::try_connect(network.address(), options)
        .await
        .unwrap();
    let mut session = http3.session("/s", &[]).await;
    while network.longest() <= LIMIT {
        id(&mut session).await;
    }
    let burst = json!([{"do": "burst", "times": 200, "letters": LETTERS}]);
    session.send(&Message::text(burst.to_string())).await;
    for place in 0..200 {
        if place == 20 {
            network.move_client(LIMIT);
        }
        assert_eq!(session.next().await.expect("a message").len(), LETTERS);
    }
    assert_eq!(session.next().await, Some(Message::text("[[200,null]]")));
    id(&mut session).await;
}
