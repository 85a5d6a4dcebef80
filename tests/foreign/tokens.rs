//! Tokens of a provider that is not of our making, presented by a client that is not either.

use std::process::Stdio;

use lockgate_tests::{LONG_PATIENCE, Node};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::LOCKGATE;
use crate::clients::script;

/// `oidc-provider` signs access tokens (RFC 9068), first with one key, then with another of another kind.
pub(crate) async fn openid_provider_rotates_its_keys() {
    let node = Node::find(LOCKGATE.target()).unwrap();
    let mut provider = Command::from(node.command(&script("node/oidc.cjs"), &[]));
    provider.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut provider = provider.kill_on_drop(true).spawn().unwrap();
    let mut output = BufReader::new(provider.stdout.take().unwrap());
    let mut issuer = String::new();
    output.read_line(&mut issuer).await.unwrap();
    let configuration = format!(
        r#"
[apis.a]
authorizer = "users"

[apis.a.stages.s]

[apis.a.routes."$default"]
integration = "echo"
two_way = true

[authorizers.users]
jwt = {{ issuer = "{}", audience = ["https://chat.example.com"], algorithms = ["ES256", "RS256"], scopes = ["join"], leeway_s = 5 }}

[plugins.echo]
component = "{{echo}}"
"#,
        issuer.trim()
    );
    let gateway = LOCKGATE.serve(&configuration).await;
    let url = format!("ws://{}/s\n", gateway.plain());
    let mut input = provider.stdin.take().unwrap();
    input.write_all(url.as_bytes()).await.unwrap();
    let mut said = String::new();
    let reading = output.read_to_string(&mut said);
    timeout(LONG_PATIENCE, reading).await.unwrap().unwrap();
    let status = provider.wait().await.unwrap();
    let held = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(status.success() && held == 5, "{status}\n{said}");
}
