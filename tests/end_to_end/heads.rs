//! More heads that are no handshake, byte by byte: each is refused and ends its connection, and a valid request behind
//! it in the same packet is never answered. Beside them, unusual heads that are valid.

use lockgate_tests::{Frame, Gateway, Request, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
};

use crate::{echo, handshake::exchange, probe};

pub(crate) const HEAD: &str = "GET /s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Checks that a head is refused, and that a valid request behind it is not answered.
pub(crate) async fn check_refused(request: &Request, what: &str, head: &[u8]) {
    let behind = [HEAD.as_bytes(), &Frame::text("smuggled").bytes()].concat();
    check_answer(what, &exchange(request, &[head, &behind].concat()).await);
    // The head alone, since bytes behind it are a reason to refuse it.
    check_answer(what, &exchange(request, head).await);
}

/// Checks that an answer is one 4xx with `Connection: close`, or empty.
fn check_answer(what: &str, answer: &str) {
    assert!(!answer.contains("smuggled"), "{what}: {answer:?}");
    assert!(!answer.contains(" 101 "), "{what}: {answer:?}");
    if answer.is_empty() {
        return;
    }
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap();
    // A client of HTTP/1.0 gets an answer in its version.
    let status = status
        .strip_prefix("http/1.1 ")
        .or_else(|| status.strip_prefix("http/1.0 "));
    assert!(
        status.is_some_and(|status| status.starts_with('4')),
        "{what}: {answer:?}"
    );
    // A second answer would follow the first one's body.
    let length = lines
        .clone()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.unwrap_or("0").parse().unwrap();
    assert!([0, length].contains(&body.len()), "{what}: {answer:?}");
    let closes = lines
        .filter_map(|line| line.strip_prefix("connection:"))
        .any(|words| words.split(',').any(|word| word.trim() == "close"));
    assert!(closes, "{what}: {answer:?}");
}

/// Changes to a valid head, one in each.
const WRONG: &[(&str, &str, &str)] = &[
    ("bare line feeds throughout", "\r\n", "\n"),
    (
        "one bare line feed",
        "Host: localhost\r\n",
        "Host: localhost\n",
    ),
    (
        "a line folded by a tab",
        "localhost\r\n",
        "localhost\r\nX-Long: a\r\n\tb\r\n",
    ),
    (
        "a fold right after the first line",
        "HTTP/1.1\r\n",
        "HTTP/1.1\r\n X: y\r\n",
    ),
    ("a zero byte in a name", "Host:", "X\0Y: z\r\nHost:"),
    ("a zero byte in the target", "GET /s", "GET /s\0"),
    ("a delete in a value", "Host:", "X: a\x7fb\r\nHost:"),
    ("an escape in a value", "Host:", "X: \x1b[2J\r\nHost:"),
    ("a tab before the colon", "Host:", "Host\t:"),
    ("a bracket in a name", "Host:", "X(Y): z\r\nHost:"),
    ("a name that is not ASCII", "Host:", "Xä: z\r\nHost:"),
    ("a space before the first name", "Host:", " Host:"),
    (
        "a length and chunks",
        "Host:",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost:",
    ),
    (
        "two lengths",
        "Host:",
        "Content-Length: 0\r\nContent-Length: 5\r\nHost:",
    ),
    (
        "two lengths in one",
        "Host:",
        "Content-Length: 0, 5\r\nHost:",
    ),
    (
        "a length with a sign",
        "Host:",
        "Content-Length: +5\r\nHost:",
    ),
    (
        "a length below nothing",
        "Host:",
        "Content-Length: -1\r\nHost:",
    ),
    (
        "a length over 64 bits",
        "Host:",
        "Content-Length: 18446744073709551617\r\nHost:",
    ),
    ("a length of five", "Host:", "Content-Length: 5\r\nHost:"),
    ("chunks", "Host:", "Transfer-Encoding: chunked\r\nHost:"),
    (
        "chunks, hidden",
        "Host:",
        "Transfer-Encoding: xchunked\r\nHost:",
    ),
    (
        "chunks that are not last",
        "Host:",
        "Transfer-Encoding: chunked, identity\r\nHost:",
    ),
    (
        "an encoding of identity",
        "Host:",
        "Transfer-Encoding: identity\r\nHost:",
    ),
    ("HTTP/1.0", "HTTP/1.1", "HTTP/1.0"),
    ("HTTP/1.2", "HTTP/1.1", "HTTP/1.2"),
    ("HTTP/2.0", "HTTP/1.1", "HTTP/2.0"),
    ("HTTP/11", "HTTP/1.1", "HTTP/11"),
    ("http in lower case", "HTTP/1.1", "http/1.1"),
    ("a space behind the version", "HTTP/1.1", "HTTP/1.1 "),
    (
        "tabs in the first line",
        "GET /s HTTP/1.1",
        "GET\t/s\tHTTP/1.1",
    ),
    ("two spaces in the first line", "GET /s", "GET  /s"),
    ("a space before the method", "GET", " GET"),
    ("OPTIONS", "GET", "OPTIONS"),
    ("PUT", "GET", "PUT"),
    ("TRACE", "GET", "TRACE"),
    ("CONNECT", "GET /s", "CONNECT localhost:80"),
    ("CONNECT to a path", "GET", "CONNECT"),
    ("a method of brackets", "GET", "G(T"),
    ("no target", "GET /s", "GET"),
    (
        "another host in two lines",
        "Host: localhost",
        "Host: localhost\r\nhost: example.com",
    ),
    ("an empty host", "Host: localhost", "Host:"),
    (
        "a host with a user",
        "Host: localhost",
        "Host: user@localhost",
    ),
    ("a host with a path", "Host: localhost", "Host: localhost/s"),
    (
        "a host with a port that is none",
        "Host: localhost",
        "Host: localhost:x",
    ),
    (
        "a host with too high a port",
        "Host: localhost",
        "Host: localhost:99999",
    ),
    (
        "two hosts in one",
        "Host: localhost",
        "Host: localhost, example.com",
    ),
    (
        "a host as a URL",
        "Host: localhost",
        "Host: http://localhost",
    ),
    (
        "a connection that names the host",
        "Connection: Upgrade",
        "Connection: upgrade, host",
    ),
    (
        "a connection that names the origin",
        "Connection: Upgrade",
        "Connection: upgrade, Origin",
    ),
    (
        "a connection that names the key",
        "Connection: Upgrade",
        "Connection: upgrade, sec-websocket-key",
    ),
    (
        "a connection that names the credentials",
        "Connection: Upgrade",
        "Connection: authorization\r\nConnection: upgrade",
    ),
    (
        "a connection in quotes",
        "Connection: Upgrade",
        "Connection: \"upgrade\"",
    ),
    (
        "a connection that only sounds like it",
        "Connection: Upgrade",
        "Connection: upgraded",
    ),
    (
        "a connection that keeps alive",
        "Connection: Upgrade",
        "Connection: keep-alive",
    ),
    (
        "an upgrade to an empty name",
        "Upgrade: websocket",
        "Upgrade:",
    ),
    (
        "an upgrade that only sounds like it",
        "Upgrade: websocket",
        "Upgrade: websockets",
    ),
    (
        "an upgrade with a version",
        "Upgrade: websocket",
        "Upgrade: websocket/13",
    ),
    (
        "an upgrade to HTTP/2",
        "Upgrade: websocket",
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
    ),
    ("version 8", "Version: 13", "Version: 8"),
    ("version 14", "Version: 13", "Version: 14"),
    ("no version", "Sec-WebSocket-Version: 13\r\n", ""),
    (
        "two versions, the right one first",
        "Version: 13",
        "Version: 13\r\nSec-WebSocket-Version: 8",
    ),
    (
        "a key of 15 bytes",
        "dGhlIHNhbXBsZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25j",
    ),
    (
        "a key of 17 bytes",
        "dGhlIHNhbXBsZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25jZXM=",
    ),
    (
        "a key for URLs",
        "dGhlIHNhbXBsZSBub25jZQ==",
        "____________________-A==",
    ),
    (
        "two keys",
        "Host:",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nHost:",
    ),
    (
        "two credentials",
        "Host:",
        "Authorization: a\r\nAuthorization: b\r\nHost:",
    ),
    (
        "two origins in one",
        "Host:",
        "Origin: http://localhost, http://evil.example\r\nHost:",
    ),
    ("an origin that is null", "Host:", "Origin: null\r\nHost:"),
    (
        "a foreign origin",
        "Host:",
        "Origin: http://evil.example\r\nHost:",
    ),
    (
        "an origin that is none",
        "Host:",
        "Origin: :// \u{e4}\r\nHost:",
    ),
    ("a line of nothing but a colon", "Host:", ":\r\nHost:"),
    ("a line of nothing but a space", "Host:", " \r\nHost:"),
    ("a carriage return alone", "Host:", "X: y\rHost:"),
    ("an unknown stage", "GET /s", "GET /t"),
    ("a stage below the stage", "GET /s", "GET /s/.."),
];

#[tokio::test]
async fn request_behind_an_invalid_head_is_not_answered() {
    let gateway = echo().await;
    let request = gateway.ws("/s");
    let mut failures = Vec::new();
    for (what, from, to) in WRONG {
        let head = HEAD.replace(from, to);
        assert_ne!(head, HEAD, "{what}: the case changes nothing");
        let mut checking = JoinSet::new();
        let request = request.clone();
        checking.spawn(async move { check_refused(&request, what, head.as_bytes()).await });
        // Every failure is reported, and not the first alone.
        if checking.join_next().await.unwrap().is_err() {
            failures.push(*what);
        }
    }
    assert!(
        failures.is_empty(),
        "not refused as they should be: {failures:#?}"
    );
    assert!(WRONG.len() >= 30);
    gateway.connect("/s").await;
}

#[tokio::test]
async fn bytes_that_are_no_http_close_the_connection() {
    let gateway = echo().await;
    let zeroes = vec![0; 20_000];
    let letters = vec![b'x'; 20_000];
    for (what, bytes) in [
        ("zeroes", zeroes.as_slice()),
        ("letters without end", &letters),
        (
            "a TLS handshake",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ),
        (
            "HTTP/2",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
        ("a frame", &Frame::text("hello").bytes()),
        ("mail", b"EHLO example.com\r\n\r\n"),
        ("an HTTP/0.9 request", b"GET /s\r\n\r\n"),
        (
            "an answer",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
        ),
        ("a proxy's line", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
    ] {
        check_refused(&gateway.ws("/s"), what, bytes).await;
    }
    // On the TLS port, bytes that are no TLS get no answer in HTTP.
    let in_clear = exchange_in_clear(&gateway, HEAD.as_bytes()).await;
    assert!(!in_clear.contains("101"), "{in_clear:?}");
}

/// The answer of the listener with TLS to a client without.
async fn exchange_in_clear(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut socket = tokio::net::TcpStream::connect(gateway.secure())
        .await
        .unwrap();
    let mut answer = Vec::new();
    let talk = async {
        let _ = socket.write_all(bytes).await;
        let _ = socket.read_to_end(&mut answer).await;
    };
    within("the end of a connection without TLS", talk).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The limits of a head, crossed by one.
#[tokio::test]
async fn head_at_its_bounds_is_let_in_and_a_larger_one_refused() {
    let gateway = echo().await;
    let target = |bytes: usize| HEAD.replace("/s", &format!("/s?{}", "x".repeat(bytes - 3)));
    let headers =
        |count: usize| HEAD.replace("Host:", &format!("{}Host:", "X: y\r\n".repeat(count - 5)));
    // Several headers, since each has a bound of its own as well.
    let head = |bytes: usize| {
        let line = format!("X: {}\r\n", "y".repeat(995));
        let mut more = line.repeat((bytes - HEAD.len()) / line.len() - 1);
        let left = bytes - HEAD.len() - more.len();
        more += &format!("X: {}\r\n", "y".repeat(left - 5));
        let head = HEAD.replace("Host:", &format!("{more}Host:"));
        assert_eq!(head.len(), bytes);
        head
    };
    for (what, head) in [
        ("a target of 4,096 bytes", target(4_096)),
        ("64 headers", headers(64)),
        ("a head of 16,000 bytes", head(16_000)),
    ] {
        check_accepted(&gateway.ws("/s"), what, head.as_bytes()).await;
    }
    for (what, head) in [
        ("a target of 4,097 bytes", target(4_097)),
        ("a target of 5,000 bytes", target(5_000)),
        ("65 headers", headers(65)),
        ("1,000 headers", headers(1_000)),
        ("a head of 16 KiB and a byte", head((16 << 10) + 1)),
        ("a head of 17 KiB", head(17 << 10)),
        ("a head of 1 MiB", head(1 << 20)),
    ] {
        check_refused(&gateway.ws("/s"), what, head.as_bytes()).await;
    }
}

/// Checks that a head is let in, and that its connection works.
pub(crate) async fn check_accepted(request: &Request, what: &str, head: &[u8]) {
    let mut stream = within("the connection", request.stream()).await.unwrap();
    stream.write_all(head).await.unwrap();
    let mut answer = Vec::new();
    let read = async {
        while !answer.ends_with(b"\r\n\r\n") && stream.read_buf(&mut answer).await.unwrap() > 0 {}
    };
    within("the answer", read).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{what}: {answer:?}");
    stream
        .write_all(&Frame::text("hello").bytes())
        .await
        .unwrap();
    let mut frame = [0; 7];
    within("the echo", stream.read_exact(&mut frame))
        .await
        .unwrap();
    assert_eq!(frame, *b"\x81\x05hello", "{what}");
}

/// RFC 9112 and RFC 6455 allow these heads, though few clients send them.
#[tokio::test]
async fn unusual_valid_head_is_let_in() {
    let gateway = echo().await;
    for (what, from, to) in [
        (
            "names in other letters",
            "Host: localhost\r\nConnection",
            "hOST: localhost\r\ncONNECTION",
        ),
        (
            "values in other letters",
            "Upgrade: websocket",
            "Upgrade: WebSocket",
        ),
        ("no space behind the colon", "Host: ", "Host:"),
        (
            "tabs around a value",
            "Host: localhost",
            "Host:\t localhost \t",
        ),
        (
            "several words about the connection",
            "Connection: Upgrade",
            "Connection: keep-alive, Upgrade",
        ),
        (
            "words about the connection in two lines",
            "Connection: Upgrade",
            "Connection: keep-alive\r\nConnection: Upgrade",
        ),
        ("an absolute target", "GET /s", "GET http://localhost/s"),
        (
            "an absolute target that names another host",
            "GET /s",
            "GET http://chat.example.com/s",
        ),
        ("an empty line first", "GET /s", "\r\nGET /s"),
        ("two empty lines first", "GET /s", "\r\n\r\nGET /s"),
        ("the root's dot", "Host: localhost", "Host: localhost."),
        (
            "a host that DNS does not know of",
            "Host: localhost",
            "Host: -a~b",
        ),
        (
            "a key with bits left over",
            "dGhlIHNhbXBsZSBub25jZQ==",
            "dGhlIHNhbXBsZSBub25jZR==",
        ),
        (
            "a key with all bits left over",
            "dGhlIHNhbXBsZSBub25jZQ==",
            "AQIDBAUGBwgJCgsMDQ4PEP==",
        ),
        ("a query", "GET /s", "GET /s?a=b&c=%00"),
        ("a body of no bytes", "Host:", "Content-Length: 0\r\nHost:"),
        (
            "an unknown extension",
            "Host:",
            "Sec-WebSocket-Extensions: x-unknown; a=\"b\"\r\nHost:",
        ),
        ("an IPv6 host", "Host: localhost", "Host: [::1]:8080"),
        ("a value that is not ASCII", "Host:", "X: ä\r\nHost:"),
    ] {
        let head = HEAD.replace(from, to);
        assert_ne!(head, HEAD, "{what}: the case changes nothing");
        check_accepted(&gateway.ws("/s"), what, head.as_bytes()).await;
    }
}

/// RFC 6455 §4.1: a client sends nothing before it has had the 101.
#[tokio::test]
async fn bytes_before_the_101_are_no_message() {
    let gateway = echo().await;
    for request in [gateway.ws("/s"), gateway.wss("/s")] {
        for early in [
            &Frame::text("smuggled").bytes()[..],
            HEAD.as_bytes(),
            b"\r\n",
            b"x",
        ] {
            let bytes = [HEAD.as_bytes(), early].concat();
            let answer = exchange(&request, &bytes).await;
            check_answer("bytes before the 101", &answer);
        }
    }
    // Bytes that come while `$connect` decides are no message either.
    let gateway = probe().await;
    let target = "/s?do=%5B%7B%22do%22:%22sleep%22,%22ms%22:300%7D,%7B%22do%22:%22print%22,%22text%22:%22decided%22%7D%5D";
    let head = HEAD.replace("/s", target);
    let steps = r#"[{"do": "print", "text": "smuggled"}]"#;
    let bytes = [head.as_bytes(), &Frame::text(steps).bytes()].concat();
    exchange(&gateway.ws("/s"), &bytes).await;
    assert!(!gateway.log().contains(&["\"smuggled\""]));
}

/// A client that is refused while it still sends gets its answer, and its bytes are dropped.
#[tokio::test]
async fn refusal_reaches_a_client_that_keeps_sending() {
    let gateway = echo().await;
    let head = HEAD.replace("GET /s", "GET /unknown");
    let bytes = [head.as_bytes(), &HEAD.as_bytes().repeat(100)].concat();
    for request in [gateway.ws("/s"), gateway.wss("/s")] {
        let answer = exchange(&request, &bytes).await;
        assert!(!answer.is_empty());
        check_answer("a refused client that goes on sending", &answer);
    }
}
