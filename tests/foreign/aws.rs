//! AWS's own clients, unmodified: the connections API, and signed handshakes.

use std::net::SocketAddr;

use lockgate_tests::{Client, Gateway, GoClient, Node, Python, probe_configuration};

use crate::{
    LOCKGATE,
    clients::{check, script},
};

/// The environment of a backend.
const BACKEND: [(&str, &str); 4] = [
    ("AWS_ACCESS_KEY_ID", "AKIDBACKEND"),
    ("AWS_SECRET_ACCESS_KEY", "a-secret-of-the-tests"),
    ("AWS_REGION", "us-east-1"),
    ("AWS_DEFAULT_REGION", "us-east-1"),
];

const STAGE: &str = r#"
connections_api = true
limits = { message_kib = 64, outbox_kib = 64, outbox_messages = 4 }

[access_keys.backend]
id = "AKIDBACKEND"
secret = "a-secret-of-the-tests"
allow = ["a/s:POST,GET,DELETE"]
"#;

async fn serve() -> (Gateway, Client, String) {
    let gateway = LOCKGATE.serve(&probe_configuration(STAGE, "")).await;
    let mut client = gateway.connect("/s").await;
    let id = client.id().await;
    (gateway, client, id)
}

pub(crate) async fn boto3_and_the_aws_cli_use_the_connections_api() {
    let gateway = LOCKGATE.serve(&probe_configuration(STAGE, "")).await;
    boto3_and_the_aws_cli_at(&gateway, gateway.plain()).await;
    // The management listener takes their signatures where it asks for a token, for stages that the world does not reach.
    let stage = STAGE.replace("connections_api = true", "");
    let configuration = format!(
        "listeners = [{{ address = \"127.0.0.1:0\" }}]\nlog = {{ format = \"json\" }}\n\
         management = {{ address = \"127.0.0.1:0\", tokens = [\"{}\"] }}\n{}",
        "t".repeat(32),
        probe_configuration(&stage, "")
    );
    let gateway = LOCKGATE.serve_as_written(&configuration).await;
    boto3_and_the_aws_cli_at(&gateway, gateway.management()).await;
}

async fn boto3_and_the_aws_cli_at(gateway: &Gateway, address: SocketAddr) {
    let python = Python::find(LOCKGATE.target()).unwrap();
    let mut client = gateway.connect("/s").await;
    let id = client.id().await;
    let stuck = gateway.ws("/s").receive_buffer(4_096);
    let mut stuck = stuck.open().await;
    let stuck_id = stuck.id().await;
    let endpoint = format!("http://{address}/s");
    let script = script("python/connections_api.py");
    let words = [script.to_str().unwrap(), &endpoint, &id, &stuck_id];
    let said = check(&python.run_with(&BACKEND, "python", &words).await);
    let passed = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(passed, 7, "{said}");
    for text in ["from boto3", "κόσμε", ""] {
        client.expect(text).await;
    }
    assert_eq!(client.binary().await.as_ref(), [0, 255]);
    client.expect("with a session token").await;
    client.expect("from the AWS CLI").await;
    client.expect("from curl").await;
    client
        .expect_close(1000, "Connection Closed Normally")
        .await;
}

pub(crate) async fn sdk_for_javascript_uses_the_connections_api() {
    let node = Node::find(LOCKGATE.target()).unwrap();
    let (gateway, mut client, id) = serve().await;
    let endpoint = format!("http://{}/s", gateway.plain());
    let words = [endpoint.as_str(), &id];
    let script = script("node/connections_api.cjs");
    let said = check(&node.run_with(&BACKEND, &script, &words).await);
    let passed = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(passed, 4, "{said}");
    client.expect("from the SDK for JavaScript").await;
    assert_eq!(client.binary().await.as_ref(), [0, 255]);
    client
        .expect_close(1000, "Connection Closed Normally")
        .await;
}

pub(crate) async fn sdk_for_go_uses_the_connections_api() {
    let go = GoClient::find(LOCKGATE.target(), "connections-api").unwrap();
    let (gateway, mut client, id) = serve().await;
    let endpoint = format!("http://{}/s", gateway.plain());
    let said = check(&go.run_with(&BACKEND, &[&endpoint, &id]).await);
    let passed = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(passed, 4, "{said}");
    client.expect("from the SDK for Go").await;
    assert_eq!(client.binary().await.as_ref(), [0, 255]);
    client
        .expect_close(1000, "Connection Closed Normally")
        .await;
}

pub(crate) async fn handshake_signed_by_botocore_is_let_in() {
    let python = Python::find(LOCKGATE.target()).unwrap();
    let stage = r#"
authorizer = "signed"

[authorizers.signed]
iam = {}

[access_keys.backend]
id = "AKIDBACKEND"
secret = "a-secret-of-the-tests"
allow = ["a/s:CONNECT"]
"#;
    let gateway = LOCKGATE.serve(&probe_configuration(stage, "")).await;
    let url = format!("ws://{}/s", gateway.plain());
    let script = script("python/iam.py");
    let words = [script.to_str().unwrap(), &url];
    let said = check(&python.run_with(&BACKEND, "python", &words).await);
    let passed = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(passed, 2, "{said}");
}
