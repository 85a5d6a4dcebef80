//! The access log: each handshake and each end of a connection has a line, wherever the lines go, and nobody waits for
//! their reader.

use std::{fs, os::unix::net::UnixDatagram, path::Path};

use lockgate_tests::{Client, Gateway, Log, PATIENCE, echo_configuration, within};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::{LOCKGATE, echo, echo_with, probe};

/// The id of a trace.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A text that no line may have.
const CANARY: &str = "canary-5f1c0a9e";

/// An echoing gateway with this table, and its lines.
async fn with(access_log: &str) -> Gateway {
    let stage = echo_configuration("");
    LOCKGATE
        .serve(&format!("[access_log]\n{access_log}\n{stage}"))
        .await
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))
}

/// The line of a log's event that contains `part`.
async fn logged(log: &Log, message: &str, part: &str) -> Value {
    let message = format!("\"message\":\"{message}");
    parsed(&log.line(&[&message, part]).await)
}

/// Waits for the lines of a file, and gives them.
async fn lines(file: &Path, count: usize) -> Vec<String> {
    within("the lines of the access log", async {
        loop {
            let text = fs::read_to_string(file).unwrap_or_default();
            if text.lines().count() >= count && text.ends_with('\n') {
                return text.lines().map(str::to_owned).collect();
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn echoed(client: &mut Client, text: &str) {
    client.send(text).await;
    assert_eq!(client.text().await, text);
}

#[tokio::test]
async fn connection_has_a_line_for_its_handshake_and_one_for_its_end() {
    let gateway = echo().await;
    let target = format!("/s?token={CANARY}");
    let mut client = gateway
        .wss(&target)
        .header("User-Agent", "agent/1")
        .header("traceparent", &format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .header("Cookie", &format!("session={CANARY}"))
        .open()
        .await;
    echoed(&mut client, &format!("hello {CANARY}")).await;
    client.close(4321, "enough").await;
    let connected = logged(gateway.log(), "connected", "agent/1").await;
    for (field, value) in [
        ("level", json!("INFO")),
        ("status", json!(101)),
        ("client", json!("127.0.0.1")),
        ("host", json!("localhost")),
        ("path", json!("/s")),
        ("stage", json!("a/s")),
        ("user_agent", json!("agent/1")),
        ("trace_id", json!(TRACE)),
        ("tls", json!("1.3")),
        ("http", json!("1.1")),
        ("protocol", json!("websocket")),
    ] {
        assert_eq!(connected[field], value, "{field}: {connected}");
    }
    assert!(connected["took_ms"].is_number(), "{connected}");
    assert!(connected["request_id"].is_string(), "{connected}");
    let id = connected["connection"].as_str().unwrap();
    let ended = logged(gateway.log(), "disconnected", id).await;
    let bytes = "hello ".len() + CANARY.len();
    for (field, value) in [
        ("level", json!("INFO")),
        ("client", json!("127.0.0.1")),
        ("stage", json!("a/s")),
        ("http", json!("1.1")),
        ("protocol", json!("websocket")),
        ("code", json!(4321)),
        ("reason", json!("enough")),
        ("closed_by", json!("client")),
        ("messages_in", json!(1)),
        ("messages_out", json!(1)),
        ("bytes_in", json!(bytes)),
        ("bytes_out", json!(bytes)),
    ] {
        assert_eq!(ended[field], value, "{field}: {ended}");
    }
    assert!(ended["open_s"].is_number(), "{ended}");
    assert!(!gateway.log().contains(&[CANARY]));
}

#[tokio::test]
async fn refusal_and_cut_by_a_limit_have_their_cause() {
    let gateway = echo_with("limits = { message_kib = 1 }").await;
    let log = gateway.log();
    gateway.ws("/nowhere").refused().await;
    let refused = logged(log, "refused: no stage", "/nowhere").await;
    assert_eq!(
        (&refused["status"], &refused["http"]),
        (&json!(403), &json!("1.1"))
    );
    let mut client = gateway.connect("/s").await;
    client.send("x".repeat(2_000)).await;
    assert_eq!(client.closed().await.0, 1009);
    let cut = logged(log, "disconnected", "1009").await;
    assert_eq!(cut["closed_by"], "gateway");
    assert!(
        cut["cause"]
            .as_str()
            .unwrap()
            .contains("limits.message_kib"),
        "{cut}"
    );
    drop(gateway.connect("/s").await);
    let lost = logged(log, "disconnected", "1006").await;
    assert_eq!(
        (&lost["closed_by"], &lost["cause"]),
        (&json!("client"), &json!("the connection was lost"))
    );
    // No TLS, and no request.
    let plain = gateway.ws("/s").bytes();
    let mut stream = TcpStream::connect(gateway.secure()).await.unwrap();
    stream.write_all(&plain).await.unwrap();
    let failed = logged(log, "refused: TLS handshake failed", "127.0.0.1").await;
    assert_eq!(failed["level"], "INFO");
}

#[tokio::test]
async fn close_by_a_handler_says_so() {
    let gateway = probe().await;
    let mut client = gateway.connect("/s").await;
    let id = client.id().await;
    client
        .send(json!([{"do": "close", "code": 4001, "reason": "bye", "to": id}]).to_string())
        .await;
    assert_eq!(client.closed().await.0, 4001);
    let ended = logged(gateway.log(), "disconnected", &id).await;
    assert_eq!(
        (&ended["closed_by"], &ended["reason"]),
        (&json!("handler"), &json!("bye"))
    );
}

#[tokio::test]
async fn refusals_of_one_client_do_not_fill_the_log_and_a_file_has_them_all() {
    const REFUSED: usize = 200;
    let gateway = echo().await;
    for _ in 0..REFUSED {
        gateway.ws("/nowhere").refused().await;
    }
    gateway
        .ws("/elsewhere")
        .from_address("127.0.0.2")
        .refused()
        .await;
    gateway
        .log()
        .line(&["refused: no stage", "/elsewhere"])
        .await;
    let log = gateway.log().lines();
    let logged = log.iter().filter(|line| line.contains("/nowhere")).count();
    assert!((50..REFUSED).contains(&logged), "{logged}");

    let folder = TempDir::new().unwrap();
    let file = folder.path().join("access.log");
    let gateway = with(&format!("to = \"file:{}\"", file.display())).await;
    for _ in 0..REFUSED {
        gateway.ws("/nowhere").refused().await;
    }
    let written = lines(&file, REFUSED).await;
    assert!(
        written
            .iter()
            .all(|line| parsed(line)["refused"] == "no stage is served there")
    );
    assert!(
        !gateway.log().contains(&["refused: "]),
        "a line is written once"
    );
}

/// Sends what is no TLS to the listener with TLS, from this address, and waits until the gateway closes.
async fn no_tls(gateway: &Gateway, from: &str) {
    let socket = TcpSocket::new_v4().unwrap();
    let from: std::net::IpAddr = from.parse().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let connected = within("a connection", socket.connect(gateway.secure()));
    let mut stream = connected.await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let _ = within("the end", stream.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn clients_without_a_request_have_few_lines_for_one_address_and_all_are_counted() {
    const CLIENTS: usize = 100;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("access.log");
    let gateway = with(&format!("to = \"file:{}\"", file.display())).await;
    for _ in 0..CLIENTS {
        no_tls(&gateway, "127.0.0.1").await;
    }
    no_tls(&gateway, "127.0.0.2").await;
    let counted = format!("reason=\"tls\"}} {}\n", CLIENTS + 1);
    within("the count", async {
        while !gateway.page("/metrics").await.1.contains(&counted) {}
    })
    .await;
    let of = |lines: &[String], client: &str| {
        let client = format!("\"client\":\"{client}\"");
        lines.iter().filter(|line| line.contains(&client)).count()
    };
    let written = within("the line of the other address", async {
        loop {
            let lines = lines(&file, 1).await;
            if of(&lines, "127.0.0.2") == 1 {
                return lines;
            }
        }
    })
    .await;
    let lines = of(&written, "127.0.0.1");
    assert!((50..CLIENTS).contains(&lines), "{lines}");
}

#[tokio::test]
async fn file_has_lines_by_a_format_and_a_moved_file_is_made_anew() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("access.log");
    let gateway = with(&format!(
        "to = \"file:{}\"\nformat = '$context.identity.sourceIp \"$context.eventType $context.routeKey\" $context.status $context.apiId/$context.stage $context.closed_by'",
        file.display()
    ))
    .await;
    let client = gateway.connect("/s").await;
    client.close(1000, "").await;
    let connected = "127.0.0.1 \"CONNECT $connect\" 101 a/s -";
    assert_eq!(
        lines(&file, 2).await,
        [
            connected,
            "127.0.0.1 \"DISCONNECT $disconnect\" - a/s client"
        ]
    );
    fs::rename(&file, folder.path().join("access.log.old")).unwrap();
    gateway.hang_up();
    gateway.log().line(&["reloaded"]).await;
    let client = gateway.connect("/s").await;
    assert_eq!(lines(&file, 1).await, [connected]);
    drop(client);
}

#[tokio::test]
async fn header_beyond_ascii_is_shown() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("access.log");
    let gateway = with(&format!(
        "to = \"file:{}\"\nformat = '$context.identity.userAgent|$context.origin'",
        file.display()
    ))
    .await;
    let agent = "agent \"κόσμε\u{9b}\"";
    let elsewhere = gateway.ws("/elsewhere").header("User-Agent", agent);
    let elsewhere = elsewhere.header("Origin", "https://bücher.example");
    elsewhere.refused().await;
    let shown = "agent \\\"κόσμε\\u009b\\\"";
    assert_eq!(
        lines(&file, 1).await,
        [format!("{shown}|https://bücher.example")]
    );
    let client = gateway.ws("/s").header("User-Agent", agent).open().await;
    assert_eq!(lines(&file, 2).await[1], format!("{shown}|-"));
    drop(client);
}

#[tokio::test]
async fn lines_go_to_another_place_after_a_reload_and_none_is_lost() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("access.log");
    let to = format!("to = \"file:{}\"", file.display());
    let gateway = with(&to).await;
    let mut client = gateway.connect("/s").await;
    echoed(&mut client, "one").await;
    let configuration = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace(&to, "to = \"stdout\"")).unwrap();
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("access log: changed"), "{said}");
    client.close(1000, "").await;
    let ended = parsed(&gateway.output().line(&["disconnect"]).await);
    assert_eq!(
        (&ended["event"], &ended["messages_in"]),
        (&json!("disconnect"), &json!(1))
    );
    let lines = lines(&file, 1).await;
    assert_eq!(lines.len(), 1);
    assert_eq!(parsed(&lines[0])["event"], "connect");
    // What cannot be opened is refused, and all continues.
    let text = fs::read_to_string(&configuration).unwrap();
    let wrong = text.replace("to = \"stdout\"", "to = \"file:/nowhere/access.log\"");
    fs::write(&configuration, wrong).unwrap();
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 422, "{said}");
    assert!(
        said.contains("access_log.to") && said.contains("/nowhere/access.log"),
        "{said}"
    );
    drop(gateway.connect("/s").await);
    gateway.output().nth_line(1, &["disconnect"]).await;
}

#[tokio::test]
async fn syslog_gets_a_datagram_for_each_line() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log");
    let syslog = UnixDatagram::bind(&path).unwrap();
    syslog.set_read_timeout(Some(PATIENCE)).unwrap();
    let gateway = with(&format!("to = \"syslog:{}\"", path.display())).await;
    gateway.connect("/s").await.close(1000, "").await;
    let mut buffer = [0; 2_000];
    for event in ["connect", "disconnect"] {
        let length = syslog.recv(&mut buffer).unwrap();
        let line = String::from_utf8_lossy(&buffer[..length]);
        let (head, line) = line.split_once("]: ").unwrap();
        assert!(
            head.starts_with("<30>") && head.contains(" lockgate["),
            "{head}"
        );
        assert_eq!(parsed(line)["event"], event);
    }
}

/// The socket is bound, and nobody reads it: each line waits a second at most, and nobody waits for it.
#[tokio::test]
async fn syslog_that_is_stuck_stops_nothing_and_gets_lines_again_once_it_is_restarted() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log");
    let stuck = UnixDatagram::bind(&path).unwrap();
    let mut gateway = with(&format!("to = \"syslog:{}\"", path.display())).await;
    let mut bystander = gateway.connect("/s").await;
    let lost = async |gateway: &Gateway| {
        let (_, page) = gateway.page("/metrics").await;
        !page.contains("\nlockgate_access_log_dropped_total 0\n")
    };
    let mut requests = 0;
    while !lost(&gateway).await {
        gateway.ws("/none").refused().await;
        requests += 1;
        assert!(requests < 20_000, "nothing was lost");
    }
    echoed(&mut bystander, "still here").await;
    drop(stuck);
    fs::remove_file(&path).unwrap();
    let syslog = UnixDatagram::bind(&path).unwrap();
    syslog.set_read_timeout(Some(PATIENCE)).unwrap();
    gateway.ws("/after").refused().await;
    let mut buffer = [0; 2_000];
    let mut read = || {
        let length = syslog.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    while !read().contains("/after") {}
    // Stuck again, it does not hold up a stop.
    for _ in 0..1_000 {
        gateway.ws("/none").refused().await;
    }
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn messages_have_lines_where_that_is_switched_on() {
    let gateway = with("to = \"stdout\"\nmessages = { routes = [\"$default\"] }").await;
    let mut client = gateway.connect("/s").await;
    echoed(&mut client, CANARY).await;
    let line = gateway.output().line(&["\"message\""]).await;
    assert!(!line.contains(CANARY), "{line}");
    let line = parsed(&line);
    for (field, value) in [
        ("route", json!("$default")),
        ("status", json!(200)),
        ("bytes_in", json!(CANARY.len())),
        ("bytes_out", json!(CANARY.len())),
    ] {
        assert_eq!(line[field], value, "{field}: {line}");
    }
    // One in ten: of 200 consecutive messages about 20.
    let gateway = with("to = \"stdout\"\nmessages = { one_in = 10 }").await;
    let mut client = gateway.connect("/s").await;
    for _ in 0..200 {
        echoed(&mut client, "x").await;
    }
    client.close(1000, "").await;
    gateway.output().line(&["disconnect"]).await;
    let lines = gateway.output().lines();
    let messages = lines.iter().filter(|line| line.contains("\"message\""));
    let messages = messages.count();
    assert!((10..=30).contains(&messages), "{messages}");
}

/// A limit of 4 KiB on the length of a file stands for a full disk.
#[tokio::test]
async fn full_disk_leaves_whole_lines_in_the_file_and_the_others_are_counted() {
    const REQUESTS: usize = 40;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("access.log");
    let configuration = format!(
        "[access_log]\nto = \"file:{}\"\n[apis.a.stages.s]\n",
        file.display()
    );
    let before = "trap '' XFSZ; ulimit -f 8";
    let mut gateway = LOCKGATE.serve_after(before, &configuration).await;
    for _ in 0..REQUESTS {
        gateway.ws("/none").refused().await;
    }
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    let written = text.lines().map(parsed).count();
    assert!((1..REQUESTS).contains(&written), "{text}");
    let dropped = gateway.log().lines();
    let dropped = dropped
        .iter()
        .filter(|line| line.contains("lines of the access log were dropped"));
    let lost: u64 = dropped
        .map(|line| parsed(line)["lines"].as_u64().unwrap())
        .sum();
    assert_eq!(written + usize::try_from(lost).unwrap(), REQUESTS);
}

/// The pipe of the output is full, and the gateway ends before anyone reads on. So is the one of the place before.
#[tokio::test]
async fn lines_that_nobody_has_read_when_the_gateway_stops_are_counted() {
    const REQUESTS: usize = 150;
    let mut gateway = with("to = \"stdout\"").await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("access.log");
    let long = "x".repeat(2_000);
    for is_replaced in [false, true] {
        let output = gateway.output().clone();
        let held = output.hold();
        for _ in 0..REQUESTS {
            let request = gateway.ws(&format!("/{long}")).header("User-Agent", &long);
            request.refused().await;
        }
        if is_replaced {
            let to = format!("to = \"file:{}\"", file.display());
            gateway.change(&[("to = \"stdout\"", &to)]).await;
        }
        gateway.terminate();
        assert_eq!(gateway.ended().await, Some(0));
        drop(held);
        let line = parsed(
            &gateway
                .log()
                .line(&["lines of the access log were dropped"])
                .await,
        );
        let lost = line["lines"].as_u64().unwrap() as usize;
        within("every other line", async {
            let is_whole = |line: &&String| serde_json::from_str::<Value>(line).is_ok();
            while output.lines().iter().filter(is_whole).count() + lost != REQUESTS {
                tokio::task::yield_now().await;
            }
        })
        .await;
        gateway = with("to = \"stdout\"").await;
    }
}

#[tokio::test]
async fn unread_output_stops_nothing_and_its_dropped_lines_are_counted() {
    let gateway = with("to = \"stdout\"").await;
    let mut bystander = gateway.connect("/s").await;
    gateway.output().line(&["connect"]).await;
    {
        let _held = gateway.output().hold();
        let long = "x".repeat(2_000);
        let mut requests = 0;
        loop {
            let (_, page) = gateway.page("/metrics").await;
            if !page.contains("\nlockgate_access_log_dropped_total 0\n") {
                break;
            }
            for _ in 0..100 {
                let request = gateway.ws(&format!("/{long}")).header("User-Agent", &long);
                request.refused().await;
                requests += 1;
            }
            assert!(requests < 5_000, "nothing was dropped");
        }
        echoed(&mut bystander, "still here").await;
    }
    gateway
        .log()
        .line(&["lines of the access log were dropped"])
        .await;
}
