//! The management listener with TLS and tokens: who may use it, what the commands send and expect, and what the log keeps.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use lockgate_tests::{
    Certificate, CommandResult, Gateway, PATIENCE, within, write_configuration, write_private,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::{LOCKGATE, probe_configuration};

const TOKEN: &str = "canary-0123456789abcdef0123456789abcdef";
const OTHER_TOKEN: &str = "canary-fedcba9876543210fedcba9876543210";

/// A configuration with this content of `[management]` beside its address.
fn configuration(management: &str) -> String {
    format!(
        "listeners = [{{ address = \"127.0.0.1:0\" }}]\n\
         log = {{ level = \"info,lockgate=trace\", format = \"json\" }}\n\
         management = {{ address = \"127.0.0.1:0\", {management} }}\n{}",
        probe_configuration("", "")
    )
}

/// A gateway whose management listener has this certificate, and the token of the environment.
async fn serve(certificate: &Certificate) -> Gateway {
    let folder = TempDir::new().unwrap();
    let tls = certificate.write_as(folder.path(), "own");
    let management = format!("tls = {tls}, tokens = [\"${{ADMIN_TOKEN}}\"]");
    let file = write_configuration(folder.path(), &configuration(&management));
    let mut command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    command.env("ADMIN_TOKEN", TOKEN);
    Gateway::start(command, folder, PATIENCE).await
}

fn file(gateway: &Gateway) -> String {
    gateway
        .folder()
        .join("gateway.toml")
        .to_str()
        .unwrap()
        .to_owned()
}

/// A command with these variables.
fn command(words: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = LOCKGATE.command(words);
    command.env_remove("LOCKGATE_MANAGEMENT_TOKEN");
    command.envs(variables.iter().copied());
    command
}

#[track_caller]
fn expect_error(ended: &CommandResult, why: &str) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.error.contains(why), "{ended:?}");
    assert!(!ended.error.contains("canary"), "{ended:?}");
}

#[tokio::test]
async fn command_finds_certificate_and_token_in_the_file_of_the_gateway() {
    let gateway = serve(&Certificate::of(&["gateway.example"])).await;
    let file = file(&gateway);
    let list = ["plugins", "list", "--config", &file];
    let ended = LOCKGATE
        .end(command(&list, &[("ADMIN_TOKEN", TOKEN)]))
        .await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = LOCKGATE.run(&["health", &file]).await;
    // Without the variable, the file's table cannot be read, and the message says so.
    expect_error(&ended, "ADMIN_TOKEN");
    let ended = LOCKGATE
        .end(command(&["health", &file], &[("ADMIN_TOKEN", TOKEN)]))
        .await;
    assert_eq!(
        (ended.code, &*ended.output),
        (Some(0), "ready\n"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn command_without_a_token_says_why_the_file_gives_none() {
    let gateway = LOCKGATE
        .serve_as_written(&configuration(&format!("tokens = [\"{TOKEN}\"]")))
        .await;
    let file = file(&gateway);
    let written = fs::read_to_string(&file).unwrap();
    let list = ["connections", "list", "--config", &file];
    let broken = written.clone() + "\nnot toml\n";
    let line = format!("gateway.toml:{}:", broken.lines().count());
    for (text, why) in [
        (broken, [&*line, "this is not TOML"]),
        (
            // Mistakes elsewhere are not the reason.
            written.replace(TOKEN, "${LOCKGATE_TEST_UNSET}") + "\nunknown = 1\n",
            [
                "LOCKGATE_TEST_UNSET is not set",
                "management.tokens[0]: the",
            ],
        ),
        (
            written.replace(&format!("\"{TOKEN}\""), ""),
            ["gateway.toml has no management.tokens", ""],
        ),
    ] {
        fs::write(&file, text).unwrap();
        let ended = LOCKGATE.end(command(&list, &[])).await;
        expect_error(&ended, "send a token of management.tokens");
        for why in why {
            expect_error(&ended, why);
        }
        assert!(!ended.error.contains("unknown"), "{ended:?}");
        // With a token, the file need not have one.
        let variable = [("LOCKGATE_MANAGEMENT_TOKEN", TOKEN)];
        let ended = LOCKGATE.end(command(&list, &variable)).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[tokio::test]
async fn health_by_the_address_of_a_listener_with_tls_names_the_configuration_as_remedy() {
    let gateway = serve(&Certificate::of(&["gateway.example"])).await;
    let address = gateway.management().to_string();
    let ended = LOCKGATE.run(&["health", &address]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended
            .error
            .contains("with TLS, name the gateway's configuration"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn command_from_elsewhere_takes_token_and_authority_by_options() {
    let names = ["gateway.example"];
    for certificate in [
        Certificate::of(&names),
        Certificate::of_an_authority(&names),
    ] {
        take_token_and_authority_by_options(certificate).await;
    }
}

async fn take_token_and_authority_by_options(certificate: Certificate) {
    let gateway = serve(&certificate).await;
    let address = gateway.management().to_string();
    let folder = TempDir::new().unwrap();
    let path = |name: &str, content: &str| {
        let path = folder.path().join(name);
        write_private(&path, content);
        path.to_str().unwrap().to_owned()
    };
    let (ca, token) = (
        path("ca.pem", &certificate.certificate_pem),
        path("token", &format!("{TOKEN}\n")),
    );
    let other_ca = path("other.pem", &Certificate::new().certificate_pem);
    let list = ["connections", "list", "--management", &address];
    let named = ["--server-name", "gateway.example"];
    let run = async |more: &[&str], variables: &[(&str, &str)]| {
        LOCKGATE
            .end(command(&[&list, more].concat(), variables))
            .await
    };
    let ended = run(
        &[&["--ca", &ca, "--token-file", &token], &named[..]].concat(),
        &[],
    )
    .await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let variable = [("LOCKGATE_MANAGEMENT_TOKEN", TOKEN)];
    let ended = run(&[&["--ca", &ca], &named[..]].concat(), &variable).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for (more, variables, why) in [
        (
            &["--ca", &ca, named[0], named[1]][..],
            &[][..],
            "send a token of management.tokens",
        ),
        (
            &["--ca", &ca, named[0], named[1]],
            &[("LOCKGATE_MANAGEMENT_TOKEN", OTHER_TOKEN)],
            "is not one of management.tokens",
        ),
        (
            &["--ca", &ca],
            &variable,
            "does not show the certificate that is expected",
        ),
        (
            &["--ca", &other_ca, named[0], named[1]],
            &variable,
            "does not show the certificate",
        ),
        (&[], &variable, "if it has TLS, write --ca FILE"),
        (
            &["--ca", &token, named[0], named[1]],
            &variable,
            "cannot be used",
        ),
        (&["--token-file", "/none"], &[], "/none: cannot be read"),
    ] {
        expect_error(&run(more, variables).await, why);
    }
}

#[tokio::test]
async fn file_or_variable_that_is_not_one_private_token_is_refused_by_name() {
    let configuration = configuration(&format!("tokens = [\"{TOKEN}\"]"));
    let gateway = LOCKGATE.serve_as_written(&configuration).await;
    let address = gateway.management().to_string();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("token");
    let list = ["connections", "list", "--management", &address];
    let by_file = [&list[..], &["--token-file", path.to_str().unwrap()]].concat();
    let lines = format!("{TOKEN}\n{OTHER_TOKEN}\n");
    let spaces = format!("{TOKEN} {OTHER_TOKEN}");
    for (content, why) in [
        (&*lines, "token: has 2 lines, and a token is one"),
        (&spaces, "token: has a space, or a character"),
        ("\n", "token: has no token"),
    ] {
        write_private(&path, content);
        expect_error(&LOCKGATE.end(command(&by_file, &[])).await, why);
        if content != "\n" {
            let variable = [("LOCKGATE_MANAGEMENT_TOKEN", content)];
            let ended = LOCKGATE.end(command(&list, &variable)).await;
            expect_error(
                &ended,
                &why.replace("token: ", "LOCKGATE_MANAGEMENT_TOKEN: "),
            );
        }
    }
    write_private(&path, TOKEN);
    for (mode, is_private) in [(0o644, false), (0o602, false), (0o640, true), (0o400, true)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let ended = LOCKGATE.end(command(&by_file, &[])).await;
        if is_private {
            assert_eq!(ended.code, Some(0), "{ended:?}");
            continue;
        }
        let why = format!("token: others may read or write it (mode {mode:04o})");
        expect_error(&ended, &why);
        // The file is the operator's own, and no gateway reads it.
        let remedy = format!("remedy: chmod o-rwx {}; if", path.display());
        expect_error(&ended, &remedy);
    }
}

#[tokio::test]
async fn request_without_a_right_token_is_refused_and_guessing_is_slow() {
    let configuration = configuration(&format!("tokens = [\"{TOKEN}\", \"{OTHER_TOKEN}\"]"));
    let gateway = LOCKGATE.serve_as_written(&configuration).await;
    let with = |token: &str| format!("Host: gateway.example\r\nAuthorization: Bearer {token}\r\n");
    for token in [TOKEN, OTHER_TOKEN] {
        assert_eq!(
            gateway.ask("GET", "/connections", &with(token)).await.0,
            200
        );
        assert_eq!(gateway.ask("GET", "/metrics", &with(token)).await.0, 200);
        // A page that has come by a token is a page all the same.
        let page = with(token) + "Origin: https://gateway.example\r\n";
        assert_eq!(gateway.ask("GET", "/connections", &page).await.0, 403);
    }
    // Probes need no token.
    assert_eq!(gateway.page("/readyz").await.0, 200);
    for path in ["/connections", "/metrics", "/plugins", "/groups"] {
        let (status, body) = gateway.page(path).await;
        assert_eq!(status, 401, "{path}: {body}");
    }
    assert_eq!(gateway.post("/reload", "{}").await.0, 401);
    for _ in 0..10 {
        assert_eq!(
            gateway
                .ask("GET", "/connections", &with("canary-wrong"))
                .await
                .0,
            401
        );
    }
    for token in ["canary-wrong", TOKEN] {
        let (status, body) = gateway.ask("GET", "/connections", &with(token)).await;
        assert_eq!(status, 429, "{body}");
        assert!(body.contains("ask again in a minute"), "{body}");
    }
    gateway
        .log()
        .line(&[
            "is refused: its token is not one of management.tokens",
            "127.0.0.1",
        ])
        .await;
    gateway
        .log()
        .line(&["too many wrong tokens came from its address"])
        .await;
    let log = gateway.log().lines().join("\n");
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn refused_requests_of_one_address_do_not_fill_the_log() {
    let configuration = configuration(&format!("tokens = [\"{TOKEN}\"]"));
    let gateway = LOCKGATE.serve_as_written(&configuration).await;
    let long = format!("/{}end", "x".repeat(2_000));
    for _ in 0..80 {
        // Each is of a connection of its own.
        assert_eq!(gateway.page(&long).await.0, 401);
    }
    let refused = "a request to the management API is refused";
    let left_out = gateway.log().line(&["left out", refused]).await;
    assert!(
        left_out.contains("127.0.0.1") && !left_out.contains("127.0.0.1:"),
        "{left_out}"
    );
    let lines = gateway.log().lines();
    let refused: Vec<_> = lines.iter().filter(|line| line.contains("/xxx")).collect();
    assert!((50..80).contains(&refused.len()), "{}", refused.len());
    for line in refused {
        assert!(
            line.contains("it has no token") && line.len() < 1_000,
            "{line}"
        );
    }
}

#[tokio::test]
async fn every_change_leaves_a_line_with_who_and_what() {
    let configuration = configuration(&format!("tokens = [\"{OTHER_TOKEN}\", \"{TOKEN}\"]"));
    let gateway = LOCKGATE.serve_as_written(&configuration).await;
    let mut client = gateway.connect("/s").await;
    let id = client.id().await;
    let change = async |path: &str, body: Value| {
        let headers = format!(
            "Host: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer {TOKEN}\r\n"
        );
        let body = body.to_string();
        gateway
            .request(&format!("POST {path}"), &headers, &body)
            .await
            .0
    };
    let text = "a private message";
    let to_one = json!({"connections": {"id": id}, "text": text});
    assert_eq!(change("/connections/send", to_one).await, 200);
    client.expect(text).await;
    let all = json!({"connections": {"stage": "a/s", "all": true}, "code": 4_000});
    assert_eq!(change("/connections/close", all.clone()).await, 200);
    client.expect_close(4_000, "").await;
    assert_eq!(
        change(
            "/connections/close",
            json!({"connections": {"id": id}, "code": 1})
        )
        .await,
        400
    );
    // The text is in a wrong place, and reaches no log from there either.
    let misplaced = json!({"connections": text, "text": text});
    assert_eq!(change("/connections/send", misplaced).await, 400);
    assert_eq!(change("/reload", json!({})).await, 200);
    for (action, status, done) in [
        (
            "POST /connections/send",
            200,
            &*format!("sent to id \\\"{id}\\\": 1 connection,"),
        ),
        (
            "POST /connections/close",
            200,
            "closed stage \\\"a/s\\\", all: 1 connection",
        ),
        ("POST /connections/close", 400, "\"done\":\"refused: "),
        (
            "POST /connections/send",
            400,
            "\"done\":\"refused: the body is not what is asked for\"",
        ),
        ("POST /reload", 200, "nothing has changed"),
    ] {
        let by = "\"by\":\"management.tokens[1] from 127.0.0.1:";
        let words = [
            &format!("\"action\":\"{action}\"")[..],
            &format!("\"status\":{status}"),
            by,
            done,
        ];
        gateway.log().line(&words).await;
    }
    let log = gateway.log().lines().join("\n");
    assert!(!log.contains(text) && !log.contains("canary"), "{log}");
}

#[tokio::test]
async fn reload_takes_other_tokens_and_a_renewed_certificate_is_served() {
    let (first, second) = (Certificate::new(), Certificate::new());
    let gateway = serve(&first).await;
    let file = file(&gateway);
    let certificate = gateway.folder().join("own.pem");
    // Both files are replaced, and the commands expect the new one from then on.
    let _ = second.write_as(gateway.folder(), "own");
    gateway
        .log()
        .line(&["management 127.0.0.1", "serving the changed certificate"])
        .await;
    let list = ["plugins", "list", "--config", &file];
    let ended = LOCKGATE
        .end(command(&list, &[("ADMIN_TOKEN", TOKEN)]))
        .await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let text = fs::read_to_string(&file).unwrap();
    let changed = text.replace("${ADMIN_TOKEN}", OTHER_TOKEN);
    assert_ne!(changed, text);
    fs::write(&file, changed).unwrap();
    let variable = [("LOCKGATE_MANAGEMENT_TOKEN", TOKEN)];
    let ended = LOCKGATE.end(command(&["reload", &file], &variable)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let reaches = async |variables: &[(&str, &str)]| {
        let ended = LOCKGATE.end(command(&list, variables)).await;
        ended.code == Some(0)
    };
    within("the new token to be the one that counts", async {
        while !reaches(&[]).await {}
    })
    .await;
    assert!(!reaches(&variable).await);
    assert!(Path::new(&certificate).exists());
}

/// What a token has opened ends with it: a kept connection, and a trace, which has no end of its own.
#[tokio::test]
async fn token_that_is_taken_away_keeps_no_connection_and_no_trace() {
    let gateway = LOCKGATE
        .serve_as_written(&configuration(&format!("tokens = [\"{TOKEN}\"]")))
        .await;
    let mut client = gateway.connect("/s").await;
    let id = client.id().await;
    let ask = async |path: &str, part: &str| {
        let stream = TcpStream::connect(gateway.management()).await.unwrap();
        let mut stream = BufReader::new(stream);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            let read = within("the answer", stream.read_line(&mut line)).await;
            assert_ne!(read.unwrap(), 0, "{path}");
        }
        stream
    };
    let kept = ask("/healthz", "ok").await;
    let trace = ask(&format!("/connections/{id}/trace"), "begin").await;
    let file = file(&gateway);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(TOKEN, OTHER_TOKEN)).unwrap();
    gateway.hang_up();
    for mut stream in [kept, trace] {
        let mut rest = String::new();
        let read = within("its end", stream.read_to_string(&mut rest)).await;
        assert!(read.is_ok() && !rest.contains("handled"), "{rest}");
    }
    client.id().await;
}

#[tokio::test]
async fn client_that_does_no_handshake_leaves_room_for_others() {
    let gateway = serve(&Certificate::new()).await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(TcpStream::connect(gateway.management()).await.unwrap());
    }
    let file = file(&gateway);
    let list = ["plugins", "list", "--config", &file];
    let ended = LOCKGATE
        .end(command(&list, &[("ADMIN_TOKEN", TOKEN)]))
        .await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
