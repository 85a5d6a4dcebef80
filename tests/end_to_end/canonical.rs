//! The request head reads the same over each version of HTTP and with each spelling of a host.

use lockgate_tests::{Client, Request, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connect::connecting;
use crate::handshake::exchange;
use crate::heads::{HEAD, check_accepted, check_refused};
use crate::{echo, echo_with, probe};

type Headers = Vec<(String, String)>;

fn handshake() -> String {
    connecting(&json!([{"do": "handshake"}])) + "&tell"
}

/// The headers that the handler got, ordered by name.
async fn handler_headers(client: &mut Client) -> Headers {
    let seen: Value = client.json().await;
    let mut headers: Headers = serde_json::from_value(seen[0]["headers"].clone()).unwrap();
    headers.sort();
    headers
}

/// RFC 9113 §8.2.3 lets a client split its cookies, and HTTP/2 has no `Host`.
#[tokio::test]
async fn handler_gets_the_same_headers_over_http_1_and_http_2() {
    let gateway = probe().await;
    let http1 = gateway
        .wss(&handshake())
        .header("Cookie", "theme=dark; session=abc; a=b")
        .header("X-Many", "1")
        .and_header("X-Many", "2");
    let first = handler_headers(&mut http1.open().await).await;
    let headers = [
        ("cookie", "theme=dark"),
        ("x-many", "1"),
        ("cookie", "session=abc; a=b"),
        ("x-many", "2"),
    ];
    let http2 = gateway.http2().await;
    let second = handler_headers(&mut http2.open_with(&handshake(), &headers).await).await;
    assert_eq!(first, second);
    let expected = [
        ("cookie", "theme=dark; session=abc; a=b"),
        ("host", &format!("localhost:{}", gateway.secure().port())),
        ("sec-websocket-version", "13"),
        ("x-many", "1"),
        ("x-many", "2"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(second, expected);
}

#[tokio::test]
async fn handler_is_told_the_version_of_http_and_whether_it_is_tls() {
    let gateway = probe().await;
    let target = handshake();
    let upper = gateway.wss(&target).header("Host", "LOCALHOST.");
    let http2 = gateway.http2().await;
    let mut secure = upper.open().await;
    let mut plain = gateway.connect(&target).await;
    let mut second = http2.open(&target).await;
    let seen = [
        (&mut plain, "localhost", "1.1", false),
        (&mut secure, "localhost", "1.1", true),
        (&mut second, "localhost", "2", true),
    ];
    for (client, domain_name, http_version, secure) in seen {
        let told = client.json().await[0].clone();
        assert_eq!(told["domain_name"], domain_name, "{told}");
        assert_eq!(told["path"], "/s");
        assert_eq!(told["http_version"], http_version);
        assert_eq!(told["secure"], secure);
    }
}

#[tokio::test]
async fn split_cookies_are_joined() {
    let gateway = probe().await;
    let request = gateway
        .ws(&handshake())
        .and_header("Cookie", "a=1")
        .and_header("Cookie", "b=2");
    let headers = handler_headers(&mut request.open().await).await;
    let cookies: Vec<_> = headers
        .iter()
        .filter(|(name, _)| name == "cookie")
        .collect();
    assert_eq!(cookies, [&("cookie".to_owned(), "a=1; b=2".to_owned())]);
}

#[tokio::test]
async fn http_2_host_that_differs_from_the_authority_is_refused() {
    let gateway = echo().await;
    let http2 = gateway.http2().await;
    let port = gateway.secure().port();
    let same = format!("LOCALHOST.:{port}");
    http2.open_with("/s", &[("host", &same)]).await;
    for other in ["localhost", "example.com", "localhost:1"] {
        let refused = http2.refused("/s", &[("host", other)]).await;
        assert_eq!(refused.status, 400, "{other}");
    }
}

async fn domain_name(request: &Request) -> Value {
    request.open().await.step(json!({"do": "info"})).await["domain_name"].clone()
}

/// Spellings of one host find the same domain of a stage.
#[tokio::test]
async fn stage_is_found_by_each_spelling_of_its_host() {
    let gateway = echo_with("domains = [\"chat.example.com\", \"[::1]\"]").await;
    let request = gateway.ws("/");
    for host in [
        "chat.example.com",
        "Chat.Example.COM",
        "chat.example.com.",
        "chat.example.com.:8080",
        "chat.example.com:443",
        "chat.example.com:80",
        "chat.example.com:",
        "[::1]",
        "[0:0:0:0:0:0:0:1]:8080",
        "[::0001]",
    ] {
        let head = HEAD.replace("/s", "/").replace("localhost", host);
        check_accepted(&request, host, head.as_bytes()).await;
    }
    for host in [
        "chat.example.com..",
        "example.com",
        "xchat.example.com",
        "[::2]",
        "[::1",
        "::1",
        ".",
    ] {
        let head = HEAD.replace("/s", "/").replace("localhost", host);
        check_refused(&request, host, head.as_bytes()).await;
    }
    let gateway = probe().await;
    let request = gateway.ws("/s").header("Host", "[0:0::1]:80");
    assert_eq!(domain_name(&request).await, "[::1]");
    let request = request.header("Host", "Example.COM.");
    assert_eq!(domain_name(&request).await, "example.com");
}

/// RFC 9112 §3.2.2: the host of an absolute target counts, and not the header.
#[tokio::test]
async fn host_of_an_absolute_target_counts_and_the_header_does_not() {
    let gateway = echo_with("domains = [\"chat.example.com\"]").await;
    let request = gateway.ws("/");
    let head = HEAD.replace("GET /s", "GET http://chat.example.com/");
    check_accepted(&request, "another host in the header", head.as_bytes()).await;
    let head = HEAD.replace("GET /s", "GET ws://chat.example.com");
    check_accepted(&request, "a target without a path", head.as_bytes()).await;
    let own = HEAD.replace("Host: localhost", "Host: chat.example.com");
    let head = own.replace("GET /s", "GET http://other.example/");
    check_refused(&request, "another host in the target", head.as_bytes()).await;
    // The request still needs exactly one `Host` header.
    let target = own.replace("GET /s", "GET http://chat.example.com/");
    let head = target.replace("Host: chat.example.com\r\n", "");
    check_refused(&request, "no header", head.as_bytes()).await;
    let head = target.replace("Host: chat.example.com", "Host: a b");
    check_refused(&request, "a header that is no host", head.as_bytes()).await;
    let head = own.replace("GET /s", "GET http://me@chat.example.com/");
    check_refused(&request, "a user in the target", head.as_bytes()).await;
    let gateway = probe().await;
    let target = format!("http://chat.example.com{}", handshake());
    let headers = handler_headers(&mut gateway.ws(&target).open().await).await;
    assert!(headers.contains(&("host".to_owned(), "chat.example.com".to_owned())));
}

/// Clients on small devices compare the names of headers letter by letter.
#[tokio::test]
async fn headers_of_answers_are_spelt_as_their_specifications_do() {
    let gateway = probe().await;
    let target = connecting(&json!([
        {"do": "accept", "subprotocol": "chat", "headers": [["x-seat", "12"]]}
    ]));
    let head = HEAD
        .replace("/s", &target)
        .replace("Host:", "Sec-WebSocket-Protocol: chat\r\nHost:");
    let mut stream = within("the connection", gateway.ws("/s").stream())
        .await
        .unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = async {
        while !answer.ends_with(b"\r\n\r\n") && stream.read_buf(&mut answer).await.unwrap() > 0 {}
    };
    within("the answer", read).await;
    let names = [
        "Sec-WebSocket-Accept",
        "Sec-WebSocket-Protocol",
        "Connection",
        "Upgrade",
        "Date",
        "X-Seat",
    ];
    check_names(&String::from_utf8(answer).unwrap(), &names);
    let head = HEAD.replace("Version: 13", "Version: 8");
    let answer = exchange(&gateway.ws("/s"), head.as_bytes()).await;
    let names = [
        "Sec-WebSocket-Version",
        "Connection",
        "Upgrade",
        "Content-Type",
        "Content-Length",
        "Date",
        "X-Request-Id",
    ];
    check_names(&answer, &names);
}

/// Checks that an answer has these headers and no others.
fn check_names(answer: &str, expected: &[&str]) {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let lines = head.split("\r\n").skip(1);
    let mut names: Vec<_> = lines.map(|line| line.split_once(':').unwrap().0).collect();
    let mut expected = expected.to_vec();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected, "{answer}");
}
