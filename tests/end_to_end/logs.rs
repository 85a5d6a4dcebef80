//! The log: a stalled reader stops nothing, no client fills it, and both people and machines can read its lines.

use std::fs;

use lockgate_tests::{Gateway, PATIENCE, replace, version, write_configuration};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{LOCKGATE, echo, probe, probe_with, reload::Served};

/// The value of a metric that has no labels.
async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let (status, page) = gateway.page("/metrics").await;
    assert_eq!(status, 200);
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")));
    let value = value.unwrap_or_else(|| panic!("{name} is not in {page}"));
    value.parse().unwrap()
}

/// The number of the request that a line reports as refused.
fn number(line: &str) -> Option<usize> {
    let (_, rest) = line.split_once("\"path\":\"/n")?;
    rest.split('/').next()?.parse().ok()
}

#[tokio::test]
async fn unread_log_stops_nothing_and_dropped_lines_are_counted_and_logged() {
    let gateway = probe().await;
    let mut bystander = gateway.connect("/s").await;
    bystander.id().await;
    {
        let _held = gateway.log().hold();
        // Handlers print within their limit, and more than a pipe holds.
        for _ in 0..4 {
            let mut client = gateway.connect("/s").await;
            client
                .send(json!([{"do": "print bytes", "bytes": 60_000}]).to_string())
                .await;
            bystander.id().await;
        }
        // More than the buffer holds: each client has 50 lines at once.
        let long = "x".repeat(4_000);
        let mut requests = 0;
        while metric(&gateway, "lockgate_log_dropped_total").await == 0 {
            let address = format!("127.1.0.{}", requests / 50 + 1);
            for _ in 0..50 {
                let request = gateway.ws(&format!("/n{requests}/{long}"));
                let request = request.from_address(&address).header("User-Agent", &long);
                request.refused().await;
                requests += 1;
            }
            assert!(requests < 5_000, "nothing was dropped");
        }
        bystander.id().await;
        assert_eq!(gateway.page("/healthz").await.0, 200);
    }
    let said = gateway.log().line(&["lines of the log were dropped"]).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    let dropped = metric(&gateway, "lockgate_log_dropped_total").await;
    assert_eq!(said["lines"], dropped);
    // The lines that were not dropped are in order and whole.
    let lines = gateway.log().lines();
    let numbers: Vec<_> = lines.iter().filter_map(|line| number(line)).collect();
    assert!(numbers.len() > 100, "{}", numbers.len());
    assert!(numbers.is_sorted());
    for line in lines {
        assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
    }
}

#[tokio::test]
async fn gateway_with_an_unread_log_stops_and_its_last_lines_arrive_later() {
    let mut gateway = probe().await;
    let mut client = gateway.connect("/s").await;
    let log = gateway.log().clone();
    {
        let _held = log.hold();
        for _ in 0..4 {
            let print = json!({"do": "print bytes", "bytes": 60_000});
            client.step(print).await;
        }
        gateway.terminate();
        assert_eq!(client.closed().await.0, 1001);
        assert_eq!(gateway.ended().await, Some(0));
    }
    // With a reader the stop waits for nothing, and no line is lost.
    let mut gateway = probe().await;
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
    gateway.log().line(&["\"stopped\""]).await;
}

#[tokio::test]
async fn one_client_does_not_fill_the_log_and_omitted_lines_are_counted() {
    const CALLS: usize = 300;
    let mut gateway = probe_with("", "rollback = { trap_percent = 0 }").await;
    for _ in 0..3 {
        // Connecting again does not reset the limit.
        let mut client = gateway.connect("/s").await;
        for _ in 0..CALLS / 3 {
            client
                .send(r#"[{"do": "fail", "reason": "no luck"}]"#)
                .await;
            client.expect_error("Internal server error").await;
        }
    }
    let mut client = gateway.connect("/s").await;
    for _ in 0..20 {
        client
            .step(json!({"do": "print bytes", "bytes": 60_000}))
            .await;
    }
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
    let said = gateway.log().line(&["were left out", "no luck"]).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&said["client"], &said["plugin"]),
        (&json!("127.0.0.1"), &json!("probe"))
    );
    let lines = gateway.log().lines();
    let failed = |line: &&String| line.contains("no luck") && line.contains("request_id");
    let failures = lines.iter().filter(failed).count();
    assert!(
        (50..100).contains(&failures),
        "{failures} of {CALLS} failures"
    );
    assert_eq!(said["suppressed"], CALLS - failures, "{said}");
    let printed: usize = lines.iter().map(|line| line.matches('x').count()).sum();
    assert!((400_000..900_000).contains(&printed), "{printed} bytes");
    gateway.log().line(&["were left out", "xxxxx"]).await;
}

#[tokio::test]
async fn printed_line_has_the_level_that_it_begins_with() {
    let gateway = probe_with("", "").await;
    let mut client = gateway.connect("/s").await;
    for step in [
        json!({"do": "print", "text": "<3>printed error\n<4>printed warning"}),
        json!({"do": "print error", "text": "<6>printed news"}),
    ] {
        client.step(step).await;
    }
    for (text, level) in [
        ("printed error", "ERROR"),
        ("printed warning", "WARN"),
        ("printed news", "INFO"),
    ] {
        let line = gateway.log().line(&[text]).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&line["message"], &line["level"]),
            (&json!(text), &json!(level))
        );
    }
}

#[tokio::test]
async fn json_lines_have_numbers_with_units_and_no_rust_syntax() {
    let mut gateway = echo().await;
    gateway.connect("/s").await.close(1000, "").await;
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
    gateway.log().line(&["\"stopped\""]).await;
    let lines = gateway.log().lines();
    let event = |message: &str| -> Value {
        let parsed = lines.iter().map(|line| serde_json::from_str(line).unwrap());
        let mut events = parsed.filter(|line: &Value| line["message"] == message);
        events
            .next()
            .unwrap_or_else(|| panic!("{message}: {lines:?}"))
    };
    assert!(event("loaded")["load_ms"].is_u64());
    assert!(event("ready")["max_connections"].is_u64());
    assert_eq!(event("stopping")["drain_s"], 30);
    assert_eq!(event("stopping")["reason"], "asked to stop");
    for line in &lines {
        for part in ["log.file", "/src/", ".rs", "Some(", "\"took\""] {
            assert!(!line.contains(part), "{part}: {line}");
        }
    }
}

#[tokio::test]
async fn text_log_has_one_line_an_event() {
    let folder = TempDir::new().unwrap();
    let configuration = "listeners = [{ address = \"127.0.0.1:0\" }]\nmanagement.address = \"127.0.0.1:0\"\n\
         [apis.a.stages.s]\n[apis.a.routes.\"$default\"]\nintegration = \"echo\"\n[plugins.echo]\ncomponent = \"{echo}\"\n";
    let file = write_configuration(folder.path(), configuration);
    let command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    let gateway = Gateway::start(command, folder, PATIENCE).await;
    let wrong = fs::read_to_string(&file).unwrap() + "grants = [\"group\", \"x\"]\n";
    fs::write(&file, wrong).unwrap();
    assert_eq!(gateway.post("/reload", "{}").await.0, 422);
    let line = gateway.log().line(&["not reloaded"]).await;
    assert_eq!(line.matches("remedy: ").count(), 2, "{line}");
    let lines = gateway.log().lines();
    assert!(lines.iter().all(|line| line.starts_with("20")), "{lines:?}");
}

#[tokio::test]
async fn invalid_level_is_refused_at_start_and_on_a_reload() {
    let gateway = echo().await;
    let file = gateway.folder().join("gateway.toml");
    for (level, remedy) in [
        ("inof", "did you mean \"info\"?"),
        ("lockgate=debg", "did you mean \"debug\"?"),
    ] {
        let mut command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
        command.env("LOCKGATE_LOG", level);
        let ended = LOCKGATE.end(command).await;
        assert_eq!(ended.code, Some(1));
        for part in ["LOCKGATE_LOG: ", "is no level", remedy] {
            assert!(ended.error.contains(part), "{part}: {}", ended.error);
        }
    }
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("info,lockgate=debug", "inof")).unwrap();
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 422);
    for part in ["gateway.toml:5: log.level: ", "did you mean"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // The level stays as it was.
    gateway.log().line(&["not reloaded", "log.level"]).await;
}

#[tokio::test]
async fn reloads_are_counted_by_result_if_requested_or_effective() {
    let served = Served::new().await;
    let counts = async |expected: [u64; 3]| {
        let (_, page) = served.gateway.page("/metrics").await;
        for (result, count) in ["changed", "unchanged", "refused"].iter().zip(expected) {
            let line = format!("lockgate_reloads_total{{result=\"{result}\"}} {count}\n");
            assert!(page.contains(&line), "{line}: {page}");
        }
    };
    let log = served.gateway.log();
    replace(&served.component, &version(2, '-'));
    log.line(&["changed file", "version 2 serves"]).await;
    counts([1, 0, 0]).await;
    // A file that is only touched is no reload; the change after it is.
    let touched = fs::File::options()
        .append(true)
        .open(&served.component)
        .unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    replace(&served.component, &version(3, '-'));
    log.line(&["changed file", "version 3 serves"]).await;
    counts([2, 0, 0]).await;
    served.reload().await;
    counts([2, 1, 0]).await;
    served.edit("two_way", "twoway");
    served.refused().await;
    counts([2, 1, 1]).await;
}

#[tokio::test]
async fn foreign_names_add_no_line_to_the_metrics_page() {
    let configuration = r#"
[apis.a.stages.s]

[apis.a.routes."a\"} 1\nevil 5\n"]
integration = "echo"

[plugins.echo]
component = "{echo}"
"#;
    let gateway = LOCKGATE.serve(configuration).await;
    let accept = "Host: localhost\r\nAccept: application/openmetrics-text\r\n";
    let (_, page) = gateway.ask("GET", "/metrics", accept).await;
    for line in page.lines() {
        assert!(
            line.starts_with("# ") || line.starts_with("lockgate_"),
            "{line}"
        );
    }
    assert!(page.ends_with("# EOF\n"), "{page}");
}
