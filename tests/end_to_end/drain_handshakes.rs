//! Stopping while handshakes are under way: each ends as a session does, or is refused, and none is forgotten.

use std::{cell::Cell, time::Duration};

use lockgate_tests::{Client, Duplex, Gateway, Http2, Request, allow_many_files, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::forward_auth::Endpoint;
use crate::{LOCKGATE, abandoned::slowly, probe_configuration, upgrade::logged_successor};

async fn serve(limits: &str, plugin: &str) -> Gateway {
    let configuration = probe_configuration("", plugin);
    LOCKGATE
        .serve(&format!("[limits]\n{limits}\n{configuration}"))
        .await
}

/// Clients over each kind of connection, whose handlers run; and the HTTP/2 connection of one of them.
async fn asking(gateway: &Gateway, target: &str) -> (Http2, JoinSet<Client>) {
    let mut clients = JoinSet::new();
    for request in [gateway.ws(target), gateway.wss(target)] {
        clients.spawn(async move { Request::open(&request).await });
    }
    let http2 = gateway.http2().await;
    let asked = http2.ask(target, &[]).await;
    clients.spawn(asked.open());
    gateway.log().nth_line(2, &["\"asked\""]).await;
    (http2, clients)
}

/// Checks that all clients are let in, are closed with this code, and have their `$disconnect`.
async fn let_in_and_closed(
    gateway: &mut Gateway,
    mut clients: JoinSet<Client>,
    code: u16,
    reason: &str,
) {
    while let Some(client) = clients.join_next().await {
        let mut client = client.unwrap();
        client.expect_close(code, reason).await;
        client.expect_end().await;
    }
    assert_eq!(gateway.ended().await, Some(0));
    let told = format!("{code} \\\"{reason}\\\"");
    gateway.log().nth_line(2, &["ended: ", &told]).await;
}

#[tokio::test]
async fn client_in_connect_at_a_stop_is_let_in_and_closed() {
    for drain_s in [5, 3_600] {
        let mut gateway = serve(&format!("drain_s = {drain_s}"), "").await;
        let (_http2, clients) = asking(&gateway, &slowly(1_000)).await;
        gateway.terminate();
        let_in_and_closed(&mut gateway, clients, 1001, "Going away").await;
    }
}

#[tokio::test]
async fn client_in_connect_at_an_upgrade_is_let_in_and_closed() {
    let mut gateway = serve("drain_s = 5", "limits = { deadline_ms = 20_000 }").await;
    let (_http2, clients) = asking(&gateway, &slowly(3_000)).await;
    gateway.upgrade();
    let serving = logged_successor(&gateway).await;
    let_in_and_closed(&mut gateway, clients, 1012, "Service restart").await;
    // The other process serves the next client.
    gateway.connect("/s").await.id().await;
    drop(serving);
}

/// Checks that clients whose handlers run at `stop` are refused before the handlers end. The handlers go on, and those
/// clients that they let in have their `$disconnect`.
async fn refused_when_the_window_is_over(drain_s: u32, stop: impl AsyncFnOnce(&Gateway)) {
    let limits = format!("drain_s = {drain_s}");
    let mut gateway = serve(&limits, "limits = { deadline_ms = 29_000 }").await;
    let target = slowly(8_000);
    let mut refused = JoinSet::new();
    for request in [gateway.ws(&target), gateway.wss(&target)] {
        refused.spawn(async move {
            let answer = request.refused().await;
            assert!(answer.closed, "{answer:?}");
            answer
        });
    }
    let http2 = gateway.http2().await;
    let asked = http2.ask(&target, &[]).await;
    refused.spawn(asked.refused());
    gateway.log().nth_line(2, &["\"asked\""]).await;
    stop(&gateway).await;
    while let Some(answer) = refused.join_next().await {
        assert_eq!(answer.unwrap().status, 503);
    }
    assert!(!gateway.log().contains(&["\"message\":\"ended: "]));
    assert_eq!(gateway.ended().await, Some(0));
    gateway.log().nth_line(2, &["ended: ", " 1006 "]).await;
}

#[tokio::test]
async fn client_in_connect_at_a_stop_is_refused_after_the_window() {
    refused_when_the_window_is_over(1, async |gateway| gateway.terminate()).await;
}

#[tokio::test]
async fn client_in_connect_at_an_upgrade_is_refused_after_the_window() {
    let serving = Cell::new(None);
    refused_when_the_window_is_over(0, async |gateway| {
        gateway.upgrade();
        serving.set(Some(logged_successor(gateway).await));
    })
    .await;
}

/// Clients that have sent their requests to a paused gateway, which has accepted none of them.
pub(crate) async fn queued(request: &Request) -> Vec<Box<dyn Duplex>> {
    const CLIENTS: usize = 600;
    allow_many_files();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = request.stream().await.unwrap();
        client.write_all(&request.bytes()).await.unwrap();
        clients.push(client);
    }
    clients
}

/// Checks that each client is let in and closed with this code, or is refused, and that none is reset.
pub(crate) async fn answered(clients: Vec<Box<dyn Duplex>>, code: u16) {
    let mut refused = 0;
    for mut client in clients {
        let mut answer = Vec::new();
        let read = within("the answer and the end", client.read_to_end(&mut answer));
        read.await.expect("it is not reset");
        if answer.starts_with(b"HTTP/1.1 503 ") {
            refused += 1;
            continue;
        }
        let head = b"HTTP/1.1 101 ";
        assert!(answer.starts_with(head), "{}", answer.escape_ascii());
        let code = code.to_be_bytes();
        let told = answer.windows(2).any(|bytes| bytes == code);
        assert!(told, "{}", answer.escape_ascii());
    }
    eprintln!("{refused} were refused");
}

#[tokio::test]
async fn clients_in_the_accept_queue_at_a_stop_are_answered() {
    for drain_s in [0, 5] {
        let mut gateway = serve(&format!("drain_s = {drain_s}"), "").await;
        gateway.pause();
        let clients = queued(&gateway.ws("/s")).await;
        gateway.terminate();
        gateway.resume();
        answered(clients, 1001).await;
        assert_eq!(gateway.ended().await, Some(0));
    }
}

/// A silent connection has no request under way.
#[tokio::test]
async fn stop_does_not_wait_for_silent_connections() {
    let mut gateway = serve("drain_s = 3600\nhandshake_timeout_s = 60", "").await;
    let plain = gateway.ws("/s").stream().await.unwrap();
    let secure = gateway.wss("/s").stream().await.unwrap();
    let http2 = gateway.http2().await;
    let without_tls = TcpStream::connect(gateway.secure()).await.unwrap();
    gateway.terminate();
    let ended = tokio::time::timeout(Duration::from_secs(10), gateway.ended());
    assert_eq!(ended.await.ok(), Some(Some(0)));
    drop((plain, secure, http2, without_tls));
}

/// The client was accepted, and does not know of the stop.
async fn request_that_begins_after_a_stop(drain_s: u32) {
    let mut gateway = serve(&format!("drain_s = {drain_s}"), "").await;
    let request = gateway.ws("/s");
    let mut stream = request.stream().await.unwrap();
    // This client is accepted after it.
    drop(gateway.connect("/s").await);
    gateway.terminate();
    gateway.log().line(&["\"stopping\""]).await;
    let moment = Duration::from_millis(300);
    let ended = tokio::time::timeout(moment, stream.read_u8()).await;
    assert!(ended.is_err(), "it has no time for its request");
    stream.write_all(&request.bytes()).await.unwrap();
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn request_that_begins_after_a_stop_is_refused() {
    request_that_begins_after_a_stop(3_600).await;
}

#[tokio::test]
async fn request_that_begins_after_a_stop_without_a_window_is_refused() {
    request_that_begins_after_a_stop(0).await;
}

/// A request that is half sent at the stop is under way.
#[tokio::test]
async fn request_that_ends_after_a_stop_is_refused() {
    let mut gateway = serve("drain_s = 3600", "").await;
    let request = gateway.ws("/s");
    let bytes = request.bytes();
    let (first, rest) = bytes.split_at(bytes.len() - 2);
    let mut stream = request.stream().await.unwrap();
    stream.write_all(first).await.unwrap();
    gateway.terminate();
    gateway.log().line(&["\"stopping\""]).await;
    stream.write_all(rest).await.unwrap();
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert_eq!(gateway.ended().await, Some(0));
}

/// The client gets its answer when the window is over, and nothing waits for the endpoint then.
#[tokio::test]
async fn authorizer_that_hangs_is_not_waited_for_after_the_window() {
    let endpoint = Endpoint::start().await;
    let limits = "[limits]\ndrain_s = 0\ndisconnects_s = 1\n";
    let mut gateway = endpoint.gateway_with(limits, 29_000).await;
    let client = gateway.ws("/s");
    let mut stream = client.stream().await.unwrap();
    stream.write_all(&client.bytes()).await.unwrap();
    endpoint.asked(1).await;
    gateway.terminate();
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(gateway.ended().await, Some(0));
    for waited in ["waiting for handlers", "have not ended"] {
        assert!(!gateway.log().contains(&[waited]));
    }
}
