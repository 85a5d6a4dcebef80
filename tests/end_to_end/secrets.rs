//! Secrets: none is in anything that the gateway writes, whatever it is asked and however much it logs.

use std::fs;

use lockgate_tests::{Certificate, Gateway, Issuer, Request, Signer, write_configuration};
use serde_json::json;
use tempfile::TempDir;

use crate::LOCKGATE;
use crate::api_keys::Keys;
use crate::connections_api::{ask, bearer};
use crate::forward_auth::Endpoint;

/// Begins and ends every secret that a person chooses here.
const CANARY: &str = "canary";

const TOKEN: &str = "canary-management-0123456789abcdef0123";
const SECRET: &str = "canary-of-an-access-key-4711";
const KEY_TOKEN: &str = "canary-of-a-token-of-a-key-4711";

/// A stage for each kind of authorizer, behind which is a mock. All logs have everything.
fn configuration(folder: &TempDir, keys: &Keys, issuer: &Issuer, endpoint: &Endpoint) -> String {
    let place = folder.path().display();
    let certificate = Certificate::new().write_as(folder.path(), "own");
    let keys = keys.path().join("api-keys.toml");
    let issuer = issuer.name();
    let url = &endpoint.url;
    format!(
        r#"
log = {{ level = "trace", format = "json" }}
access_log = {{ to = "file:{place}/access.log" }}
listeners = [{{ address = "127.0.0.1:0" }}, {{ address = "127.0.0.1:0", tls = {certificate} }}]
management = {{ address = "127.0.0.1:0", tokens = ["{TOKEN}"], audit = "{place}/audit.log" }}

[apis.a]
stages.jwt = {{ authorizer = "jwt", connections_api = true }}
stages.keys = {{ authorizer = "keys" }}
stages.both = {{ authorizer = "forward", api_key = "keys" }}
stages.signed = {{ authorizer = "signed" }}
stages.forward = {{ authorizer = "forward" }}
stages.plugin = {{ authorizer = "plugin", variables = {{ note = "shown" }} }}

[apis.a.routes."$default"]
integration = "mock"
two_way = true

[integrations.mock]
mock = {{ reply = "hi" }}

[authorizers.jwt]
jwt = {{ issuer = "{issuer}", audience = ["chat"], algorithms = ["ES256"] }}
identity_source = ["route.request.header.Authorization", "route.request.querystring.token",
    "route.request.cookie.session", "route.request.header.Sec-WebSocket-Protocol"]

[authorizers.keys]
api_keys = {{ file = {keys:?}, usage_plan = "free" }}

[usage_plans.free]
quota = {{ limit = 1000, per = "day" }}

[authorizers.signed]
iam = {{}}

[authorizers.forward]
forward = {{ url = "{url}&canary-query=1", principal = "X-Auth-Request-User", values = {{ note = "X-Note" }} }}

[authorizers.plugin]
plugin = "doorman"
identity_source = ["route.request.header.X-Secret"]
cache_s = 10

[plugins.doorman]
component = "{{doorman}}"

[access_keys.backend]
id = "AKIDBACKEND"
secret = "{SECRET}"
token = "{KEY_TOKEN}"
allow = ["*/*:*"]
"#
    )
}

/// The requests of a client that shows this secret wherever a stage looks for one.
fn showing(gateway: &Gateway, secret: &str) -> Vec<Request> {
    let mut requests = Vec::new();
    for stage in ["jwt", "keys", "both", "signed", "forward", "plugin"] {
        for request in [
            gateway.ws(&format!("/{stage}")),
            gateway.wss(&format!("/{stage}?token={secret}")),
        ] {
            requests.push(
                request
                    .header("Authorization", &format!("Bearer {secret}"))
                    .header("X-Api-Key", secret)
                    .header("X-Secret", secret)
                    .header("Cookie", &format!("session={secret}")),
            );
        }
    }
    let offer = format!("bearer, {secret}");
    requests.push(gateway.ws("/jwt").header("Sec-WebSocket-Protocol", &offer));
    requests
}

/// Sends requests to both doors of the connections API and to the admin API. Gives the answers.
async fn call(gateway: &Gateway, signer: &Signer, token: &str) -> Vec<String> {
    let mut said = Vec::new();
    let path = "/jwt/@connections/AAAAAAAAAAAAAAAA";
    for address in [gateway.plain(), gateway.management()] {
        for method in ["POST", "GET", "DELETE"] {
            let mut http = gateway.http_to(address).await;
            said.push(
                ask(&mut http, signer, method, path, b"")
                    .await
                    .text()
                    .to_owned(),
            );
            let mut http = gateway.http_to(address).await;
            said.push(
                http.ask(method, path, &bearer(token), b"")
                    .await
                    .text()
                    .to_owned(),
            );
        }
    }
    for path in [
        "/connections",
        "/plugins",
        "/metrics",
        "/openapi.json",
        "/plugins/doorman/history",
    ] {
        let mut http = gateway.http_to(gateway.management()).await;
        said.push(
            http.ask("GET", path, &bearer(token), b"")
                .await
                .text()
                .to_owned(),
        );
    }
    let mut headers = bearer(token);
    headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    for path in ["/reload", "/plugins/doorman/promote"] {
        let mut http = gateway.http_to(gateway.management()).await;
        said.push(
            http.ask("POST", path, &headers, b"{}")
                .await
                .text()
                .to_owned(),
        );
    }
    said
}

/// Promise A7.
#[tokio::test]
async fn no_secret_of_any_authorizer_is_in_anything_that_is_written() {
    let folder = TempDir::new().unwrap();
    let (issuer, endpoint, keys) = (Issuer::start().await, Endpoint::start().await, Keys::new());
    endpoint.answer(
        "200 OK",
        "X-Auth-Request-User: ada\r\nX-Note: canary-value\r\n",
        "",
    );
    let key = keys.make("mobile", &[]).await;
    let text = configuration(&folder, &keys, &issuer, &endpoint);
    let mut gateway = LOCKGATE.serve_as_written(&text).await;
    let file = gateway.folder().join("gateway.toml");
    let token = issuer.token(json!({"name": "canary-claim"}));
    let expired = issuer.token(json!({"exp": 1}));
    let backend = Signer::new("AKIDBACKEND", SECRET);
    let mut said = Vec::new();
    let mut secrets = vec![CANARY.to_owned(), "AWS4-HMAC".to_owned()];
    for token in [&token, &expired] {
        secrets.extend(token.split('.').skip(1).map(str::to_owned));
    }
    secrets.push(key.split_once('.').unwrap().1.to_owned());
    // Right ones, wrong ones, and right ones in a wrong place.
    for secret in [
        &*token,
        &expired,
        &key,
        "canary-wrong",
        SECRET,
        KEY_TOKEN,
        TOKEN,
    ] {
        for request in showing(&gateway, secret) {
            match request.attempt().await {
                Ok(client) => drop(client.close(1000, "").await),
                Err(answer) => said.push(format!("{answer:?} {}", answer.text())),
            }
        }
    }
    let host = format!("localhost:{}", gateway.plain().port());
    for signer in [
        backend.clone(),
        Signer::new("AKIDBACKEND", "canary-wrong-secret-4711"),
    ] {
        let query = signer.presign("/signed", "", &host, 60);
        secrets.push(query.rsplit_once('=').unwrap().1.to_owned());
        let headers = signer.sign("GET", "/signed", &host, b"");
        let signed = headers
            .iter()
            .fold(gateway.ws("/signed"), |request, (name, value)| {
                request.header(name, value)
            });
        for request in [signed, gateway.ws(&format!("/signed?{query}"))] {
            match request.attempt().await {
                Ok(client) => drop(client.close(1000, "").await),
                Err(answer) => said.push(format!("{answer:?} {}", answer.text())),
            }
        }
        said.extend(call(&gateway, &signer, "canary-wrong-token").await);
    }
    let http2 = gateway.http2().await;
    for secret in [&*token, "canary-wrong"] {
        let value = format!("Bearer {secret}");
        let headers = [
            ("authorization", &*value),
            ("x-api-key", &*key),
            ("cookie", "session=canary"),
        ];
        if secret == token {
            http2.open_with("/jwt", &headers).await;
        } else {
            said.push(http2.refused("/jwt", &headers).await.text().to_owned());
        }
    }
    said.extend(call(&gateway, &backend, TOKEN).await);
    said.extend(call(&gateway, &backend, KEY_TOKEN).await);
    // Mistakes beside secrets, in a reload and in `validate`.
    let mistakes = [
        ("canary-query=1", "canary query"),
        (
            "forward = { url = \"http://",
            "forward = { url = \"htp://canary-user:canary-password@",
        ),
        (
            "forward = { url = \"http://",
            "forward = { url = \"http://canary-user:canary-password@",
        ),
        ("canary-management-0123456789abcdef0123", "canary-short"),
        (
            "secret = \"canary-of-an-access-key-4711\"",
            "secret = \"canary\"",
        ),
        (
            "token = \"canary-of-a-token-of-a-key-4711\"",
            "tokn = \"canary-of-a-token\"",
        ),
        ("[authorizers.signed]", "canary = \n[authorizers.signed]"),
    ];
    for (index, (from, to)) in mistakes.into_iter().enumerate() {
        let wrong = text.replace(from, to);
        assert_ne!(wrong, text, "{from}");
        let beside = TempDir::new().unwrap();
        let wrong_file = write_configuration(beside.path(), &wrong);
        let result = LOCKGATE
            .run(&["validate", wrong_file.to_str().unwrap()])
            .await;
        assert_eq!(result.code, Some(1), "{to}");
        // Nobody hides a mistake of TOML: the line is shown, and has no value.
        said.push(result.output + &result.error);
        let right = fs::read_to_string(&file).unwrap();
        fs::copy(&wrong_file, &file).unwrap();
        gateway.hang_up();
        let refused = ["not reloaded, everything continues"];
        gateway.log().nth_line(index, &refused).await;
        fs::write(&file, right).unwrap();
    }
    let list = [
        "connections",
        "list",
        "--management",
        &gateway.management().to_string(),
    ];
    let result = LOCKGATE.run(&list).await;
    said.push(result.output + &result.error);
    said.push(keys_listed(&keys).await);
    gateway.terminate();
    gateway.ended().await;
    said.push(gateway.log().lines().join("\n"));
    said.push(gateway.output().lines().join("\n"));
    for name in ["access.log", "audit.log"] {
        said.push(fs::read_to_string(folder.path().join(name)).unwrap());
    }
    said.push(fs::read_to_string(keys.path().join("api-keys.toml")).unwrap());
    said.push(fs::read_to_string(keys.path().join("api-keys.toml.usage")).unwrap());
    for text in said {
        for secret in &secrets {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "{secret}: {line:?}");
        }
    }
}

async fn keys_listed(keys: &Keys) -> String {
    let result = LOCKGATE.run_in(keys.path(), &["keys", "api", "list"]).await;
    result.output + &result.error
}
