//! Proxies in front: limits, logs and handlers see the client's own address, and only a trusted proxy can name it.

use std::time::Duration;

use lockgate_tests::{Gateway, Request, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::authorizers::saying;
use crate::connect::connecting;
use crate::forward_auth::Endpoint;
use crate::{LOCKGATE, probe_configuration};

const CLIENT: &str = "192.0.2.1";

/// A configuration with one listener without TLS and one with, each with the lines `listener`, under these limits.
fn configuration(listener: &str, limits: &str) -> String {
    let listeners = ["off", "self-signed"].map(|tls| {
        format!("[[listeners]]\ntls = \"{tls}\"\naddress = \"127.0.0.1:0\"\n{listener}\n")
    });
    format!(
        "[management]\naddress = \"127.0.0.1:0\"\n[log]\nlevel = \"info,lockgate=debug\"\nformat = \"json\"\n\
         {}[limits]\n{limits}\n{}",
        listeners.concat(),
        probe_configuration("", "")
    )
}

async fn serve(listener: &str, limits: &str) -> Gateway {
    let configuration = configuration(listener, limits);
    LOCKGATE.serve_as_written(&configuration).await
}

/// A gateway that trusts proxies on this machine.
async fn trusting(more: &str) -> Gateway {
    serve(
        &format!("trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n{more}"),
        "",
    )
    .await
}

/// The client's address, which must be the same in `$connect` and in the connection's info.
async fn source_ip(request: &Request) -> String {
    let mut client = request.open().await;
    let seen: Value = client.json().await;
    let told = seen[0]["source_ip"].as_str().unwrap().to_owned();
    let info = client.step(json!({"do": "info"})).await;
    assert_eq!(info["source_ip"], told);
    told
}

fn target() -> String {
    connecting(&json!([{"do": "handshake"}])) + "&tell"
}

fn version_1(client: &str) -> Vec<u8> {
    let (family, server) = match client.contains(':') {
        true => ("TCP6", "::1"),
        false => ("TCP4", "127.0.0.1"),
    };
    format!("PROXY {family} {client} {server} 56789 443\r\n").into_bytes()
}

/// A header of version 2 with an IPv4 client and these extensions.
fn version_2(client: [u8; 4], extensions: &[u8]) -> Vec<u8> {
    let length = u8::try_from(12 + extensions.len()).unwrap();
    [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"[..],
        &[length],
        &client,
        &[127, 0, 0, 1, 0xdd, 0xd5, 1, 0xbb],
        extensions,
    ]
    .concat()
}

#[tokio::test]
async fn proxy_header_names_the_client() {
    let gateway = trusting("proxy_protocol = true").await;
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (header, client) in [
        (version_1(CLIENT), CLIENT),
        (version_1("2001:db8::1"), "2001:db8::1"),
        (version_1("::ffff:192.0.2.1"), CLIENT),
        (version_2([192, 0, 2, 1], b""), CLIENT),
        (version_2([192, 0, 2, 1], b"\x20\0\x05\x01\0\0\0\0"), CLIENT),
        // A proxy that speaks for itself is the client.
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (local.to_vec(), "127.0.0.1"),
    ] {
        for request in [gateway.ws(&target()), gateway.wss(&target())] {
            assert_eq!(
                source_ip(&request.preface(&header)).await,
                client,
                "{header:?}"
            );
        }
    }
    // The header byte by byte, with the request right behind.
    let request = gateway.ws(&target());
    let mut stream = within("the connection", request.stream()).await.unwrap();
    for byte in [version_1(CLIENT), request.bytes()].concat() {
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    let mut start = [0; 12];
    within("the answer", stream.read_exact(&mut start))
        .await
        .unwrap();
    assert_eq!(&start, b"HTTP/1.1 101");
    // By default no header of the request counts.
    let request = request.preface(&version_1("10.0.0.9"));
    let request = request.header("X-Forwarded-For", "198.51.100.9");
    assert_eq!(source_ip(&request).await, "10.0.0.9");
}

/// Checks that a connection is closed without an answer.
async fn check_closed(request: &Request, bytes: &[u8]) {
    let mut stream = within("the connection", request.stream()).await.unwrap();
    let mut answer = Vec::new();
    let ended = async {
        let _ = stream.write_all(bytes).await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    within("the end of a connection without a PROXY header", ended).await;
    assert!(answer.is_empty(), "{:?}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn peer_without_trust_or_header_is_closed() {
    let gateway = trusting("proxy_protocol = true").await;
    let request = gateway.ws("/s");
    for header in [
        "",
        "PROXYx TCP4 192.0.2.1 127.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 127.0.0.1 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 127.0.0.1 1 2\n",
        "PROXY TCP4 not-an-address 127.0.0.1 1 2\r\n",
        &format!("PROXY UNKNOWN {}\r\n", "x".repeat(100)),
        "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04",
        "\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
    ] {
        check_closed(&request, &[header.as_bytes(), &request.bytes()].concat()).await;
    }
    gateway
        .log()
        .line(&[
            "127.0.0.1",
            "proxy_protocol",
            "does not begin with a PROXY header",
        ])
        .await;
    // Another address of this machine is not trusted, and its header does not count.
    let elsewhere = request.clone().from_address("127.0.0.2");
    check_closed(&elsewhere, &[version_1(CLIENT), request.bytes()].concat()).await;
    gateway
        .log()
        .line(&["127.0.0.2", "proxy_protocol", "trusted_proxies"])
        .await;
    assert!(gateway.wss("/s").stream().await.is_err());
    request.preface(&version_1(CLIENT)).open().await;
}

#[tokio::test]
async fn proxy_header_that_is_late_is_closed_with_the_handshake_timeout() {
    let listener = "trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true";
    let gateway = serve(listener, "handshake_timeout_s = 1").await;
    for request in [
        gateway.ws("/s"),
        gateway.ws("/s").preface(b"PROXY TCP4 192.0.2.1 "),
    ] {
        check_closed(&request, b"").await;
    }
    // The header does not restart the deadline.
    let began = std::time::Instant::now();
    let request = gateway.ws("/s").preface(&version_1(CLIENT));
    let mut stream = request.stream().await.unwrap();
    let _ = within("the end", stream.read_to_end(&mut Vec::new())).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

/// A limit for an address counts clients: of two behind one proxy, one is over it and the other is not.
#[tokio::test]
async fn clients_of_a_proxy_are_limited_one_by_one() {
    let trusted = "trusted_proxies = [\"127.0.0.1\"]";
    for (listener, limit) in [
        ("proxy_protocol = true", "connections_per_ip = 1"),
        ("proxy_protocol = true", "connections_per_s_per_ip = 1"),
        ("", "connections_per_ip = 1"),
        ("", "connections_per_s_per_ip = 1"),
    ] {
        let gateway = serve(&format!("{trusted}\n{listener}"), limit).await;
        let of = |client: &str| match listener {
            "" => gateway.ws("/s").header("X-Forwarded-For", client),
            _ => gateway.ws("/s").preface(&version_1(client)),
        };
        let refused = within("a client to be refused", async {
            loop {
                let _first = of(CLIENT).attempt().await;
                if let Err(answer) = of(CLIENT).attempt().await {
                    return answer;
                }
            }
        });
        let answer = refused.await;
        assert!(
            answer.status == 429 && answer.closed,
            "{listener} {limit}: {answer:?}"
        );
        assert_eq!(answer.header("retry-after"), Some("1"));
        for other in ["192.0.2.2", "2001:db8::1"] {
            of(other).open().await;
        }
    }
    // The streams of one HTTP/2 connection count for the client, too.
    let gateway = serve(trusted, "connections_per_ip = 1").await;
    let http2 = gateway.http2().await;
    let of = |client: &'static str| [("x-forwarded-for", client)];
    let _first = http2.open_with("/s", &of(CLIENT)).await;
    let _other = http2.open_with("/s", &of("192.0.2.2")).await;
    let refused = http2.refused("/s", &of(CLIENT)).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("1"));
}

/// The address that counts is that of the header, for identities, endpoints and logs.
#[tokio::test]
async fn authorizers_see_the_client_that_a_proxy_names() {
    let endpoint = Endpoint::start().await;
    endpoint.answer("200 OK", "X-Auth-Request-User: ada\r\n", "");
    let url = &endpoint.url;
    let authorizers = format!(
        r#"
[apis.a.stages.door]
authorizer = "door"
limits = {{ connections_per_principal = 1 }}

[apis.a.stages.team]
authorizer = "team"

[authorizers.door]
plugin = "doorman"
identity_source = ["context.identity.sourceIp"]
cache_s = 60

[authorizers.team]
forward = {{ url = "{url}", principal = "X-Auth-Request-User" }}

[plugins.doorman]
component = "{{doorman}}"
"#
    );
    let listener = "trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true";
    let configuration = configuration(listener, "") + &authorizers;
    let gateway = LOCKGATE.serve_as_written(&configuration).await;
    let door = saying(&json!({"circumstances": true})).replace("/s?", "/door?");
    // Two clients of one proxy are two: neither has the answer that is kept for the other.
    for client in [CLIENT, "192.0.2.2"] {
        let request = gateway.ws(&door).preface(&version_1(client));
        let mut open = request
            .header("X-Forwarded-For", "203.0.113.9")
            .open()
            .await;
        let who = open.step(json!({"do": "who"})).await;
        assert_eq!(who["values"]["ip"], client);
        let team = gateway.ws("/team").preface(&version_1(client));
        let mut open = team.header("X-Forwarded-For", "203.0.113.9").open().await;
        assert_eq!(open.step(json!({"do": "who"})).await["principal"], "ada");
        let head = endpoint.last_head().to_lowercase();
        assert!(
            head.contains(&format!("\r\nx-forwarded-for: {client}\r\n")),
            "{head}"
        );
        assert!(!head.contains("203.0.113.9"), "{head}");
        gateway
            .log()
            .line(&[
                "\"connected\"",
                "a/team",
                &format!("\"client\":\"{client}\""),
            ])
            .await;
    }
}

#[tokio::test]
async fn x_forwarded_for_of_a_trusted_proxy_names_the_client() {
    let gateway = trusting("").await;
    for (lines, client) in [
        (&["192.0.2.1"][..], CLIENT),
        (&["2001:db8::1"], "2001:db8::1"),
        (&["[2001:db8::1]:443"], "2001:db8::1"),
        (&["192.0.2.1:443, 10.0.0.1"], CLIENT),
        (&["198.51.100.9, 192.0.2.1", "10.0.0.1, 10.0.0.2"], CLIENT),
        (&["192.0.2.1, unknown"], "127.0.0.1"),
        (&[], "127.0.0.1"),
    ] {
        for request in [gateway.ws(&target()), gateway.wss(&target())] {
            let request = lines.iter().fold(request, |request, line| {
                request.and_header("X-Forwarded-For", line)
            });
            assert_eq!(source_ip(&request).await, client, "{lines:?}");
        }
    }
    let http2 = gateway.http2().await;
    let headers = [
        ("x-forwarded-for", "198.51.100.9"),
        ("x-forwarded-for", CLIENT),
    ];
    let mut client = http2.open_with(&target(), &headers).await;
    assert_eq!(client.json().await[0]["source_ip"], CLIENT);
    // The header of an untrusted peer does not count, and the other header is the client's own.
    let request = gateway.ws(&target()).header("X-Forwarded-For", CLIENT);
    assert_eq!(
        source_ip(&request.from_address("127.0.0.2")).await,
        "127.0.0.2"
    );
    let request = gateway.ws(&target()).header("Forwarded", "for=192.0.2.1");
    assert_eq!(source_ip(&request).await, "127.0.0.1");
}

#[tokio::test]
async fn forwarded_names_the_client_where_configured() {
    let gateway = trusting("forwarded_header = \"forwarded\"").await;
    for (line, client) in [
        ("for=192.0.2.1;proto=https", CLIENT),
        ("for=\"[2001:db8::1]:4711\"", "2001:db8::1"),
        ("for=198.51.100.9, for=192.0.2.1, for=10.0.0.1", CLIENT),
        ("for=\"198.51.100.9, for=192.0.2.1", CLIENT),
        ("for=192.0.2.1, for=_hidden", "127.0.0.1"),
    ] {
        let request = gateway.ws(&target()).header("Forwarded", line);
        assert_eq!(source_ip(&request).await, client, "{line}");
    }
    let request = gateway.ws(&target()).header("X-Forwarded-For", CLIENT);
    assert_eq!(source_ip(&request).await, "127.0.0.1");
    let request = gateway.ws(&target()).header("Forwarded", "for=192.0.2.1");
    assert_eq!(
        source_ip(&request.from_address("127.0.0.2")).await,
        "127.0.0.2"
    );
}

/// A proxy on this machine may serve any name, and says whether its client used TLS. No page can say so.
#[tokio::test]
async fn own_pages_behind_a_proxy_are_those_of_the_proxys_host() {
    let gateway = trusting("").await;
    let page = |scheme: &str| {
        gateway
            .ws("/s")
            .header("Host", "chat.example.com")
            .header("Origin", &format!("{scheme}://chat.example.com"))
    };
    assert_eq!(page("https").refused().await.status, 403);
    let by = |scheme: &str, proto: &str| {
        page(scheme)
            .header("X-Forwarded-For", CLIENT)
            .header("X-Forwarded-Proto", proto)
    };
    by("https", "https").open().await;
    by("http", "http").open().await;
    assert_eq!(by("http", "https").refused().await.status, 403);
    let elsewhere = by("https", "https").from_address("127.0.0.2");
    assert_eq!(elsewhere.refused().await.status, 403);

    let gateway = trusting("proxy_protocol = true").await;
    let page = |scheme: &str, tls: u8| {
        let extension = [0x20, 0, 5, tls, 0, 0, 0, 0];
        gateway
            .ws("/s")
            .preface(&version_2([192, 0, 2, 1], &extension))
            .header("Host", "chat.example.com")
            .header("Origin", &format!("{scheme}://chat.example.com"))
    };
    page("https", 1).open().await;
    page("http", 0).open().await;
    assert_eq!(page("http", 1).refused().await.status, 403);
}

#[tokio::test]
async fn trusted_proxies_change_with_a_reload_under_open_connections() {
    // Port 0 would move the listener to another port.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let text = configuration("trusted_proxies = [\"127.0.0.1\"]", "");
    let text = text.replacen(
        "\"off\"\naddress = \"127.0.0.1:0",
        &format!("\"off\"\naddress = \"{address}"),
        1,
    );
    let gateway = LOCKGATE.serve_as_written(&text).await;
    let request = gateway.ws(&target()).header("X-Forwarded-For", CLIENT);
    let mut client = request.open().await;
    client.json().await;
    let file = gateway.folder().join("gateway.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let changed = text.replace("[\"127.0.0.1\"]", "[\"10.0.0.0/8\"]");
    assert_ne!(text, changed);
    std::fs::write(&file, changed).unwrap();
    let (status, answer) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(source_ip(&request).await, "127.0.0.1");
    let info = client.step(json!({"do": "info"})).await;
    assert_eq!(info["source_ip"], CLIENT);
}

/// A proxy that does not set this header passes on the client's own.
#[tokio::test]
async fn forwarded_host_is_ignored_and_the_host_of_a_proxy_is_read() {
    let gateway = trusting("").await;
    let request = gateway
        .ws("/s")
        .header("X-Forwarded-For", CLIENT)
        .header("X-Forwarded-Proto", "https")
        .header("Origin", "https://app.example.com");
    let passed_on = request.clone().header("Host", "app.example.com");
    passed_on.open().await;
    let rewritten = request
        .header("Host", "gateway.internal")
        .header("X-Forwarded-Host", "app.example.com");
    assert_eq!(rewritten.refused().await.status, 403);
}
