//! The HTTP of the connections API: limits, kept connections, and a stop.

use lockgate_tests::within;
use serde_json::json;

use crate::connections_api::{TOKEN, ask, backend, check, connected, path, serve, serve_with};

#[tokio::test]
async fn payload_over_the_message_limit_is_refused() {
    let gateway = serve("limits = { message_kib = 1, frame_kib = 1 }").await;
    let (mut client, id) = connected(&gateway, "/s").await;
    let mut http = gateway.http().await;
    let most = vec![b'x'; 1_024];
    let posted = ask(&mut http, &backend(), "POST", &path(&id), &most).await;
    assert_eq!(posted.status, 200);
    client.expect(str::from_utf8(&most).unwrap()).await;
    let more = vec![b'x'; 1_025];
    let refused = ask(&mut http, &backend(), "POST", &path(&id), &more).await;
    check(
        &refused,
        413,
        "PayloadTooLargeException",
        "larger than 1024 bytes",
    );

    // Without a length it shows while the body is read.
    for (body, status) in [(&most, 200), (&more, 413)] {
        let mut http = gateway.http().await;
        let mut headers = backend().sign("POST", &path(&id), http.host_name(), body);
        headers.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
        let chunks = [
            format!("{:x}\r\n", body.len()).as_bytes(),
            body,
            b"\r\n0\r\n\r\n",
        ]
        .concat();
        let answer = http.ask("POST", &path(&id), &headers, &chunks).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test]
async fn post_to_a_client_that_does_not_read_hits_the_limit() {
    let gateway =
        serve("limits = { outbox_kib = 64, message_kib = 64, outbox_messages = 4 }").await;
    let mut reader = gateway.connect("/s").await;
    let request = gateway.ws("/s").receive_buffer(4_096);
    let mut client = request.open().await;
    let id = client.id().await;
    let mut http = gateway.http().await;
    let body = vec![b'x'; 60 << 10];
    let mut posted = 0;
    let refused = loop {
        let answer = ask(&mut http, &backend(), "POST", &path(&id), &body).await;
        if answer.status != 200 {
            break answer;
        }
        posted += 1;
        assert!(posted < 10_000);
    };
    check(&refused, 429, "LimitExceededException", "queue is full");
    reader.step(json!({"do": "event"})).await;
}

#[tokio::test]
async fn kept_connection_holds_no_permit_between_its_requests() {
    let gateway = serve_with("[limits]\nhandshakes = 1\nhandshake_timeout_s = 60\n", "").await;
    let mut http = gateway.http().await;
    let unknown = path("AAAAAAAAAAAAAAAA");
    for _ in 0..3 {
        let answer = ask(&mut http, &backend(), "GET", &unknown, b"").await;
        check(&answer, 410, "GoneException", "");
        let (mut client, id) = connected(&gateway, "/s").await;
        let answer = ask(&mut http, &backend(), "POST", &path(&id), b"hi").await;
        assert_eq!(answer.status, 200);
        client.expect("hi").await;
    }
}

#[tokio::test]
async fn body_that_does_not_come_is_given_up_and_its_permit_returned() {
    let gateway = serve_with("[limits]\nhandshakes = 1\nhandshake_timeout_s = 1\n", "").await;
    let mut slow = gateway.http().await;
    let unknown = path("AAAAAAAAAAAAAAAA");
    let headers = backend().sign("POST", &unknown, slow.host_name(), b"0123456789");
    let mut head = format!("POST {unknown} HTTP/1.1\r\nHost: {}\r\n", slow.host_name());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    slow.send(format!("{head}Content-Length: 10\r\n\r\n01234").as_bytes())
        .await;
    let answer = slow.answer().await;
    check(
        &answer,
        408,
        "RequestTimeoutException",
        "did not come in time",
    );
    assert!(answer.closed);
    connected(&gateway, "/s").await;
}

#[tokio::test]
async fn idle_kept_connection_is_closed_after_the_time_of_a_handshake() {
    let gateway = serve_with("[limits]\nhandshake_timeout_s = 1\n", "").await;
    let mut http = gateway.http().await;
    let gone = ask(&mut http, &backend(), "GET", &path("AAAAAAAAAAAAAAAA"), b"").await;
    assert!(!gone.closed);
    http.closed().await;
}

#[tokio::test]
async fn stop_closes_kept_connections() {
    let mut gateway = serve_with("[limits]\nhandshake_timeout_s = 60\ndrain_s = 0\n", "").await;
    let mut http = gateway.http().await;
    let gone = ask(&mut http, &backend(), "GET", &path("AAAAAAAAAAAAAAAA"), b"").await;
    assert!(!gone.closed);
    gateway.terminate();
    http.closed().await;
    assert_eq!(gateway.ended().await, Some(0));
}

/// A second handshake on a kept connection is not read: bytes before its head may be anything.
#[tokio::test]
async fn caller_and_client_do_not_share_a_connection() {
    let gateway = serve("").await;
    let mut http = gateway.http().await;
    let gone = ask(&mut http, &backend(), "GET", &path("AAAAAAAAAAAAAAAA"), b"").await;
    assert_eq!(gone.status, 410);
    let request = gateway.ws("/s").bytes();
    http.send(&request).await;
    let refused = http.answer().await;
    assert_eq!(refused.status, 400);
    within("the end", http.closed()).await;
}

#[tokio::test]
async fn head_with_a_line_that_ends_without_cr_is_refused() {
    let gateway = serve("").await;
    let (_client, id) = connected(&gateway, "/s").await;
    let mut http = gateway.http().await;
    let request = format!(
        "GET {} HTTP/1.1\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n",
        path(&id)
    );
    http.send(request.as_bytes()).await;
    let refused = http.answer().await;
    check(&refused, 400, "BadRequestException", "ends without CR");
    assert!(refused.closed);
}

#[tokio::test]
async fn path_that_only_resembles_that_of_a_connection_is_refused_as_of_no_stage() {
    let gateway = serve("").await;
    let (_client, id) = connected(&gateway, "/s").await;
    for path in [
        format!("/s/@connections/{id}/"),
        format!("/s/@connections%2F{id}"),
        format!("/s%2F@connections/{id}"),
        "/s/@connections".to_owned(),
    ] {
        let mut http = gateway.http().await;
        let refused = ask(&mut http, &backend(), "POST", &path, b"hi").await;
        check(&refused, 403, "ForbiddenException", "Forbidden");
    }
}

#[tokio::test]
async fn transfer_coding_beside_chunked_is_not_taken_for_it() {
    let gateway = serve("").await;
    let (mut client, id) = connected(&gateway, "/s").await;
    let chunks = b"5\r\nhello\r\n0\r\n\r\n";
    for (coding, status) in [("gzip, chunked", 501), ("Chunked", 200)] {
        let mut http = gateway.http().await;
        let mut headers = backend().sign("POST", &path(&id), http.host_name(), b"hello");
        headers.push(("Transfer-Encoding".to_owned(), coding.to_owned()));
        let answer = http.ask("POST", &path(&id), &headers, chunks).await;
        assert_eq!(answer.status, status, "{coding}: {answer:?}");
    }
    client.expect("hello").await;
    let headers =
        "Host: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: gzip, chunked\r\n";
    let answer = gateway.ask("POST", "/reload", headers).await;
    assert_eq!(answer.0, 501, "{answer:?}");
}
