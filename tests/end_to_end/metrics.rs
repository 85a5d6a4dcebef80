//! The metrics page: what clients and operators do is counted, every metric is documented, and the page is bounded.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use lockgate_tests::{Client, Gateway, within};
use serde_json::json;

use crate::{LOCKGATE, probe_with};

/// A page of a gateway.
async fn page(gateway: &Gateway) -> String {
    let (status, page) = gateway.page("/metrics").await;
    assert_eq!(status, 200);
    page
}

/// Waits until the page has this line, after the prefix of all names.
pub(crate) async fn expect(gateway: &Gateway, sample: &str) {
    let line = format!("lockgate_{sample}");
    let with_exemplar = format!("{line} # ");
    let awaited = format!("the line {line}");
    within(&awaited, async {
        loop {
            let page = page(gateway).await;
            let mut lines = page.lines();
            if lines.any(|shown| shown == line || shown.starts_with(&with_exemplar)) {
                return;
            }
        }
    })
    .await;
}

async fn step(client: &mut Client, step: serde_json::Value) {
    client.send(json!([step]).to_string()).await;
}

#[tokio::test]
async fn clients_are_counted_by_stage_route_direction_and_outcome() {
    let gateway = probe_with(
        "limits = { message_kib = 4 }",
        "limits = { deadline_ms = 200 }",
    )
    .await;
    let mut first = gateway.connect("/s").await;
    let id = first.id().await;
    expect(&gateway, "connections{api=\"a\",stage=\"s\"} 1").await;
    expect(&gateway, "connect_count_total{api=\"a\",stage=\"s\"} 1").await;
    let of_default = "api=\"a\",stage=\"s\",route=\"$default\"";
    for direction in ["in", "out"] {
        let sample = format!("message_count_total{{{of_default},direction=\"{direction}\"}} 1");
        expect(&gateway, &sample).await;
    }
    // What others send is no answer.
    let mut second = gateway.connect("/s").await;
    step(&mut second, json!({"do": "send", "id": id, "text": "four"})).await;
    first.expect("four").await;
    second.json().await;
    let posted = "api=\"a\",stage=\"s\",route=\"@connections\",direction=\"out\"";
    expect(&gateway, &format!("message_count_total{{{posted}}} 1")).await;
    expect(&gateway, &format!("message_bytes_total{{{posted}}} 4")).await;
    // Errors, each with the request that the log tells more of.
    step(&mut second, json!({"do": "fail", "reason": "no luck"})).await;
    let (_, request_id) = second.expect_error("Internal server error").await;
    expect(
        &gateway,
        &format!("integration_error_total{{{of_default}}} 1"),
    )
    .await;
    let exemplar = format!("# {{request_id=\"{request_id}\"}} 1");
    let accept = "Host: localhost\r\nAccept: application/openmetrics-text; version=1.0.0, text/plain;q=0.5\r\n";
    let (_, asked) = gateway.ask("GET", "/metrics", accept).await;
    assert!(
        asked.contains(&exemplar) && asked.ends_with("# EOF\n"),
        "{exemplar}"
    );
    // Of each histogram, the last bucket has all.
    for histogram in [
        "integration_latency_seconds",
        "handler_cpu_seconds",
        "outbox_peak_bytes",
    ] {
        let bucket = format!("lockgate_{histogram}_bucket{{le=\"+Inf\",api=\"a\",stage=\"s\"}} ");
        assert!(asked.contains(&bucket), "{asked}");
    }
    let plain = page(&gateway).await;
    assert!(
        !plain.contains(" # {") && !plain.contains("# EOF"),
        "{plain}"
    );
    assert!(
        plain.contains("# TYPE lockgate_integration_error_total counter\n"),
        "{plain}"
    );
    step(&mut second, json!({"do": "trap"})).await;
    second.expect_error("Internal server error").await;
    expect(
        &gateway,
        &format!("execution_error_total{{{of_default}}} 1"),
    )
    .await;
    expect(&gateway, "traps_total{plugin=\"probe\"} 1").await;
    // Closes and refusals.
    second.send("x".repeat(5_000)).await;
    assert_eq!(second.closed().await.0, 1009);
    expect(
        &gateway,
        "closes_total{api=\"a\",stage=\"s\",code=\"1009\",by=\"gateway\"} 1",
    )
    .await;
    first.close(4_321, "").await;
    expect(
        &gateway,
        "closes_total{api=\"a\",stage=\"s\",code=\"4xxx\",by=\"client\"} 1",
    )
    .await;
    expect(&gateway, "connections{api=\"a\",stage=\"s\"} 0").await;
    expect(&gateway, "outbox_peak_bytes_count{api=\"a\",stage=\"s\"} 2").await;
    gateway.ws("/nowhere").refused().await;
    expect(
        &gateway,
        "handshakes_total{result=\"refused\",reason=\"unknown_stage\"} 1",
    )
    .await;
    expect(
        &gateway,
        "handshakes_total{result=\"accepted\",reason=\"none\"} 2",
    )
    .await;
    let foreign = gateway.ws("/s").header("Origin", "https://other.example");
    foreign.refused().await;
    expect(
        &gateway,
        "handshakes_total{result=\"refused\",reason=\"origin\"} 1",
    )
    .await;
    expect(&gateway, "client_error_total{api=\"a\",stage=\"s\"} 1").await;
    // Two of `$connect`, two of `$disconnect`, and four messages.
    expect(
        &gateway,
        "integration_latency_seconds_count{api=\"a\",stage=\"s\"} 8",
    )
    .await;
}

#[tokio::test]
async fn counters_go_on_over_a_reload() {
    let gateway = probe_with("", "").await;
    let mut client = gateway.connect("/s").await;
    client.id().await;
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{said}");
    client.id().await;
    expect(
        &gateway,
        "message_count_total{api=\"a\",stage=\"s\",route=\"$default\",direction=\"in\"} 2",
    )
    .await;
}

/// The text of a file from the top of the repository.
fn read(file: &str) -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(top.join(file)).unwrap()
}

/// The metrics that a text names, without the endings that counters and histograms add.
fn named(text: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_of_name(c));
    let names = words.filter_map(|word| word.strip_prefix("lockgate_"));
    let names = names.map(|name| {
        let endings = ["_total", "_bucket", "_count", "_sum"];
        let ending = endings.iter().find_map(|ending| name.strip_suffix(ending));
        // A counter may have such a word in its name.
        match ending {
            Some(inner) if inner == "connect" || inner == "message" => name,
            Some(inner) => inner,
            None => name,
        }
    });
    names.map(str::to_owned).collect()
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_metric_is_on_the_page() {
    let gateway = probe_with("", "").await;
    let page = page(&gateway).await;
    let shown = page.lines().filter(|line| line.starts_with("# TYPE "));
    let shown = named(&shown.collect::<Vec<_>>().join("\n"));
    let text = read("docs/operating.md");
    let (_, section) = text.split_once("## Metrics").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows: Vec<_> = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .collect();
    assert_eq!(named(&rows.join("\n")), shown);
    // Those of the dashboard and of the alerts are metrics of the page.
    for file in ["docs/grafana.json", "docs/alerts.yaml"] {
        let used = named(&read(file));
        assert!(used.len() >= 5, "{file}: {used:?}");
        let unknown: Vec<_> = used.difference(&shown).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
}

#[tokio::test]
async fn ten_thousand_routes_make_a_page_of_less_than_two_megabytes() {
    const ROUTES: usize = 10_000;
    let mut configuration = "[apis.quotes.stages.production]\n".to_owned();
    for number in 0..ROUTES {
        let route =
            format!("\n[apis.quotes.routes.instrument-{number:05}]\nintegration = \"quiet\"\n");
        configuration.push_str(&route);
    }
    configuration.push_str("\n[integrations.quiet]\nmock = { reply = \"ok\" }\n");
    let configuration = configuration.replace("\"quiet\"\n", "\"quiet\"\ntwo_way = true\n");
    let gateway = LOCKGATE.serve(&configuration).await;
    let mut client = gateway.connect("/production").await;
    for number in 0..ROUTES {
        client
            .feed(format!("{{\"action\":\"instrument-{number:05}\"}}"))
            .await;
        if number % 100 == 99 {
            client.send("{\"action\":\"none\"}").await;
            for _ in 0..100 {
                client.expect("ok").await;
            }
            client.expect_error("Forbidden").await;
        }
    }
    let page = page(&gateway).await;
    assert!(page.len() < 2_000_000, "{}", page.len());
    let mut labels = String::new();
    write!(labels, "api=\"quotes\",stage=\"production\"").unwrap();
    let counted = page.matches("message_count_total{").count();
    assert_eq!(
        counted,
        2 * 2_000 + 3,
        "two thousand routes, the others, and messages without one"
    );
    expect(
        &gateway,
        &format!("message_count_total{{{labels},route=\"$other\",direction=\"in\"}} 8000"),
    )
    .await;
    expect(
        &gateway,
        &format!("message_count_total{{{labels},route=\"$none\",direction=\"in\"}} 100"),
    )
    .await;
    expect(&gateway, &format!("client_error_total{{{labels}}} 100")).await;
}
