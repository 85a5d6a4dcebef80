//! WebSockets over HTTP/3 (RFC 9220), and HTTP/3 that is none.

use lockgate_tests::{Gateway, Http3, encode, put_frame, put_integer, within};
use serde_json::{Value, json};

use crate::{LOCKGATE, abandoned::slowly, connect::connecting, floods::resident_kib};
use crate::{echo_configuration, probe_configuration};

/// Error codes (RFC 9114 §8.1, RFC 9204 §6).
const NO_ERROR: u64 = 0x100;
const STREAM_CREATION_ERROR: u64 = 0x103;
const CLOSED_CRITICAL_STREAM: u64 = 0x104;
const FRAME_UNEXPECTED: u64 = 0x105;
const EXCESSIVE_LOAD: u64 = 0x107;
const SETTINGS_ERROR: u64 = 0x109;
const MISSING_SETTINGS: u64 = 0x10a;
const REQUEST_CANCELLED: u64 = 0x10c;
const MESSAGE_ERROR: u64 = 0x10e;
const DECOMPRESSION_FAILED: u64 = 0x200;
const ENCODER_STREAM_ERROR: u64 = 0x201;

pub(crate) async fn echo() -> Gateway {
    LOCKGATE.serve_quic(&echo_configuration("")).await
}

/// The guest `probe`, with these lines in the gateway's limits, and these in the stage's table.
pub(crate) async fn probe(limits: &str, stage: &str) -> Gateway {
    let configuration =
        probe_configuration(stage, "limits = { deadline_ms = 29_000, waiting = 1000 }");
    let configuration = format!("[limits]\n{limits}\n{configuration}");
    LOCKGATE.serve_quic(&configuration).await
}

#[tokio::test]
async fn messages_of_every_length_are_echoed_over_http_3() {
    let gateway = echo().await;
    let http3 = gateway.http3().await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(http3.open("/s").await);
    }
    for length in [0, 1, 125, 126, 1_199, 1_200, 1_201, 65_535, 65_536, 131_072] {
        for client in &mut clients {
            let text = "x".repeat(length);
            client.send(text.clone()).await;
            client.expect(&text).await;
            client.send_binary(vec![7; length]).await;
            assert_eq!(client.binary().await, vec![7; length]);
        }
    }
    for client in clients {
        assert_eq!(client.close(4000, "bye").await, 4000);
    }
}

#[tokio::test]
async fn handler_gets_the_same_request_over_http_3_as_over_http_2() {
    let gateway = probe("", "").await;
    let target = connecting(&json!([{"do": "handshake"}])) + "&tell";
    let headers = [
        ("cookie", "a=1"),
        ("x-many", "1"),
        ("cookie", "b=2"),
        ("x-many", "2"),
    ];
    let (http2, http3) = (gateway.http2().await, gateway.http3().await);
    let mut told = Vec::new();
    for mut client in [
        http2.open_with(&target, &headers).await,
        http3.open_with(&target, &headers).await,
    ] {
        told.push(client.json().await[0].clone());
    }
    assert_eq!(told[1]["http_version"], "3");
    told[0]["http_version"] = json!("3");
    for told in &mut told {
        let headers = told["headers"].as_array_mut().unwrap();
        headers.sort_by_key(Value::to_string);
        assert!(
            headers.contains(&json!(["cookie", "a=1; b=2"])),
            "{headers:?}"
        );
    }
    assert_eq!(told[0], told[1]);
}

#[tokio::test]
async fn requests_that_open_no_websocket_are_refused_with_the_status_of_http() {
    let gateway = echo().await;
    let mut http3 = gateway.http3().await;
    assert_eq!(http3.refused("/nowhere", &[]).await.status, 403);
    let foreign = [("origin", "https://foreign.example")];
    assert_eq!(http3.refused("/s", &foreign).await.status, 403);
    let own = format!("https://localhost:{}", gateway.secure().port());
    http3.open_with("/s", &[("origin", &own)]).await;
    assert_eq!(
        http3.refused("/s", &[("content-length", "1")]).await.status,
        400
    );
    let authority = format!("localhost:{}", gateway.secure().port());
    let connect = |protocol: Option<&'static str>| {
        let mut fields = vec![(":method", "CONNECT"), (":authority", &*authority)];
        if let Some(protocol) = protocol {
            fields.extend([
                (":protocol", protocol),
                (":scheme", "https"),
                (":path", "/s"),
            ]);
        }
        fields
    };
    for (fields, status) in [
        // RFC 9220 §3.
        (connect(Some("connect-udp")), 501),
        (connect(None), 426),
        (connect(Some("websocket")), 426), // without a version
    ] {
        let answer = http3.request(&fields).await.answer().await;
        assert_eq!(answer.status, status, "{fields:?}");
        assert!(answer.header("x-request-id").is_some());
        assert!(answer.header("connection").is_none());
        assert!(answer.text().starts_with("{\"message\":"), "{answer:?}");
    }
    let get = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", &*authority),
        (":path", "/s"),
    ];
    assert_eq!(http3.request(&get).await.answer().await.status, 426);
    // The certificate is not for this host.
    http3.set_host("other.example");
    assert_eq!(http3.refused("/s", &[]).await.status, 421);
}

#[tokio::test]
async fn heads_over_their_bounds_are_answered_and_malformed_ones_reset() {
    let gateway = echo().await;
    let http3 = gateway.http3().await;
    let mut client = http3.open("/s").await;
    let names: Vec<_> = (0..64).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (&**name, "1")).collect();
    assert_eq!(http3.refused("/s", &many).await.status, 431);
    let long = "y".repeat(17 << 10);
    assert_eq!(http3.refused("/s", &[("x", &long)]).await.status, 431);
    // 300 MB are announced, and none of them is waited for.
    let mut head = Vec::new();
    put_integer(&mut head, 1);
    put_integer(&mut head, 300 << 20);
    let before = resident_kib(&gateway);
    let announced = http3.send(&head).await;
    assert_eq!(announced.answer().await.status, 431);
    assert!(resident_kib(&gateway) < before + (16 << 10));
    for field in [
        ("Upper", "case"),
        ("connection", "close"),
        (":path", "/twice"),
        (":status", "200"),
    ] {
        let mut asked = http3.ask("/s", &[field]).await;
        assert_eq!(asked.reset_by_server().await, MESSAGE_ERROR, "{field:?}");
    }
    // Frames without a meaning may stand anywhere.
    let mut greased = Vec::new();
    put_frame(&mut greased, 0x21, b"grease");
    let authority = format!("localhost:{}", gateway.secure().port());
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", &*authority),
        (":path", "/s"),
        ("sec-websocket-version", "13"),
    ];
    put_frame(&mut greased, 1, &encode(&fields));
    put_frame(&mut greased, 0x40, b"");
    http3.send(&greased).await.open().await;
    client.send("still here").await;
    client.expect("still here").await;
}

#[tokio::test]
async fn violations_of_http_3_end_the_connection_with_their_code_and_no_other() {
    let gateway = echo().await;
    let neighbour = gateway.http3().await;
    let mut client = neighbour.open("/s").await;
    let frame = |kind: u64, payload: &[u8]| {
        let mut frame = Vec::new();
        put_frame(&mut frame, kind, payload);
        frame
    };
    // On a request's stream.
    let mut announced = Vec::new();
    put_integer(&mut announced, 0x21);
    put_integer(&mut announced, 1 << 20);
    for (bytes, code) in [
        (frame(0, b"data first"), FRAME_UNEXPECTED),
        (frame(4, b""), FRAME_UNEXPECTED),
        (frame(2, b""), FRAME_UNEXPECTED),
        (frame(1, b"\x03\x81\x10\x11"), DECOMPRESSION_FAILED), // the dynamic table
        (frame(1, b"\x00\x00\xff\x24"), DECOMPRESSION_FAILED), // index 99
        (announced, EXCESSIVE_LOAD),
    ] {
        let http3 = gateway.http3().await;
        let _asked = http3.send(&bytes).await;
        assert_eq!(http3.ended().await, code, "{bytes:x?}");
    }
    // On the control stream, behind the settings.
    for (bytes, code) in [
        (frame(4, b""), FRAME_UNEXPECTED),
        (frame(0, b"data"), FRAME_UNEXPECTED),
        (frame(3, &[0]), 0x108),
        (frame(7, b""), 0x106),
    ] {
        let mut http3 = gateway.http3().await;
        http3.control(&bytes).await;
        assert_eq!(http3.ended().await, code, "{bytes:x?}");
    }
    // Other unidirectional streams.
    for (bytes, code) in [
        (vec![0, 4, 0], STREAM_CREATION_ERROR), // a second control stream
        (vec![1], STREAM_CREATION_ERROR),       // a push
        (vec![2, 0xc1, 1, b'x'], ENCODER_STREAM_ERROR),
        (vec![2, 0x20], CLOSED_CRITICAL_STREAM),
    ] {
        let http3 = gateway.http3().await;
        let mut stream = http3.quic.open_uni().await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.finish().unwrap();
        assert_eq!(http3.ended().await, code, "{bytes:x?}");
    }
    // Settings of their own.
    for (bytes, code) in [
        (frame(0x21, b"grease first"), MISSING_SETTINGS),
        (frame(4, &[0x21, 1, 0x21, 1]), SETTINGS_ERROR),
        (frame(4, &[3, 1]), SETTINGS_ERROR),
        (frame(4, &vec![0x3f; 5_000]), EXCESSIVE_LOAD),
    ] {
        let connected = Http3::quic(gateway.secure(), Default::default()).await;
        let (_endpoint, quic) = connected.unwrap();
        let mut stream = quic.open_uni().await.unwrap();
        stream
            .write_all(&[&[0], &bytes[..]].concat())
            .await
            .unwrap();
        let ended = within("the end of the connection", quic.closed()).await;
        let lockgate_tests::ConnectionError::ApplicationClosed(close) = ended else {
            panic!("{ended}");
        };
        assert_eq!(close.error_code.into_inner(), code, "{bytes:x?}");
    }
    // A frame that a tunnel does not have.
    let http3 = gateway.http3().await;
    let mut asked = http3.ask("/s", &[]).await;
    assert_eq!(asked.head().await.status, 200);
    asked.send.write_all(&frame(1, b"")).await.unwrap();
    assert_eq!(http3.ended().await, FRAME_UNEXPECTED);
    client.send("unharmed").await;
    client.expect("unharmed").await;
}

#[tokio::test]
async fn streams_of_one_http_3_connection_are_bounded_with_the_reset_ones() {
    const STREAMS: usize = 100;
    let gateway = probe("", "").await;
    let http3 = gateway.http3().await;
    let target = slowly(25_000);
    for place in 0..STREAMS {
        let asked = http3.ask(&target, &[]).await;
        gateway.log().nth_line(place, &["\"asked\""]).await;
        asked.reset();
    }
    assert_eq!(http3.refused(&target, &[]).await.status, 429);
    assert_eq!(
        gateway.http3().await.refused("/nowhere", &[]).await.status,
        403
    );
}

#[tokio::test]
async fn open_streams_are_bounded_in_each_direction() {
    let gateway = probe("handshake_timeout_s = 60", "").await;
    // A stream exists for the server once it has bytes. Room for 256 is made once 25 have.
    for (bytes, room) in [(&[][..], 100), (&[0x21], 256)] {
        let http3 = gateway.http3().await;
        let mut opened = Vec::new();
        for _ in 0..room {
            opened.push(http3.send(bytes).await);
        }
        let more = tokio::select! {
            biased;
            _ = http3.quic.open_bi() => true,
            () = async { http3.quic.closed().await; } => true,
            () = gateway_answers(&gateway) => false,
        };
        assert!(
            !more,
            "a client may open more streams than there is room for"
        );
    }
    let http3 = gateway.http3().await;
    let mut uni = Vec::new();
    // One is the control stream.
    for _ in 1..8 {
        uni.push(http3.quic.open_uni().await.unwrap());
    }
    let more = tokio::select! {
        biased;
        _ = http3.quic.open_uni() => true,
        () = gateway_answers(&gateway) => false,
    };
    assert!(!more, "a client may open more unidirectional streams");
}

/// A client may send before it knows that it is let in.
#[tokio::test]
async fn frames_that_come_before_the_answer_are_those_of_the_websocket() {
    let gateway = echo().await;
    let http3 = gateway.http3().await;
    let authority = format!("localhost:{}", http3.port());
    let with_body = |path: &str, data: &[u8]| {
        let fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":authority", &*authority),
            (":path", path),
            ("sec-websocket-version", "13"),
        ];
        let mut bytes = Vec::new();
        for (kind, payload) in [
            (1, &*encode(&fields)),
            (0, b""),
            (0x21, b"grease"),
            (0, b""),
        ] {
            put_frame(&mut bytes, kind, payload);
        }
        put_frame(&mut bytes, 0, data);
        bytes
    };
    // A masked text of two bytes.
    let text = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    let mut client = http3.send(&with_body("/s", &text)).await.open().await;
    client.expect("hi").await;
    // One that is refused is told so, whatever it sends.
    let refused = http3.send(&with_body("/nowhere", &[0; 60 << 10])).await;
    assert_eq!(refused.answer().await.status, 403);
    client.send("still here").await;
    client.expect("still here").await;
}

async fn gateway_answers(gateway: &Gateway) {
    gateway.connect("/s").await.id().await;
}

#[tokio::test]
async fn http_3_connection_without_a_websocket_ends_and_with_a_quiet_one_stays() {
    let gateway = probe("handshake_timeout_s = 1", "").await;
    let quiet = gateway.http3().await;
    let mut client = quiet.open("/s").await;
    let http3 = gateway.http3().await;
    http3.open("/s").await.close(1000, "").await;
    assert_eq!(http3.ended().await, NO_ERROR);
    // A connection without any request, and one whose request does not come to its end.
    assert_eq!(gateway.http3().await.ended().await, NO_ERROR);
    let http3 = gateway.http3().await;
    let mut asked = http3.send(&[1, 100, 0]).await;
    assert_eq!(asked.reset_by_server().await, 0x10b);
    assert_eq!(http3.ended().await, NO_ERROR);
    client.id().await;
    assert!(quiet.quic.close_reason().is_none());
}

#[tokio::test]
async fn cut_is_told_from_a_close_on_http_3() {
    let limits = "limits = { ping_interval_s = 1, pong_timeout_s = 1 }";
    let gateway = probe("", limits).await;
    let http3 = gateway.http3().await;
    // The client answers no ping: the stream is reset, and no end comes in order.
    let mut silent = http3.ask("/s", &[]).await;
    assert_eq!(silent.head().await.status, 200);
    assert_eq!(silent.reset_by_server().await, REQUEST_CANCELLED);
    gateway
        .log()
        .line(&["ended: ", "1006 \\\"ping not answered\\\""])
        .await;
    // The client resets its stream.
    let mut client = http3.ask("/s", &[]).await;
    assert_eq!(client.head().await.status, 200);
    client.reset();
    gateway.log().line(&["ended: ", " 1006 \\\"\\\""]).await;
    // The client's connection ends.
    let gone = gateway.http3().await;
    let mut client = gone.open("/s").await;
    let id = client.id().await;
    gone.quic.close(0x100_u32.into(), b"");
    gateway.log().line(&[&format!("ended: {id} 1006")]).await;
}

#[tokio::test]
async fn client_that_reads_nothing_is_closed_and_its_neighbour_goes_on() {
    let stage = "limits = { outbox_kib = 65536, stall_timeout_s = 1, ping_interval_s = 0 }";
    let gateway = probe("", stage).await;
    let http3 = gateway.http3().await;
    let mut neighbour = http3.open("/s").await;
    let mut deaf = http3.open("/s").await;
    let id = deaf.id().await;
    // More than the windows of the client and the gateway hold.
    for _ in 0..40 {
        let post = json!({"do": "send", "id": id, "text": "x".repeat(100_000)});
        neighbour.step(post).await;
    }
    gateway.log().line(&[&format!("ended: {id} 1013")]).await;
    neighbour.id().await;
}
