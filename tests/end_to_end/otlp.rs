//! Traces and logs by OTLP: what a collector gets, from a collector that takes everything and from those that do not.

use lockgate_tests::{
    Certificate, Collector, CollectorAnswer, Gateway, echo_configuration, probe_configuration,
    within,
};
use serde_json::json;

use crate::LOCKGATE;

/// A client's trace, and its span.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A text that nothing may show.
const CANARY: &str = "canary-5f1c0a9e";

/// A table for this collector, which traces everything unless it says otherwise.
fn table(collector: &Collector, more: &str) -> String {
    let one_in = if more.contains("one_in") {
        ""
    } else {
        "one_in = 1"
    };
    let address = collector.address();
    format!("[otlp]\nendpoint = \"http://{address}\"\n{one_in}\n{more}\n")
}

/// A gateway with the guest `probe`, whose spans and lines go to this collector.
async fn probe(collector: &Collector, more: &str) -> Gateway {
    let configuration = table(collector, more) + &probe_configuration("", "");
    LOCKGATE.serve(&configuration).await
}

/// A gateway that echoes.
async fn echo(collector: &Collector, more: &str) -> Gateway {
    let configuration = table(collector, more) + &echo_configuration("");
    LOCKGATE.serve(&configuration).await
}

/// Waits until a counter of the metrics page is at least this.
async fn counted(gateway: &Gateway, sample: &str, least: u64) {
    let prefix = format!("lockgate_{sample} ");
    within(&prefix, async {
        loop {
            let (_, page) = gateway.page("/metrics").await;
            let value = page.lines().find_map(|line| line.strip_prefix(&prefix));
            if value.is_some_and(|value| value.parse::<u64>().unwrap() >= least) {
                return;
            }
        }
    })
    .await;
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// What a collector has of a connection: its handshake in the client's trace, and messages with a link to that, each with
/// the lines that its plugin has printed.
async fn check_traces(collector: &Collector, gateway: &Gateway) {
    let mut client = gateway
        .wss(&format!("/s?token={CANARY}"))
        .header("traceparent", &traceparent("01"))
        .header("Authorization", &format!("Bearer {CANARY}"))
        .header("Cookie", &format!("session={CANARY}"))
        .open()
        .await;
    let printed = json!([{"do": "print", "text": "here I am"}, {"do": "reply", "text": CANARY}]);
    client.send(printed.to_string()).await;
    client.expect(CANARY).await;
    client
        .send(json!([{"do": "fail", "reason": format!("no luck{}", "!".repeat(600))}]).to_string())
        .await;
    let (_, request_id) = client.expect_error("Internal server error").await;
    client.close(4_321, "").await;

    let handshake = collector
        .span("of the handshake", |span| span.kind == 2)
        .await;
    assert_eq!((&*handshake.trace, &*handshake.parent), (TRACE, PARENT));
    assert_eq!(handshake.name, "GET /s");
    assert!(handshake.begin < handshake.end, "{handshake:?}");
    for (name, value) in [
        ("http.response.status_code", "101"),
        ("http.route", "/s"),
        ("url.path", "/s"),
        ("url.scheme", "https"),
        ("client.address", "127.0.0.1"),
        ("lockgate.stage", "a/s"),
    ] {
        assert_eq!(handshake.attributes[name], value, "{handshake:?}");
    }
    assert_eq!(handshake.resource["service.name"], "lockgate");
    let connect = collector
        .span("of $connect", |span| span.name == "$connect")
        .await;
    assert_eq!((&*connect.trace, &connect.parent), (TRACE, &handshake.id));

    let link = [(handshake.trace.clone(), handshake.id.clone())];
    let message = collector
        .span("of the message", |span| span.kind == 5 && span.status == 0)
        .await;
    assert_eq!(message.name, "process $default");
    assert_ne!(message.trace, TRACE);
    assert_eq!((&*message.parent, &*message.links), ("", &link[..]));
    for (name, value) in [
        (
            "messaging.message.body.size",
            printed.to_string().len().to_string(),
        ),
        ("lockgate.answer.size", CANARY.len().to_string()),
        ("lockgate.plugin", "probe".to_owned()),
        ("lockgate.route", "$default".to_owned()),
        (
            "lockgate.connection",
            handshake.attributes["lockgate.connection"].clone(),
        ),
    ] {
        assert_eq!(message.attributes[name], value, "{message:?}");
    }
    let line = collector.line("here I am").await;
    assert_eq!((&line.trace, &line.span), (&message.trace, &message.id));
    assert_eq!(line.severity, "INFO");
    for (name, value) in [
        ("target", "guest"),
        ("plugin", "probe"),
        ("route", "$default"),
    ] {
        assert_eq!(
            line.attributes[&format!("lockgate.{name}")],
            value,
            "{line:?}"
        );
    }
    // The log on standard error leads there too.
    let ids = [
        format!("\"trace_id\":\"{}\"", message.trace),
        format!("\"span_id\":\"{}\"", message.id),
    ];
    gateway.log().line(&["here I am", &ids[0], &ids[1]]).await;

    // So do the metrics, for those who ask for exemplars.
    let accept = "Host: localhost\r\nAccept: application/openmetrics-text\r\n";
    let (_, page) = gateway.ask("GET", "/metrics", accept).await;
    let mut exemplars = page
        .lines()
        .filter_map(|line| line.split_once(" # {trace_id=\""));
    let (bucket, exemplar) = exemplars.next().unwrap();
    assert!(
        bucket.starts_with("lockgate_integration_latency_seconds_bucket{"),
        "{page}"
    );
    let trace = &exemplar[..32];
    collector
        .span("of the exemplar", |span| span.trace == trace)
        .await;

    let failed = collector
        .span("of the failure", |span| {
            span.attributes.get("lockgate.request_id") == Some(&request_id)
        })
        .await;
    assert_eq!(
        (failed.status, &*failed.attributes["error.type"]),
        (2, "failed")
    );
    assert_eq!(failed.status_message.len(), 512);
    let warned = collector.line("no luck").await;
    assert_eq!((&warned.span, &*warned.severity), (&failed.id, "WARN"));
    let end = collector
        .span("of $disconnect", |span| span.name == "process $disconnect")
        .await;
    assert_eq!(end.links, link);
    let ended = collector.line("ended: ").await;
    assert_eq!((&ended.trace, &ended.span), (&end.trace, &end.id));
    let connected = collector.line("connected").await;
    assert_eq!((&*connected.trace, &connected.span), (TRACE, &handshake.id));

    let shows = |bytes: &[u8]| {
        bytes
            .windows(CANARY.len())
            .any(|part| part == CANARY.as_bytes())
    };
    assert!(!collector.exports().iter().any(|export| shows(&export.body)));
    assert!(!gateway.log().contains(&[CANARY]));
    let (_, page) = gateway.page("/metrics").await;
    assert!(!page.contains(CANARY));
}

#[tokio::test]
async fn span_of_a_message_leads_to_its_handshake_and_to_the_lines_of_its_plugin() {
    let collector = Collector::http().await;
    let headers = format!("headers = {{ Authorization = \"Bearer {CANARY}\" }}");
    let gateway = probe(&collector, &headers).await;
    check_traces(&collector, &gateway).await;
    for export in collector.exports() {
        assert!(
            ["/v1/traces", "/v1/logs"].contains(&&*export.path),
            "{export:?}"
        );
        for (name, value) in [
            ("content-type", "application/x-protobuf".to_owned()),
            ("authorization", format!("Bearer {CANARY}")),
        ] {
            assert!(
                export.headers.contains(&(name.to_owned(), value)),
                "{export:?}"
            );
        }
    }
}

#[tokio::test]
async fn span_of_a_message_names_the_protocol_of_its_connection() {
    let collector = Collector::http().await;
    let configuration = table(&collector, "") + &probe_configuration("", "");
    let gateway = LOCKGATE.serve_quic(&configuration).await;
    let http3 = gateway.http3().await;
    let mut websocket = http3.open("/s").await;
    websocket.id().await;
    let mut session = http3.session("/s", &[]).await;
    session.json("[]").await;
    for protocol in ["websocket", "webtransport"] {
        let what = format!("of a message by {protocol}");
        let is_of = |name: &str| name == protocol;
        collector
            .span(&what, |span| {
                span.kind == 5 && is_of(&span.attributes["messaging.system"])
            })
            .await;
    }
}

#[tokio::test]
async fn collector_by_grpc_gets_the_same() {
    let collector = Collector::grpc().await;
    let more = format!("protocol = \"grpc\"\nheaders = {{ Authorization = \"Bearer {CANARY}\" }}");
    let gateway = probe(&collector, &more).await;
    check_traces(&collector, &gateway).await;
    for export in collector.exports() {
        for (name, value) in [
            ("content-type", "application/grpc".to_owned()),
            ("te", "trailers".to_owned()),
            ("authorization", format!("Bearer {CANARY}")),
        ] {
            assert!(
                export.headers.contains(&(name.to_owned(), value)),
                "{export:?}"
            );
        }
    }
    counted(&gateway, "otlp_exported_total{signal=\"traces\"}", 5).await;
}

#[tokio::test]
async fn clients_trace_is_followed_or_linked_as_configured() {
    let collector = Collector::http().await;
    let gateway = echo(&collector, "one_in = 0").await;
    gateway
        .ws("/s")
        .header("traceparent", &traceparent("00"))
        .open()
        .await;
    gateway.connect("/s").await;
    let mut sampled = gateway
        .ws("/s")
        .header("traceparent", &traceparent("01"))
        .open()
        .await;
    sampled.send("not traced").await;
    sampled.expect("not traced").await;
    collector
        .span("of the client", |span| span.trace == TRACE)
        .await;
    let refused = gateway
        .ws("/nowhere")
        .header("traceparent", &traceparent("01"));
    assert_eq!(refused.refused().await.status, 403);
    let refused = collector
        .span("of the refusal", |span| span.name == "GET")
        .await;
    assert_eq!(refused.attributes["http.response.status_code"], "403");
    assert_eq!((refused.status, &*refused.parent), (0, PARENT));
    assert_eq!(collector.spans().len(), 2);

    let linking = Collector::http().await;
    let gateway = echo(&linking, "traceparent = \"link\"\nlogs = false").await;
    gateway
        .ws("/s")
        .header("traceparent", &traceparent("00"))
        .open()
        .await;
    let span = linking.span("with a link", |span| span.kind == 2).await;
    assert_eq!(span.links, [(TRACE.to_owned(), PARENT.to_owned())]);
    assert!(span.trace != TRACE && span.parent.is_empty());
    assert_eq!(linking.lines().len(), 0);
}

#[tokio::test]
async fn stalled_collector_delays_no_message_and_no_stop() {
    let collector = Collector::http().await;
    collector.answer_all(CollectorAnswer::Silence);
    let mut gateway = echo(&collector, "queue_kib = 64\ntimeout_ms = 60000").await;
    let mut client = gateway.connect("/s").await;
    // One batch is on its way, and the next is full.
    for _ in 0..1_000 {
        client.send("x").await;
        client.expect("x").await;
    }
    counted(
        &gateway,
        "otlp_dropped_total{signal=\"traces\",reason=\"no_room\"}",
        1,
    )
    .await;
    client.send("still here").await;
    client.expect("still here").await;
    drop(client);
    gateway.terminate();
    gateway.log().line(&["did not take the last spans"]).await;
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn collector_that_is_gone_or_refuses_costs_spans_which_are_counted() {
    let collector = Collector::http().await;
    collector.answer_all(CollectorAnswer::Status(401, ""));
    let gateway = echo(&collector, "").await;
    gateway.connect("/s").await;
    counted(
        &gateway,
        "otlp_dropped_total{signal=\"traces\",reason=\"refused\"}",
        1,
    )
    .await;
    let warned = gateway
        .log()
        .line(&["the collector does not take", "401"])
        .await;
    assert!(
        warned.contains(&collector.address().to_string()),
        "{warned}"
    );
    drop(collector);
    let mut gone = gateway;
    gone.connect("/s").await;
    gone.terminate();
    assert_eq!(gone.ended().await, Some(0));
    gone.log().line(&["cannot be reached"]).await;
}

#[tokio::test]
async fn batch_is_sent_again_when_the_collector_says_so_and_a_part_is_not() {
    let busy = CollectorAnswer::Status(503, "Retry-After: 0\r\n");
    let http = Collector::http().await;
    http.answer([busy.clone(), busy]);
    check_again(&http, "logs = false").await;

    // One that does not answer in time, and one that answers with too much.
    let slow = Collector::http().await;
    slow.answer([
        CollectorAnswer::Silence,
        CollectorAnswer::Long((64 << 10) + 1),
    ]);
    check_again(&slow, "logs = false\ntimeout_ms = 300").await;

    let grpc = Collector::grpc().await;
    let unavailable = &[("grpc-status", "14"), ("grpc-message", "not%20yet")];
    grpc.answer([CollectorAnswer::Grpc(unavailable)]);
    check_again(&grpc, "protocol = \"grpc\"\nlogs = false").await;
}

async fn check_again(collector: &Collector, more: &str) {
    let gateway = echo(collector, more).await;
    gateway.connect("/s").await;
    collector
        .span("of the handshake", |span| span.kind == 2)
        .await;
    let bodies: Vec<_> = collector
        .exports()
        .into_iter()
        .map(|export| export.body)
        .collect();
    assert!(bodies.len() > 1 && bodies.iter().all(|body| *body == bodies[0]));
    collector.answer_all(CollectorAnswer::TakeInPart(1, "too old"));
    gateway.connect("/s").await;
    counted(
        &gateway,
        "otlp_dropped_total{signal=\"traces\",reason=\"refused\"}",
        1,
    )
    .await;
    gateway.log().line(&["took a part only", "too old"]).await;
    assert_eq!(collector.spans().len(), 2);
}

#[tokio::test]
async fn last_spans_are_sent_at_a_stop_and_a_reload_changes_the_collector() {
    let (before, after) = (Collector::http().await, Collector::http().await);
    let mut gateway = echo(&before, "").await;
    gateway.connect("/s").await;
    let file = gateway.folder().join("gateway.toml");
    let edit = |from: &str, to: &str| {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from));
        std::fs::write(&file, text.replace(from, to)).unwrap();
    };
    edit(&before.address().to_string(), &after.address().to_string());
    let (status, said) = gateway.post("/reload", "").await;
    assert!(status == 200 && said.contains("otlp: changed"), "{said}");
    // What was on its way to the other one goes there.
    before.span("of the handshake", |span| span.kind == 2).await;
    let mut client = gateway.connect("/s").await;
    client.send("last").await;
    client.expect("last").await;
    gateway.terminate();
    client.expect_close(1001, "Going away").await;
    assert_eq!(gateway.ended().await, Some(0));
    let spans = after.spans();
    assert!(
        spans.iter().any(|span| span.name == "process $default"),
        "{spans:?}"
    );
    assert!(after.lines().iter().any(|line| line.body == "stopped"));
}

#[tokio::test]
async fn collector_with_tls_is_judged_by_its_authority() {
    let names = ["localhost"];
    for certificate in [
        Certificate::of(&names),
        Certificate::of_an_authority(&names),
    ] {
        judge_a_collector_with_tls(certificate).await;
    }
}

async fn judge_a_collector_with_tls(certificate: Certificate) {
    let collector = Collector::https(&certificate).await;
    let folder = tempfile::TempDir::new().unwrap();
    let (ca, _) = certificate.write(folder.path());
    let (port, echo) = (collector.address().port(), echo_configuration(""));
    let serve = |ca: String| {
        let table = format!("[otlp]\nendpoint = \"https://localhost:{port}\"\none_in = 1\n{ca}\n");
        let configuration = format!("{table}{echo}");
        async move { LOCKGATE.serve(&configuration).await }
    };
    let strange = serve(String::new()).await;
    strange.connect("/s").await;
    strange
        .log()
        .line(&[
            "the collector does not take",
            "name in otlp.ca the authority",
        ])
        .await;
    assert_eq!(collector.exports().len(), 0);
    let known = serve(format!("ca = {ca:?}")).await;
    known.connect("/s").await;
    collector
        .span("of the handshake", |span| span.kind == 2)
        .await;
}
