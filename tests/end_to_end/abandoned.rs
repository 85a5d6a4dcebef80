//! Clients that leave while the `$connect` handler decides about them, or do not read its answer: a client that it lets
//! in has its `$disconnect`, and the call counts until it ends.

use lockgate_tests::{Gateway, Request, within};
use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};

use crate::{LOCKGATE, connect::connecting, probe, probe_configuration};

/// Clients that leave.
const CLIENTS: usize = 20;

/// The target whose handler prints `asked`, and lets the client in after `ms`.
pub(crate) fn slowly(ms: u32) -> String {
    connecting(&json!([{"do": "print", "text": "asked"}, {"do": "sleep", "ms": ms}]))
}

/// A client over TCP that has sent its request, and whose handler is the `place`th to run.
async fn asking(gateway: &Gateway, request: &Request, place: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let mut socket = within("the connection", socket.connect(gateway.plain()))
        .await
        .unwrap();
    socket.write_all(&request.bytes()).await.unwrap();
    gateway.log().nth_line(place, &["\"asked\""]).await;
    socket
}

/// Checks that this many `$disconnect` handlers run, once a client, and are told that it has gone.
pub(crate) async fn all_are_told_of(gateway: &Gateway, clients: usize) {
    const TOLD: &str = "\"message\":\"ended: ";
    gateway.log().nth_line(clients - 1, &[TOLD, " 1006 "]).await;
    let lines = gateway.log().lines();
    let told = lines.iter().filter(|line| line.contains(TOLD)).count();
    assert_eq!(told, clients);
}

#[tokio::test]
async fn client_that_ends_its_connection_during_connect_has_its_disconnect() {
    let gateway = probe().await;
    for place in 0..CLIENTS {
        drop(asking(&gateway, &gateway.ws(&slowly(300)), place).await);
    }
    all_are_told_of(&gateway, CLIENTS).await;
}

#[tokio::test]
async fn client_that_resets_its_connection_during_connect_has_its_disconnect() {
    let gateway = probe().await;
    for place in 0..CLIENTS {
        let socket = asking(&gateway, &gateway.ws(&slowly(300)), place).await;
        socket.set_zero_linger().unwrap();
        drop(socket);
    }
    all_are_told_of(&gateway, CLIENTS).await;
}

#[tokio::test]
async fn client_that_resets_its_stream_during_connect_has_its_disconnect() {
    let gateway = probe().await;
    let http2 = gateway.http2().await;
    for place in 0..CLIENTS {
        let asked = http2.ask(&slowly(300), &[]).await;
        gateway.log().nth_line(place, &["\"asked\""]).await;
        asked.reset();
    }
    all_are_told_of(&gateway, CLIENTS).await;
    // Other clients are unharmed.
    http2.open("/s").await.id().await;
}

#[tokio::test]
async fn client_that_goes_during_connect_counts_until_the_call_ends() {
    for limit in ["handshakes", "connections"] {
        let configuration = probe_configuration("", "");
        let gateway = LOCKGATE
            .serve(&format!("[limits]\n{limit} = 1\n{configuration}"))
            .await;
        drop(asking(&gateway, &gateway.ws(&slowly(2_000)), 0).await);
        gateway.log().line(&["HTTP/1.1 connection failed"]).await;
        assert_eq!(gateway.ws("/s").refused().await.status, 503, "{limit}");
        assert!(!gateway.log().contains(&["\"message\":\"ended: "]));
        all_are_told_of(&gateway, 1).await;
        within("room again", async {
            while gateway.ws("/s").attempt().await.is_err() {}
        })
        .await;
    }
}

#[tokio::test]
async fn reset_streams_hold_their_permits_until_their_calls_end() {
    let configuration = probe_configuration("", "");
    let gateway = LOCKGATE
        .serve(&format!("[limits]\nhandshakes = 2\n{configuration}"))
        .await;
    let http2 = gateway.http2().await;
    for place in 0..2 {
        let asked = http2.ask(&slowly(2_000), &[]).await;
        gateway.log().nth_line(place, &["\"asked\""]).await;
        asked.reset();
    }
    assert_eq!(http2.refused("/s", &[]).await.status, 503);
    assert_eq!(gateway.ws("/s").refused().await.status, 503);
    all_are_told_of(&gateway, 2).await;
    gateway.connect("/s").await.id().await;
}

#[tokio::test]
async fn client_that_does_not_read_its_refusal_gives_its_permit_back() {
    let configuration = probe_configuration(
        "limits = { message_kib = 16_384 }",
        "limits = { cpu_ms = 2000, memory_mib = 128 }",
    );
    // More than the kernel buffers.
    let refusal = connecting(&json!([
        {"do": "print", "text": "asked"}, {"do": "refuse", "status": 403, "letters": 12_000_000}
    ]));
    let serve = async |connections: u32| {
        let limits = format!("connections = {connections}\nhandshake_timeout_s = 4");
        LOCKGATE
            .serve(&format!("[limits]\n{limits}\n{configuration}"))
            .await
    };
    let room_again = async |gateway: &Gateway| {
        within("room again", async {
            while gateway.ws("/s").attempt().await.is_err() {}
        })
        .await;
    };
    let gateway = serve(1).await;
    let request = gateway.ws(&refusal).receive_buffer(4_096);
    let mut unread = request.stream().await.unwrap();
    unread.write_all(&request.bytes()).await.unwrap();
    gateway.log().line(&["\"asked\""]).await;
    assert_eq!(gateway.ws("/s").refused().await.status, 503);
    room_again(&gateway).await;
    drop(unread);

    // One permit for the connection, and one for its stream.
    let gateway = serve(2).await;
    let mut http2 = gateway.http2().await;
    let unread = http2.ask(&refusal, &[]).await;
    http2.ended().await;
    drop(unread);
    room_again(&gateway).await;
}
