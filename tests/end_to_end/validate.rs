//! `lockgate validate` names every mistake with its file, line, key and remedy.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
};

use lockgate_tests::{Certificate, Gateway, Guest, PATIENCE, write_configuration, write_private};
use tempfile::TempDir;

use crate::LOCKGATE;
use crate::client_certificates::{authority, revocation_list};

const CONFIGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/configs");

/// The configuration files in a folder of `tests/configs`.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(CONFIGS).join(folder);
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn bad_file_is_refused_with_every_mistake() {
    // Git keeps no permissions, and secrets stand in some.
    let folder = TempDir::new().unwrap();
    let bad = folder.path().join("bad");
    fs::create_dir(&bad).unwrap();
    for entry in fs::read_dir(Path::new(CONFIGS).join("bad")).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read(&path).unwrap();
        write_private(&bad.join(path.file_name().unwrap()), content);
    }
    let files = files("bad");
    assert!(files.len() >= 30, "{} files", files.len());
    let mut wrong = Vec::new();
    for file in &files {
        let expected = fs::read_to_string(file.with_extension("txt")).unwrap();
        // The command runs in the folder, so that its output names no path of this machine.
        let name = file.file_name().unwrap().to_str().unwrap();
        let ended = LOCKGATE.run_in(&bad, &["validate", name]).await;
        if ended.code != Some(1) || ended.error != expected || !ended.output.is_empty() {
            wrong.push(format!("{name}: expected\n{expected}got\n{ended:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn good_file_is_loaded_and_its_components_compiled() {
    // The components beside the good files are empty, and so are replaced by real ones.
    let folder = TempDir::new().unwrap();
    for name in ["plugins", "tls", "keys"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    Certificate::new().write(&folder.path().join("tls"));
    let clients = authority("clients");
    let revoked = clients.pem() + &revocation_list(&clients, &[1]);
    fs::write(folder.path().join("tls/clients.crl.pem"), revoked).unwrap();
    let jwks = Path::new(CONFIGS).join("good/keys.json");
    fs::copy(jwks, folder.path().join("keys.json")).unwrap();
    let words = ["keys", "api", "new", "app", "--file", "keys/api.toml"];
    let made = LOCKGATE.run_in(folder.path(), &words).await;
    assert_eq!(made.code, Some(0), "{}", made.error);
    let key = folder.path().join("tls/release.pem");
    let made = LOCKGATE.run(&["keys", "new", key.to_str().unwrap()]).await;
    assert_eq!(made.code, Some(0), "{}", made.error);
    let files = files("good");
    assert!(!files.is_empty());
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        // The sample serves the chat. The other files name it without its grants, and so get the echo.
        let guest = if name == "sample.toml" {
            Guest::Chat
        } else {
            Guest::Echo
        };
        for (guest, place) in [(guest, "chat"), (Guest::Doorman, "door")] {
            let component = folder.path().join(format!("plugins/{place}.wasm"));
            fs::copy(guest.path(), &component).unwrap();
            let words = [
                "sign",
                component.to_str().unwrap(),
                "--key",
                key.to_str().unwrap(),
                "--version",
                "5",
            ];
            assert_eq!(LOCKGATE.run(&words).await.code, Some(0));
        }
        write_private(&folder.path().join(name), fs::read(&file).unwrap());
        let ended = LOCKGATE.run_in(folder.path(), &["validate", name]).await;
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.error);
    }
}

#[tokio::test]
async fn validate_opens_no_port() {
    // The port is in use: `run` would fail, and `validate` does not need it.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = TempDir::new().unwrap();
    let configuration = format!(
        "[[listeners]]\naddress = \"{}\"\n[apis.a.stages.s]\n[apis.a.routes.\"$default\"]\nintegration = \"echo\"\n\
         [plugins.echo]\ncomponent = \"{{echo}}\"\n",
        taken.local_addr().unwrap()
    );
    let file = write_configuration(folder.path(), &configuration);
    let file = file.to_str().unwrap();
    assert_eq!(LOCKGATE.run(&["validate", file]).await.code, Some(0));
    let ended = LOCKGATE.run(&["run", file]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended
            .error
            .contains(&taken.local_addr().unwrap().to_string()),
        "{}",
        ended.error
    );
}

#[tokio::test]
async fn missing_file_is_refused_by_name() {
    for command in ["validate", "run"] {
        let ended = LOCKGATE.run(&[command, "/nowhere/gateway.toml"]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(
            ended.error.contains("/nowhere/gateway.toml"),
            "{}",
            ended.error
        );
    }
}

#[tokio::test]
async fn sample_is_served_as_written() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("plugins")).unwrap();
    fs::copy(Guest::Chat.path(), folder.path().join("plugins/chat.wasm")).unwrap();
    // The ports change, since another test or program may have them.
    let sample = fs::read_to_string(Path::new(CONFIGS).join("good/sample.toml")).unwrap();
    let free = sample.replace(":8443\"", ":0\"").replace(":9090\"", ":0\"");
    assert_eq!(free.matches(":0\"").count(), 2, "{free}");
    let file = folder.path().join("gateway.toml");
    fs::write(&file, free).unwrap();

    let command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    let gateway = Gateway::start(command, folder, PATIENCE).await;
    assert_eq!(gateway.page("/readyz").await.0, 200);
    let mut client = gateway.wss("/prod").open().await;
    assert_eq!(client.json().await["event"], "welcome");
    // The chat answers that it has no such action; the sample has no other route.
    client.send(r#"{"action": "sendmessage"}"#).await;
    assert_eq!(client.json().await["event"], "error");
    client.send(r#"{"action": "other"}"#).await;
    client.expect_error("Forbidden").await;
}

#[tokio::test]
async fn unix_path_that_no_socket_can_take_is_refused_as_at_start() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    fs::write(folder.path().join("file"), "mine").unwrap();
    let compiled = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
    for (path, said) in [
        ("folder", "there is a folder"),
        ("file", "there is a file that is no socket"),
        ("file/socket", "Not a directory"),
    ] {
        let text = format!(
            "compile_cache = {compiled:?}\n[[listeners]]\naddress = \"unix:{path}\"\n{}",
            crate::probe_configuration("", "")
        );
        let file = write_configuration(folder.path(), &text);
        for word in ["validate", "run"] {
            let refused = LOCKGATE.run(&[word, file.to_str().unwrap()]).await;
            assert_eq!(refused.code, Some(1), "{word} {path}");
            let place = "gateway.toml:3: listeners[0].address: cannot listen on unix:";
            assert!(refused.error.contains(place), "{}", refused.error);
            assert!(refused.error.contains(said), "{}", refused.error);
        }
    }
}

#[tokio::test]
async fn unreadable_configuration_is_refused_with_the_user_and_the_remedy() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("gateway.toml");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = LOCKGATE.command(&["validate", file.to_str().unwrap()]);
    if rustix::process::geteuid().is_root() {
        // Root may read everything.
        command.uid(65_534).gid(65_534);
    }
    let refused = LOCKGATE.end(command).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.error.contains("let the gateway's user read it"),
        "{}",
        refused.error
    );
}

/// These settings are valid, and most likely a mistake.
#[tokio::test]
async fn doubtful_setting_is_warned_of_with_place_and_remedy() {
    let configuration = r#"[[listeners]]
address = "127.0.0.1:0"
[apis.a.stages.s]
[apis.a.routes]
"$connect" = { integration = "door" }
"$disconnect" = { integration = "pong" }
ping = { integration = "pong" }
silent = { integration = "silent", two_way = true }
right = { integration = "pong", two_way = true }
missing = { integration = "gone", two_way = true }
[integrations]
door.mock = { status = 200, reply = "welcome" }
pong.mock.reply = "pong"
silent.mock = {}
gone.mock = { status = 404, reply = "not here" }
spare.mock = {}
[plugins.idle]
component = "{echo}"
[apis.b]
route_selection_expression = "request.body.do"
[apis.b.stages.b]
[apis.b.routes.default]
integration = "pong"
two_way = true
[apis.c]
authorizer = "signed"
[apis.c.stages.c]
[apis.c.stages.open]
authorizer = "none"
[apis.c.routes]
refresh = { integration = "gone", two_way = true, renews = "$request.body.token" }
renew = { integration = "used", renews = "handler" }
[plugins.used]
component = "{echo}"
[authorizers.signed]
iam = {}
"#;
    let folder = TempDir::new().unwrap();
    let file = write_configuration(folder.path(), configuration);
    let ended = LOCKGATE.run(&["validate", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    let warned: Vec<_> = ended
        .error
        .lines()
        .filter(|line| line.contains("WARN"))
        .collect();
    let expected = [
        ":7: apis.a.routes.ping: the reply of the mock \"pong\" is not sent: the route is one-way",
        ":8: apis.a.routes.silent.two_way: the mock \"silent\" has no reply, so that the route sends nothing",
        ":15: integrations.gone.mock.status: only \"$connect\" looks at it, and no such route points to this mock",
        ":16: integrations.spare: no route points to it, so that it answers nothing",
        ":17: plugins.idle: no route points to it, so that it answers nothing",
        ":20: apis.b.route_selection_expression: it has no variable, so that every message selects the route \"request.body.do\"",
        ":22: apis.b.routes.default: only a message that names \"default\" selects it",
        ":27: apis.c.stages.c.authorizer: no access key may connect to c/c",
        ":31: apis.c.routes.refresh.renews: \"signed\", the authorizer of the stage \"c\", judges no tokens, so that nobody there is renewed",
        ":32: apis.c.routes.renew.renews: the stage \"open\" has no authorizer, so that nobody there is renewed",
    ];
    assert_eq!(warned.len(), expected.len(), "{}", ended.error);
    for (line, expected) in warned.iter().zip(expected) {
        assert!(line.contains(expected), "{expected}: {line}");
    }
    assert_eq!(
        ended.error.matches("remedy: ").count(),
        expected.len(),
        "{}",
        ended.error
    );

    let gateway = LOCKGATE.serve_as_written(configuration).await;
    gateway.log().line(&["WARN", expected[0]]).await;
}
