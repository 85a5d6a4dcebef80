//! Reloading: a changed file, a signal, a command and a management call swap the code under open connections; a mistake
//! changes nothing and is reported.

use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lockgate_tests::{Client, Gateway, replace, version, within};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinSet,
};

use crate::{LOCKGATE, compile};

/// A gateway that serves version 1 of the guest `versions` at `/s`, from a file of its own.
pub(crate) struct Served {
    pub(crate) gateway: Gateway,
    pub(crate) component: PathBuf,
    _folder: tempfile::TempDir,
}

impl Served {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// As [`Self::new`], with these lines in the plugin's table.
    pub(crate) async fn with(plugin: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let component = folder.path().join("versions.wasm");
        fs::write(&component, version(1, '-')).unwrap();
        let configuration = format!(
            r#"
[apis.a.stages.s]

[apis.a.routes."$default"]
integration = "v"
two_way = true

[plugins.v]
component = "{}"
{plugin}
"#,
            component.display()
        );
        Self {
            gateway: LOCKGATE.serve(&configuration).await,
            component,
            _folder: folder,
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.gateway.folder().join("gateway.toml")
    }

    pub(crate) async fn connect(&self) -> Client {
        self.gateway.connect("/s").await
    }

    /// Changes the configuration file.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.file()).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(self.file(), text.replacen(from, to, 1)).unwrap();
    }

    /// Reloads by the management call, which must succeed, and returns its answer.
    pub(crate) async fn reload(&self) -> String {
        let (status, body) = self.gateway.post("/reload", "{}").await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Reloads by the management call, which must be refused, and returns the reason.
    pub(crate) async fn refused(&self) -> String {
        let (status, body) = self.gateway.post("/reload", "{}").await;
        assert_eq!(status, 422, "{body}");
        body
    }

    /// Runs a command about this gateway.
    pub(crate) async fn command(&self, words: &[&str]) -> lockgate_tests::CommandResult {
        let address = self.gateway.management().to_string();
        let mut words = words.to_vec();
        words.extend(["--management", &address]);
        LOCKGATE.run(&words).await
    }
}

/// Checks that this version answers the client.
pub(crate) async fn expect(client: &mut Client, version: u32) {
    client.send("x").await;
    client.expect(&format!("{version} {version} x")).await;
}

#[tokio::test]
pub(crate) async fn changed_file_is_served_and_no_connection_closes() {
    let served = Served::new().await;
    let mut first = served.connect().await;
    let mut second = served.gateway.wss("/s").open().await;
    for client in [&mut first, &mut second] {
        expect(client, 1).await;
    }
    replace(&served.component, &version(2, '-'));
    served
        .gateway
        .log()
        .line(&["changed file", "version 2 serves"])
        .await;
    for client in [&mut first, &mut second] {
        expect(client, 2).await;
    }
    // This file is written in place, and not renamed there.
    fs::write(&served.component, version(3, '-')).unwrap();
    served
        .gateway
        .log()
        .line(&["changed file", "version 3 serves"])
        .await;
    for client in [&mut first, &mut second] {
        expect(client, 3).await;
    }
}

/// Each version is at a new path, which the watcher does not know.
#[tokio::test]
async fn every_trigger_reloads() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    expect(&mut client, 1).await;
    let log = served.gateway.log();
    let mut before = served.component.clone();
    let mut deploy = |number: u32| {
        let component = before.with_file_name(format!("{number}.wasm"));
        fs::write(&component, version(number, '-')).unwrap();
        served.edit(before.to_str().unwrap(), component.to_str().unwrap());
        before = component;
    };

    deploy(2);
    served.reload().await;
    expect(&mut client, 2).await;

    deploy(3);
    let ended = served.command(&["reload"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    expect(&mut client, 3).await;

    deploy(4);
    served.gateway.hang_up();
    log.line(&["SIGHUP", "version 4 serves"]).await;
    expect(&mut client, 4).await;
}

#[tokio::test]
async fn failed_reload_command_names_the_mistake_and_exits_with_1() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    served.edit("two_way = true", "two_way = 7");
    let ended = served.command(&["reload"]).await;
    assert_eq!(ended.code, Some(1));
    for part in [
        "gateway.toml:",
        "apis.a.routes.\"$default\".two_way",
        "remedy:",
    ] {
        assert!(ended.error.contains(part), "{}", ended.error);
    }
    // The command reads the address from the file, or reports that it has none.
    let by_file = LOCKGATE
        .run(&["reload", served.file().to_str().unwrap()])
        .await;
    assert_eq!(by_file.code, Some(1));
    expect(&mut client, 1).await;
}

#[tokio::test]
async fn broken_component_is_refused_and_serving_continues() {
    let served = Served::new().await;
    let good = version(2, '-');
    let broken: [(&str, Vec<u8>); 12] = [
        ("the file is empty", Vec::new()),
        (
            "no component that can be compiled",
            b"not wasm at all".to_vec(),
        ),
        ("core module", b"\0asm\x01\0\0\0".to_vec()),
        (
            "no component that can be compiled",
            good[..good.len() / 2].to_vec(),
        ),
        ("it exports neither", b"\0asm\x0d\0\x01\0".to_vec()),
        (
            "it exports neither",
            fs::read(lockgate_tests::Guest::Command.path()).unwrap(),
        ),
        (
            "not granted",
            fs::read(lockgate_tests::Guest::Probe.path()).unwrap(),
        ),
        (
            "which no plugin is given",
            fs::read(lockgate_tests::Guest::Sockets.path()).unwrap(),
        ),
        ("1024 MiB of memory", compile::hard(3_000, 40_000)),
        ("trapped", version(2, 'b')),
        ("the sums are wrong", version(2, 'f')),
        ("limits.cpu_ms", version(2, 's')),
    ];
    let mut client = served.connect().await;
    let over = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for _ in 0..8 {
        let mut client = served.connect().await;
        let over = Arc::clone(&over);
        load.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                expect(&mut client, 1).await;
            }
        });
    }
    for (why, bytes) in broken {
        replace(&served.component, &bytes);
        let said = served.refused().await;
        assert!(said.contains(why), "{why}: {said}");
        expect(&mut client, 1).await;
    }
    // A sparse file that is too large.
    let file = fs::File::create(&served.component).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    assert!(served.refused().await.contains("cannot be read"));
    fs::remove_file(&served.component).unwrap();
    assert!(served.refused().await.contains("there is no file"));
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    expect(&mut client, 1).await;
    replace(&served.component, &good);
    served.reload().await;
    expect(&mut client, 2).await;
    assert!(
        !served
            .gateway
            .log()
            .contains(&["the plugin trapped", "request_id"])
    );
}

#[tokio::test]
async fn output_of_a_version_that_fails_to_load_is_logged() {
    let served = Served::new().await;
    let log = served.gateway.log();
    for (fault, said, printed) in [
        (
            'p',
            "its self-test failed: the plugin trapped: panicked at versions/src/lib.rs:",
            "it does not work",
        ),
        (
            'b',
            "its self-test failed: the plugin trapped: panicked at versions/src/lib.rs:",
            "it does not begin",
        ),
        (
            'f',
            "component: its self-test failed: the sums are wrong\n",
            "two and two is five",
        ),
    ] {
        replace(&served.component, &version(2, fault));
        let refusal = served.command(&["reload"]).await;
        assert!(refusal.error.contains(said), "{said}: {}", refusal.error);
        log.line(&[printed, "\"plugin\":\"v\"", "\"target\":\"guest\""])
            .await;
        let file = served.file();
        let invalid = LOCKGATE.run(&["validate", file.to_str().unwrap()]).await;
        for part in [said, printed] {
            assert!(invalid.error.contains(part), "{part}: {}", invalid.error);
        }
    }
}

#[tokio::test]
async fn call_under_way_ends_on_the_version_it_began_with() {
    let served = Served::new().await;
    let mut waiting = served.connect().await;
    waiting.send("wait 1500").await;
    waiting.send("x").await;
    let mut other = served.connect().await;
    expect(&mut other, 1).await;
    replace(&served.component, &version(2, '-'));
    served.reload().await;
    expect(&mut other, 2).await;
    waiting.expect("1 1 wait 1500").await;
    waiting.expect("2 2 x").await;
}

#[tokio::test]
async fn old_version_is_interrupted_after_its_retire_time() {
    let served = Served::with("limits = { deadline_ms = 20000, retire_s = 1 }").await;
    let mut waiting = served.connect().await;
    waiting.send("wait 15000").await;
    let mut other = served.connect().await;
    expect(&mut other, 1).await;
    replace(&served.component, &version(2, '-'));
    served.reload().await;
    let began = Instant::now();
    waiting.expect_error("Endpoint request timed out").await;
    assert!(began.elapsed() < Duration::from_secs(12));
    served
        .gateway
        .log()
        .line(&["interrupting the calls of a replaced version"])
        .await;
    expect(&mut waiting, 2).await;
}

#[tokio::test]
async fn slowly_copied_file_is_never_loaded_half() {
    use std::io::Write as _;
    let served = Served::new().await;
    let mut client = served.connect().await;
    let bytes = version(2, '-');
    // From its last byte on, the file may be loaded at any moment.
    let (last, most) = bytes.split_last().unwrap();
    let mut file = fs::File::create(&served.component).unwrap();
    for chunk in most.chunks(bytes.len() / 30) {
        file.write_all(chunk).unwrap();
        // A few round trips, so that the gateway could look at the file.
        let until = Instant::now() + Duration::from_millis(30);
        while Instant::now() < until {
            expect(&mut client, 1).await;
        }
    }
    file.write_all(&[*last]).unwrap();
    drop(file);
    served.gateway.log().line(&["version 2 serves"]).await;
    expect(&mut client, 2).await;
    assert!(!served.gateway.log().contains(&["not reloaded"]));
}

#[tokio::test]
async fn bad_configuration_changes_nothing() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    let good = fs::read_to_string(served.file()).unwrap();
    for (from, to, why) in [
        ("two_way", "twoway", "did you mean"),
        (
            "integration = \"v\"",
            "integration = \"w\"",
            "no plugin or integration is called",
        ),
        ("[plugins.v]", "[plugins.v", "gateway.toml:"),
        (
            "component = ",
            "grants = [\"storage\"]\ncomponent = ",
            "storage",
        ),
    ] {
        served.edit(from, to);
        let said = served.refused().await;
        assert!(said.contains(why) && said.contains("remedy"), "{said}");
        expect(&mut client, 1).await;
        fs::write(served.file(), &good).unwrap();
    }
    assert_eq!(served.reload().await, "{\"changed\":[],\"notes\":[]}");
}

/// The gateway that compiles for long is this test, which answers when it likes.
#[tokio::test]
async fn command_that_waits_for_long_says_what_for() {
    for (name, what, body, done) in [
        (
            "reload",
            "the gateway compiles what has changed, and serves as before meanwhile, for 300 s at most",
            "{\"changed\":[]}",
            "nothing has changed\n",
        ),
        (
            "upgrade",
            "the new process compiles what it serves, and this one serves meanwhile, for limits.upgrade_s at most, and as \
             long before that for a reload under way",
            "process 7 serves",
            "process 7 serves\n",
        ),
    ] {
        says_what_it_waits_for(name, what, body, done).await;
    }
}

async fn says_what_it_waits_for(name: &str, what: &str, body: &str, done: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = LOCKGATE.command(&[name, "--management", &address]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = Command::from(command).kill_on_drop(true).spawn().unwrap();
    let asked = async |line: &str| {
        let (mut stream, _) = within("a request", listener.accept()).await.unwrap();
        let (mut head, mut more) = (Vec::new(), [0; 1_024]);
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = within("its head", stream.read(&mut more)).await.unwrap();
            head.extend_from_slice(&more[..read]);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with(line), "{head}");
        stream
    };
    let answer = async |stream: &mut TcpStream, body: &str| {
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    };
    let mut greeting = asked("GET /plugins ").await;
    answer(&mut greeting, "[]").await;
    let mut request = asked(&format!("POST /{name} ")).await;
    let mut said = BufReader::new(command.stderr.take().unwrap()).lines();
    let said = within("a word", said.next_line()).await.unwrap().unwrap();
    assert_eq!(said, format!("waiting: {what}"));
    answer(&mut request, body).await;
    let ended = within("the end", command.wait_with_output()).await.unwrap();
    let output = String::from_utf8(ended.stdout).unwrap();
    assert_eq!((ended.status.code(), &*output), (Some(0), done));
}

#[tokio::test]
async fn request_that_a_web_page_could_send_is_refused() {
    let served = Served::new().await;
    let json = "Content-Type: application/json\r\n";
    for (headers, status) in [
        (
            format!("Host: localhost\r\nOrigin: http://localhost\r\n{json}"),
            403,
        ),
        (format!("Host: rebound.example\r\n{json}"), 403),
        (format!("Host: 127.0.0.1.example:80\r\n{json}"), 403),
        (
            "Host: localhost\r\nContent-Type: text/plain\r\n".to_owned(),
            415,
        ),
        ("Host: localhost\r\n".to_owned(), 415),
        (format!("Host: [::1]:9090\r\n{json}"), 200),
        (format!("Host: 127.0.0.1:1\r\n{json}"), 200),
    ] {
        let (given, body) = served.gateway.request("POST /reload", &headers, "{}").await;
        assert_eq!(given, status, "{headers}: {body}");
    }
}

/// A command with a file changes only the gateway that runs that file, whatever address it asks.
#[tokio::test]
async fn command_for_another_file_changes_nothing_and_names_the_running_one() {
    let served = Served::new().await;
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.toml");
    served.edit(
        "[management]\naddress = \"127.0.0.1:0\"",
        &format!(
            "[management]\naddress = \"{}\"",
            served.gateway.management()
        ),
    );
    fs::copy(served.file(), &other).unwrap();
    let other = other.to_str().unwrap();
    for words in [
        &["reload", other][..],
        &["upgrade", other],
        &["plugins", "list", "--config", other],
        &["plugins", "rollback", "v", "--config", other],
    ] {
        let ended = LOCKGATE.run(words).await;
        assert_eq!(ended.code, Some(1), "{words:?}: {}", ended.output);
        let runs = format!("runs {} and not {other}", served.file().display());
        assert!(ended.error.contains(&runs), "{}", ended.error);
    }
    assert!(!served.gateway.log().contains(&["reloaded:"]));
    assert!(!served.gateway.log().contains(&["upgrading"]));
    // A link to the file counts as the file.
    let link = folder.path().join("link.toml");
    std::os::unix::fs::symlink(served.file(), &link).unwrap();
    let ended = LOCKGATE.run(&["reload", link.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
}

#[tokio::test]
async fn gateway_is_found_by_its_file_after_its_management_address_changed() {
    let served = Served::new().await;
    let file = served.file();
    let reload = async || {
        let ended = LOCKGATE.run(&["reload", file.to_str().unwrap()]).await;
        assert_eq!(ended.code, Some(0), "{}", ended.error);
        ended.output
    };
    let management = |address: &str| format!("[management]\naddress = \"{address}\"\n");
    // Another gateway has the new address, and later none has.
    let mut other = Served::new().await;
    let taken = other.gateway.management().to_string();
    served.edit(&management("127.0.0.1:0"), &management(&taken));
    let ended = LOCKGATE.run(&["reload", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(
        ended.error.contains("management.address: cannot listen on"),
        "{}",
        ended.error
    );
    assert!(!other.gateway.log().contains(&["reloaded:"]));
    // The address is free once that gateway has ended.
    other.gateway.interrupt();
    assert_eq!(other.gateway.ended().await, Some(0));
    let said = reload().await;
    assert!(
        said.contains(&format!("management {taken}: opened")),
        "{said}"
    );
    served.edit(&management(&taken), "");
    let said = reload().await;
    assert!(
        said.contains(&format!("management {taken}: closed")),
        "{said}"
    );
    // Now the gateway cannot be asked, and the error has the remedy.
    let ended = LOCKGATE.run(&["reload", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(1));
    let said = format!("process {} runs ", served.gateway.id());
    assert!(
        ended.error.contains(&said) && ended.error.contains("SIGHUP"),
        "{}",
        ended.error
    );
}
