//! Plugins in their sandbox: memory of instances, limits on calls, refused components, and the log of a handler.

use std::{
    fs,
    time::{Duration, Instant},
};

use lockgate_tests::{Client, Gateway, Guest, write_configuration};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    LOCKGATE, compile::files_below, connect::check_refusal, probe, probe_configuration, probe_with,
};

pub(crate) async fn counter(client: &mut Client) -> u64 {
    client
        .step(json!({"do": "counter"}))
        .await
        .as_u64()
        .unwrap()
}

#[tokio::test]
async fn reused_instance_keeps_its_memory() {
    let gateway = probe_with("", "limits = { instances = 1 }").await;
    let mut one = gateway.connect("/s").await;
    let mut other = gateway.connect("/s").await;
    assert_eq!(counter(&mut one).await, 0);
    assert_eq!(counter(&mut other).await, 1);
    assert_eq!(counter(&mut one).await, 2);
}

#[tokio::test]
async fn fresh_instance_for_each_message_keeps_nothing() {
    let gateway = probe_with("", "isolation = \"per-message\"").await;
    let mut client = gateway.connect("/s").await;
    for _ in 0..20 {
        assert_eq!(counter(&mut client).await, 0);
    }
    assert_eq!(
        client
            .steps(json!([{"do": "counter"}, {"do": "counter"}]))
            .await,
        [0, 1]
    );
}

#[tokio::test]
async fn instance_is_replaced_after_its_uses() {
    let gateway = probe_with("", "limits = { instances = 1, max_uses = 4 }").await;
    let mut client = gateway.connect("/s").await;
    // `$connect` was the first use.
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(counter(&mut client).await);
    }
    assert_eq!(seen, [0, 1, 2, 0, 1, 2, 3]);
}

#[tokio::test]
async fn broken_instance_is_never_used_again() {
    let gateway = probe_with(
        "",
        "limits = { instances = 1, deadline_ms = 400, cpu_ms = 200, memory_mib = 8 }",
    )
    .await;
    let mut client = gateway.connect("/s").await;
    for (step, error) in [
        (json!({"do": "trap"}), "Internal server error"),
        (json!({"do": "recurse"}), "Internal server error"),
        (json!({"do": "hog"}), "Internal server error"),
        (json!({"do": "spin"}), "Endpoint request timed out"),
        (
            json!({"do": "sleep", "ms": 60_000}),
            "Endpoint request timed out",
        ),
    ] {
        assert_eq!(counter(&mut client).await, 0, "before {step}");
        assert_eq!(counter(&mut client).await, 1, "before {step}");
        client.send(json!([step]).to_string()).await;
        client.expect_error(error).await;
    }
    assert_eq!(counter(&mut client).await, 0);
    // A failure that the handler reports keeps its instance.
    client
        .send(json!([{"do": "fail", "reason": "as told"}]).to_string())
        .await;
    client.expect_error("Internal server error").await;
    assert_eq!(counter(&mut client).await, 1);
}

#[tokio::test]
async fn trapped_invocations_do_not_harm_sound_ones() {
    const TURNS: usize = 5_000;
    let gateway = probe_with("", "limits = { instances = 2 }").await;
    let mut client = gateway.connect("/s").await;
    for _ in 0..TURNS {
        client
            .feed(json!([{"do": "counter"}, {"do": "trap"}]).to_string())
            .await;
        client.send(json!([{"do": "counter"}]).to_string()).await;
        client.expect_error("Internal server error").await;
        assert_eq!(client.json().await, json!([0]));
    }
}

#[tokio::test]
async fn spinning_handler_is_stopped_while_others_are_served() {
    let spinning = r#"
[apis.b.stages.t]

[apis.b.routes]
"$default" = { integration = "other", two_way = true }

[plugins.other]
component = "{probe}"
grants = ["connections", "groups"]
"#;
    // The handlers share a thread in turn, so that all of them spin for longer than this test watches.
    let limits = "limits = { deadline_ms = 29000, cpu_ms = 500 }";
    let gateway = LOCKGATE
        .serve(&(probe_configuration("", limits) + spinning))
        .await;
    let mut other = gateway.connect("/t").await;
    other.id().await;
    let mut spinners = Vec::new();
    for _ in 0..4 {
        let mut spinner = gateway.connect("/s").await;
        spinner
            .send(json!([{"do": "print", "text": "spinning"}, {"do": "spin"}]).to_string())
            .await;
        spinners.push(spinner);
    }
    gateway.log().line(&["spinning"]).await;

    // No handler has been stopped yet, and another plugin answers over and over.
    let mut slowest = Duration::ZERO;
    let began = Instant::now();
    let mut served = 0;
    while began.elapsed().as_millis() < 1_000 {
        let asked = Instant::now();
        other.id().await;
        slowest = slowest.max(asked.elapsed());
        served += 1;
    }
    assert!(
        served >= 20,
        "only {served} answers in a second beside spinning guests"
    );
    eprintln!(
        "beside 4 spinning guests: {served} answers in a second, the slowest took {slowest:?}"
    );
    for spinner in &mut spinners {
        spinner.expect_error("Endpoint request timed out").await;
    }
    assert_eq!(spinners[0].step(json!({"do": "counter"})).await, 0);
}

#[tokio::test]
async fn handler_over_its_cpu_time_is_stopped_and_a_waiting_one_is_not() {
    let gateway = probe_with("", "limits = { deadline_ms = 10000, cpu_ms = 200 }").await;
    let mut client = gateway.connect("/s").await;
    assert_eq!(
        client.step(json!({"do": "sleep", "ms": 600})).await,
        Value::Null
    );
    client
        .send(json!([{"do": "spin for", "ms": 9_000}]).to_string())
        .await;
    client.expect_error("Endpoint request timed out").await;
    client
        .send(json!([{"do": "sleep", "ms": 12_000}]).to_string())
        .await;
    client.expect_error("Endpoint request timed out").await;
}

#[tokio::test]
async fn message_is_refused_as_busy_when_every_instance_and_wait_is_taken() {
    let limits = "limits = { instances = 1, waiting = 1, deadline_ms = 20000, cpu_ms = 5000 }";
    let gateway = probe_with("", limits).await;
    let mut running = gateway.connect("/s").await;
    let mut waiting = gateway.connect("/s").await;
    let mut refused = gateway.connect("/s").await;
    running
        .send(json!([{"do": "print", "text": "it runs"}, {"do": "sleep", "ms": 3_000}]).to_string())
        .await;
    gateway.log().line(&["it runs"]).await;
    // One of these two waits and the other is refused at once; the scheduler decides which.
    for client in [&mut waiting, &mut refused] {
        client.send(json!([{"do": "counter"}]).to_string()).await;
    }
    let (one, other) = tokio::join!(waiting.text(), refused.text());
    let told: Vec<_> = [&one, &other]
        .into_iter()
        .filter(|text| text.contains("Too Many Requests"))
        .collect();
    assert_eq!(told.len(), 1, "{one} {other}");
    assert!(
        told[0].starts_with(r#"{"message": "Too Many Requests", "connectionId":""#),
        "{}",
        told[0]
    );
    assert!([&one, &other].contains(&&"[0]".to_owned()), "{one} {other}");
    assert_eq!(running.json().await, json!([null, null]));
    // There is room again, for messages and for clients.
    refused.id().await;
    gateway.connect("/s").await;
}

/// As docs/serve.md says of the time of a call: it begins with the instance.
#[tokio::test]
async fn time_in_the_line_for_an_instance_does_not_count_for_the_deadline() {
    let limits = "limits = { instances = 1, waiting = 8, deadline_ms = 1000 }";
    let gateway = probe_with("", limits).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(gateway.connect("/s").await);
    }
    let sleep = json!([{"do": "sleep", "ms": 500}]).to_string();
    for client in &mut clients {
        client.send(sleep.clone()).await;
    }
    // The last one waits for longer than its deadline.
    for client in &mut clients {
        assert_eq!(client.json().await, json!([null]));
    }
    let mut client = gateway.connect("/s").await;
    client
        .send(json!([{"do": "sleep", "ms": 60_000}]).to_string())
        .await;
    client.expect_error("Endpoint request timed out").await;
}

#[tokio::test]
async fn client_is_refused_when_every_instance_and_wait_is_taken() {
    let gateway = probe_with(
        "",
        "limits = { instances = 1, waiting = 0, deadline_ms = 20000 }",
    )
    .await;
    let mut running = gateway.connect("/s").await;
    running
        .send(json!([{"do": "print", "text": "it runs"}, {"do": "sleep", "ms": 2_000}]).to_string())
        .await;
    gateway.log().line(&["it runs"]).await;
    let refused = gateway.ws("/s").refused().await;
    check_refusal(&refused, 429, "Too Many Requests");
    running.json().await;
    gateway.connect("/s").await;
}

/// The errors of `validate` and `run` about a plugin that they refuse to load.
async fn refusals(component: &str, grants: &str) -> Vec<String> {
    let folder = TempDir::new().unwrap();
    let configuration = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[apis.a.stages.s]\n[apis.a.routes.\"$default\"]\n\
         integration = \"suspect\"\n[plugins.suspect]\ncomponent = \"{component}\"\ngrants = {grants}\n"
    );
    let file = write_configuration(folder.path(), &configuration);
    let mut errors = Vec::new();
    for command in ["validate", "run"] {
        let ended = LOCKGATE.run(&[command, file.to_str().unwrap()]).await;
        assert_eq!(ended.code, Some(1), "{command}: {ended:?}");
        assert!(
            ended.error.contains("suspect"),
            "{command} does not name the plugin: {}",
            ended.error
        );
        assert!(
            !ended.error.contains("panicked"),
            "{command}: {}",
            ended.error
        );
        errors.push(ended.error);
    }
    errors
}

#[tokio::test]
async fn import_without_a_grant_is_refused_by_name() {
    for (grants, granted, missing) in [
        (
            r#"["connections"]"#,
            "lockgate:plugin/connections",
            "lockgate:plugin/groups",
        ),
        (
            r#"["groups"]"#,
            "lockgate:plugin/groups",
            "lockgate:plugin/connections",
        ),
    ] {
        for error in refusals("{probe}", grants).await {
            assert!(
                error.contains(missing) && !error.contains(granted),
                "{error}"
            );
        }
    }
    for error in refusals("{probe}", "[]").await {
        assert!(error.contains("lockgate:plugin/connections"), "{error}");
        assert!(error.contains("lockgate:plugin/groups"), "{error}");
    }
}

#[tokio::test]
pub(crate) async fn import_of_the_file_system_is_refused() {
    for error in refusals("{filesystem}", r#"["connections", "groups"]"#).await {
        assert!(error.contains("wasi:filesystem/"), "{error}");
    }
}

#[tokio::test]
pub(crate) async fn import_of_the_network_is_refused() {
    for error in refusals("{sockets}", r#"["connections", "groups"]"#).await {
        assert!(error.contains("wasi:sockets/"), "{error}");
    }
}

#[tokio::test]
pub(crate) async fn component_of_another_world_is_refused() {
    for error in refusals("{command}", "[]").await {
        assert!(error.contains("lockgate:plugin/handler"), "{error}");
    }
}

#[tokio::test]
async fn file_without_a_component_is_refused() {
    let folder = TempDir::new().unwrap();
    let whole = fs::read(Guest::Echo.path()).unwrap();
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("text", b"not a component"),
        ("module", b"\0asm\x01\0\0\0"),
        ("nothing inside", b"\0asm\x0d\0\x01\0"),
        ("cut off", &whole[..whole.len() / 2]),
        ("native code", b"\x7fELF\x02\x01\x01\0"),
    ] {
        let file = folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        refusals(file.to_str().unwrap(), "[]").await;
    }
    let missing = folder.path().join("missing.wasm");
    for error in refusals(missing.to_str().unwrap(), "[]").await {
        assert!(error.contains("missing.wasm"), "{error}");
    }
}

#[tokio::test]
async fn handler_has_no_environment() {
    let gateway = probe().await;
    let mut client = gateway.connect("/s").await;
    let environment = client.step(json!({"do": "environment"})).await;
    assert_eq!(environment, json!({"variables": [], "arguments": []}));
}

#[tokio::test]
async fn handler_output_is_logged_with_its_origin() {
    let gateway = probe().await;
    let mut client = gateway.connect("/s").await;
    let steps = json!([
        {"do": "event"}, {"do": "context"}, {"do": "print", "text": "to output\nin two lines"},
        {"do": "print error", "text": "to error"},
    ]);
    let answers = client.steps(steps).await;
    for text in ["to output", "in two lines", "to error"] {
        let line = gateway.log().line(&[text]).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["target"], "guest", "{line}");
        assert_eq!(line["message"], text);
        assert_eq!(line["plugin"], "probe");
        assert_eq!(line["connection"], answers[0]["connection"]);
        assert_eq!(line["request_id"], answers[1]["request"]);
    }
}

#[tokio::test]
async fn text_without_newline_is_logged_with_its_own_event() {
    let gateway = probe_with("", "isolation = \"reused\"\nlimits = { instances = 1 }").await;
    let mut first = gateway.connect("/s").await;
    let mut second = gateway.connect("/s").await;
    let answers = first
        .steps(json!([{"do": "event"}, {"do": "print bytes", "bytes": 20}]))
        .await;
    second
        .step(json!({"do": "print", "text": "of the second"}))
        .await;
    let line = gateway.log().line(&[&"x".repeat(20)]).await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["message"], "x".repeat(20));
    assert_eq!(line["connection"], answers[0]["connection"]);
    gateway.log().line(&["\"of the second\""]).await;
}

#[tokio::test]
async fn text_without_newline_is_logged_before_the_panic_that_follows() {
    let gateway = probe().await;
    let mut client = gateway.connect("/s").await;
    let id = client.id().await;
    let steps = json!([{"do": "print bytes", "bytes": 20}, {"do": "trap"}]);
    client.send(steps.to_string()).await;
    gateway
        .log()
        .line(&["panicked at", "trapped on request"])
        .await;
    let lines = gateway.log().lines();
    let place = |part: &str| lines.iter().position(|line| line.contains(part));
    let printed = place(&"x".repeat(20)).unwrap_or_else(|| panic!("it is lost: {lines:#?}"));
    assert!(Some(printed) < place("panicked at"), "{lines:#?}");
    let line: Value = serde_json::from_str(&lines[printed]).unwrap();
    assert_eq!(line["message"], "x".repeat(20));
    assert_eq!(line["connection"], id);
}

#[tokio::test]
async fn control_bytes_in_a_log_line_are_escaped() {
    // The text format, since JSON would escape them by itself.
    let configuration =
        "[log]\nformat = \"text\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n".to_owned();
    let gateway = LOCKGATE
        .serve_as_written(&(configuration + &probe_configuration("", "")))
        .await;
    let mut client = gateway.connect("/s").await;
    let text = "before \u{1b}[31mred\u{1b}]0;title\u{7}\r\u{8}\u{0}\u{85}\u{9b}31m after";
    client.step(json!({"do": "print", "text": text})).await;
    let line = gateway.log().line(&["before", "after"]).await;
    let inside = &line[line.find("before").unwrap()..];
    assert!(!inside.chars().any(char::is_control), "{inside:?}");
    assert!(inside.contains("red"), "{inside:?}");
}

#[tokio::test]
async fn handler_output_over_its_limit_is_cut_off() {
    let gateway = probe_with("", "limits = { log_kib = 1, cpu_ms = 2000 }").await;
    let mut client = gateway.connect("/s").await;
    let steps =
        json!([{"do": "print bytes", "bytes": 1_000_000}, {"do": "print", "text": "left out"}]);
    client.steps(steps).await;
    client
        .step(json!({"do": "print", "text": "the next invocation"}))
        .await;
    gateway.log().line(&["the next invocation"]).await;
    let logged: usize = gateway
        .log()
        .lines()
        .iter()
        .map(|line| line.matches('x').count())
        .sum();
    assert!(
        (1_000..3_000).contains(&logged),
        "{logged} of 1,000,000 bytes"
    );
    assert!(!gateway.log().contains(&["\"left out\""]));
}

#[tokio::test]
async fn compiled_component_is_kept_in_the_cache() {
    // A folder of the test's own, since the harness's is shared and not empty.
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    let file = write_configuration(
        folder.path(),
        &format!(
            "compile_cache = {cache:?}\n[[listeners]]\naddress = \"127.0.0.1:0\"\n{}",
            probe_configuration("", "")
        ),
    );
    fs::create_dir(&cache).unwrap();
    let words = ["validate", file.to_str().unwrap()];
    assert_eq!(LOCKGATE.run(&words).await.code, Some(0));
    let kept: Vec<_> = fs::read_dir(&cache)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(!kept.is_empty(), "nothing was kept");
    assert_eq!(LOCKGATE.run(&words).await.code, Some(0));

    // A file that was changed after it was compiled is not run.
    for path in files_below(&cache) {
        fs::write(path, b"something else").unwrap();
    }
    assert_eq!(LOCKGATE.run(&words).await.code, Some(0));
}

/// The context switches that the thread of the epochs has asked for.
fn sleeps_of_epochs(gateway: &Gateway) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", gateway.id())).unwrap();
    // A thread may end meanwhile.
    let statuses =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let statuses: Vec<_> = statuses.collect();
    let of_epochs = |status: &&String| status.starts_with("Name:\tepochs\n");
    let status = statuses.iter().find(of_epochs).unwrap();
    let mut lines = status.lines();
    let sleeps = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    sleeps.unwrap().trim().parse().unwrap()
}

/// A clock that ticks all the time is 25 times awake in the time of a look.
#[tokio::test]
async fn spinning_handlers_are_stopped_after_the_clock_of_the_guests_slept() {
    let gateway = probe_with("", "limits = { cpu_ms = 20 }").await;
    let mut clients = [gateway.connect("/s").await, gateway.connect("/s").await];
    for _ in 0..5 {
        let give_up = Instant::now() + Duration::from_secs(20);
        let mut before = None;
        loop {
            let now = sleeps_of_epochs(&gateway);
            if before.replace(now) == Some(now) {
                break;
            }
            assert!(Instant::now() < give_up, "the clock never sleeps");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for client in &mut clients {
            client.send(json!([{"do": "spin"}]).to_string()).await;
        }
        for client in &mut clients {
            client.expect_error("Endpoint request timed out").await;
        }
    }
}
