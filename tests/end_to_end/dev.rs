//! `lockgate dev` builds a plugin, serves it on this machine, and serves the new build after every save.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use lockgate_tests::{
    Gateway, LONG_PATIENCE, answer_with, digest, request_at, write_configuration,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{LOCKGATE, probe_configuration};

/// Waits until the `place`th new build of this gateway serves.
pub(crate) async fn built(gateway: &Gateway, place: usize) {
    let words = ["serving the new build"];
    gateway
        .log()
        .nth_line_within(LONG_PATIENCE, place, &words)
        .await;
}

fn builds(gateway: &Gateway) -> usize {
    let lines = gateway.log().lines();
    lines
        .iter()
        .filter(|line| line.contains("changed: building"))
        .count()
}

#[tokio::test]
async fn saved_source_is_served_and_no_connection_closes() {
    let folder = LOCKGATE.copy_of("echo", "saved-echo");
    let mut gateway = Gateway::start_dev(LOCKGATE.dev(&folder, &[])).await;
    let mut plain = gateway.connect("/dev").await;
    let mut secure = gateway.wss("/dev").open().await;
    for client in [&mut plain, &mut secure] {
        client.send("hello").await;
        client.expect("hello").await;
    }

    let source = folder.join("src/lib.rs");
    let before = fs::read_to_string(&source).unwrap();
    let after = before.replace(
        "Ok(Some(message))",
        "Ok(Some(format!(\"new {}\", message.as_text().unwrap()).into()))",
    );
    assert_ne!(before, after);
    fs::write(&source, &after).unwrap();
    gateway
        .log()
        .line_within(LONG_PATIENCE, &["serving the new build"])
        .await;
    for client in [&mut plain, &mut secure] {
        client.send("hello").await;
        client.expect("new hello").await;
    }

    // A failed build changes nothing.
    fs::write(&source, after.replace("Ok(", "Ko(")).unwrap();
    gateway
        .log()
        .line_within(LONG_PATIENCE, &["still serving the last good build"])
        .await;
    plain.send("hello").await;
    plain.expect("new hello").await;

    fs::write(&source, &before).unwrap();
    gateway
        .log()
        .nth_line_within(LONG_PATIENCE, 1, &["serving the new build"])
        .await;
    plain.send("hello").await;
    plain.expect("hello").await;
    gateway.interrupt();
    for client in [&mut plain, &mut secure] {
        client.expect_close(1001, "Going away").await;
    }
    drop((plain, secure));
    assert_eq!(gateway.ended().await, Some(0));
}

/// A save that changes one function has the others of the last build compiled already.
#[tokio::test]
async fn functions_of_a_build_are_kept_for_the_next_one_and_removed_with_the_gateway() {
    let folder = LOCKGATE.copy_of("echo", "kept-echo");
    let temporary = TempDir::new().unwrap();
    let start = async || {
        let mut command = LOCKGATE.dev(&folder, &[]);
        command.env("TMPDIR", temporary.path());
        Gateway::start_dev(command).await
    };
    let folders = || -> Vec<PathBuf> {
        let entries = fs::read_dir(temporary.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let name = |path: &PathBuf| path.to_string_lossy().contains("/lockgate-compiled-");
        paths.filter(name).collect()
    };
    let mut killed = start().await;
    let [private] = folders().try_into().unwrap();
    let kept = || {
        let files = fs::read_dir(private.join("functions")).unwrap();
        let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        let [file] = files.try_into().unwrap();
        fs::read(file).unwrap()
    };
    let before = kept();
    let source = folder.join("src/lib.rs");
    let text = fs::read_to_string(&source).unwrap();
    let answer = "Ok(Some(\"new\".into()))";
    fs::write(&source, text.replace("Ok(Some(message))", answer)).unwrap();
    built(&killed, 0).await;
    assert_ne!(kept(), before);

    let id = Pid::from_raw(i32::try_from(killed.id()).unwrap()).unwrap();
    kill_process(id, Signal::KILL).unwrap();
    killed.ended().await;
    // A new folder may not be locked yet, and so only old ones are removed.
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    let left = File::open(&private).unwrap();
    left.set_modified(yesterday).unwrap();
    let mut next = start().await;
    assert!(!private.exists());
    next.interrupt();
    assert_eq!(next.ended().await, Some(0));
    assert_eq!(folders(), Vec::<PathBuf>::new());
}

#[tokio::test]
pub(crate) async fn dev_says_how_to_connect_and_listens_on_this_machine_alone() {
    let folder = LOCKGATE.copy_of("chat", "introduced-chat");
    let gateway = Gateway::start_dev(LOCKGATE.dev(&folder, &[])).await;
    let ws = format!("wscat -c ws://localhost:{}/dev", gateway.plain().port());
    let wss = format!("-c wss://localhost:{}/dev", gateway.secure().port());
    let page = format!("https://localhost:{}/", gateway.secure().port());
    let session = format!("WebTransport   {page}dev");
    for words in [&ws, &wss, &page, &session] {
        gateway.output().line(&[words]).await;
    }
    gateway.output().line(&["HTTP/3", "chromium", &page]).await;
    let addresses: Vec<_> = gateway
        .log()
        .lines()
        .iter()
        .filter_map(|line| {
            Some(
                line.split_once("listening on ")?
                    .1
                    .split_once("://")?
                    .1
                    .to_owned(),
            )
        })
        .collect();
    assert!(addresses.len() >= 2);
    for address in addresses {
        assert!(
            address.starts_with("127.0.0.1:") || address.starts_with("[::1]:"),
            "{address}"
        );
    }
    // Pages of other sites are refused here too.
    let foreign = gateway.ws("/dev").header("Origin", "https://example.com");
    assert_eq!(foreign.refused().await.status, 403);
}

/// A page's client knows the certificate by its digest, where QUIC is served.
#[tokio::test]
async fn page_of_dev_is_served_over_http3_with_the_options_of_its_client() {
    let folder = LOCKGATE.copy_of("chat", "options-chat");
    let gateway = Gateway::start_dev(LOCKGATE.dev(&folder, &[])).await;
    let http3 = gateway.http3().await;
    let authority = format!("localhost:{}", http3.port());
    let get = async |path: &str| {
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", &*authority),
            (":path", path),
        ];
        http3.request(&fields).await.answer().await
    };
    assert!(get("/").await.text().contains("chat.js"));
    assert!(
        get("/lockgate-client.js")
            .await
            .text()
            .contains("export function connect(")
    );
    let options: Value = serde_json::from_str(get("/lockgate-dev.json").await.text()).unwrap();
    assert_eq!(options["webTransport"], true);
    let hash = &options["serverCertificateHashes"][0];
    let value = hash["value"].as_array().unwrap().iter();
    let value: String = value
        .map(|byte| format!("{:02x}", byte.as_u64().unwrap()))
        .collect();
    let shown = digest(&http3.certificate());
    assert_eq!(
        (&hash["algorithm"], value),
        (&json!("sha-256"), shown.replace("sha256:", ""))
    );
    let plain = gateway.plain();
    let request = request_at(plain, "GET /lockgate-dev.json", "Host: localhost\r\n", "");
    let (status, options) = request.await;
    let options: Value = serde_json::from_str(&options).unwrap();
    let none = json!({"webTransport": false, "serverCertificateHashes": []});
    assert_eq!((status, options), (200, none));
}

/// Files that cargo writes start no build, wherever its target folder is.
#[tokio::test]
async fn target_folder_inside_the_plugins_starts_no_build() {
    let folder = LOCKGATE.copy_of("echo", "inside-echo");
    fs::create_dir_all(folder.join(".cargo")).unwrap();
    fs::write(
        folder.join(".cargo/config.toml"),
        "[build]\ntarget-dir = \"out\"\n",
    )
    .unwrap();
    if !folder.join("out").exists() {
        symlink(LOCKGATE.target().join("guests"), folder.join("out")).unwrap();
    }
    answer_with(&folder, "zero");
    let gateway = Gateway::start_dev(LOCKGATE.dev(&folder, &[])).await;
    let mut client = gateway.connect("/dev").await;
    for (place, word) in ["one", "two"].into_iter().enumerate() {
        answer_with(&folder, word);
        built(&gateway, place).await;
        client.send("hello").await;
        client.expect(&format!("{word} hello")).await;
    }
    assert_eq!(builds(&gateway), 2, "each save is built once");
}

#[tokio::test]
async fn saved_path_dependency_is_built_and_served() {
    let folder = LOCKGATE.copy_of("echo", "depending-echo");
    let word = folder.with_file_name("word");
    fs::create_dir_all(word.join("src")).unwrap();
    let manifest = "[package]\nname = \"word\"\nedition = \"2024\"\n";
    fs::write(word.join("Cargo.toml"), manifest).unwrap();
    let say = |said: &str| {
        fs::write(
            word.join("src/lib.rs"),
            "pub const WORD: &str = include_str!(\"word.txt\");",
        )
        .unwrap();
        fs::write(word.join("src/word.txt"), said).unwrap();
    };
    say("zero");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let with = format!("[dependencies]\nword = {{ path = {word:?} }}\n");
    fs::write(
        folder.join("Cargo.toml"),
        manifest.replace("[dependencies]\n", &with),
    )
    .unwrap();
    answer_with(&folder, "{}");
    let source = fs::read_to_string(folder.join("src/lib.rs")).unwrap();
    fs::write(
        folder.join("src/lib.rs"),
        source.replace("{}\", text", "{}\", word::WORD, text"),
    )
    .unwrap();

    let gateway = Gateway::start_dev(LOCKGATE.dev(&folder, &[])).await;
    let mut client = gateway.connect("/dev").await;
    client.send("hello").await;
    client.expect("zero hello").await;
    // This file is not Rust: only cargo knows that the compiler read it.
    fs::write(word.join("src/word.txt"), "one").unwrap();
    built(&gateway, 0).await;
    client.send("hello").await;
    client.expect("one hello").await;
}

#[tokio::test]
async fn named_routes_of_a_folder_are_selected() {
    let folder = LOCKGATE.copy_of("chat", "routed-chat");
    let source = "use lockgate_plugin::{Event, Handler, Message, Result};\n\nstruct Named;\n\n\
        impl Handler for Named {\n\
        fn message(event: Event, _: Message) -> Result<Option<Message>> {\n\
        Ok(Some(event.route_key.into()))\n}\n}\n\nlockgate_plugin::export!(Named);\n";
    fs::write(folder.join("src/lib.rs"), source).unwrap();
    let gateway =
        Gateway::start_dev(LOCKGATE.dev(&folder, &["--route", "join", "--route", "send it"])).await;
    let mut client = gateway.connect("/dev").await;
    for (message, route) in [
        (r#"{"action":"join"}"#, "join"),
        (r#"{"action":"send it"}"#, "send it"),
        (r#"{"action":"other"}"#, "$default"),
        ("no JSON", "$default"),
    ] {
        client.send(message).await;
        client.expect(route).await;
    }
    let ended = LOCKGATE
        .run(&["dev", folder.to_str().unwrap(), "--route", "$mine"])
        .await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.error.contains("a key of your own"), "{}", ended.error);
}

#[tokio::test]
async fn address_for_two_purposes_is_refused() {
    let folder = LOCKGATE.copy_of("echo", "one-port-echo");
    let folder = folder.to_str().unwrap();
    let file = TempDir::new().unwrap();
    let file = file.path().join("gateway.toml");
    let managed = format!(
        "[management]\naddress = \"127.0.0.1:18862\"\n[apis.a.stages.s]\n[apis.a.routes]\n\
         \"$default\" = {{ integration = \"echo\" }}\n[plugins.echo]\nsource = {folder:?}\n"
    );
    fs::write(&file, managed).unwrap();
    let file = file.to_str().unwrap();
    for (what, wss, ws, purposes) in [
        (folder, "18861", "18861", "both --wss-port and --ws-port"),
        (file, "0", "18862", "both management and --ws-port"),
    ] {
        let words = ["dev", what, "--wss-port", wss, "--ws-port", ws];
        let ended = LOCKGATE.run(&words).await;
        assert_eq!(ended.code, Some(1), "{}", ended.error);
        assert!(ended.error.contains(purposes), "{}", ended.error);
        assert!(ended.error.contains("give each its own port"));
    }
}

#[tokio::test]
async fn subject_without_a_plugin_is_refused_with_the_remedy() {
    let folder = LOCKGATE.copy_of("echo", "twice-routed-echo");
    for (words, error) in [
        (
            &["dev", "/dev/null"][..],
            "neither a folder nor a plain file; name a plugin's folder",
        ),
        (
            &[
                "dev",
                folder.to_str().unwrap(),
                "--route",
                "a",
                "--route",
                "a",
            ],
            "--route a is given twice; name each key once",
        ),
    ] {
        let ended = LOCKGATE.run(words).await;
        assert_eq!(ended.code, Some(1), "{}", ended.error);
        assert!(ended.error.contains(error), "{}", ended.error);
    }
}

/// A configuration of two plugins to build, with a listener that `dev` does not open.
const TWO: &str = r#"
[[listeners]]
address = "0.0.0.0:443"
tls = { certificate = "nowhere.pem", key = "nowhere.key" }

[management]
address = "127.0.0.1:0"

[apis.a.stages.prod]

[apis.a.routes."$default"]
integration = "one"
two_way = true

[apis.a.routes.other]
integration = "two"

[plugins.one]
source = "ONE"

[plugins.two]
source = "TWO"
component = "nowhere.wasm"
signature = { keys = ["nowhere.pem"] }
"#;

#[tokio::test]
async fn plugins_of_a_configuration_are_built_and_each_save_is_served() {
    let (one, two) = (
        LOCKGATE.copy_of("echo", "first-echo"),
        LOCKGATE.copy_of("echo", "second-echo"),
    );
    answer_with(&one, "one");
    answer_with(&two, "two");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("gateway.toml");
    let text = TWO
        .replace("\"ONE\"", &format!("{one:?}"))
        .replace("\"TWO\"", &format!("{two:?}"));
    fs::write(&file, &text).unwrap();

    // `run` and `validate` refuse it with the remedy.
    for command in ["run", "validate"] {
        let ended = LOCKGATE.run(&[command, file.to_str().unwrap()]).await;
        assert_eq!(ended.code, Some(1));
        for words in ["plugins.one.source", "lockgate dev", "lockgate build"] {
            assert!(ended.error.contains(words), "{}", ended.error);
        }
    }

    let gateway = Gateway::start_dev(LOCKGATE.dev(&file, &[])).await;
    let mut client = gateway.connect("/prod").await;
    client.send("hello").await;
    client.expect("one hello").await;
    // A one-way route drops the answer, and logs that once.
    let other = r#"{"action":"other"}"#;
    let dropped = [
        "this one-way route drops it",
        r#"apis.a.routes."other".two_way = true"#,
        "route=\"other\"",
    ];
    for _ in 0..2 {
        client.send(other).await;
    }
    gateway.log().line(&dropped).await;
    client.send("hello").await;
    client.expect("one hello").await;
    let lines = gateway.log().lines();
    let said = lines.iter().filter(|line| line.contains(dropped[0]));
    assert_eq!(said.count(), 1);

    // A changed configuration is read again, and one with a mistake changes nothing.
    let wrong = text.replace(
        "[apis.a.routes.other]",
        "[apis.a.routes.other]\ntwoway = true",
    );
    fs::write(&file, wrong).unwrap();
    gateway
        .log()
        .line_within(LONG_PATIENCE, &["gateway.toml:", "twoway"])
        .await;
    let two_way = text.replace(
        "[apis.a.routes.other]",
        "[apis.a.routes.other]\ntwo_way = true",
    );
    fs::write(&file, two_way).unwrap();
    gateway
        .log()
        .line(&["serving the configuration as it is now"])
        .await;
    client.send(other).await;
    client.expect(&format!("two {other}")).await;

    // Plugins are built one by one: a broken one does not block the others.
    fs::write(one.join("src/lib.rs"), "this is no Rust").unwrap();
    gateway
        .log()
        .line_within(LONG_PATIENCE, &["still serving the last good build"])
        .await;
    answer_with(&two, "new");
    built(&gateway, 0).await;
    client.send(other).await;
    client.expect(&format!("new {other}")).await;
    client.send("hello").await;
    client.expect("one hello").await;
    // A command for a plain gateway is refused, and names the process that reads the file.
    let (status, body) = gateway.post("/reload", "{}").await;
    assert_ne!(status, 200);
    assert!(body.contains("lockgate dev"), "{body}");
}

#[tokio::test]
async fn upgrade_of_a_dev_gateway_is_refused_at_once_and_signals_are_warned_of() {
    let folder = TempDir::new().unwrap();
    let management = "[management]\naddress = \"127.0.0.1:0\"\n";
    let file = write_configuration(
        folder.path(),
        &format!("{management}{}", probe_configuration("", "")),
    );
    let mut gateway = Gateway::start_dev(LOCKGATE.dev(&file, &[])).await;
    let address = gateway.management().to_string();
    let ended = LOCKGATE.run(&["upgrade", &address]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let why = "`lockgate dev` does not hand over";
    assert!(ended.error.contains(why), "{ended:?}");
    gateway.upgrade();
    gateway.log().line(&["WARN", why]).await;
    gateway.hang_up();
    let why = "`lockgate dev` reads what has changed by itself";
    gateway.log().line(&["WARN", why]).await;
    assert!(gateway.is_running());
    gateway.interrupt();
    assert_eq!(gateway.ended().await, Some(0));
}
