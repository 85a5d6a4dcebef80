//! Clients of QUIC that send or hold more than they may: each is bounded, and others are served meanwhile.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use lockgate_tests::{
    Certificate, FirstPackets, Gateway, Http3, Http3Options, Http3Request, stream_head, within,
};
use quinn::SendStream;
use serde_json::json;
use tempfile::TempDir;
use tokio::{sync::Notify, task::JoinSet, time::interval};

use crate::{
    LOCKGATE,
    abandoned::all_are_told_of,
    connect::connecting,
    datagrams::Frozen,
    echo_configuration,
    floods::resident_kib,
    http3::{echo, probe},
};

const REQUEST_CANCELLED: u64 = 0x10c;
const SESSION_GONE: u64 = 0x170d_7b68;

/// Carries the packets of one client to the first address or the other, and the answers of both to it.
async fn carry(near: UdpSocket, to: [SocketAddr; 2], to_other: &AtomicBool, answers: &Notify) {
    near.set_nonblocking(true).unwrap();
    let near = tokio::net::UdpSocket::from_std(near).unwrap();
    let mut far = Vec::new();
    for address in to {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(address).await.unwrap();
        far.push(socket);
    }
    let client = near.peek_from(&mut [0]).await.unwrap().1;
    let [mut packet, mut one, mut other] = [[0; 2_048]; 3];
    loop {
        tokio::select! {
            Ok(length) = near.recv(&mut packet) => {
                let place = usize::from(to_other.load(Ordering::Relaxed));
                far[place].send(&packet[..length]).await.unwrap();
            }
            Ok(length) = far[0].recv(&mut one) => {
                near.send_to(&one[..length], client).await.unwrap();
            }
            Ok(length) = far[1].recv(&mut other) => {
                near.send_to(&other[..length], client).await.unwrap();
                answers.notify_one();
            }
        }
    }
}

/// A connection's id is seen by all on its way. A gateway that does not know it tells so, and gave the token away by which a
/// client knows that its connection has ended.
#[tokio::test]
async fn gateway_with_the_certificate_of_another_ends_none_of_its_connections() {
    let folder = TempDir::new().unwrap();
    let tls = Certificate::new().write_as(folder.path(), "c");
    let configuration = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = {tls}\nquic = true\n{}",
        echo_configuration("")
    );
    let gateways = [
        LOCKGATE.serve_as_written(&configuration).await,
        LOCKGATE.serve_as_written(&configuration).await,
    ];
    let addresses = [gateways[0].secure(), gateways[1].secure()];
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = near.local_addr().unwrap();
    let (to_other, answers) = (AtomicBool::new(false), Notify::new());
    let at_the_other = async {
        let http3 = Http3::connect(address).await;
        let mut client = http3.open("/s").await;
        client.echo("hello").await.unwrap();
        to_other.store(true, Ordering::Relaxed);
        let text = "hello".repeat(20);
        client.send(&text).await;
        within("an answer of the other gateway", answers.notified()).await;
        to_other.store(false, Ordering::Relaxed);
        client.expect(&text).await;
    };
    tokio::select! {
        () = carry(near, addresses, &to_other, &answers) => {}
        () = at_the_other => {}
    }
}

/// Bytes that a client may send on one stream before they are read.
const STREAM_WINDOW: usize = 64 << 10;

async fn is_served(gateway: &Gateway) {
    let http3 = gateway.http3().await;
    assert_eq!(http3.refused("/nowhere", &[]).await.status, 403);
}

#[tokio::test]
async fn ten_thousand_half_open_handshakes_keep_nobody_out() {
    const FLOOD: u32 = 10_000;
    const FIRST: u32 = 0x7f01_0000; // 127.1.0.0
    let gateway = echo().await;
    is_served(&gateway).await;
    let before = resident_kib(&gateway);
    let mut packets = FirstPackets::to(gateway.secure());
    for number in 0..FLOOD {
        let from = Ipv4Addr::from(FIRST + number);
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.send_to(&packets.make(), gateway.secure()).unwrap();
        if number % 2_500 == 2_000 {
            is_served(&gateway).await;
        }
    }
    is_served(&gateway).await;
    let grown = resident_kib(&gateway).saturating_sub(before);
    assert!(grown < 100 << 10, "it has grown by {grown} KiB");
}

#[tokio::test]
async fn handshakes_from_the_address_of_another_spend_none_of_his_share() {
    let limits = "connections_per_ip = 2\nconnections_per_s_per_ip = 20";
    let gateway = probe(limits, "").await;
    let mut packets = FirstPackets::to(gateway.secure());
    for _ in 0..200 {
        // As from this machine's own clients.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&packets.make(), gateway.secure()).unwrap();
    }
    let http3 = gateway.http3().await;
    http3.open("/s").await.id().await;
}

/// Writes until no more is taken, and gives the bytes that were.
async fn fill(send: &mut SendStream, gateway: &Gateway) -> usize {
    let mut taken = 0;
    loop {
        tokio::select! {
            biased;
            written = send.write(&[0; 4_096]) => taken += written.unwrap(),
            // A round trip later there would be room.
            () = is_served(gateway) => return taken,
        }
    }
}

#[tokio::test]
async fn unread_streams_take_their_windows_and_leave_others_theirs() {
    let gateway = probe("handshake_timeout_s = 60", "").await;
    let http3 = gateway.http3().await;
    let mut client = http3.open("/s").await;
    // Streams of a session that does not come.
    let head = stream_head(4_000);
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut stream = http3.send(&head).await;
        let taken = head.len() + fill(&mut stream.send, &gateway).await;
        let most = STREAM_WINDOW + head.len();
        assert!((STREAM_WINDOW..=most).contains(&taken), "{taken} are taken");
        waiting.push(stream);
    }
    client.id().await;
}

#[tokio::test]
async fn stream_that_waits_for_its_session_is_reset_in_time() {
    let gateway = probe("handshake_timeout_s = 1", "").await;
    let http3 = gateway.http3().await;
    let mut client = http3.open("/s").await;
    for _ in 0..3 {
        let mut stream = http3.send(&stream_head(4_000)).await;
        assert_eq!(stream.reset_by_server().await, SESSION_GONE);
    }
    client.id().await;
}

/// Requests of WebSockets and sessions, this many of each, that are let in with an answer that their client has no room
/// for.
async fn let_in_without_room(gateway: &Gateway, pairs: usize) -> (Http3, Vec<Http3Request>) {
    let mut options = Http3Options::default();
    // The gateway's settings go into that.
    options.transport.stream_receive_window(128_u32.into());
    let http3 = Http3::try_connect(gateway.secure(), options).await.unwrap();
    let target = connecting(&json!([
        {"do": "print", "text": "asked"},
        {"do": "accept", "headers": [["x-long", "x".repeat(600)]]},
    ]));
    let mut requests = Vec::new();
    for _ in 0..pairs {
        requests.push(http3.ask(&target, &[]).await);
        requests.push(http3.ask_session(&target, &[]).await);
    }
    gateway.log().nth_line(2 * pairs - 1, &["\"asked\""]).await;
    (http3, requests)
}

#[tokio::test]
async fn client_without_room_for_its_answer_gives_its_permit_back() {
    let gateway = probe("handshakes = 4\nhandshake_timeout_s = 1", "").await;
    let (_http3, requests) = let_in_without_room(&gateway, 2).await;
    for mut request in requests {
        assert_eq!(request.reset_by_server().await, REQUEST_CANCELLED);
    }
    all_are_told_of(&gateway, 4).await;
    gateway.connect("/s").await.id().await;
    gateway.http3().await.open("/s").await.id().await;
}

#[tokio::test]
async fn client_without_room_for_its_answer_is_cut_by_a_stop() {
    let mut gateway = probe("drain_s = 0\nhandshake_timeout_s = 60", "").await;
    let _open = let_in_without_room(&gateway, 1).await;
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
    all_are_told_of(&gateway, 2).await;
}

/// A connection without a WebSocket holds its place no longer than a handshake may.
#[tokio::test]
async fn streams_without_a_request_do_not_keep_their_connection() {
    let gateway = probe("handshake_timeout_s = 1", "").await;
    for beginning in [vec![1, 0x40, 0x80], stream_head(4_000)] {
        let mut http3 = gateway.http3().await;
        let quic = http3.quic.clone();
        let more = async {
            let (mut open, mut pace) = (Vec::new(), interval(Duration::from_millis(250)));
            while let Ok((mut send, receive)) = quic.open_bi().await {
                let _ = send.write_all(&beginning).await;
                open.push((send, receive));
                pace.tick().await;
            }
        };
        tokio::join!(http3.going_away(), more);
    }
}

#[tokio::test]
async fn session_without_a_stream_is_closed_in_time() {
    let gateway = probe("", "").await;
    let http3 = gateway.http3().await;
    let mut asked = http3.ask_session("/s", &[]).await;
    assert_eq!(asked.head().await.status, 200);
    let close = within("the close", asked.data()).await;
    let reason = b"protocol error";
    assert!(
        close.ends_with(&[&1_002_u32.to_be_bytes(), &reason[..]].concat()),
        "{close:x?}"
    );
}

/// What a client does not acknowledge waits in its outbox, which has a bound.
#[tokio::test]
async fn bytes_to_a_client_that_acknowledges_nothing_are_bounded() {
    const MESSAGE: u64 = 32_000;
    /// The send window, the session's buffer, and the outbox.
    const MOST: u64 = (256 + 64 + 64) << 10;
    let gateway = probe("", "limits = { outbox_kib = 64, message_kib = 64 }").await;
    let frozen = Frozen::connect(&gateway);
    let mut neighbour = gateway.connect("/s").await;
    let (mut taken, mut refused) = (0, 0);
    while refused < 5 {
        let burst = json!({"do": "burst", "id": frozen.id, "letters": MESSAGE, "times": 50});
        let sent = neighbour.step(burst).await;
        assert_eq!(sent[1], "busy");
        let more = sent[0].as_u64().unwrap();
        refused = if more == 0 { refused + 1 } else { 0 };
        taken += more;
    }
    let bytes = taken * MESSAGE;
    assert!(
        (64 << 10..=MOST + 2 * MESSAGE).contains(&bytes),
        "{bytes} bytes wait"
    );
}

#[tokio::test]
async fn session_that_reads_nothing_is_closed_and_its_neighbour_goes_on() {
    let stage = "limits = { outbox_kib = 65536, stall_timeout_s = 1 }";
    let gateway = probe("", stage).await;
    let http3 = gateway.http3().await;
    let mut neighbour = http3.open("/s").await;
    let mut deaf = http3.session("/s", &[]).await;
    let event = deaf.json("[{\"do\": \"event\"}]").await;
    let id = event[0]["connection"].as_str().unwrap();
    // More than the windows of the client and the gateway hold.
    for _ in 0..40 {
        let post = json!({"do": "send", "id": id, "text": "x".repeat(100_000)});
        neighbour.step(post).await;
    }
    gateway.log().line(&[&format!("ended: {id} 1013")]).await;
    neighbour.id().await;
    // A session of the same connection has its place.
    http3.session("/s", &[]).await.json("[]").await;
}

#[tokio::test]
async fn silent_connection_ends_by_the_timeout_of_quic() {
    let gateway = probe("", "").await;
    let frozen = Frozen::connect(&gateway);
    let ended = format!("ended: {} 1006", frozen.id);
    gateway
        .log()
        .line_within(Duration::from_secs(60), &[&ended])
        .await;
}

/// A client that is let in and leaves, in each of the ways that there are.
async fn come_and_go(address: SocketAddr, number: usize) {
    let http3 = Http3::connect(address).await;
    let mut session = http3.session("/s", &[]).await;
    let mut client = http3.open("/s").await;
    client.id().await;
    match number % 4 {
        0 => http3.quic.close(0x100_u32.into(), b""),
        1 => session.close(1000, "").await,
        // Streams that linger: of the session that has closed, and without a request.
        2 => {
            session.close(1000, "").await;
            for _ in 0..20 {
                drop(http3.send(&stream_head(session.id())).await);
                drop(http3.send(&[1, 0x40, 0x80]).await);
            }
        }
        _ => drop(client),
    }
}

#[tokio::test]
async fn clients_that_come_and_go_leave_no_memory() {
    const AT_ONCE: usize = 10;
    let gateway = probe("handshake_timeout_s = 1", "").await;
    let address = gateway.secure();
    let come = async |clients: usize| {
        for start in (0..clients).step_by(AT_ONCE) {
            let numbers = start..start + AT_ONCE;
            let coming = numbers.map(|number| come_and_go(address, number));
            coming.collect::<JoinSet<_>>().join_all().await;
        }
        let none = "lockgate_connections{api=\"a\",stage=\"s\"} 0\n";
        let is_over = async || gateway.page("/metrics").await.1.contains(none);
        within("the end of all", async { while !is_over().await {} }).await;
        resident_kib(&gateway)
    };
    let before = come(400).await;
    let grown = come(600).await.saturating_sub(before);
    // A connection has some 50 KiB while it is open.
    assert!(grown < 600 * 10, "it has grown by {grown} KiB");
}
