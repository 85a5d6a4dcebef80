//! Foreign clients: packages of npm and PyPI, a browser, OpenSSL.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
};

use lockgate_tests::{
    Chromium, Gateway, GoClient, Node, OpenSsl, Orphan, Python, echo_configuration,
    probe_configuration, within,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::LOCKGATE;

/// A file of `tests/foreign`.
pub(crate) fn script(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/foreign")).join(name)
}

/// A gateway that echoes, at `/s`.
async fn echo() -> Gateway {
    LOCKGATE.serve(&echo_configuration("")).await
}

#[track_caller]
pub(crate) fn check(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{text}\n{error}",
        output.status
    );
    text
}

pub(crate) async fn npm_client_ws_is_served() {
    let node = Node::find(LOCKGATE.target()).unwrap();
    let gateway = echo().await;
    for url in [
        format!("ws://{}/s", gateway.plain()),
        format!("wss://localhost:{}/s", gateway.secure().port()),
    ] {
        let said = check(&node.run(&script("node/ws.cjs"), &[&url]).await);
        assert_eq!(
            said.lines().filter(|line| line.starts_with("ok ")).count(),
            4,
            "{said}"
        );
    }
}

pub(crate) async fn python_client_websockets_is_served() {
    let python = Python::find(LOCKGATE.target()).unwrap();
    let gateway = echo().await;
    let script = script("python/websockets_client.py");
    for url in [
        format!("ws://{}/s", gateway.plain()),
        format!("wss://localhost:{}/s", gateway.secure().port()),
    ] {
        let said = check(
            &python
                .run("python", &[script.to_str().unwrap(), &url])
                .await,
        );
        assert_eq!(
            said.lines().filter(|line| line.starts_with("ok ")).count(),
            4,
            "{said}"
        );
    }
}

pub(crate) async fn python_client_aioquic_is_served_over_quic() {
    let python = Python::find(LOCKGATE.target()).unwrap();
    let gateway = LOCKGATE.serve_quic(&echo_configuration("")).await;
    // Debian's `localhost` is ::1 first, where this gateway does not listen.
    let url = format!("https://127.0.0.1:{}/s", gateway.secure().port());
    let scripts = [
        ("aioquic_client.py", 4),
        ("aioquic_session.py", 3),
        ("aioquic_hostile.py", 6),
    ];
    for (name, tests) in scripts {
        let script = script("python").join(name);
        let words = [script.to_str().unwrap(), &url];
        let said = check(&python.run("python", &words).await);
        let held = said.lines().filter(|line| line.starts_with("ok ")).count();
        assert_eq!(held, tests, "{said}");
    }
}

pub(crate) async fn webtransport_go_is_served_over_quic_and_through_an_upgrade() {
    let client = GoClient::find(LOCKGATE.target(), "webtransport").unwrap();
    let url = |gateway: &Gateway| format!("https://127.0.0.1:{}/s", gateway.secure().port());
    let choosing = LOCKGATE.serve_quic(&probe_configuration("", "")).await;
    let steps = json!([{"do": "accept", "subprotocol": "b"}]).to_string();
    let steps: String = steps.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let target = format!("{}?do={steps}", url(&choosing));
    check(&client.run_with(&[], &["protocol", &target, "b"]).await);

    let configuration = format!("[limits]\ndrain_s = 1\n{}", echo_configuration(""));
    let mut gateway = LOCKGATE.serve_quic(&configuration).await;
    let url = url(&gateway);
    check(&client.run_with(&[], &["refused", &url, "403"]).await);
    let not_text = "closed 1007 text is not UTF-8\n";
    assert_eq!(
        check(&client.run_with(&[], &["echoes", &url]).await),
        not_text
    );
    let mut lives = tokio::process::Command::from(client.command(&["lives", &url]))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(lives.stdout.take().unwrap()).lines();
    let mut next = async || within("a line", said.next_line()).await.unwrap();
    assert_eq!(next().await.as_deref(), Some("open"));
    let (status, answer) = gateway.post("/upgrade", "").await;
    assert_eq!(status, 200, "{answer}");
    let id = answer.split(' ').nth(1).and_then(|id| id.parse().ok());
    let _serving = Orphan::new(id.unwrap());
    assert_eq!(next().await.as_deref(), Some("closed 1012 Service restart"));
    assert_eq!(gateway.ended().await, Some(0));
    assert_eq!(
        check(&client.run_with(&[], &["echoes", &url]).await),
        not_text
    );
}

pub(crate) async fn two_browser_tabs_chat_over_wss() {
    let node = Node::find(LOCKGATE.target()).unwrap();
    let chromium = Chromium::find().unwrap();
    let folder = LOCKGATE.copy_of("chat", "browsed-chat");
    let gateway = Gateway::start_dev(LOCKGATE.dev(&folder, &[])).await;
    let chat = script("node/chat.cjs");
    let secure = format!("https://localhost:{}/", gateway.secure().port());
    let plain = format!("http://localhost:{}/", gateway.plain().port());
    // Over HTTP/2 the socket is a stream of the page's own connection (RFC 8441), and there is no 101.
    for (url, flags, page, socket) in [
        (&secure, &[][..], "h2", 200),
        (&secure, &["--disable-http2"], "http/1.1", 101),
        (&plain, &[], "http/1.1", 101),
    ] {
        let mut words = vec![chromium.path.to_str().unwrap(), url];
        words.extend(flags);
        let said = check(&node.run(&chat, &words).await);
        let said: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(
            said,
            json!({"page": page, "sockets": [socket, socket]}),
            "{url}"
        );
    }
}

/// A browser names the page's site, and the gateway decides by it.
pub(crate) async fn page_of_another_site_in_a_browser_is_refused() {
    let node = Node::find(LOCKGATE.target()).unwrap();
    let chromium = Chromium::find().unwrap();
    let gateway = echo().await;
    let port = gateway.plain().port();
    let own = format!("http://localhost:{port}/");
    let foreign = [
        format!("http://evil.example:{port}/"),
        format!("http://localhost.evil.example:{port}/"),
        format!("http://127.0.0.1:{port}/"),
        "http://localhost:1234/".to_owned(),
        "https://evil.example/".to_owned(),
    ];
    let socket = format!("ws://localhost:{port}/s");
    let mut words = vec![chromium.path.to_str().unwrap(), &socket, &own];
    words.extend(foreign.iter().map(String::as_str));
    let said = check(&node.run(&script("node/origin.cjs"), &words).await);
    let said: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let origin = |page: &str| page.trim_end_matches('/').to_owned();
    assert_eq!(said[&own], format!("{} got hello", origin(&own)));
    for page in &foreign {
        let closed = format!("{} closed with 1006", origin(page));
        assert_eq!(said[page], closed, "{page}");
        // The gateway refused, and not the browser.
        gateway.log().line(&["refused", "origin"]).await;
    }
    let refused = gateway.log().lines();
    let refused = refused.iter().filter(|line| line.contains("origin is not"));
    assert_eq!(refused.count(), foreign.len());
}

pub(crate) async fn sslyze_finds_safe_tls_alone() {
    let python = Python::find(LOCKGATE.target()).unwrap();
    let gateway = echo().await;
    let (script, port) = (
        script("python/tls_scan.py"),
        gateway.secure().port().to_string(),
    );
    let said = check(
        &python
            .run("python", &[script.to_str().unwrap(), &port])
            .await,
    );
    let held = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(held, 12, "{said}");
}

pub(crate) async fn openssl_client_gets_safe_tls_alone() {
    let openssl = OpenSsl::find().unwrap();
    let gateway = echo().await;
    let address = gateway.secure().to_string();
    let s_client = async |words: &[&str]| {
        let words = [&["s_client", "-connect", &address], words].concat();
        let output = openssl.run(&words).await;
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };
    for old in ["-tls1", "-tls1_1"] {
        let said = s_client(&[old, "-cipher", "ALL:@SECLEVEL=0"]).await;
        assert!(said.contains("SSL alert number"), "{old}: {said}");
        assert!(
            said.contains("New, (NONE), Cipher is (NONE)"),
            "{old}: {said}"
        );
    }
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = s_client(&[version, "-alpn", "http/1.1"]).await;
        assert!(said.contains(&format!("New, {name}, Cipher is ")), "{said}");
        assert!(said.contains("Compression: NONE"), "{said}");
        assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    }
    // Suites without forward secrecy are not shared.
    let said = s_client(&["-tls1_2", "-cipher", "AES128-SHA:AES256-GCM-SHA384"]).await;
    assert!(said.contains("alert handshake failure"), "{said}");
    let said = s_client(&["-alpn", "mqtt"]).await;
    assert!(said.contains("alert no application protocol"), "{said}");

    // A ticket resumes a session, and allows no early data.
    let folder = TempDir::new().unwrap();
    let session = folder.path().join("session.pem");
    let session = session.to_str().unwrap();
    let said = s_client(&["-tls1_2", "-sess_out", session]).await;
    assert!(said.contains("TLS session ticket lifetime hint:"), "{said}");
    let said = s_client(&["-tls1_2", "-sess_in", session]).await;
    assert!(said.contains("Reused, TLSv1.2"), "{said}");
    let said = s_client(&["-tls1_3"]).await;
    assert!(!said.contains("Early data was accepted"), "{said}");
}
