//! Listeners with QUIC: addresses, limits, certificates, drains, reloads and upgrades.

use std::{
    fs, iter,
    net::{SocketAddr, TcpListener, UdpSocket},
    time::Duration,
};

use lockgate_tests::{Certificate, FirstPackets, Gateway, Http3, Http3Options};
use tempfile::TempDir;

use crate::{
    LOCKGATE, echo_configuration,
    http3::{echo, probe},
};

pub(crate) async fn reload(gateway: &Gateway, from: &str, to: &str) {
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(&file, text.replacen(from, to, 1)).unwrap();
    let (status, body) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{body}");
}

/// Writes the port that the listener with TLS has been given, so that it keeps it when it is changed.
pub(crate) async fn keep_port(gateway: &Gateway) {
    let tls = "tls = \"self-signed\"";
    let (from, to) = ("127.0.0.1:0".to_owned(), gateway.secure().to_string());
    let [from, to] = [from, to].map(|address| format!("address = \"{address}\"\n{tls}"));
    reload(gateway, &from, &to).await;
}

/// A client that the gateway does not answer, or turns away.
pub(crate) async fn is_not_served(address: SocketAddr) {
    let mut transport = quinn::TransportConfig::default();
    let idle = Duration::from_secs(2).try_into().unwrap();
    transport.max_idle_timeout(Some(idle));
    let options = Http3Options {
        transport,
        ..Http3Options::default()
    };
    assert!(Http3::try_connect(address, options).await.is_err());
}

#[tokio::test]
async fn answers_over_tcp_tell_of_quic_and_clear_what_they_told() {
    let gateway = echo().await;
    let port = gateway.secure().port();
    let told = format!("h3=\":{port}\"; ma=86400");
    keep_port(&gateway).await;
    for (expected, from, to) in [
        (Some(&*told), "quic = true", "quic = false"),
        (Some("clear"), "quic = false\n", ""),
        (None, "http2", "http2"),
    ] {
        let refused = gateway.wss("/nowhere").refused().await;
        assert_eq!(refused.header("alt-svc"), expected);
        let refused = gateway.http2().await.refused("/nowhere", &[]).await;
        assert_eq!(refused.header("alt-svc"), expected);
        let opened = gateway.wss("/s").open().await;
        assert_eq!(opened.answer().header("alt-svc"), expected);
        // The listener without TLS serves none.
        assert_eq!(
            gateway.ws("/nowhere").refused().await.header("alt-svc"),
            None
        );
        if expected.is_some() {
            reload(&gateway, from, to).await;
        }
    }
}

#[tokio::test]
async fn early_data_are_not_taken() {
    let gateway = echo().await;
    let http3 = gateway.http3().await;
    http3.open("/s").await;
    let data = http3.quic.handshake_data().unwrap();
    let data = data
        .downcast::<quinn::crypto::rustls::HandshakeData>()
        .unwrap();
    assert_eq!(data.protocol.as_deref(), Some(&b"h3"[..]));
    assert!(!Http3::takes_early_data(gateway.secure()).await);
}

#[tokio::test]
async fn stop_tells_clients_of_http_3_and_closes_each() {
    let mut gateway = probe("drain_s = 1", "").await;
    let (mut busy, idle) = (gateway.http3().await, gateway.http3().await);
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = busy.open("/s").await;
        clients.push((client.id().await, client));
    }
    gateway.terminate();
    assert_eq!(busy.going_away().await, 20);
    for (id, client) in &mut clients {
        client.expect_close(1001, "Going away").await;
        client.expect_end().await;
        gateway.log().line(&[&format!("ended: {id} 1001")]).await;
    }
    assert_eq!(busy.ended().await, 0x100);
    assert_eq!(idle.ended().await, 0x100);
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn quic_is_switched_off_and_on_under_open_websockets() {
    let gateway = probe("", "").await;
    let address = gateway.secure();
    let http3 = gateway.http3().await;
    let mut client = http3.open("/s").await;
    client.id().await;
    keep_port(&gateway).await;
    client.id().await;
    reload(&gateway, "quic = true", "quic = false").await;
    client.id().await;
    is_not_served(address).await;
    client.id().await;
    reload(&gateway, "quic = false", "quic = true").await;
    let again = gateway.http3().await;
    again.open("/s").await.id().await;
    client.id().await;
    // A listener that is changed otherwise serves on, too.
    reload(&gateway, "quic = true", "quic = true\nhttp2 = false").await;
    client.id().await;
    gateway.http3().await.open("/s").await.id().await;
}

#[tokio::test]
async fn changed_certificate_is_shown_over_quic() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (Certificate::new(), Certificate::new());
    let tls = first.write_as(folder.path(), "c");
    let configuration = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = {tls}\nquic = true\n{}",
        echo_configuration("")
    );
    let gateway = LOCKGATE.serve_as_written(&configuration).await;
    let before = gateway.http3().await;
    assert_eq!(before.certificate(), first.der);
    let mut client = before.open("/s").await;
    let _ = second.write_as(folder.path(), "c");
    gateway
        .log()
        .line(&["serving the changed certificate"])
        .await;
    assert_eq!(gateway.http3().await.certificate(), second.der);
    client.send("still here").await;
    client.expect("still here").await;
}

#[tokio::test]
async fn request_for_a_host_outside_the_certificate_is_misdirected_over_http_3() {
    let folder = TempDir::new().unwrap();
    let named = Certificate::of(&["chat.example.com", "a.example.org"]);
    let tls = [(&Certificate::new(), "this"), (&named, "named")];
    let tls = tls
        .map(|(pair, name)| pair.write_as(folder.path(), name))
        .join(", ");
    let configuration = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = [{tls}]\nquic = true\n{}",
        echo_configuration("")
    );
    let gateway = LOCKGATE.serve_as_written(&configuration).await;
    let mut http3 = Http3::connect_to(gateway.secure(), Some("chat.example.com")).await;
    assert_eq!(http3.certificate(), named.der);
    for (host, status) in [("a.example.org", None), ("localhost", Some(421))] {
        http3.set_host(host);
        match status {
            None => drop(http3.open("/s").await),
            Some(status) => assert_eq!(http3.refused("/s", &[]).await.status, status),
        }
    }
}

#[tokio::test]
async fn connections_and_streams_of_one_address_are_counted() {
    let gateway = probe("connections_per_ip = 3", "").await;
    let http3 = gateway.http3().await;
    let clients = (http3.open("/s").await, http3.open("/s").await);
    assert_eq!(http3.refused("/s", &[]).await.status, 429);
    is_not_served(gateway.secure()).await;
    // Another address has its own share.
    let options = Http3Options {
        from: ([127, 0, 0, 9], 0).into(),
        ..Http3Options::default()
    };
    let other = Http3::try_connect(gateway.secure(), options).await.unwrap();
    other.open("/s").await.id().await;
    drop(clients);
}

#[tokio::test]
async fn client_that_changes_its_address_keeps_its_websocket_and_its_place() {
    let gateway = probe("connections_per_ip = 2", "").await;
    let http3 = gateway.http3().await;
    let mut client = http3.open("/s").await;
    let id = client.id().await;
    let socket = UdpSocket::bind("127.0.0.7:0").unwrap();
    http3.endpoint.rebind(socket).unwrap();
    assert_eq!(client.id().await, id);
    // The place is that of the address that it came from.
    is_not_served(gateway.secure()).await;
    let options = Http3Options {
        from: ([127, 0, 0, 7], 0).into(),
        ..Http3Options::default()
    };
    let other = Http3::try_connect(gateway.secure(), options).await.unwrap();
    other.open("/s").await.id().await;
}

/// Handshakes that are begun from many addresses, as anyone can who writes the address of a packet.
#[tokio::test]
async fn handshakes_that_are_begun_and_left_keep_nobody_out() {
    let gateway = probe("handshakes = 4\nhandshake_timeout_s = 60", "").await;
    let mut packets = FirstPackets::to(gateway.secure());
    for host in 1..=100 {
        let socket = UdpSocket::bind(format!("127.0.2.{host}:0")).unwrap();
        socket.send_to(&packets.make(), gateway.secure()).unwrap();
    }
    let http3 = gateway.http3().await;
    http3.open("/s").await.id().await;
}

#[tokio::test]
async fn http_3_waits_its_turn_among_handshakes() {
    let gateway = probe("handshakes = 2", "").await;
    let http3 = gateway.http3().await;
    let target = crate::abandoned::slowly(2_000);
    let first = http3.ask(&target, &[]).await;
    let second = http3.ask(&target, &[]).await;
    gateway.log().nth_line(1, &["\"asked\""]).await;
    assert_eq!(http3.refused("/s", &[]).await.status, 503);
    assert_eq!(gateway.ws("/s").refused().await.status, 503);
    first.open().await.id().await;
    second.open().await.id().await;
}

#[tokio::test]
async fn udp_port_in_use_is_told_with_its_remedy() {
    // Its TCP port is nobody's.
    let (taken, address) = iter::repeat_with(|| TcpListener::bind("127.0.0.1:0").unwrap())
        .find_map(|free| {
            let address = free.local_addr().unwrap();
            Some((UdpSocket::bind(address).ok()?, address))
        })
        .unwrap();
    let folder = TempDir::new().unwrap();
    let configuration = format!(
        "[[listeners]]\naddress = \"{address}\"\ntls = \"self-signed\"\nquic = true\n{}",
        echo_configuration("")
    );
    let file = lockgate_tests::write_configuration(folder.path(), &configuration);
    let ended = LOCKGATE.run(&["run", file.to_str().unwrap()]).await;
    drop(taken);
    assert_eq!(ended.code, Some(1));
    let said = format!("listeners[0].quic: cannot serve QUIC on UDP {address}: ");
    for part in ["gateway.toml:4: ", &said, "ss -lunp"] {
        assert!(ended.error.contains(part), "{part}: {}", ended.error);
    }
}

#[tokio::test]
async fn small_buffers_of_the_kernel_are_warned_of_with_the_setting() {
    const WANTED: usize = 2 << 20;
    let gateway = echo().await;
    gateway.log().line(&["serving QUIC on UDP"]).await;
    let allowed = ["rmem_max", "wmem_max"].map(|name| {
        let text = fs::read_to_string(format!("/proc/sys/net/core/{name}")).unwrap();
        text.trim().parse::<usize>().unwrap()
    });
    let warned = gateway
        .log()
        .contains(&["buffers of", "remedy: sysctl -w net.core."]);
    assert_eq!(
        warned,
        allowed.iter().any(|bytes| *bytes < WANTED),
        "{allowed:?}"
    );
}
