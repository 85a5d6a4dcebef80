//! The audit file: a line for each change that operators ask for, which follows from the line before.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use lockgate_tests::{CommandResult, Gateway, write_configuration};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::LOCKGATE;
use crate::upgrade::upgrade;

/// A gateway with an audit file in this folder. It has no plugin, which would take time to compile.
async fn serve(folder: &TempDir) -> (Gateway, PathBuf) {
    let file = folder.path().join("audit.log");
    let configuration = configuration(&file);
    (LOCKGATE.serve_as_written(&configuration).await, file)
}

fn configuration(file: &Path) -> String {
    format!(
        r#"
listeners = [{{ address = "127.0.0.1:0" }}]
log = {{ level = "info,lockgate=debug", format = "json" }}
management = {{ address = "127.0.0.1:0", audit = {file:?} }}

[apis.a]
stages.s = {{}}
routes."$default" = {{ integration = "m", two_way = true }}

[integrations.m]
mock = {{ reply = "hi" }}
"#
    )
}

async fn verify(file: &Path, more: &[&str]) -> CommandResult {
    let words = ["audit", "verify", file.to_str().unwrap()];
    LOCKGATE.run(&[&words, more].concat()).await
}

/// The lines of the file, each as its fields.
fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().map(serde_json::from_str);
    lines.map(Result::unwrap).collect()
}

/// Closes all connections.
async fn close(gateway: &Gateway) -> (u16, String) {
    let body = json!({"connections": {"all": true}, "code": 4000, "reason": "bye"});
    gateway.post("/connections/close", &body.to_string()).await
}

#[tokio::test]
async fn every_change_is_in_the_file_before_its_answer_and_edits_are_found() {
    let folder = TempDir::new().unwrap();
    let (gateway, file) = serve(&folder).await;
    let mut client = gateway.connect("/s").await;
    assert_eq!(close(&gateway).await.0, 200);
    client.expect_close(4000, "bye").await;
    let closed = lines(&file).pop().unwrap();
    assert_eq!(closed["action"], "POST /connections/close");
    assert_eq!(
        (&closed["status"], &closed["previous"]),
        (&json!(200), &Value::Null)
    );
    assert!(
        closed["from"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{closed}"
    );
    assert!(
        closed["done"].as_str().unwrap().ends_with("1 connection"),
        "{closed}"
    );
    // What is refused is there, too, and what only shows something is not.
    assert_eq!(gateway.post("/plugins/none/promote", "{}").await.0, 404);
    assert_eq!(gateway.page("/connections").await.0, 200);
    assert_eq!(gateway.post("/reload", "{}").await.0, 200);
    let written = lines(&file);
    let actions: Vec<_> = written
        .iter()
        .map(|line| (&line["action"], &line["status"]))
        .collect();
    assert_eq!(
        actions[1..],
        [
            (&json!("POST /plugins/none/promote"), &json!(404)),
            (&json!("POST /reload"), &json!(200)),
        ]
    );
    // The log has the digest of each line.
    let line = gateway
        .log()
        .line(&["an operator has asked", "POST /reload"])
        .await;
    let line: Value = serde_json::from_str(&line).unwrap();
    let digest = line["digest"].as_str().unwrap();
    let verified = verify(&file, &["--digest", digest]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(
        verified.output.contains("3 lines") && verified.output.contains(digest),
        "{verified:?}"
    );
    let text = fs::read_to_string(&file).unwrap();
    for (edited, why) in [
        (
            text.replacen("/close", "/clone", 1),
            "line 2 does not follow line 1",
        ),
        (
            text.lines().skip(1).collect::<Vec<_>>().join("\n") + "\n",
            "missing in front",
        ),
        (text.replace("/reload", "/rebill"), digest),
        (text.trim_end().to_owned(), "line 3 is cut short"),
    ] {
        fs::write(&file, &edited).unwrap();
        let verified = verify(&file, &["--digest", digest]).await;
        assert_eq!(verified.code, Some(1), "{edited}");
        assert!(verified.error.contains(why), "{verified:?}");
    }
}

#[tokio::test]
async fn nothing_is_changed_without_a_file_that_can_be_written() {
    let folder = TempDir::new().unwrap();
    let (gateway, file) = serve(&folder).await;
    let mut client = gateway.connect("/s").await;
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let (status, why) = close(&gateway).await;
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("management.audit"), "{why}");
    gateway
        .log()
        .line(&["\"ERROR\"", "nothing was changed"])
        .await;
    client.send("x").await;
    client.expect("hi").await;
    fs::remove_dir(&file).unwrap();
    assert_eq!(close(&gateway).await.0, 200);
    client.expect_close(4000, "bye").await;
    assert_eq!(lines(&file).len(), 1);
}

#[tokio::test]
async fn chain_goes_on_over_an_upgrade_and_begins_anew_in_another_file() {
    let folder = TempDir::new().unwrap();
    let (mut gateway, file) = serve(&folder).await;
    assert_eq!(gateway.post("/reload", "{}").await.0, 200);
    let successor = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    assert_eq!(gateway.post("/reload", "{}").await.0, 200);
    assert!(lines(&file).len() >= 2);
    assert_eq!(verify(&file, &[]).await.code, Some(0));
    // As `logrotate` renames it.
    let old = folder.path().join("audit.log.1");
    fs::rename(&file, &old).unwrap();
    assert_eq!(gateway.post("/reload", "{}").await.0, 200);
    assert_eq!(lines(&file).len(), 1);
    for file in [&file, &old] {
        assert_eq!(verify(file, &[]).await.code, Some(0));
    }
    successor.terminate();
    successor.ended().await;
}

#[tokio::test]
async fn file_that_others_may_write_is_refused_at_a_start_and_at_a_change() {
    let folder = TempDir::new().unwrap();
    let (gateway, file) = serve(&folder).await;
    let open_to_all = || fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    open_to_all();
    assert_eq!(gateway.post("/reload", "{}").await.0, 503);
    let why = "others may write it (mode 0666): chmod go-w";
    gateway.log().line(&["nothing was changed", why]).await;
    let configuration = write_configuration(folder.path(), &configuration(&file));
    let ended = LOCKGATE
        .run(&["run", configuration.to_str().unwrap()])
        .await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.error.contains(why), "{ended:?}");
}

#[tokio::test]
async fn gateway_does_not_start_without_the_file_and_says_which() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("none").join("audit.log");
    let configuration = write_configuration(folder.path(), &configuration(&file));
    let ended = LOCKGATE
        .run(&["run", configuration.to_str().unwrap()])
        .await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for part in ["management.audit", "audit file cannot be written", "remedy"] {
        assert!(ended.error.contains(part), "{ended:?}");
    }
}
