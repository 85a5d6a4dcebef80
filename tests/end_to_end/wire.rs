//! Frames that break RFC 6455, and the close code that each ends with, over TCP and over TLS.

use lockgate_tests::{Frame, Gateway, Opcode, RawClient};

use crate::{echo, echo_with};

const PROTOCOL: u16 = 1002;
const UTF_8: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// A client over TCP and one over TLS.
pub(crate) async fn clients(gateway: &Gateway) -> [RawClient; 2] {
    [
        gateway.ws("/s").open_raw().await,
        gateway.wss("/s").open_raw().await,
    ]
}

/// Checks that the last of `frames` closes the connection with this code, after the answers to those before.
async fn check(what: &str, frames: &[Frame], code: u16) {
    let gateway = echo().await;
    for mut client in clients(&gateway).await {
        client.send(&Frame::text("before")).await;
        for frame in frames {
            client.send(frame).await;
        }
        client.expect("before").await;
        let reason = client.expect_close(code).await;
        assert!(reason.len() <= 123, "{what}: {reason}");
    }
}

#[tokio::test]
async fn frame_without_a_mask_closes_with_1002() {
    check("text", &[Frame::text("x").unmasked()], PROTOCOL).await;
    check(
        "ping",
        &[Frame::new(Opcode::PING, "x").unmasked()],
        PROTOCOL,
    )
    .await;
    check("close", &[Frame::close(1000, b"").unmasked()], PROTOCOL).await;
}

#[tokio::test]
async fn reserved_bit_closes_with_1002() {
    for bits in [4, 2, 1, 7] {
        check("text", &[Frame::text("x").reserved(bits)], PROTOCOL).await;
    }
    check(
        "ping",
        &[Frame::new(Opcode::PING, "").reserved(4)],
        PROTOCOL,
    )
    .await;
    let continuation = Frame::new(Opcode::CONTINUATION, "b").reserved(4);
    check(
        "continuation",
        &[Frame::text("a").unfinished(), continuation],
        PROTOCOL,
    )
    .await;
}

#[tokio::test]
async fn reserved_opcode_closes_with_1002() {
    for opcode in [3, 7, 11, 15] {
        check("opcode", &[Frame::new(Opcode(opcode), "x")], PROTOCOL).await;
    }
}

#[tokio::test]
async fn control_frame_in_parts_or_too_long_closes_with_1002() {
    check(
        "a ping in parts",
        &[Frame::new(Opcode::PING, "x").unfinished()],
        PROTOCOL,
    )
    .await;
    check(
        "a pong in parts",
        &[Frame::new(Opcode::PONG, "x").unfinished()],
        PROTOCOL,
    )
    .await;
    check(
        "a close in parts",
        &[Frame::close(1000, b"").unfinished()],
        PROTOCOL,
    )
    .await;
    check(
        "a ping of 126 bytes",
        &[Frame::new(Opcode::PING, [0; 126])],
        PROTOCOL,
    )
    .await;
    check(
        "a close of 126 bytes",
        &[Frame::close(1000, &[b'x'; 124])],
        PROTOCOL,
    )
    .await;
}

#[tokio::test]
async fn continuation_out_of_place_closes_with_1002() {
    check(
        "of nothing",
        &[Frame::new(Opcode::CONTINUATION, "x")],
        PROTOCOL,
    )
    .await;
    check(
        "of nothing, unfinished",
        &[Frame::new(Opcode::CONTINUATION, "x").unfinished()],
        PROTOCOL,
    )
    .await;
    check(
        "text in a text",
        &[Frame::text("a").unfinished(), Frame::text("b")],
        PROTOCOL,
    )
    .await;
    let binary = Frame::new(Opcode::BINARY, "b");
    check(
        "binary in a text",
        &[Frame::text("a").unfinished(), binary],
        PROTOCOL,
    )
    .await;
    let end = Frame::new(Opcode::CONTINUATION, "b");
    let whole = Frame::text("a").unfinished();
    let gateway = echo().await;
    for mut client in clients(&gateway).await {
        for frame in [&whole, &end, &end] {
            client.send(frame).await;
        }
        client.expect("ab").await;
        client.expect_close(PROTOCOL).await;
    }
}

#[tokio::test]
async fn length_beyond_all_bounds_closes_the_connection() {
    let gateway = echo().await;
    // The highest bit of the eight bytes must not be set (RFC 6455 §5.2).
    for (head, codes) in [
        (
            vec![0x81, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0],
            [PROTOCOL, TOO_BIG],
        ),
        (
            vec![
                0x81,
                0x80 | 127,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
            ],
            [PROTOCOL, TOO_BIG],
        ),
    ] {
        for mut client in clients(&gateway).await {
            client
                .send_bytes(&[head.as_slice(), b"\0\0\0\0hello"].concat())
                .await;
            let frame = client.data().await.unwrap();
            assert_eq!(frame.opcode, Opcode::CLOSE, "{head:?}");
            let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
            assert!(codes.contains(&code), "{head:?} closed with {code}");
        }
    }
}

#[tokio::test]
async fn invalid_close_frame_closes_with_an_error() {
    check("one byte", &[Frame::new(Opcode::CLOSE, [3])], PROTOCOL).await;
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        check(
            "a code that must not be sent",
            &[Frame::close(code, b"")],
            PROTOCOL,
        )
        .await;
    }
}

#[tokio::test]
async fn close_frame_is_answered_with_its_own_code() {
    let gateway = echo().await;
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999,
    ] {
        for mut client in clients(&gateway).await {
            client.send(&Frame::text("before")).await;
            client.send(&Frame::close(code, "wäre".as_bytes())).await;
            client.expect("before").await;
            client.expect_close(code).await;
        }
    }
    for mut client in clients(&gateway).await {
        client.send(&Frame::new(Opcode::CLOSE, "")).await;
        let frame = client.data().await.unwrap();
        assert_eq!(frame.opcode, Opcode::CLOSE);
        assert_eq!(client.data().await, None);
    }
}

#[tokio::test]
async fn frames_after_a_close_frame_are_not_handled() {
    let gateway = echo().await;
    for mut client in clients(&gateway).await {
        let frames = [
            Frame::text("before"),
            Frame::close(1000, b""),
            Frame::text("after"),
            Frame::text("x").unmasked(),
        ];
        client
            .send_bytes(&frames.iter().flat_map(Frame::bytes).collect::<Vec<_>>())
            .await;
        client.expect("before").await;
        client.expect_close(1000).await;
    }
}

#[tokio::test]
async fn text_that_is_not_utf_8_closes_with_1007() {
    for bytes in [
        &b"\xff"[..],
        b"a\x80",
        b"\xc3",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        "κόσμε".as_bytes().split_last().unwrap().1,
    ] {
        check("in one frame", &[Frame::new(Opcode::TEXT, bytes)], UTF_8).await;
    }
    check(
        "in a close frame's reason",
        &[Frame::close(1000, b"\xff")],
        UTF_8,
    )
    .await;
    let rest = Frame::new(Opcode::CONTINUATION, b"\xc3");
    check(
        "at the end of the parts",
        &[Frame::text("a").unfinished(), rest],
        UTF_8,
    )
    .await;
    // Bytes that cannot become UTF-8 close the connection before the message ends.
    check(
        "in the first part",
        &[
            Frame::new(Opcode::TEXT, b"\xff").unfinished(),
            Frame::new(Opcode::CONTINUATION, ""),
        ],
        UTF_8,
    )
    .await;
}

#[tokio::test]
async fn character_split_between_frames_is_accepted() {
    let gateway = echo().await;
    for mut client in clients(&gateway).await {
        let (first, rest) = "€".as_bytes().split_at(1);
        client
            .send(&Frame::new(Opcode::TEXT, first).unfinished())
            .await;
        client.send(&Frame::new(Opcode::PING, "between")).await;
        client
            .send(&Frame::new(Opcode::CONTINUATION, "").unfinished())
            .await;
        client.send(&Frame::new(Opcode::CONTINUATION, rest)).await;
        let pong = client.frame().await.unwrap();
        assert_eq!(
            (pong.opcode, pong.payload.as_slice()),
            (Opcode::PONG, b"between".as_slice())
        );
        client.expect("€").await;
    }
}

#[tokio::test]
async fn pings_are_answered_with_their_payload() {
    let gateway = echo().await;
    for mut client in clients(&gateway).await {
        for payload in [&b""[..], b"x", &[0xff; 125]] {
            client.send(&Frame::new(Opcode::PING, payload)).await;
            let pong = client.frame().await.unwrap();
            assert_eq!(
                (pong.opcode, pong.payload.as_slice()),
                (Opcode::PONG, payload)
            );
        }
        // An unsolicited pong is no error.
        client.send(&Frame::new(Opcode::PONG, "unasked")).await;
        client.send(&Frame::text("still here")).await;
        client.expect("still here").await;
    }
}

#[tokio::test]
async fn frame_one_byte_over_its_limit_closes_with_1009() {
    let gateway = echo_with("limits = { message_kib = 4, frame_kib = 2 }").await;
    for mut client in clients(&gateway).await {
        client
            .send(&Frame::new(Opcode::BINARY, vec![7; 2_048]))
            .await;
        assert_eq!(client.data().await.unwrap().payload, vec![7; 2_048]);
        client
            .send(&Frame::new(Opcode::BINARY, vec![7; 2_049]))
            .await;
        client.expect_close(TOO_BIG).await;
    }
}

#[tokio::test]
async fn message_one_byte_over_its_limit_closes_with_1009() {
    let gateway = echo_with("limits = { message_kib = 4, frame_kib = 2 }").await;
    for mut client in clients(&gateway).await {
        let half = vec![7; 2_048];
        client
            .send(&Frame::new(Opcode::BINARY, half.clone()).unfinished())
            .await;
        client
            .send(&Frame::new(Opcode::CONTINUATION, half.clone()))
            .await;
        assert_eq!(client.data().await.unwrap().payload, vec![7; 4_096]);
        client
            .send(&Frame::new(Opcode::BINARY, half.clone()).unfinished())
            .await;
        client
            .send(&Frame::new(Opcode::CONTINUATION, half).unfinished())
            .await;
        client.send(&Frame::new(Opcode::CONTINUATION, [7])).await;
        client.expect_close(TOO_BIG).await;
    }
}

#[tokio::test]
async fn declared_length_over_the_limit_closes_before_the_payload_comes() {
    let gateway = echo_with("limits = { message_kib = 4 }").await;
    for length in [4_097, u64::from(u32::MAX), i64::MAX as u64] {
        for mut client in clients(&gateway).await {
            // The payload itself never comes.
            client
                .send(&Frame::new(Opcode::BINARY, "").declaring(length))
                .await;
            client.expect_close(TOO_BIG).await;
        }
    }
}

#[tokio::test]
async fn default_message_limit_is_128_kib() {
    let gateway = echo().await;
    for mut client in clients(&gateway).await {
        client
            .send(&Frame::new(Opcode::BINARY, vec![7; 128 << 10]))
            .await;
        assert_eq!(client.data().await.unwrap().payload.len(), 128 << 10);
        client
            .send(&Frame::new(Opcode::BINARY, "").declaring((128 << 10) + 1))
            .await;
        client.expect_close(TOO_BIG).await;
    }
}

#[tokio::test]
async fn answers_before_an_error_are_delivered() {
    let gateway = echo().await;
    for mut client in clients(&gateway).await {
        let mut bytes: Vec<u8> = (0..100)
            .flat_map(|number| Frame::text(&number.to_string()).bytes())
            .collect();
        bytes.extend(Frame::new(Opcode(3), "").bytes());
        client.send_bytes(&bytes).await;
        for number in 0..100 {
            client.expect(&number.to_string()).await;
        }
        client.expect_close(PROTOCOL).await;
    }
}
