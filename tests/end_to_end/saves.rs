//! What `lockgate dev` says of a save that serves nothing new.

use std::fs;

use lockgate_tests::{Gateway, LONG_PATIENCE, answer_with};
use tempfile::TempDir;

use crate::{LOCKGATE, dev::built};

#[tokio::test]
async fn build_that_is_no_other_or_is_held_back_is_not_said_to_be_new() {
    let folder = LOCKGATE.copy_of("echo", "held-back-echo");
    answer_with(&folder, "zero");
    let gateway = Gateway::start_dev(LOCKGATE.dev(&folder, &[])).await;
    let mut client = gateway.connect("/dev").await;
    let source = folder.join("src/lib.rs");
    let good = fs::read_to_string(&source).unwrap();
    fs::write(&source, format!("{good}\n")).unwrap();
    let words = ["unchanged: the build is the one that serves"];
    gateway.log().line_within(LONG_PATIENCE, &words).await;

    let bad = good.replace(
        "let text",
        "assert!(message.as_text().is_none(), \"a bug\");\nlet text",
    );
    assert_ne!(bad, good);
    fs::write(&source, &bad).unwrap();
    built(&gateway, 0).await;
    let mut answer = String::new();
    while answer != "zero hello" {
        client.send("hello").await;
        answer = client.text().await;
    }
    fs::write(&source, format!("{bad}\n")).unwrap();
    let words = [
        "WARN",
        "still serving an earlier build: the file holds version 2, which rolled itself back; version 3 serves",
    ];
    gateway.log().line_within(LONG_PATIENCE, &words).await;
    client.send("hello").await;
    client.expect("zero hello").await;
    let lines = gateway.log().lines();
    let new = lines
        .iter()
        .filter(|line| line.contains("serving the new build"));
    assert_eq!(new.count(), 1);
}

#[tokio::test]
async fn build_that_cannot_serve_is_told_once() {
    let folder = LOCKGATE.copy_of("echo", "ungranted-echo");
    answer_with(&folder, "zero");
    let file = TempDir::new().unwrap();
    let file = file.path().join("gateway.toml");
    let configuration = format!(
        "[apis.a.stages.s]\n[apis.a.routes]\n\"$default\" = {{ integration = \"echo\" }}\n\
         [plugins.echo]\nsource = {folder:?}\n"
    );
    fs::write(&file, configuration).unwrap();
    let gateway = Gateway::start_dev(LOCKGATE.dev(&file, &[])).await;
    let source = folder.join("src/lib.rs");
    let text = fs::read_to_string(&source).unwrap();
    let counting = "let text = lockgate_plugin::groups::count(\"g\")?;";
    fs::write(
        &source,
        text.replace(
            "let text = message.as_text().unwrap_or_default();",
            counting,
        ),
    )
    .unwrap();
    let words = ["still serving the last good build", "groups"];
    gateway.log().line_within(LONG_PATIENCE, &words).await;
    let lines = gateway.log().lines();
    let told = lines.iter().filter(|line| line.contains("plugins.echo"));
    assert_eq!(told.count(), 1, "{lines:?}");
    for other in ["not reloaded", "is not served"] {
        assert!(!gateway.log().contains(&[other]), "{other}");
    }
}
