//! The environment of a plugin: what its configuration says, and nothing of the gateway's own.

use std::fs;

use lockgate_tests::{Client, Gateway};

use crate::LOCKGATE;

/// The guest `ambient` with these lines in its table.
async fn serve(plugin: &str) -> Gateway {
    let configuration = format!(
        r#"
[apis.a.stages.s]

[apis.a.routes."$default"]
integration = "ambient"
two_way = true

[plugins.ambient]
component = "{{ambient}}"
stub_wasi = true
{plugin}
"#
    );
    LOCKGATE.serve(&configuration).await
}

async fn ask(client: &mut Client, question: &str) -> String {
    client.send(question).await;
    client.text().await
}

#[tokio::test]
async fn environment_of_the_configuration_reaches_the_plugin_and_no_other_does() {
    let environment = r#"environment = { TABLE_NAME = "rooms", EMPTY = "", _K2 = "ä = b\n" }"#;
    let gateway = serve(environment).await;
    let mut client = gateway.connect("/s").await;
    for (variable, value) in [
        ("TABLE_NAME", r#"Ok("rooms")"#),
        ("EMPTY", r#"Ok("")"#),
        ("_K2", r#"Ok("ä = b\n")"#),
        ("PATH", "Err(NotPresent)"),
    ] {
        assert_eq!(
            ask(&mut client, &format!("variable {variable}")).await,
            value
        );
    }
    assert_eq!(ask(&mut client, "environment").await, "3 0");
}

/// A reload makes a version of the same code, whose instances begin with the new environment.
#[tokio::test]
async fn changed_environment_is_applied_by_a_reload_under_an_open_connection() {
    let gateway = serve(r#"environment = { STEP = "one" }"#).await;
    let mut client = gateway.connect("/s").await;
    assert_eq!(ask(&mut client, "variable STEP").await, r#"Ok("one")"#);

    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    let large = "x".repeat(16 * 1024 - "STEP".len());
    fs::write(&file, text.replace("\"one\"", &format!("{large:?}"))).unwrap();
    let (status, body) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{body}");
    let told = ask(&mut client, "variable STEP").await;
    assert_eq!(
        told.len(),
        large.len() + r#"Ok("")"#.len(),
        "the bound itself"
    );

    fs::write(&file, text.replace("\"one\"", &format!("\"y{large}\""))).unwrap();
    let (status, body) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 422, "{body}");
    assert!(body.contains("plugins.ambient.environment"), "{body}");
    assert_eq!(ask(&mut client, "variable STEP").await, told);
}

/// A value may be a secret: neither the log nor an answer of the management API has it.
#[tokio::test]
async fn value_of_the_environment_is_told_to_nobody_but_the_plugin() {
    let gateway = serve("environment = { API_KEY = \"hush-hush\" }").await;
    let mut client = gateway.connect("/s").await;
    assert_eq!(
        ask(&mut client, "variable API_KEY").await,
        r#"Ok("hush-hush")"#
    );
    let (status, body) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{body}");
    assert!(!body.contains("hush-hush"), "{body}");
    for line in gateway.log().lines() {
        assert!(!line.contains("hush-hush"), "{line}");
    }
}
