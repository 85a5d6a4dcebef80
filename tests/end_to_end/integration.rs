//! Integrations that are no plugins.

use std::fs;

use crate::{LOCKGATE, connect::check_refusal};

#[tokio::test]
async fn mock_answers_two_way_routes_and_connect_without_a_plugin() {
    let gateway = LOCKGATE
        .serve(
            r#"
[apis.a.stages.s]

[apis.a.routes]
"$connect" = { integration = "pong" }
"$disconnect" = { integration = "pong" }
"$default" = { integration = "silent", two_way = true }
ping = { integration = "pong", two_way = true }
quietly = { integration = "pong" }

[integrations.pong]
mock = { reply = '{"pong":true}' }

[integrations.silent]
mock = {}
"#,
        )
        .await;
    let mut client = gateway.connect("/s").await;
    client.send(r#"{"action":"quietly"}"#).await;
    client.send("anything").await;
    client.send(r#"{"action":"ping"}"#).await;
    client.expect(r#"{"pong":true}"#).await;

    // A reload changes the answers under the open connection.
    let file = gateway.folder().join("gateway.toml");
    let before = fs::read_to_string(&file).unwrap();
    let refusing = r#"mock = { status = 403, reply = "closed for today" }"#;
    let after = before.replace(r#"mock = { reply = '{"pong":true}' }"#, refusing);
    fs::write(&file, after).unwrap();
    let (status, body) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{body}");
    client.send(r#"{"action":"ping"}"#).await;
    client.expect("closed for today").await;
    let refused = gateway.ws("/s").refused().await;
    check_refusal(&refused, 403, "closed for today");
    assert_eq!(client.close(1000, "").await, 1000);
}
