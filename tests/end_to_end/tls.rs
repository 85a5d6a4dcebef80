//! `wss`: TLS versions, certificates and their replacement, and WebSockets over HTTP/2.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use lockgate_tests::{Certificate, Gateway, Trust, within};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{LOCKGATE, connect::connecting, echo, probe, probe_configuration};

/// A gateway whose certificate and key are these files.
async fn with_files(folder: &TempDir, certificate: &Certificate) -> Gateway {
    let (chain, key) = certificate.write(folder.path());
    let listener = format!(
        "[log]\nformat = \"json\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n\
         tls = {{ certificate = {chain:?}, key = {key:?} }}\n"
    );
    LOCKGATE
        .serve_as_written(&(listener + &probe_configuration("", "")))
        .await
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken() {
    let gateway = echo().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let versions: &'static [_] = Box::leak(Box::new([version]));
        let mut client = gateway.wss("/s").tls_versions(versions).open().await;
        client.send("hello").await;
        client.expect("hello").await;
    }
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn cheap_cipher_suite_is_chosen_unless_the_client_has_no_aes() {
    let gateway = echo().await;
    let (tls_1_2, tls_1_3): (&[_], &[_]) = (&[&rustls::version::TLS12], &[&rustls::version::TLS13]);
    use rustls::CipherSuite as Suite;
    let aes = std::arch::is_x86_feature_detected!("aes");
    let (dear, cheap) = (
        Suite::TLS13_AES_256_GCM_SHA384,
        Suite::TLS13_AES_128_GCM_SHA256,
    );
    let (dear_1_2, cheap_1_2) = (
        Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    );
    let chacha20 = Suite::TLS13_CHACHA20_POLY1305_SHA256;
    for (versions, preferred, chosen) in [
        (tls_1_3, dear, if aes { cheap } else { dear }),
        (tls_1_3, chacha20, chacha20),
        (tls_1_2, dear_1_2, if aes { cheap_1_2 } else { dear_1_2 }),
    ] {
        let versions: &'static [_] = versions.to_vec().leak();
        let request = gateway.wss("/s").tls_versions(versions);
        assert_eq!(request.preferring(preferred).cipher_suite().await, chosen);
    }
}

#[tokio::test]
async fn self_signed_certificate_is_for_this_machine() {
    let gateway = echo().await;
    let certificate = gateway.wss("/s").certificate().await;
    let mut client = gateway
        .wss("/s")
        .trusting(Trust::Only(certificate))
        .open()
        .await;
    client.send("hello").await;
    client.expect("hello").await;
}

#[tokio::test]
async fn unknown_alpn_protocol_ends_the_handshake() {
    let gateway = echo().await;
    let error = gateway.wss("/s").alpn("mqtt").stream().await.err().unwrap();
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
}

#[tokio::test]
async fn plain_http_on_a_tls_port_harms_no_other_client() {
    let gateway = echo().await;
    let mut confused = tokio::net::TcpStream::connect(gateway.secure())
        .await
        .unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut confused, &gateway.ws("/s").bytes())
        .await
        .unwrap();
    gateway.wss("/s").open().await;
}

#[tokio::test]
async fn changed_certificate_is_served_without_a_restart() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (Certificate::new(), Certificate::new());
    let gateway = with_files(&folder, &first).await;
    let mut client = gateway
        .wss("/s")
        .trusting(Trust::Only(first.der.clone()))
        .open()
        .await;

    second.write(folder.path());
    gateway
        .log()
        .line(&["serving the changed certificate"])
        .await;
    assert_eq!(gateway.wss("/s").certificate().await, second.der);
    gateway
        .wss("/s")
        .trusting(Trust::Only(second.der.clone()))
        .open()
        .await;
    // Open connections stay.
    client.id().await;
}

#[tokio::test]
async fn changed_certificate_without_its_key_is_not_served() {
    let folder = TempDir::new().unwrap();
    let (first, second, third) = (Certificate::new(), Certificate::new(), Certificate::new());
    let gateway = with_files(&folder, &first).await;
    let (chain, _) = first.write(folder.path());

    // Nonsense or no file at all: the old pair stays, and the log has the reason.
    fs::write(folder.path().join("key.pem"), "nonsense").unwrap();
    gateway
        .log()
        .line(&["everything continues as before", "key.pem"])
        .await;
    assert_eq!(gateway.wss("/s").certificate().await, first.der);
    fs::remove_file(&chain).unwrap();
    gateway
        .log()
        .line(&["the file is gone", "certificate.pem"])
        .await;
    assert_eq!(gateway.wss("/s").certificate().await, first.der);

    // Then a matching pair, written in two steps.
    let other = TempDir::new().unwrap();
    let (chain, key) = third.write(other.path());
    second.write(folder.path());
    fs::copy(key, folder.path().join("key.pem")).unwrap();
    fs::copy(chain, folder.path().join("certificate.pem")).unwrap();
    within("the pair that fits to be served", async {
        while gateway.wss("/s").certificate().await != third.der {}
    })
    .await;
    gateway.wss("/s").open().await;
}

/// Clients connect all the while: none is refused, and open connections stay.
#[tokio::test]
async fn no_handshake_fails_while_certificates_change() {
    const CHANGES: usize = 20;
    const AT_LEAST: usize = 2_000;
    const AT_A_TIME: usize = 8;
    let folder = TempDir::new().unwrap();
    let gateway = with_files(&folder, &Certificate::new()).await;
    let mut client = gateway.wss("/s").open().await;
    let began = Instant::now();
    let (done, changes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut coming = JoinSet::new();
    for number in 0..AT_A_TIME {
        let (request, done, changes) = (gateway.wss("/s"), Arc::clone(&done), Arc::clone(&changes));
        coming.spawn(async move {
            while changes.load(Ordering::Relaxed) < CHANGES
                || done.load(Ordering::Relaxed) < AT_LEAST
            {
                if number % 2 == 0 {
                    // A TLS handshake alone.
                    request.certificate().await;
                } else {
                    request.open().await.id().await;
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for round in 0..CHANGES {
        let next = Certificate::new();
        next.write(folder.path());
        let line = &["serving the changed certificate"];
        gateway.log().nth_line(round, line).await;
        assert_eq!(gateway.wss("/s").certificate().await, next.der);
        changes.fetch_add(1, Ordering::Relaxed);
        client.id().await;
    }
    // A failed client has panicked.
    while let Some(ended) = coming.join_next().await {
        ended.unwrap();
    }
    let (done, took) = (done.load(Ordering::Relaxed), began.elapsed());
    eprintln!("{done} handshakes beside {CHANGES} changes of the certificate in {took:?}");
    assert!(done >= AT_LEAST);
    client.id().await;
}

#[tokio::test]
async fn one_http_2_connection_carries_several_websockets() {
    let gateway = probe().await;
    let http2 = gateway.http2().await;
    let steps = json!([{"do": "send", "text": "welcome"}, {"do": "accept", "subprotocol": null, "headers": [["x-seat", "12"]]}]);
    let mut one = http2.open(&connecting(&steps)).await;
    let mut other = http2.open("/s").await;
    assert_eq!(one.answer().header("x-seat"), Some("12"));
    // A CONNECT has none of the headers of an upgrade (RFC 8441 §5).
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert_eq!(one.answer().header(name), None, "{name}");
    }
    one.expect("welcome").await;
    let id = other.id().await;
    assert_eq!(
        one.step(json!({"do": "send", "id": id, "text": "over there"}))
            .await,
        "ok"
    );
    other.expect("over there").await;
    let long = "x".repeat(100_000);
    assert_eq!(
        one.step(json!({"do": "send", "id": id, "text": long}))
            .await,
        "ok"
    );
    other.expect(&long).await;

    // One stream ends, and the other stays.
    let mut observer = gateway.connect("/s").await;
    observer.observe().await;
    let id = one.id().await;
    assert_eq!(one.close(4001, "enough").await, 4001);
    let closed = observer.ended(&id).await;
    assert_eq!((closed.code, closed.reason.as_str()), (4001, "enough"));
    other.id().await;
    // The HTTP/2 connection ends, and with it the last stream.
    let id = other.id().await;
    drop(http2);
    other.vanish();
    assert_eq!(observer.ended(&id).await.code, 1006);
}

#[tokio::test]
async fn http_2_requests_are_refused_as_http_1_requests_are() {
    let gateway = probe().await;
    let http2 = gateway.http2().await;
    let refuse = connecting(&json!([{"do": "refuse", "status": 401, "message": "who?"}]));
    for (path, headers, status, message) in [
        (refuse.as_str(), vec![], 401, "who?"),
        ("/unknown", vec![], 403, "Forbidden"),
        (
            "/s",
            vec![("origin", "https://example.com")],
            403,
            "Forbidden",
        ),
    ] {
        let refused = http2.refused(path, &headers).await;
        assert_eq!(refused.status, status, "{path}");
        assert_eq!(refused.text(), json!({"message": message}).to_string());
        assert_eq!(refused.header("connection"), None);
    }
    http2.open("/s").await;
}

#[tokio::test]
async fn http_2_is_not_offered_where_it_is_off() {
    let listener = "[log]\nformat = \"json\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = \"self-signed\"\nhttp2 = false\n";
    let gateway = LOCKGATE
        .serve_as_written(&(listener.to_owned() + &probe_configuration("", "")))
        .await;
    let error = gateway.wss("/s").alpn("h2").stream().await.err().unwrap();
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
    gateway.wss("/s").open().await;
}
