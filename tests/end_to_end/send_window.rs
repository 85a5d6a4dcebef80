//! The send window of a QUIC connection: its sessions share it, and one that takes nothing keeps no other waiting.

use lockgate_tests::{Gateway, Http3, Http3Options, WebTransport, within};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_tungstenite::tungstenite::Message;

use crate::{connect::connecting, http3::probe};

const MESSAGES: usize = 200;
const LETTERS: usize = 1_000;
const WINDOW: u32 = 32 << 10;

/// More than the windows of these tests.
fn burst() -> Message {
    let burst = json!({"do": "burst", "times": MESSAGES, "letters": LETTERS});
    Message::text(json!([burst, {"do": "silence"}]).to_string())
}

async fn next(session: &mut WebTransport) {
    assert_eq!(session.next().await.expect("a message").len(), LETTERS);
}

/// A client that has room for so many bytes, of each stream and in all.
async fn connect(gateway: &Gateway, stream: u32, all: u32) -> Http3 {
    let mut options = Http3Options::default();
    options.transport.stream_receive_window(stream.into());
    options.transport.receive_window(all.into());
    Http3::try_connect(gateway.secure(), options).await.unwrap()
}

#[tokio::test]
async fn busy_sessions_of_a_connection_get_on_alike_and_quiet_ones_are_answered() {
    const BUSY: usize = 6;
    let gateway = probe("", "").await;
    let http3 = connect(&gateway, 1 << 30, WINDOW).await;
    let mut quiet = http3.open("/s").await;
    let mut sessions = Vec::new();
    for _ in 0..BUSY {
        sessions.push(http3.session("/s", &[]).await);
    }
    for session in &mut sessions {
        session.send(&burst()).await;
    }
    let mut busy = JoinSet::new();
    let (came, mut comes) = mpsc::channel(BUSY * MESSAGES);
    for (number, mut session) in sessions.into_iter().enumerate() {
        let came = came.clone();
        busy.spawn(async move {
            for _ in 0..MESSAGES {
                next(&mut session).await;
                came.try_send(number).unwrap();
            }
            session
        });
    }
    let mut counts = [0; BUSY];
    let others = async {
        quiet.id().await;
        http3.session("/s", &[]).await.json("[]").await;
    };
    let first_has_all = async {
        while !counts.contains(&MESSAGES) {
            counts[comes.recv().await.unwrap()] += 1;
        }
    };
    within("the bursts", async { tokio::join!(others, first_has_all) }).await;
    // Their readers share a busy machine; without turns the others have nothing.
    assert!(
        counts.iter().all(|count| *count > MESSAGES / 10),
        "{counts:?}"
    );
    let all = within("the others", busy.join_all()).await;
    assert_eq!(all.len(), BUSY);
}

#[tokio::test]
async fn session_that_takes_nothing_keeps_no_other_of_its_connection_waiting() {
    let gateway = probe("", "").await;
    let http3 = connect(&gateway, WINDOW, 1 << 30).await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut session = http3.session("/s", &[]).await;
        session.send(&burst()).await;
        stalled.push(session);
    }
    let mut session = http3.session("/s", &[]).await;
    session.send(&burst()).await;
    for _ in 0..MESSAGES {
        next(&mut session).await;
    }
    for session in &mut stalled {
        next(session).await;
    }
}

/// An end within a frame would be the end of the connection (RFC 9114 §7.1).
#[tokio::test]
async fn answer_that_is_not_taken_is_reset_and_its_connection_stays() {
    let gateway = probe("", "").await;
    let http3 = connect(&gateway, WINDOW, 1 << 30).await;
    let mut client = http3.open("/s").await;
    let refusal = json!([{"do": "refuse", "status": 403, "letters": 300_000}]);
    let mut refused = http3.ask(&connecting(&refusal), &[]).await;
    assert_eq!(refused.reset_by_server().await, 0x10c);
    client.id().await;
}
