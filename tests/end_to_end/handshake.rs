//! Request heads that are no handshake: each is refused, and bytes behind it on the connection are never read.

use lockgate_tests::{Frame, PATIENCE, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{LOCKGATE, connect::check_refusal, echo};

const HEAD: &str = "GET /s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn request_without_an_upgrade_is_refused() {
    let gateway = echo().await;
    let plain = gateway.ws("/s").without("Upgrade").without("Connection");
    let refused = plain
        .without("Sec-WebSocket-Key")
        .without("Sec-WebSocket-Version")
        .refused()
        .await;
    check_refusal(&refused, 426, "Upgrade Required");
    assert!(
        refused
            .header("upgrade")
            .unwrap()
            .eq_ignore_ascii_case("websocket")
    );
}

#[tokio::test]
async fn other_websocket_version_is_refused_with_the_supported_one() {
    let gateway = echo().await;
    for version in ["", "0", "8", "12", "14", "13x", "013", "13, 8"] {
        let refused = gateway
            .ws("/s")
            .header("Sec-WebSocket-Version", version)
            .refused()
            .await;
        assert_eq!(refused.status, 426, "version {version:?}");
        assert_eq!(
            refused.header("sec-websocket-version"),
            Some("13"),
            "version {version:?}"
        );
    }
    let refused = gateway
        .ws("/s")
        .without("Sec-WebSocket-Version")
        .refused()
        .await;
    assert_eq!(refused.status, 426);
    assert_eq!(refused.header("sec-websocket-version"), Some("13"));
}

#[tokio::test]
async fn key_that_is_not_16_bytes_of_base64_is_refused() {
    let gateway = echo().await;
    for key in [
        "",
        "x",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZXN4",
        "ä",
        "dGhlIHNhbXBsZSBub25jZQ== ==",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
    ] {
        let refused = gateway
            .ws("/s")
            .header("Sec-WebSocket-Key", key)
            .refused()
            .await;
        assert_eq!(refused.status, 400, "key {key:?}");
        assert!(
            refused.closed && refused.text().starts_with(r#"{"message":"Bad request"#),
            "{refused:?}"
        );
    }
}

/// A valid head with one change each time: each is refused with a 4xx, and the connection is closed.
#[tokio::test]
async fn invalid_head_is_refused() {
    let gateway = echo().await;
    for (what, from, to) in [
        ("another method", "GET ", "POST "),
        ("a method that is none", "GET ", "get "),
        ("HEAD", "GET ", "HEAD "),
        ("HTTP/1.0", "HTTP/1.1", "HTTP/1.0"),
        ("HTTP/2 by text", "HTTP/1.1", "HTTP/2.0"),
        ("no version of HTTP", " HTTP/1.1", ""),
        ("no host", "Host: localhost\r\n", ""),
        (
            "two hosts",
            "Host: localhost\r\n",
            "Host: localhost\r\nHost: example.com\r\n",
        ),
        (
            "the same host twice",
            "Host: localhost\r\n",
            "Host: localhost\r\nHost: localhost\r\n",
        ),
        ("a host that is none", "Host: localhost", "Host: local host"),
        (
            "a body",
            "Host: localhost\r\n",
            "Host: localhost\r\nContent-Length: 5\r\n",
        ),
        (
            "a length that is none",
            "Host: localhost\r\n",
            "Host: localhost\r\nContent-Length: x\r\n",
        ),
        (
            "a chunked body",
            "Host: localhost\r\n",
            "Host: localhost\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "two keys",
            "Host: localhost\r\n",
            "Host: localhost\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        ),
        (
            "no key",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "",
        ),
        (
            "two versions",
            "Host: localhost\r\n",
            "Host: localhost\r\nSec-WebSocket-Version: 13\r\n",
        ),
        (
            "two upgrades",
            "Host: localhost\r\n",
            "Host: localhost\r\nUpgrade: websocket\r\n",
        ),
        (
            "two origins",
            "Host: localhost\r\n",
            "Host: localhost\r\nOrigin: http://localhost\r\nOrigin: http://localhost\r\n",
        ),
        (
            "an upgrade to something else",
            "Upgrade: websocket",
            "Upgrade: h2c",
        ),
        (
            "no word about the connection",
            "Connection: Upgrade\r\n",
            "",
        ),
        (
            "a connection that closes",
            "Connection: Upgrade",
            "Connection: close",
        ),
        (
            "a line folded",
            "Host: localhost\r\n",
            "Host: localhost\r\nX-Long: a\r\n b\r\n",
        ),
        ("a space before the colon", "Host: ", "Host : "),
        ("a space in a name", "Upgrade: ", "Up grade: "),
        (
            "a name that is empty",
            "Host: localhost\r\n",
            "Host: localhost\r\n: x\r\n",
        ),
        (
            "no colon",
            "Host: localhost\r\n",
            "Host: localhost\r\nnonsense\r\n",
        ),
        (
            "a zero byte in a value",
            "Host: localhost\r\n",
            "Host: localhost\r\nX-Zero: a\0b\r\n",
        ),
        (
            "a carriage return in a value",
            "Host: localhost\r\n",
            "Host: localhost\r\nX-Return: a\rb\r\n",
        ),
        ("a target that is none", "GET /s", "GET s"),
        ("a target with a space", "GET /s", "GET /s /t"),
        ("an asterisk for a target", "GET /s", "GET *"),
        (
            "a fragment of HTTP/2",
            HEAD,
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ),
        ("no HTTP at all", HEAD, "hello\r\n\r\n"),
        ("TLS", HEAD, "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n"),
    ] {
        let head = HEAD.replace(from, to);
        assert_ne!(head, HEAD, "{what}: the case changes nothing");
        let answer = exchange(&gateway.ws("/s"), head.as_bytes()).await;
        let status = answer
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(1..)?.strip_prefix(" 4"));
        assert!(status.is_some() || answer.is_empty(), "{what}: {answer}");
    }
    // The head without a change is let in.
    let mut stream = gateway.ws("/s").stream().await.unwrap();
    stream.write_all(HEAD.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    within("the answer", stream.read_exact(&mut start))
        .await
        .unwrap();
    assert_eq!(&start, b"HTTP/1.1 101");
}

#[tokio::test]
async fn bytes_after_a_refusal_are_not_read() {
    let gateway = echo().await;
    for request in [gateway.ws("/s"), gateway.wss("/s")] {
        let refused = HEAD.replace("GET /s", "GET /unknown");
        let answer = exchange(&request, format!("{refused}{HEAD}").as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
}

#[tokio::test]
async fn bytes_before_the_101_are_refused() {
    let gateway = echo().await;
    let frame = Frame::text("too soon").bytes();
    for request in [gateway.ws("/s"), gateway.wss("/s")] {
        let answer = exchange(&request, &[HEAD.as_bytes(), &frame].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(!answer.contains("too soon"), "{answer}");
    }
}

#[tokio::test]
async fn head_over_its_bounds_is_refused() {
    let gateway = echo().await;
    let field = format!("X-Field: {}\r\n", "x".repeat(1_000));
    for (what, head) in [
        (
            "a long head",
            HEAD.replace("Host:", &format!("{}Host:", field.repeat(17))),
        ),
        (
            "many headers",
            HEAD.replace("Host:", &format!("{}Host:", "X: y\r\n".repeat(65))),
        ),
        (
            "a long target",
            HEAD.replace("/s", &format!("/s?{}", "x".repeat(4_097))),
        ),
    ] {
        let answer = exchange(&gateway.ws("/s"), head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{what}: {answer:?}");
    }
}

#[tokio::test]
async fn unfinished_handshake_is_closed() {
    let before = "[limits]\nhandshake_timeout_s = 1\n";
    let stage = "[apis.a.stages.s]\n[apis.a.routes.\"$default\"]\nintegration = \"echo\"\n\
        [plugins.echo]\ncomponent = \"{echo}\"\n";
    let gateway = LOCKGATE.serve(&format!("{before}{stage}")).await;
    // A silent socket, half a head, half a TLS handshake, and half a head over TLS.
    for (address, bytes) in [
        (gateway.plain(), &b""[..]),
        (gateway.plain(), &b"GET /s HTTP/1.1\r\nHost: loc"[..]),
        (gateway.secure(), &b""[..]),
        (gateway.secure(), &b"\x16\x03\x01\x02\x00\x01"[..]),
    ] {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // The gateway may answer 408 first, and may reset the connection with bytes unread.
        let _ = within(
            "the end of a socket that says too little",
            socket.read_to_end(&mut answer),
        )
        .await;
        assert!(
            answer.is_empty()
                || answer.starts_with(b"HTTP/1.1 408")
                || answer.first() == Some(&0x15)
        );
    }
    let mut stream = gateway.wss("/s").stream().await.unwrap();
    stream.write_all(b"GET /s HTTP/1.1\r\n").await.unwrap();
    let _ = within(
        "the end of a socket that says too little",
        stream.read_to_end(&mut Vec::new()),
    )
    .await;
}

/// The server's answer to these bytes, to the end of the connection; empty when it only closes.
pub(crate) async fn exchange(request: &lockgate_tests::Request, bytes: &[u8]) -> String {
    let mut stream = within("the connection", request.stream()).await.unwrap();
    let mut answer = Vec::new();
    let talk = async {
        // The server may close before it has read everything.
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    let ended = tokio::time::timeout(PATIENCE, talk).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        ended.is_ok(),
        "left open after {:?}: {answer}",
        String::from_utf8_lossy(bytes)
    );
    answer
}
