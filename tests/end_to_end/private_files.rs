//! Files with secrets: one that others than its owner and its group may read or write is refused, wherever it is read.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use lockgate_tests::{Certificate, Gateway, write_configuration, write_private};
use tempfile::TempDir;

use crate::LOCKGATE;

const MOCK: &str = r#"
[apis.a.stages.s]

[apis.a.routes."$default"]
integration = "mock"
two_way = true

[integrations.mock]
mock = { reply = "hi" }
"#;

fn set_mode(file: &Path, mode: u32) {
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

/// `validate` and a start refuse the configuration, with these texts.
async fn refused(file: &Path, texts: &[&str]) {
    for command in ["validate", "run"] {
        let ended = LOCKGATE.run(&[command, file.to_str().unwrap()]).await;
        assert_eq!(ended.code, Some(1), "{command}: {ended:?}");
        for text in texts {
            assert!(ended.error.contains(text), "{command}: {text}: {ended:?}");
        }
        assert!(!ended.error.contains("canary"), "{ended:?}");
    }
}

async fn validate(file: &Path) {
    let ended = LOCKGATE.run(&["validate", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// A reload refuses the files, with these texts.
async fn reload_is_refused(gateway: &Gateway, texts: &[&str]) {
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 422, "{said}");
    for text in texts {
        assert!(said.contains(text), "{text}: {said}");
    }
}

#[tokio::test]
async fn private_key_that_others_may_read_is_refused_and_the_old_one_stays() {
    for place in ["listeners", "management"] {
        let folder = TempDir::new().unwrap();
        let (first, second) = (Certificate::new(), Certificate::new());
        let tls = first.write_as(folder.path(), "own");
        let configuration = match place {
            "listeners" => format!(
                "listeners = [{{ address = \"127.0.0.1:0\", tls = {tls} }}]\n\
                 management = {{ address = \"127.0.0.1:0\" }}\n"
            ),
            _ => format!(
                "listeners = [{{ address = \"127.0.0.1:0\" }}]\n\
                 management = {{ address = \"127.0.0.1:0\", tls = {tls} }}\n"
            ),
        };
        let log = "log = { format = \"json\", level = \"info\" }\n";
        let configuration = format!("{log}{configuration}{MOCK}");
        let key = folder.path().join("own.key.pem");
        let chmod = format!("chmod o-rwx {}", key.display());
        let file = write_configuration(folder.path(), &configuration);
        for mode in [0o644, 0o604, 0o602] {
            set_mode(&key, mode);
            let why = format!("others may read or write it (mode {mode:04o})");
            let own = match place {
                "listeners" => "listeners[0].tls.key",
                _ => "management.tls.key",
            };
            refused(&file, &[own, &why, &chmod]).await;
        }
        // The group may be that of certificates.
        set_mode(&key, 0o640);
        validate(&file).await;

        let gateway = LOCKGATE.serve_as_written(&configuration).await;
        set_mode(&key, 0o644);
        let said = ["key.pem", "others may read or write it (mode 0644)"];
        gateway
            .log()
            .line(&["everything continues as before", said[0], said[1]])
            .await;
        if place == "management" {
            continue;
        }
        reload_is_refused(&gateway, &said).await;
        assert_eq!(gateway.wss("/s").certificate().await, first.der);
        // Nor does a renewed key count, until it is private.
        let _ = second.write_as(folder.path(), "own");
        set_mode(&key, 0o644);
        reload_is_refused(&gateway, &said).await;
        set_mode(&key, 0o600);
        let (status, said) = gateway.post("/reload", "{}").await;
        assert_eq!(status, 200, "{said}");
        assert_eq!(gateway.wss("/s").certificate().await, second.der);
    }
}

/// `cat cert.pem key.pem` is what many programs want, with a private copy of the key beside it.
#[tokio::test]
async fn private_key_beside_the_certificate_is_kept_from_others_too() {
    let folder = TempDir::new().unwrap();
    let (chain, key) = Certificate::new().write(folder.path());
    let text = fs::read_to_string(&chain).unwrap() + &fs::read_to_string(&key).unwrap();
    let both = folder.path().join("both.pem");
    write_private(&both, text);
    let configuration = format!(
        "listeners = [{{ address = \"127.0.0.1:0\", tls = {{ certificate = {both:?}, key = {key:?} }} }}]\n{MOCK}"
    );
    let file = write_configuration(folder.path(), &configuration);
    for mode in [0o644, 0o602] {
        set_mode(&both, mode);
        let why = format!("has the private key, and others may read or write it (mode {mode:04o})");
        let chmod = format!("chmod o-rwx {}", both.display());
        refused(&file, &["listeners[0].tls.certificate", &why, &chmod]).await;
    }
    set_mode(&both, 0o640);
    validate(&file).await;
}

#[tokio::test]
async fn configuration_with_a_secret_that_others_may_read_is_refused() {
    const LISTENER: &str = "listeners = [{ address = \"127.0.0.1:0\" }]\n";
    let folder = TempDir::new().unwrap();
    let validated = async |part: &str, mode: u32| {
        let file = write_configuration(folder.path(), &format!("{LISTENER}{part}{MOCK}"));
        set_mode(&file, mode);
        let mut command = LOCKGATE.command(&["validate", file.to_str().unwrap()]);
        command.env("A_VARIABLE", "canary-0123456789abcdef0123456789abcdef");
        LOCKGATE.end(command).await
    };
    let plan = |kind: &str| format!("[authorizers.x]\n{kind}\n");
    let key = |with: &str| format!("[access_keys.x]\nallow = [\"*/*:*\"]\n{with}\n");
    let plugin = |with: &str| format!("[plugins.x]\ncomponent = \"{{echo}}\"\n{with}\n");
    let registry = |with: &str| format!("[registries.\"registry.example\"]\n{with}\n");
    let management = |with: &str| format!("management = {{ address = \"127.0.0.1:0\", {with} }}\n");
    let otlp = |with: &str| format!("[otlp]\n{with}\n");
    let canary = "canary-0123456789abcdef0123456789abcdef";
    for (part, at) in [
        (
            management(&format!("tokens = [\"${{A_VARIABLE}}\", \"{canary}-2\"]")),
            "management.tokens[1]",
        ),
        (
            key(&format!("id = \"AKID\"\nsecret = \"{canary}\"")),
            "access_keys.x.secret",
        ),
        (
            key(&format!("token = \"${{NO_VARIABLE:-{canary}}}\"")),
            "access_keys.x.token",
        ),
        (
            registry("username = \"u\"\npassword = \"canary\""),
            "registries.\"registry.example\".password",
        ),
        (
            otlp("endpoint = \"https://u:canary@id.example\""),
            "otlp.endpoint",
        ),
        (
            otlp("endpoint = \"https://id.example\"\nheaders = { X-Team = \"canary\" }"),
            "otlp.headers.X-Team",
        ),
        (
            plan("forward = { url = \"https://id.example/?token=canary\" }"),
            "authorizers.x.forward.url",
        ),
        (
            plan(
                "jwt = { issuer = \"x\", audience = [\"a\"], jwks_url = \"https://id.example/?token=canary\" }",
            ),
            "authorizers.x.jwt.jwks_url",
        ),
        (
            plugin("environment = { TICKET_SECRET = \"canary-4711\" }"),
            "plugins.x.environment.TICKET_SECRET",
        ),
        (
            plugin("environment = { DB_PASS = \"canary-4711\" }"),
            "plugins.x.environment.DB_PASS",
        ),
        (
            plugin("environment = { DATABASE_URL = \"postgres://u:canary@db.example/main\" }"),
            "plugins.x.environment.DATABASE_URL",
        ),
    ] {
        let ended = validated(&part, 0o644).await;
        assert_eq!(ended.code, Some(1), "{part}: {ended:?}");
        let file = folder.path().join("gateway.toml");
        for text in [
            &format!(
                "{at}: a secret stands in this file, and others may read or write it (mode 0644)"
            ),
            &format!("remedy: chmod o-rwx {}", file.display()),
        ] {
            assert!(ended.error.contains(text), "{text}: {ended:?}");
        }
        assert!(!ended.error.contains("canary"), "{ended:?}");
        assert_eq!(validated(&part, 0o640).await.code, Some(0), "{part}");
    }
    for part in [
        String::new(),
        management("tokens = [\"${A_VARIABLE}\"]"),
        key("id = \"AKID\"\nsecret = \"${A_VARIABLE}\""),
        otlp(
            "endpoint = \"https://id.example\"\nheaders = { Authorization = \"Bearer ${A_VARIABLE}\" }",
        ),
        plan("forward = { url = \"https://id.example/auth?rd=1\" }"),
        plugin(
            "environment = { GREETING = \"hi\", PUBLIC_KEY = \"of-a-length\", DATABASE_URL = \"postgres://u@db.example/main?ssl=1\", ACCESS_KEY = \"none\", SECRET = \"${A_VARIABLE}\" }",
        ),
    ] {
        let ended = validated(&part, 0o644).await;
        assert_eq!(ended.code, Some(0), "{part}: {ended:?}");
    }
}

#[tokio::test]
async fn reload_of_a_configuration_that_others_may_read_changes_nothing() {
    let configuration = format!(
        "listeners = [{{ address = \"127.0.0.1:0\" }}]\nlog = {{ format = \"json\" }}\n\
         management = {{ address = \"127.0.0.1:0\" }}\n\
         access_keys.x = {{ token = \"canary-0123456789abcdef\", allow = [\"*/*:*\"] }}\n{MOCK}"
    );
    let gateway = LOCKGATE.serve_as_written(&configuration).await;
    let file = gateway.folder().join("gateway.toml");
    let changed = configuration.replace("\"hi\"", "\"changed\"");
    write_private(&file, changed);
    set_mode(&file, 0o644);
    let said = [
        "access_keys.x.token",
        "others may read or write it (mode 0644)",
        "chmod o-rwx",
    ];
    reload_is_refused(&gateway, &said).await;
    let mut client = gateway.connect("/s").await;
    client.send("x").await;
    client.expect("hi").await;
    refused(&file, &said).await;
    set_mode(&file, 0o640);
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{said}");
    client.send("x").await;
    client.expect("changed").await;
}
