//! Tokens of a provider that is not of our making, presented by a client that is not either.

use std::process::Stdio;

use lockgate_tests::{Chromium, Issuer, LONG_PATIENCE, Node, probe_configuration};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::LOCKGATE;
use crate::clients::{check, script};

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

/// A page can set no header for a WebSocket.
pub(crate) async fn browser_presents_its_token_by_subprotocol_and_by_cookie() {
    let node = Node::find(LOCKGATE.target()).unwrap();
    let chromium = Chromium::find().unwrap();
    let issuer = Issuer::start().await;
    let sources =
        r#"["route.request.header.Sec-WebSocket-Protocol", "route.request.cookie.session"]"#;
    let gateway = LOCKGATE.serve(&behind(&issuer, sources)).await;
    let token = issuer.token(json!({}));
    let port = gateway.plain().port();
    let (socket, page) = (
        format!("ws://localhost:{port}/s"),
        format!("http://localhost:{port}/"),
    );
    let words = [chromium.path.to_str().unwrap(), &socket, &page, &token];
    let said = check(&node.run(&script("node/token.cjs"), &words).await);
    let said: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let expected = json!({
        "nothing": "closed with 1006",
        "subprotocol": "bearer ada",
        "beside": "bearer ada",
        "forged": "closed with 1006",
        "cookie": "none ada",
        "signedOut": "closed with 1006",
    });
    assert_eq!(said, expected);
    assert!(!gateway.log().contains(&[&token]), "a token is in the log");
}

/// The command with which people try a WebSocket API.
pub(crate) async fn wscat_presents_headers_and_subprotocols() {
    let node = Node::find(LOCKGATE.target()).unwrap();
    let issuer = Issuer::start().await;
    let sources =
        r#"["route.request.header.Authorization", "route.request.header.Sec-WebSocket-Protocol"]"#;
    let gateway = LOCKGATE.serve(&behind(&issuer, sources)).await;
    let token = issuer.token(json!({}));
    let authorization = format!("Authorization: Bearer {token}");
    let url = format!("wss://localhost:{}/s", gateway.secure().port());
    let ask = r#"[{"do":"who"},{"do":"info"}]"#;
    let with_header = ["--header", &authorization, "--header", "x-team: blue"];
    let with_subprotocol = ["--subprotocol", "bearer", "--subprotocol", &token];
    for (words, subprotocol) in [
        (&with_header[..], Value::Null),
        (&with_subprotocol, json!("bearer")),
    ] {
        let common = [
            "--no-check",
            "--connect",
            &url,
            "--wait",
            "2",
            "--execute",
            ask,
        ];
        let said = check(&node.wscat(&[&common, words].concat()).await);
        let line = said
            .lines()
            .find(|line| line.starts_with('['))
            .expect(&said);
        let said: Value = serde_json::from_str(line).unwrap();
        assert_eq!(said[0]["principal"], "ada", "{said}");
        assert_eq!(said[1]["subprotocol"], subprotocol, "{said}");
    }
    let words = ["--no-check", "--connect", &url, "--execute", ask];
    let refused = node.wscat(&words).await;
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("Unexpected server response: 401"), "{error}");
    assert!(!gateway.log().contains(&[&token]), "a token is in the log");
}

/// The probe at `/s`, behind tokens of this issuer that stand at these sources.
pub(crate) fn behind(issuer: &Issuer, sources: &str) -> String {
    format!(
        r#"{}
[authorizers.users]
jwt = {{ issuer = "{}", audience = ["chat"], algorithms = ["ES256"] }}
identity_source = {sources}
"#,
        probe_configuration("authorizer = \"users\"", ""),
        issuer.name()
    )
}
