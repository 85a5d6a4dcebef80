//! `lockgate dev`: builds a plugin, serves it on this machine, and serves the new build after every save.

use std::{fs, path::PathBuf};

use lockgate_tests::{Gateway, LONG_PATIENCE, copy_of_plugin};
use tempfile::TempDir;

use crate::LOCKGATE;

/// A copy of a plugin, and the gateway that `dev` serves it with.
pub(crate) async fn serving(plugin: &str, copy: &str) -> (PathBuf, Gateway) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(copy);
    let folder = copy_of_plugin(plugin, &folder, LOCKGATE.target());
    let command = LOCKGATE.command(&[
        "dev",
        folder.to_str().unwrap(),
        "--wss-port",
        "0",
        "--ws-port",
        "0",
    ]);
    let gateway = Gateway::start(command, TempDir::new().unwrap(), LONG_PATIENCE).await;
    (folder, gateway)
}

#[tokio::test]
async fn every_save_is_served_and_no_connection_closes() {
    let (folder, mut gateway) = serving("echo", "saved-echo").await;
    let mut plain = gateway.connect("/dev").await;
    let mut secure = gateway.wss("/dev").open().await;
    for client in [&mut plain, &mut secure] {
        client.send("hello").await;
        client.expect("hello").await;
    }

    let source = folder.join("src/lib.rs");
    let before = fs::read_to_string(&source).unwrap();
    let after = before.replace(
        "Ok(Some(message))",
        "Ok(Some(format!(\"new {}\", message.as_text().unwrap()).into()))",
    );
    assert_ne!(before, after);
    fs::write(&source, &after).unwrap();
    gateway
        .log()
        .line_within(LONG_PATIENCE, &["serving the new build"])
        .await;
    for client in [&mut plain, &mut secure] {
        client.send("hello").await;
        client.expect("new hello").await;
    }

    // A build that fails changes nothing.
    fs::write(&source, after.replace("Ok(", "Ko(")).unwrap();
    gateway
        .log()
        .line_within(LONG_PATIENCE, &["still serving the last good build"])
        .await;
    plain.send("hello").await;
    plain.expect("new hello").await;

    fs::write(&source, &before).unwrap();
    gateway
        .log()
        .nth_line_within(LONG_PATIENCE, 1, &["serving the new build"])
        .await;
    plain.send("hello").await;
    plain.expect("hello").await;
    gateway.interrupt();
    for client in [&mut plain, &mut secure] {
        client.expect_close(1001, "Going away").await;
    }
    drop((plain, secure));
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn it_says_how_to_talk_to_it_and_opens_nothing_beyond_this_machine() {
    let (_, gateway) = serving("chat", "introduced-chat").await;
    let ws = format!("wscat -c ws://localhost:{}/dev", gateway.plain().port());
    let wss = format!("-c wss://localhost:{}/dev", gateway.secure().port());
    let page = format!("https://localhost:{}/", gateway.secure().port());
    for words in [ws, wss, page] {
        gateway.output().line(&[&words]).await;
    }
    let addresses: Vec<_> = gateway
        .log()
        .lines()
        .iter()
        .filter_map(|line| {
            Some(
                line.split_once("listening on ")?
                    .1
                    .split_once("://")?
                    .1
                    .to_owned(),
            )
        })
        .collect();
    assert!(addresses.len() >= 2);
    for address in addresses {
        assert!(
            address.starts_with("127.0.0.1:") || address.starts_with("[::1]:"),
            "{address}"
        );
    }
    // Pages of other sites are kept out here too.
    let foreign = gateway.ws("/dev").header("Origin", "https://example.com");
    assert_eq!(foreign.refused().await.status, 403);
}
