//! An HTTP/2 connection and its bounds: requests of one client on it cost other clients nothing.

use std::time::{Duration, Instant};

use lockgate_tests::{Gateway, Http2, within};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{LOCKGATE, abandoned::slowly, floods::resident_kib, probe_configuration};

async fn serve(limits: &str, stage: &str, plugin: &str) -> Gateway {
    let configuration = probe_configuration(stage, plugin);
    LOCKGATE
        .serve(&format!("[limits]\n{limits}\n{configuration}"))
        .await
}

/// Waits until another client is let in.
pub(crate) async fn room_again(gateway: &Gateway) {
    let let_in = async { while gateway.ws("/s").attempt().await.is_err() {} };
    within("room for another", let_in).await;
}

#[tokio::test]
async fn connection_whose_requests_are_all_refused_ends() {
    let gateway = serve("connections = 1\nhandshake_timeout_s = 1", "", "").await;
    let http2 = gateway.http2().await;
    let mut refused = 0;
    within("the end of the connection", async {
        while http2.is_open() {
            if let Some(asked) = http2.try_ask("/nowhere", &[]).await
                && let Some(status) = asked.status().await
            {
                assert!(matches!(status, 403 | 503), "{status}");
                refused += 1;
            }
        }
    })
    .await;
    assert!(refused > 0);
    room_again(&gateway).await;
}

#[tokio::test]
async fn refused_streams_leave_nothing_behind() {
    const STREAMS: usize = 5_000;
    const MOST_KIB: usize = 4 << 10;
    let gateway = serve("handshakes = 4", "", "").await;
    let http2 = gateway.http2().await;
    let mut client = http2.open("/s").await;
    let refuse = async |streams: usize| {
        for _ in 0..streams {
            assert_eq!(http2.refused("/nowhere", &[]).await.status, 403);
        }
    };
    refuse(100).await;
    let before = resident_kib(&gateway);
    refuse(STREAMS).await;
    let grown = resident_kib(&gateway).saturating_sub(before);
    assert!(grown < MOST_KIB, "{grown} KiB for {STREAMS} streams");
    client.id().await;
    gateway.connect("/s").await.id().await;
}

#[tokio::test]
async fn http_2_connection_without_a_websocket_ends_and_with_a_quiet_one_stays() {
    let gateway = serve("handshake_timeout_s = 1", "", "").await;
    let quiet = gateway.http2().await;
    let mut client = quiet.open("/s").await;
    let mut http2 = gateway.http2().await;
    http2.open("/s").await.close(1000, "").await;
    // The time of a handshake counts from the end of the last WebSocket.
    let closed = Instant::now();
    http2.ended().await;
    assert!(closed.elapsed() >= Duration::from_secs(1));
    // A connection without any request.
    gateway.http2().await.ended().await;
    client.id().await;
    assert!(quiet.is_open());
    let mut other = quiet.open("/s").await;
    other.id().await;
}

#[tokio::test]
async fn each_stream_under_way_takes_a_permit() {
    let gateway = serve("handshakes = 2", "", "").await;
    let http2 = gateway.http2().await;
    let first = http2.ask(&slowly(2_000), &[]).await;
    let second = http2.ask(&slowly(2_000), &[]).await;
    gateway.log().nth_line(1, &["\"asked\""]).await;
    assert_eq!(http2.refused("/s", &[]).await.status, 503);
    assert_eq!(gateway.ws("/s").refused().await.status, 503);
    let clients = (first.open().await, second.open().await);
    room_again(&gateway).await;
    drop(clients);
}

/// Two streams that are not read have full windows; a third stream and the connection have room.
#[tokio::test]
async fn slow_handlers_leave_other_streams_of_a_connection_their_window() {
    const SLOW: Duration = Duration::from_secs(4);
    let gateway = serve("", "", "limits = { deadline_ms = 20_000 }").await;
    let http2 = gateway.http2().await;
    let mut other = http2.open("/s").await;
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let mut client = http2.open("/s").await;
        slow.spawn(async move {
            let steps = json!([{"do": "print", "text": "it is slow"}, {"do": "sleep", "ms": SLOW.as_millis() as u64}]);
            client.send(steps.to_string()).await;
            // As much as one connection-wide window would hold.
            let filling = format!("[{}]", " ".repeat(100_000));
            for _ in 0..11 {
                client.send(filling.clone()).await;
            }
        });
    }
    gateway.log().nth_line(1, &["it is slow"]).await;
    while !slow.is_empty() {
        let asked = Instant::now();
        other.id().await;
        assert!(asked.elapsed() < SLOW / 2, "{:?}", asked.elapsed());
        while let Some(sent) = slow.try_join_next() {
            sent.unwrap();
        }
    }
}

#[tokio::test]
async fn http_2_takes_as_many_headers_as_http_1_1() {
    /// The most that a request may have.
    const MOST: usize = 64;
    let gateway = serve("", "", "").await;
    let request = gateway.ws("/s");
    let own = request
        .bytes()
        .windows(2)
        .filter(|end| *end == b"\r\n")
        .count()
        - 2;
    let with = |count: usize| {
        (0..count - own).fold(request.clone(), |request, number| {
            request.and_header(&format!("x-{number}"), "1")
        })
    };
    with(MOST).open().await.id().await;
    assert_eq!(with(MOST + 1).refused().await.status, 431);

    let http2 = gateway.http2().await;
    let names: Vec<_> = (0..MOST).map(|number| format!("x-{number}")).collect();
    let mut headers: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    // One more than the limit, with the version's header.
    assert_eq!(http2.refused("/s", &headers).await.status, 431);
    headers.pop();
    http2.ask("/s", &headers).await.open().await.id().await;
    // Browsers split cookies into several headers, which HTTP/1.1 has in one.
    headers.pop();
    headers.extend([("cookie", "a=1"); 20]);
    http2.ask("/s", &headers).await.open().await.id().await;
}

#[tokio::test]
async fn streams_of_one_connection_are_bounded_with_the_reset_ones() {
    const STREAMS: usize = 100;
    let gateway = serve("", "", "limits = { deadline_ms = 29_000, waiting = 1000 }").await;
    let http2 = gateway.http2().await;
    let target = slowly(25_000);
    for place in 0..STREAMS {
        let asked = http2.ask(&target, &[]).await;
        gateway.log().nth_line(place, &["\"asked\""]).await;
        asked.reset();
    }
    assert_eq!(http2.refused(&target, &[]).await.status, 429);
    // The bound is one connection's.
    gateway.ws("/nowhere").refused().await;
    assert_eq!(
        gateway.http2().await.refused("/nowhere", &[]).await.status,
        403
    );
}

/// Requests that are reset as fast as they are made (CVE-2023-44487).
#[tokio::test]
async fn streams_reset_at_once_get_no_more_calls_than_permits() {
    const RESETS: usize = 2_000;
    let gateway = serve("handshakes = 4", "", "").await;
    let target = slowly(100);
    let mut http2: Http2 = gateway.http2().await;
    for _ in 0..RESETS {
        match http2.try_ask(&target, &[]).await {
            Some(asked) => asked.reset(),
            None => http2 = gateway.http2().await,
        }
    }
    room_again(&gateway).await;
    // Each client that was let in has its `$disconnect`.
    let count = |said: &str| {
        let lines = gateway.log().lines();
        lines.iter().filter(|line| line.contains(said)).count()
    };
    within("as many ends as calls", async {
        // The client that probed for room is still open.
        while count("\"ended: ") != count("\"asked\"") + 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Header blocks without an end (CVE-2024-27316).
#[tokio::test]
async fn endless_headers_end_the_connection() {
    const MOST: usize = 4 << 20;
    let gateway = serve("", "", "").await;
    let mut stream = gateway.wss("/s").alpn("h2").stream().await.unwrap();
    let frame = |kind: u8, stream: u8, payload: &[u8]| {
        let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[..], &[kind, 0, 0, 0, 0, stream], payload].concat()
    };
    let mut start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    start.extend(frame(4, 0, &[])); // settings
    start.extend(frame(1, 1, &[0x82])); // headers, not the last: GET
    stream.write_all(&start).await.unwrap();
    // A header that is not indexed, again and again.
    let more = frame(9, 1, &b"\x00\x01x\x01y".repeat(1_000));
    let mut sent = 0;
    within("the connection to end", async {
        while stream.write_all(&more).await.is_ok() && stream.flush().await.is_ok() {
            sent += more.len();
            assert!(sent < MOST, "it takes them all");
        }
    })
    .await;
    gateway.connect("/s").await.id().await;
}

/// A client that passes over the `GOAWAY`: it neither goes elsewhere nor answers the ping behind it, for which the server waits.
#[tokio::test]
async fn client_of_a_changed_listener_that_stays_is_refused_once_no_request_can_be_on_its_way() {
    let gateway = serve("handshake_timeout_s = 2", "", "").await;
    let address = gateway.secure().to_string();
    let (tls, from) = ("tls = \"self-signed\"", "address = \"127.0.0.1:0\"");
    let named = format!("address = \"{address}\"\n{tls}");
    gateway.change(&[(&format!("{from}\n{tls}"), &named)]).await;
    let mut stream = gateway.wss("/s").alpn("h2").stream().await.unwrap();
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    // Names of the static table, or in full; values in full (RFC 7541 §6.2.2).
    let head = |path: &str| {
        let mut head = vec![0x87]; // :scheme https
        for (name, value) in [
            (&[2][..], "CONNECT"),
            (&[4], path),
            (&[1], &address),
            (b"\x00\x09:protocol", "websocket"),
            (b"\x00\x15sec-websocket-version", "13"),
        ] {
            head.extend_from_slice(name);
            head.push(u8::try_from(value.len()).unwrap());
            head.extend_from_slice(value.as_bytes());
        }
        head
    };
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    stream.write_all(preface).await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let mut id = 1_u32;
    // Whether a client is let in.
    let mut opens = async |path: &str| {
        stream
            .write_all(&frame(1, 4, id, &head(path)))
            .await
            .unwrap();
        stream.flush().await.unwrap();
        let answer = async {
            loop {
                let mut start = [0; 9];
                stream.read_exact(&mut start).await.unwrap();
                let length = u32::from_be_bytes([0, start[0], start[1], start[2]]);
                let mut payload = vec![0; length as usize];
                stream.read_exact(&mut payload).await.unwrap();
                if start[3] == 1 && start[5..] == id.to_be_bytes() {
                    return payload[0] == 0x88; // :status 200
                }
            }
        };
        let answer = within("the answer", answer).await;
        id += 2;
        answer
    };
    assert!(opens("/s").await);
    let changed = format!("{named}\ntrusted_proxies = [\"192.0.2.1\"]");
    gateway.change(&[(&named, &changed)]).await;
    // Its line in the log may be left out, since there are many.
    let is_late = async || {
        let (_, page) = gateway.page("/metrics").await;
        let mut counts = page.lines().filter(|line| line.contains("\"misdirected\""));
        counts.any(|line| !line.ends_with(" 0"))
    };
    within("a refusal for being late", async {
        while !is_late().await {
            assert!(!opens("/nowhere").await);
        }
    })
    .await;
    assert!(!opens("/s").await);
}
