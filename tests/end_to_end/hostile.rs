//! Guests that take more than they should: each is stopped or refused, its client gets an error, the next message is
//! handled, and another plugin is served all the while.

use std::{
    fs,
    time::{Duration, Instant},
};

use lockgate_tests::{Client, Frame, Gateway, Guest, Opcode, write_configuration};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::LOCKGATE;

pub(crate) const FAILED: &str = "Internal server error";
pub(crate) const TIMED_OUT: &str = "Endpoint request timed out";

/// Bytes that one invocation may log by default.
const LOGGED: usize = 64 << 10;

/// The plugin `hostile` at `/h`, and beside it the plugin `echo` at `/s`.
pub(crate) fn configuration(plugin: &str) -> String {
    format!(
        r#"
[apis.h.stages.h]

[apis.h.routes."$default"]
integration = "hostile"
two_way = true

[plugins.hostile]
component = "{{hostile}}"
grants = ["connections", "groups"]
{plugin}

[apis.a.stages.s]

[apis.a.routes."$default"]
integration = "echo"
two_way = true

[plugins.echo]
component = "{{echo}}"
"#
    )
}

pub(crate) async fn serve(plugin: &str) -> Gateway {
    LOCKGATE.serve(&configuration(plugin)).await
}

/// As [`serve`], with the text format of the log: JSON would escape everything by itself.
async fn serve_with_plain_log(plugin: &str) -> Gateway {
    let before = "[log]\nformat = \"text\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    LOCKGATE
        .serve_as_written(&(before.to_owned() + &configuration(plugin)))
        .await
}

/// Has the guest do this, and returns its answer.
pub(crate) async fn deed(client: &mut Client, what: &str) -> String {
    client.send(what).await;
    client.text().await
}

/// A client of the hostile plugin, and one of the other.
struct Scene {
    gateway: Gateway,
    hostile: Client,
    neighbour: Client,
}

impl Scene {
    async fn with(plugin: &str) -> Self {
        let gateway = serve(plugin).await;
        Self {
            hostile: gateway.connect("/h").await,
            neighbour: gateway.connect("/s").await,
            gateway,
        }
    }

    /// Checks that the guest's deed gets this error frame.
    async fn fails(&mut self, what: &str, error: &str) {
        eprintln!("{what}");
        self.hostile.send(what).await;
        self.neighbour_is_served().await;
        self.hostile.expect_error(error).await;
        self.goes_on().await;
    }

    /// Checks that the guest's deed gets this answer.
    async fn answers(&mut self, what: &str, answer: &str) {
        eprintln!("{what}");
        self.hostile.send(what).await;
        self.neighbour_is_served().await;
        let mut given = self.hostile.text().await;
        // Messages that the guest sent to its own client come first.
        while given == "x" {
            given = self.hostile.text().await;
        }
        assert_eq!(given, answer, "{what}");
        self.goes_on().await;
    }

    async fn neighbour_is_served(&mut self) {
        for number in 0..3 {
            assert_eq!(
                deed(&mut self.neighbour, &number.to_string()).await,
                number.to_string()
            );
        }
    }

    /// Checks that the connection is open, and that the plugin handles its next message, and one of a new client.
    async fn goes_on(&mut self) {
        assert_eq!(deed(&mut self.hostile, "posts 0").await, "0 ok");
        let mut another = self.gateway.connect("/h").await;
        assert_eq!(deed(&mut another, "posts 0").await, "0 ok");
        assert!(self.gateway.is_running());
    }
}

#[tokio::test]
pub(crate) async fn guest_that_runs_too_long_is_stopped() {
    let mut scene = Scene::with("limits = { deadline_ms = 1000 }").await;
    for what in ["copy", "fill", "calls", "sleep 60000"] {
        scene.fails(what, TIMED_OUT).await;
    }
    // No instance of these is used again.
    for what in ["copy", "copy", "calls", "calls"] {
        scene.fails(what, TIMED_OUT).await;
    }
}

#[tokio::test]
async fn stack_overflow_in_host_calls_is_a_trap() {
    let mut scene = Scene::with("limits = { cpu_ms = 3000 }").await;
    for _ in 0..5 {
        scene.fails("descend", FAILED).await;
    }
}

#[tokio::test]
async fn oversized_or_invalid_return_is_a_failure() {
    let mut scene = Scene::with("limits = { cpu_ms = 2000 }").await;
    let most = "x".repeat(128 << 10);
    scene
        .answers(&format!("return {}", most.len()), &most)
        .await;
    // One byte over the stage's limit, more than the gateway copies at all, and bytes that are no text.
    for what in [
        "return 131073",
        "return 1300000",
        "return 30000000",
        "return no text",
        "fail 1",
        "fail 1300000",
        "fail 30000000",
    ] {
        scene.fails(what, FAILED).await;
    }
}

#[tokio::test]
async fn oversized_arguments_of_a_handler_are_refused() {
    let mut scene = Scene::with("limits = { cpu_ms = 2000 }").await;
    for (what, answer) in [
        ("send 131073", "too-large"),
        ("send to 100000", "gone"),
        ("join 129", "invalid"),
        ("join 100000", "invalid"),
        ("reason 124", "invalid"),
        ("attribute 4088", "too-large"),
        ("attribute 100000", "too-large"),
        ("attribute 4087", "ok"),
        ("random 65536", "65536"),
    ] {
        scene.answers(what, answer).await;
    }
    for what in [
        "send 30000000",
        "send to 30000000",
        "join 30000000",
        "reason 30000000",
        "attribute 30000000",
        "random 65537",
        "random 18446744073709551615",
    ] {
        scene.fails(what, FAILED).await;
    }
}

#[tokio::test]
async fn host_calls_beyond_their_bound_are_refused() {
    let mut scene = Scene::with("limits = { cpu_ms = 2000 }").await;
    for (what, answer) in [
        ("posts 256", "256 ok"),
        ("posts 257", "256 busy"),
        ("posts 100000", "256 busy"),
        ("publishes 256", "256 ok"),
        ("publishes 257", "256 busy"),
        ("joins 64", "64 ok"),
        ("joins 65", "64 busy"),
        ("joins 100000", "64 busy"),
        ("attributes 30", "30 ok"),
        ("attributes 31", "30 too-large"),
        ("attributes 10000", "30 too-large"),
        ("handles 450", "450"),
    ] {
        scene.answers(what, answer).await;
    }
    for what in ["handles 1001", "handles 100000000"] {
        scene.fails(what, FAILED).await;
    }
}

#[tokio::test]
pub(crate) async fn table_beyond_its_bound_is_refused() {
    let configuration = |limits: &str| {
        format!(
            "[apis.a.stages.s]\n[apis.a.routes.\"$default\"]\nintegration = \"tables\"\ntwo_way = true\n\
             [plugins.tables]\ncomponent = \"{{tables}}\"\n{limits}\n"
        )
    };
    let gateway = LOCKGATE
        .serve(&configuration("limits = { table_elements = 30000 }"))
        .await;
    let mut client = gateway.connect("/s").await;
    assert_eq!(
        deed(&mut client, "within its bounds").await,
        "within its bounds"
    );

    // A component without room for its tables is not loaded.
    let folder = tempfile::tempdir().unwrap();
    let before = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    let file = write_configuration(folder.path(), &(before.to_owned() + &configuration("")));
    let ended = LOCKGATE.run(&["validate", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.error.contains("limits.table_elements allows 20000"),
        "{}",
        ended.error
    );
}

/// The text of each line of the log that the guest wrote.
fn guest_lines(gateway: &Gateway) -> Vec<String> {
    let lines = gateway.log().lines().into_iter();
    lines.filter(|line| line.contains("guest")).collect()
}

#[tokio::test]
async fn flood_of_escape_sequences_is_escaped_and_cut_off() {
    let gateway = serve_with_plain_log("limits = { cpu_ms = 2000 }").await;
    let mut client = gateway.connect("/h").await;
    assert_eq!(deed(&mut client, "escapes 20000").await, "20000");
    gateway.log().line(&["left out"]).await;
    assert_eq!(deed(&mut client, "escapes 1").await, "1");

    let lines = gateway.log().lines();
    for line in &lines {
        assert!(!line.chars().any(|letter| letter.is_control()), "{line:?}");
    }
    let notes = lines.iter().filter(|line| line.contains("left out"));
    assert_eq!(notes.count(), 1, "the rest is left out once");
    // An escaped sequence of 20 bytes takes a bounded number of letters.
    let owned = lines.iter().filter(|line| line.contains("owned")).count();
    assert!(owned * 20 <= LOGGED, "{owned} lines of 20 bytes");
}

/// The limit holds however the guest splits its output: here it falls between two writes.
#[tokio::test]
async fn flood_of_whole_blocks_is_cut_off() {
    for chunks in [17, 18, 1_000] {
        let gateway = serve("limits = { cpu_ms = 2000 }").await;
        let mut client = gateway.connect("/h").await;
        deed(&mut client, &format!("chunks {chunks}")).await;
        deed(&mut client, "chunks 0").await;
        gateway.log().line(&["left out"]).await;
        let logged: usize = guest_lines(&gateway)
            .iter()
            .map(|line| line.matches("xxxx").count() * 4)
            .sum();
        assert!(logged <= LOGGED, "{logged} bytes of {chunks} chunks");
    }
}

#[tokio::test]
async fn flood_of_short_lines_is_bounded_with_the_fields_beside_them() {
    let gateway = serve("limits = { cpu_ms = 2000 }").await;
    let mut client = gateway.connect("/h").await;
    deed(&mut client, "short lines 100000").await;
    // This line comes after them in the log, so that all of them are there.
    client.send("fail 1").await;
    gateway.log().line(&["the handler failed"]).await;
    let written: usize = guest_lines(&gateway).iter().map(String::len).sum();
    assert!(
        written <= 16 * LOGGED,
        "one invocation makes {} KiB of log",
        written >> 10
    );
}

#[tokio::test]
async fn reason_of_a_failure_is_cut_off_and_escaped() {
    let gateway = serve_with_plain_log("limits = { cpu_ms = 2000 }").await;
    let mut client = gateway.connect("/h").await;
    client.send("fail 1000000").await;
    let (_, request) = client.expect_error(FAILED).await;
    let line = gateway.log().line(&[&request]).await;
    assert!(
        line.len() <= LOGGED + 1_024,
        "a line of {} bytes",
        line.len()
    );

    client.send("forge").await;
    client.expect_error(FAILED).await;
    let line = gateway.log().line(&["honest"]).await;
    assert!(!line.chars().any(char::is_control), "{line:?}");
    assert!(line.contains("forged"), "a line of its own: {line:?}");
}

/// 64 guests that spin, and one client of another plugin.
#[tokio::test]
async fn spinning_guests_do_not_harm_their_neighbours() {
    const SPINNERS: usize = 64;
    const AT_LEAST: usize = 200;
    const BETWEEN_PINGS: Duration = Duration::from_millis(60);
    let mut gateway = serve("limits = { deadline_ms = 10000, cpu_ms = 3000 }").await;
    let mut spinners = Vec::new();
    for number in 0..SPINNERS {
        let mut spinner = gateway.ws("/h").open_raw().await;
        let what = if number % 2 == 0 { "calls" } else { "copy" };
        spinner.send(&Frame::text(what)).await;
        spinners.push(spinner);
    }
    let mut neighbour = gateway.connect("/s").await;
    let mut pinging = gateway.ws("/s").open_raw().await;
    let mut times = Vec::new();
    let mut pings = 0;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        let number = times.len();
        let asked = Instant::now();
        assert_eq!(
            deed(&mut neighbour, &number.to_string()).await,
            number.to_string()
        );
        times.push(asked.elapsed());
        // The pings of a client whose guest spins are answered as any other's.
        if began.elapsed() >= BETWEEN_PINGS * pings {
            pings += 1;
            let spinner = &mut spinners[pings as usize % SPINNERS];
            for client in [&mut pinging, spinner] {
                client.send(&Frame::new(Opcode::PING, "there?")).await;
                let pong = client.frame().await.unwrap();
                assert_eq!(pong, Frame::new(Opcode::PONG, "there?").unmasked());
            }
        }
    }
    times.sort_unstable();
    let echoes = times.len();
    let (p99, slowest) = (times[echoes * 99 / 100], times[echoes - 1]);
    eprintln!(
        "beside {SPINNERS} spinning guests: p99 of {echoes} echoes is {p99:?}, the slowest took {slowest:?}"
    );
    assert!(echoes >= AT_LEAST, "only {echoes}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(gateway.is_running());
    // The guests were spinning all the while.
    assert!(!gateway.log().contains(&["cut off:"]));
}

const SUSPECT: &str = r#"
[[listeners]]
address = "127.0.0.1:0"

[apis.a.stages.s]

[apis.a.routes."$default"]
integration = "suspect"

[plugins.suspect]
component = "suspect.wasm"
"#;

/// A component of these sections, each with its id.
fn component(sections: &[(u8, &[u8])]) -> Vec<u8> {
    with_sections(b"\0asm\x0d\0\x01\0", sections)
}

/// The echo with these sections after its own.
fn echo_with(sections: &[(u8, &[u8])]) -> Vec<u8> {
    with_sections(&fs::read(Guest::Echo.path()).unwrap(), sections)
}

fn with_sections(bytes: &[u8], sections: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (number, content) in sections {
        bytes.extend([*number, u8::try_from(content.len()).unwrap()]);
        bytes.extend(*content);
    }
    bytes
}

/// The error of `validate` about a plugin with this component.
async fn refusal(component: &[u8]) -> String {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("suspect.wasm"), component).unwrap();
    let file = write_configuration(folder.path(), SUSPECT);
    let ended = LOCKGATE.run(&["validate", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(!ended.error.contains("panicked"), "{}", ended.error);
    ended.error
}

/// One interface each time, without its grant.
#[tokio::test]
async fn every_import_without_a_grant_is_refused_by_name() {
    const TYPE: u8 = 7;
    const IMPORT: u8 = 10;
    for name in [
        "lockgate:plugin/connections@0.1.0",
        "lockgate:plugin/groups@0.1.0",
        "lockgate:plugin/secrets@0.1.0",
        "lockgate:plugin/connections",
        "wasi:cli/run@0.2.6",
        "wasi:clocks/timezone@0.2.6",
        "wasi:config/store@0.2.0",
        "wasi:filesystem/preopens@0.2.6",
        "wasi:filesystem/types@0.2.6",
        "wasi:http/outgoing-handler@0.2.6",
        "wasi:http/types@0.2.6",
        "wasi:keyvalue/store@0.2.0",
        "wasi:logging/logging",
        "wasi:sockets/instance-network@0.2.6",
        "wasi:sockets/ip-name-lookup@0.2.6",
        "wasi:sockets/network@0.2.6",
        "wasi:sockets/tcp-create-socket@0.2.6",
        "wasi:sockets/tcp@0.2.6",
        "wasi:sockets/udp@0.2.6",
        "env",
    ] {
        // One import, of an instance that exports nothing.
        let import = [
            &[1, 0, u8::try_from(name.len()).unwrap()],
            name.as_bytes(),
            &[5, 0],
        ]
        .concat();
        let error = refusal(&component(&[(TYPE, &[1, 0x42, 0]), (IMPORT, &import)])).await;
        assert!(error.contains(name), "{name}: {error}");
    }
}

/// A feature that no toolchain for plugins emits is not compiled at all.
#[tokio::test]
async fn webassembly_feature_that_no_plugin_needs_is_refused() {
    const CORE_MODULE: u8 = 1;
    const CANONICAL: u8 = 8;
    for (what, module) in [
        ("a 64-bit memory", &[5, 3, 1, 4, 1][..]),
        ("a shared memory", &[5, 4, 1, 3, 1, 1]),
        ("two memories", &[5, 5, 2, 0, 1, 0, 1]),
        ("pages of one byte", &[5, 4, 1, 8, 1, 0]),
        ("a 64-bit table", &[4, 4, 1, 0x70, 4, 1]),
        ("a structure", &[1, 5, 1, 0x5f, 1, 0x7f, 0]),
        ("an exception", &[1, 4, 1, 0x60, 0, 0, 13, 3, 1, 0, 0]),
        ("a continuation", &[1, 6, 2, 0x60, 0, 0, 0x5d, 0]),
    ] {
        let module = [b"\0asm\x01\0\0\0", module].concat();
        let error = refusal(&echo_with(&[(CORE_MODULE, &module)])).await;
        assert!(!error.contains("exports neither"), "{what}: {error}");
        assert!(error.contains("compiled"), "{what}: {error}");
    }
    let error = refusal(&echo_with(&[(CANONICAL, &[1, 5])])).await;
    assert!(
        error.contains("compiled"),
        "an asynchronous component: {error}"
    );
}

#[tokio::test]
async fn oversized_component_is_refused_unread() {
    let folder = TempDir::new().unwrap();
    let file = fs::File::create(folder.path().join("suspect.wasm")).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    let file = write_configuration(folder.path(), SUSPECT);
    let ended = LOCKGATE.run(&["validate", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.error.contains("at most 64 MiB"), "{}", ended.error);
}

/// Guests that sleep in host calls hold all instances of a plugin: its other calls wait or are refused, and other
/// plugins are served.
#[tokio::test]
async fn sleeping_guests_hold_only_their_own_instances() {
    let gateway = serve("limits = { instances = 8, waiting = 8, deadline_ms = 2000 }").await;
    let mut neighbour = gateway.connect("/s").await;
    let mut sleeping = JoinSet::new();
    for _ in 0..40 {
        let mut client = gateway.connect("/h").await;
        sleeping.spawn(async move {
            client.send("sleep 60000").await;
            client.text().await
        });
    }
    let mut count = [0; 2];
    let answers = async {
        while let Some(text) = sleeping.join_next().await {
            let text = text.unwrap();
            let place = ["Too Many Requests", TIMED_OUT]
                .iter()
                .position(|error| text.contains(error));
            count[place.unwrap_or_else(|| panic!("{text}"))] += 1;
        }
    };
    let served = async {
        for number in 0..100 {
            let text = number.to_string();
            assert_eq!(deed(&mut neighbour, &text).await, text);
        }
    };
    tokio::join!(answers, served);
    assert!(count[0] > 0 && count[1] >= 8, "{count:?}");
    let mut client = gateway.connect("/h").await;
    assert_eq!(deed(&mut client, "posts 0").await, "0 ok");
}
