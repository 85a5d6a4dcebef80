//! WebTransport sessions: the same stages, `$connect`, routes and ends as WebSockets have.

use std::collections::VecDeque;

use lockgate_tests::{Http3, WebTransport, stream_head, within};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    connect::connecting,
    http3::{echo, probe},
};

const REQUEST_REJECTED: u64 = 0x10b;
const SESSION_GONE: u64 = 0x170d_7b68;

/// The id of the session's connection.
pub(crate) async fn id(session: &mut WebTransport) -> String {
    let answer = session.json("[{\"do\": \"event\"}]").await;
    answer[0]["connection"].as_str().unwrap().to_owned()
}

/// The status for a session that is refused.
async fn refused(http3: &Http3) -> u16 {
    let asked = http3.ask_session("/s", &[]).await;
    asked.answer().await.status
}

#[tokio::test]
async fn messages_of_a_session_are_echoed_in_order() {
    let gateway = echo().await;
    let http3 = gateway.http3().await;
    let mut session = http3.session("/s", &[]).await;
    let mut other = http3.session("/s", &[]).await;
    for length in [0, 1, 125, 126, 65_535, 65_536, 131_072] {
        for message in [
            Message::text("x".repeat(length)),
            Message::binary(vec![7; length]),
        ] {
            for session in [&mut session, &mut other] {
                session.send(&message).await;
                assert_eq!(session.next().await, Some(message.clone()));
            }
        }
    }
    for number in 0..200 {
        session.send(&Message::text(number.to_string())).await;
    }
    for number in 0..200 {
        assert_eq!(
            session.next().await,
            Some(Message::text(number.to_string()))
        );
    }
    // A WebSocket on the same connection.
    let mut client = http3.open("/s").await;
    client.send("beside it").await;
    client.expect("beside it").await;
    // Datagrams are dropped where the stage does not take them.
    let datagram = vec![u8::try_from(session.id() / 4).unwrap(), 1, 2, 3];
    http3.quic.send_datagram(datagram.into()).unwrap();
    session.send(&Message::text("still here")).await;
    assert_eq!(session.next().await, Some(Message::text("still here")));
}

#[tokio::test]
async fn session_is_judged_by_origin_and_connect_and_has_a_subprotocol() {
    let gateway = probe("", "").await;
    let http3 = gateway.http3().await;
    let foreign = [("origin", "https://evil.example")];
    assert_eq!(
        http3
            .ask_session("/s", &foreign)
            .await
            .answer()
            .await
            .status,
        403
    );
    assert_eq!(
        http3
            .ask_session("/nowhere", &[])
            .await
            .answer()
            .await
            .status,
        403
    );
    let refusing = connecting(&json!([{"do": "refuse", "status": 401}]));
    assert_eq!(
        http3
            .ask_session(&refusing, &[])
            .await
            .answer()
            .await
            .status,
        401
    );
    let choosing = connecting(&json!([{"do": "accept", "subprotocol": "b"}]));
    let offered = [
        ("wt-available-protocols", "\"a\", \"b\""),
        ("wt-available-protocols", "\"c\""),
    ];
    let session = http3.session(&choosing, &offered).await;
    assert_eq!(session.answer.header("wt-protocol"), Some("\"b\""));
    assert_eq!(
        session.answer.header("sec-webtransport-http3-draft"),
        Some("draft02")
    );
}

#[tokio::test]
async fn close_of_a_session_has_its_code_both_ways() {
    let gateway = probe("", "").await;
    let http3 = gateway.http3().await;
    // The client's.
    for (code, reason, told) in [
        (4_000, "bye", "4000 \\\"bye\\\""),
        (0, "", "1000 \\\"\\\""),
        // No endpoint may send it, and a handler would take it for a connection that broke.
        (1_006, "", "1002 \\\"protocol error\\\""),
        (70_000, "", "1002 \\\"protocol error\\\""),
    ] {
        let mut session = http3.session("/s", &[]).await;
        let own = id(&mut session).await;
        session.close(code, reason).await;
        gateway.log().line(&[&format!("ended: {own} {told}")]).await;
    }
    let mut session = http3.session("/s", &[]).await;
    let own = id(&mut session).await;
    session.finish();
    gateway.log().line(&[&format!("ended: {own} 1000")]).await;
    // The handler's, behind its last messages.
    let mut session = http3.session("/s", &[]).await;
    let own = id(&mut session).await;
    let steps = json!([
        {"do": "send", "id": own, "text": "last"},
        {"do": "close", "id": own, "code": 4_001, "reason": "enough"},
    ]);
    session.send(&Message::text(steps.to_string())).await;
    assert_eq!(session.next().await, Some(Message::text("last")));
    while session.next().await.is_some() {}
    assert_eq!(session.closed().await, (4_001, "enough".to_owned()));
    gateway.log().line(&[&format!("ended: {own} 4001")]).await;
    // A connection that is gone.
    let gone = gateway.http3().await;
    let mut session = gone.session("/s", &[]).await;
    let own = id(&mut session).await;
    gone.quic.close(0x100_u32.into(), b"");
    gateway.log().line(&[&format!("ended: {own} 1006")]).await;
}

/// A handler is told 1006 of them, as of a WebSocket that broke.
#[tokio::test]
async fn session_whose_stream_is_reset_or_cut_off_has_broken() {
    let gateway = probe("", "").await;
    let http3 = gateway.http3().await;
    let mut session = http3.session("/s", &[]).await;
    let own = id(&mut session).await;
    session.reset();
    gateway.log().line(&[&format!("ended: {own} 1006")]).await;
    // Malformed, and then an end in order; an end within a capsule, and within a frame of HTTP/3.
    for bytes in [
        &[0, 5, 0x68, 0x43, 2, 0, 0][..],
        &[0, 4, 0x68, 0x43, 5, 0],
        &[0, 1, 0x40],
        &[0, 9, 0x40],
    ] {
        let mut session = http3.session("/s", &[]).await;
        let own = id(&mut session).await;
        session.send_beside(bytes).await;
        session.finish();
        gateway.log().line(&[&format!("ended: {own} 1006")]).await;
    }
}

#[tokio::test]
async fn messages_against_the_rules_close_a_session_as_they_close_a_websocket() {
    let gateway = echo().await;
    let http3 = gateway.http3().await;
    for (bytes, code) in [
        (&[3, 0xc3, 0x28, b'x'][..], 1007),
        (&[0xff, 0, 0, 0, 0, 0, 2, 0, 1], 1009), // 128 KiB and one
        (
            &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            1009,
        ),
    ] {
        let mut session = http3.session("/s", &[]).await;
        session.send_bytes(bytes).await;
        assert_eq!(session.closed().await.0, code, "{bytes:x?}");
    }
    // A further stream of a session is reset, and its messages go on.
    let mut session = http3.session("/s", &[]).await;
    session.send(&Message::text("first")).await;
    assert_eq!(session.next().await, Some(Message::text("first")));
    let mut further = http3.send(&stream_head(session.id())).await;
    assert_eq!(further.reset_by_server().await, SESSION_GONE);
    session.send(&Message::text("second")).await;
    assert_eq!(session.next().await, Some(Message::text("second")));
    // A stream of a session that there cannot be.
    let _stream = http3.send(&stream_head(3)).await;
    assert_eq!(http3.ended().await, 0x108);
}

#[tokio::test]
async fn connection_has_100_sessions_with_their_streams_and_refuses_the_next() {
    let gateway = echo().await;
    let http3 = gateway.http3().await;
    let mut sessions = VecDeque::new();
    for _ in 0..100 {
        sessions.push_back(http3.session("/s", &[]).await);
    }
    for session in &mut sessions {
        session.send(&Message::text("hello")).await;
        assert_eq!(session.next().await, Some(Message::text("hello")));
    }
    assert_eq!(refused(&http3).await, 429);
    // Each that ends leaves its place to one, though QUIC tells a client of ended streams by the dozen.
    for _ in 0..20 {
        sessions.pop_front().unwrap().close(1000, "").await;
        let session = within("a place", async {
            loop {
                let mut asked = http3.ask_session("/s", &[]).await;
                match asked.head().await {
                    answer if answer.status == 429 => {}
                    answer => break http3.begin_session(asked, answer).await,
                }
            }
        });
        sessions.push_back(session.await);
        assert_eq!(refused(&http3).await, 429);
    }
    let other = gateway.http3().await;
    let mut asked = Vec::new();
    for _ in 0..100 {
        asked.push(other.ask_session("/s", &[]).await);
    }
    for session in &mut asked {
        assert_eq!(session.head().await.status, 200);
    }
    assert_eq!(refused(&other).await, 429);
}

#[tokio::test]
async fn stream_that_comes_with_its_request_waits_as_long_as_connect_works() {
    let gateway = probe("handshake_timeout_s = 2", "").await;
    let http3 = gateway.http3().await;
    let slow = connecting(&json!([{"do": "sleep", "ms": 4_000}, {"do": "accept"}]));
    let mut session = http3.session(&slow, &[]).await;
    id(&mut session).await;
    // The stream of a session that is refused, and of one that nobody asks for.
    let refusing = connecting(&json!([{"do": "refuse", "status": 401}]));
    let refused = http3.ask_session(&refusing, &[]).await;
    let mut stream = http3.send(&stream_head(refused.id())).await;
    assert_eq!(refused.answer().await.status, 401);
    assert_eq!(stream.reset_by_server().await, SESSION_GONE);
    let mut stream = http3.send(&stream_head(400)).await;
    assert_eq!(stream.reset_by_server().await, SESSION_GONE);
}

#[tokio::test]
async fn stop_closes_sessions_too() {
    let mut gateway = probe("drain_s = 1", "").await;
    let http3 = gateway.http3().await;
    let mut session = http3.session("/s", &[]).await;
    let own = id(&mut session).await;
    gateway.terminate();
    assert_eq!(session.closed().await, (1001, "Going away".to_owned()));
    session.finish();
    gateway.log().line(&[&format!("ended: {own} 1001")]).await;
    assert_eq!(gateway.ended().await, Some(0));
}

/// A browser opens its stream when it has heard that it is let in. A drain may begin meanwhile.
#[tokio::test]
async fn session_that_was_let_in_before_a_drain_has_its_stream_after_the_goaway() {
    let gateway = probe("drain_s = 3600", "").await;
    let mut http3 = gateway.http3().await;
    let mut let_in = Vec::new();
    for _ in 0..4 {
        let mut asked = http3.ask_session("/s", &[]).await;
        let answer = asked.head().await;
        let_in.push((asked, answer));
    }
    gateway.terminate();
    http3.going_away().await;
    let mut answered = 0;
    for (asked, answer) in let_in {
        let mut session = http3.begin_session(asked, answer).await;
        session.send(&Message::text("[]")).await;
        answered += usize::from(session.next().await.is_some());
    }
    // The drain has closed one at once.
    assert!(answered >= 2, "{answered} of 4");
    let mut late = http3.ask("/s", &[]).await;
    assert_eq!(late.reset_by_server().await, REQUEST_REJECTED);
}
