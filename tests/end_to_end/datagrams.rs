//! Datagrams of WebTransport: messages that may be lost, both ways, where a stage takes them.

use std::thread;

use lockgate_tests::{Gateway, Http3, Http3Options, WebTransport, within};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::http3::probe;

const DATAGRAM_ERROR: u64 = 0x33;

/// A gateway whose stage takes datagrams, with these lines beside.
async fn taking(stage: &str) -> Gateway {
    probe("", &format!("datagrams = true\n{stage}")).await
}

/// The next message of a session, as JSON.
async fn json(session: &mut WebTransport) -> Value {
    let answer = session.next().await.expect("an answer");
    serde_json::from_str(answer.to_text().unwrap()).unwrap()
}

/// The result of one step.
async fn step(session: &mut WebTransport, step: Value) -> Value {
    session.json(&json!([step]).to_string()).await[0].take()
}

/// The id of the session's connection.
async fn id(session: &mut WebTransport) -> String {
    let event = step(session, json!({"do": "event"})).await;
    event["connection"].as_str().unwrap().to_owned()
}

/// A count of the metrics page; 0 if it is not there.
async fn count(gateway: &Gateway, name: &str, direction: &str) -> u64 {
    let (_, page) = gateway.page("/metrics").await;
    let line = format!("lockgate_{name}_total{{api=\"a\",stage=\"s\",direction=\"{direction}\"}} ");
    let counted = page.lines().find_map(|shown| shown.strip_prefix(&line));
    counted.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn handler_tells_a_datagram_from_a_message_and_answers_with_one() {
    let gateway = taking("").await;
    let http3 = gateway.http3().await;
    let mut session = http3.session("/s", &[]).await;
    let mut other = http3.session("/s", &[]).await;
    let steps = json!([{"do": "is datagram"}, {"do": "datagram", "bytes": [1, 2, 3]}]);
    http3.send_datagram(session.id(), steps.to_string().as_bytes());
    // The answer goes the way of all messages.
    assert_eq!(json(&mut session).await, json!([true, "ok"]));
    assert_eq!(http3.datagram().await, (session.id(), vec![1, 2, 3]));
    let told = session.json(&steps.to_string()).await;
    assert_eq!(told, json!([false, "ok"]));
    assert_eq!(http3.datagram().await, (session.id(), vec![1, 2, 3]));
    // To another client, and an empty one.
    let id = id(&mut other).await;
    let sent = step(
        &mut session,
        json!({"do": "datagram", "id": id, "bytes": []}),
    )
    .await;
    assert_eq!(sent, "ok");
    assert_eq!(http3.datagram().await, (other.id(), Vec::new()));
    assert_eq!(count(&gateway, "datagrams", "in").await, 1);
    assert_eq!(count(&gateway, "datagrams", "out").await, 3);
    // One without a session is nobody's.
    http3.send_datagram(400, b"nobody");
    step(&mut other, json!({"do": "is datagram"})).await;
}

#[tokio::test]
async fn datagram_that_cannot_be_sent_is_an_error_of_the_call() {
    let gateway = taking("").await;
    let http3 = gateway.http3().await;
    let mut session = http3.session("/s", &[]).await;
    let mut websocket = gateway.connect("/s").await;
    let own = websocket.id().await;
    let none = json!({"invalid": "the client takes no datagrams: it takes a WebTransport client that allows them"});
    for (to, letters, expected) in [
        (Some(own.as_str()), 1, none.clone()),
        (Some("AAAAAAAAAAAAAAAA"), 1, json!("gone")),
        (None, 1_100, json!("ok")),
        (None, 1_500, json!("too-large")),
    ] {
        let mut asked = json!({"do": "datagram", "letters": letters});
        if let Some(to) = to {
            asked["id"] = to.into();
        }
        assert_eq!(
            step(&mut session, asked).await,
            expected,
            "{to:?}, {letters}"
        );
    }
    let why = "a datagram of 1500 bytes";
    gateway.log().line(&["refused to the handler", why]).await;
    // A client whose settings do not allow them.
    let options = Http3Options {
        settings: Vec::new(),
        ..Http3Options::default()
    };
    let without = Http3::try_connect(gateway.secure(), options).await.unwrap();
    let mut session = without.session("/s", &[]).await;
    let asked = json!({"do": "datagram", "text": "x"});
    assert_eq!(step(&mut session, asked.clone()).await, none);
    // A stage that takes none.
    let gateway = probe("", "").await;
    let http3 = gateway.http3().await;
    let mut session = http3.session("/s", &[]).await;
    assert_eq!(step(&mut session, asked).await, "denied");
    let remedy = "set datagrams = true of the stage";
    gateway
        .log()
        .line(&["refused to the handler", remedy])
        .await;
}

/// Sends a datagram that is the given one of those dropped.
async fn dropped(gateway: &Gateway, http3: &Http3, session: &WebTransport, number: u64) {
    http3.send_datagram(session.id(), b"[]");
    within("a datagram that is counted", async {
        while count(gateway, "datagrams_dropped", "in").await < number {}
    })
    .await;
}

#[tokio::test]
async fn reload_switches_the_datagrams_of_open_sessions() {
    let gateway = taking("").await;
    let http3 = gateway.http3().await;
    let mut session = http3.session("/s", &[]).await;
    let asked = json!([{"do": "is datagram"}]).to_string();
    for (from, to, answers) in [
        ("datagrams = true", "datagrams = false", false),
        ("datagrams = false", "datagrams = true", true),
    ] {
        crate::quic::reload(&gateway, from, to).await;
        if answers {
            dropped(&gateway, &http3, &session, 2).await;
        }
        // The message brings the new snapshot.
        assert_eq!(session.json(&asked).await, json!([false]));
        if answers {
            http3.send_datagram(session.id(), asked.as_bytes());
            assert_eq!(json(&mut session).await, json!([true]));
        } else {
            dropped(&gateway, &http3, &session, 1).await;
        }
    }
}

#[tokio::test]
async fn datagram_over_the_limit_of_a_message_closes_the_session() {
    let gateway = taking("limits = { message_kib = 1 }").await;
    let http3 = gateway.http3().await;
    let mut session = http3.session("/s", &[]).await;
    step(&mut session, json!({"do": "is datagram"})).await;
    http3.send_datagram(session.id(), &[b' '; 1_025]);
    assert_eq!(session.closed().await, (1009, "message too big".to_owned()));
}

#[tokio::test]
async fn datagram_that_names_no_stream_ends_its_connection_alone() {
    let gateway = taking("").await;
    let neighbour = gateway.http3().await;
    let mut session = neighbour.session("/s", &[]).await;
    for datagram in [&b""[..], b"\x40", b"\xd0\0\0\0\0\0\0\0"] {
        let http3 = gateway.http3().await;
        http3.quic.send_datagram(datagram.to_vec().into()).unwrap();
        assert_eq!(http3.ended().await, DATAGRAM_ERROR, "{datagram:x?}");
    }
    step(&mut session, json!({"do": "is datagram"})).await;
}

/// While a handler works, one message is read ahead and 32 datagrams wait.
#[tokio::test]
async fn datagrams_of_a_busy_session_are_dropped_and_counted() {
    const SENT: u64 = 80;
    let gateway = taking("").await;
    let http3 = gateway.http3().await;
    let mut session = http3.session("/s", &[]).await;
    let busy = json!([{"do": "print", "text": "busy"}, {"do": "sleep", "ms": 2_500}]);
    session.send(&Message::text(busy.to_string())).await;
    gateway.log().line(&["\"busy\""]).await;
    let asked = json!([{"do": "is datagram"}]).to_string();
    // In small groups, so that no buffer of the machine drops them.
    for _ in 0..SENT / 8 {
        for _ in 0..8 {
            http3.send_datagram(session.id(), asked.as_bytes());
        }
        // Neighbours are served meanwhile.
        gateway.connect("/s").await.id().await;
    }
    assert_eq!(json(&mut session).await, json!([null, null]));
    let dropped = count(&gateway, "datagrams_dropped", "in").await;
    assert!((1..SENT).contains(&dropped), "{dropped} are dropped");
    // The others are handled, and those that come later.
    for _ in dropped..SENT {
        assert_eq!(json(&mut session).await, json!([true]));
    }
    http3.send_datagram(session.id(), asked.as_bytes());
    assert_eq!(json(&mut session).await, json!([true]));
    let taken = count(&gateway, "datagrams", "in").await;
    assert_eq!(taken, SENT - dropped + 1);
    assert!(taken <= 1 + 32 + 2, "{taken} have waited");
}

/// A client that runs no more, and so acknowledges nothing.
pub(crate) struct Frozen {
    /// The id of its connection.
    pub(crate) id: String,
    runtime: Option<Runtime>,
    _open: (Http3, WebTransport),
}

impl Frozen {
    pub(crate) fn connect(gateway: &Gateway) -> Self {
        let address = gateway.secure();
        let connecting = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let (id, open) = runtime.block_on(async {
                let http3 = Http3::connect(address).await;
                let mut session = http3.session("/s", &[]).await;
                let id = id(&mut session).await;
                (id, (http3, session))
            });
            Self {
                id,
                runtime: Some(runtime),
                _open: open,
            }
        });
        connecting.join().unwrap()
    }
}

impl Drop for Frozen {
    /// A runtime does not wait for its tasks inside another one.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tokio::test]
async fn datagrams_that_the_network_does_not_take_are_dropped_and_counted() {
    const SENT: u64 = 100;
    let gateway = taking("").await;
    let frozen = Frozen::connect(&gateway);
    let http3 = gateway.http3().await;
    let mut session = http3.session("/s", &[]).await;
    let one = json!({"do": "datagram", "id": frozen.id, "letters": 1_000});
    let steps: Vec<_> = (0..SENT).map(|_| one.clone()).collect();
    let answers = session.json(&json!(steps).to_string()).await;
    // Nothing is wrong with them.
    let answers = answers.as_array().unwrap();
    assert!(answers.iter().all(|answer| answer == "ok"), "{answers:?}");
    let dropped = count(&gateway, "datagrams_dropped", "out").await;
    let sent = count(&gateway, "datagrams", "out").await;
    assert_eq!(sent + dropped, SENT);
    // 16 KiB wait, beside what the network takes before it is acknowledged.
    assert!((10..=60).contains(&sent), "{sent} are sent");
}

#[tokio::test]
async fn flood_of_datagrams_starves_nobody() {
    let gateway = taking("").await;
    let mut transport = quinn::TransportConfig::default();
    transport.datagram_send_buffer_size(8 << 10);
    let options = Http3Options {
        transport,
        ..Http3Options::default()
    };
    let flooding = Http3::try_connect(gateway.secure(), options).await.unwrap();
    let mut session = flooding.session("/s", &[]).await;
    let (quic, own) = (flooding.quic.clone(), session.id());
    let silence = json!([{"do": "silence"}]).to_string();
    let mut flood = JoinSet::new();
    flood.spawn(async move {
        let datagram = [&[u8::try_from(own / 4).unwrap()], silence.as_bytes()].concat();
        while quic
            .send_datagram_wait(datagram.clone().into())
            .await
            .is_ok()
        {}
    });
    let neighbour = gateway.http3().await;
    let mut websocket = gateway.connect("/s").await;
    let mut others = neighbour.session("/s", &[]).await;
    for _ in 0..20 {
        websocket.id().await;
        step(&mut others, json!({"do": "is datagram"})).await;
    }
    flood.abort_all();
    assert_eq!(
        step(&mut session, json!({"do": "is datagram"})).await,
        false
    );
    assert!(count(&gateway, "datagrams", "in").await > 0);
}

#[tokio::test]
async fn carriers_of_connections_are_told_apart() {
    let gateway = taking("").await;
    let http3 = gateway.http3().await;
    let mut session = http3.session("/s", &[]).await;
    let mut websocket = http3.open("/s").await;
    websocket.id().await;
    step(&mut session, json!({"do": "is datagram"})).await;
    for (id, protocol) in [
        (id(&mut session).await, "webtransport"),
        (websocket.id().await, "websocket"),
    ] {
        let (_, shown) = gateway.page(&format!("/connections/{id}")).await;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["http"], "3", "{shown}");
        assert_eq!(shown["protocol"], protocol, "{shown}");
    }
    let (_, page) = gateway.page("/metrics").await;
    for (protocol, http, open) in [
        ("websocket", "1.1", 0),
        ("websocket", "2", 0),
        ("websocket", "3", 1),
        ("webtransport", "3", 1),
    ] {
        let line = format!(
            "lockgate_connections_carried{{api=\"a\",stage=\"s\",http=\"{http}\",protocol=\"{protocol}\"}} {open}\n"
        );
        assert!(page.contains(&line), "{line} is not in {page}");
    }
    assert!(page.contains("lockgate_connections{api=\"a\",stage=\"s\"} 2\n"));
    websocket.close(1000, "").await;
    session.close(4_000, "").await;
    let protocols = ["websocket", "webtransport"];
    for event in ["connected", "disconnected"] {
        for protocol in protocols {
            let protocol = format!("\"protocol\":\"{protocol}\"");
            gateway
                .log()
                .line(&[event, "\"http\":\"3\"", &protocol])
                .await;
        }
    }
}
