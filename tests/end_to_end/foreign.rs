//! Clients not of our making. Where one is not installed its test is left out by name, and fails in CI: see
//! `lockgate_tests::left_out`.

use std::{path::PathBuf, process::Output};

use lockgate_tests::{Chromium, Node, Python, left_out};
use serde_json::{Value, json};

use crate::{LOCKGATE, dev, echo};

/// A file of `tests/foreign`.
fn script(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/foreign")).join(name)
}

#[track_caller]
fn check(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{text}\n{error}",
        output.status
    );
    text
}

#[tokio::test]
async fn the_npm_package_ws() {
    let Some(node) = Node::find(LOCKGATE.target()) else {
        return left_out("the npm package ws", "Node with tests/foreign/node");
    };
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

#[tokio::test]
async fn the_python_package_websockets() {
    let Some(python) = Python::find(LOCKGATE.target()) else {
        return left_out(
            "the Python package websockets",
            "Python with tests/foreign/python",
        );
    };
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

#[tokio::test]
pub(crate) async fn two_browser_tabs_chat_over_wss() {
    let (Some(node), Some(chromium)) = (Node::find(LOCKGATE.target()), Chromium::find()) else {
        return left_out(
            "two tabs of Chromium",
            "Chromium, or Node with tests/foreign/node",
        );
    };
    let (_, gateway) = dev::serving("chat", "browsed-chat").await;
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
