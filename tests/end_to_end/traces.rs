//! The trace of a connection: an operator sees its messages as they come and go.

use lockgate_tests::{Gateway, within};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::{
    LOCKGATE,
    operators::{command, get, named, serve},
    probe_configuration,
};

/// A request for a trace, whose lines come as they are written.
async fn trace(gateway: &Gateway, id: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(gateway.management()).await.unwrap();
    let request = format!("GET /connections/{id}/trace HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream);
    assert_eq!(event(&mut lines).await["event"], "begin");
    lines
}

/// The next event of a trace.
async fn event(lines: &mut BufReader<TcpStream>) -> Value {
    let read = async {
        loop {
            let mut line = String::new();
            assert_ne!(
                lines.read_line(&mut line).await.unwrap(),
                0,
                "the trace has ended"
            );
            if line.starts_with('{') {
                return serde_json::from_str(&line).unwrap();
            }
        }
    };
    within("an event of the trace", read).await
}

#[tokio::test]
async fn trace_shows_the_messages_of_one_connection_until_its_end() {
    let gateway = serve().await;
    let (mut ada, id) = named(&gateway, "/s", "ada").await;
    let (mut bob, _) = named(&gateway, "/s", "bob").await;
    let mut lines = trace(&gateway, &id).await;
    let mut second = trace(&gateway, &id).await;
    let secret = "a private message";
    bob.id().await;
    ada.step(json!({"do": "event", "secret": secret})).await;
    for lines in [&mut lines, &mut second] {
        let handled = event(lines).await;
        assert_eq!(
            (&handled["event"], &handled["route"]),
            (&json!("handled"), &json!("$default"))
        );
        assert_eq!(handled["error"], Value::Null);
        assert!(
            handled["bytes"].as_u64() > Some(20) && handled["answer_bytes"].as_u64() > Some(20),
            "{handled}"
        );
        let shown = get(&gateway, &format!("/connections/{id}")).await;
        assert_eq!(shown["last_request_ids"][0], handled["request_id"]);
        assert_eq!(shown["last_request_ids"].as_array().unwrap().len(), 3);
        assert!(!handled.to_string().contains(secret), "{handled}");
    }
    bob.step(json!({"do": "send", "id": id, "text": "four"}))
        .await;
    let queued = event(&mut lines).await;
    assert_eq!(
        (&queued["event"], &queued["kind"], &queued["bytes"]),
        (&json!("queued"), &json!("text"), &json!(4))
    );
    ada.expect("four").await;
    ada.send("[{\"do\": \"fail\", \"reason\": \"no\"}]").await;
    ada.expect_error("Internal server error").await;
    let failed = event(&mut lines).await;
    assert!(
        failed["error"]
            .as_str()
            .is_some_and(|error| error.contains("no")),
        "{failed}"
    );
    let close = [
        "connections",
        "close",
        &id,
        "--code",
        "4001",
        "--reason",
        "bye",
    ];
    command(&gateway, &close).await;
    let ended = event(&mut lines).await;
    assert_eq!(
        (&ended["code"], &ended["reason"], &ended["by"]),
        (&json!(4001), &json!("bye"), &json!("operator"))
    );
    ada.expect_close(4001, "bye").await;
    let (status, _) = gateway.page(&format!("/connections/{id}/trace")).await;
    assert_eq!(status, 410);
    drop(bob);
}

#[tokio::test]
async fn traces_are_bounded_and_end_with_their_readers() {
    let gateway = LOCKGATE.serve(&probe_configuration("", "")).await;
    let (mut ada, id) = named(&gateway, "/s", "ada").await;
    let mut readers = Vec::new();
    for _ in 0..16 {
        readers.push(trace(&gateway, &id).await);
    }
    let path = format!("/connections/{id}/trace");
    let (status, body) = gateway.page(&path).await;
    assert_eq!(status, 429, "{body}");
    assert!(body.contains("16 traces are open"), "{body}");
    // A reader that reads nothing misses what it has no room for, and keeps nobody waiting.
    let mut slow = readers.pop().unwrap();
    readers.clear();
    for _ in 0..20 {
        let steps: Vec<_> = (0..250)
            .map(|_| json!({"do": "send", "text": ""}))
            .collect();
        ada.send(Value::from(steps).to_string()).await;
        for _ in 0..250 {
            ada.expect("").await;
        }
        ada.json().await;
    }
    let mut missed = 0;
    let mut seen = 0;
    while seen + missed < 20 * 251 {
        let event = event(&mut slow).await;
        match event["events"].as_u64() {
            Some(events) => missed += events,
            None => seen += 1,
        }
    }
    drop(slow);
    // Their places are free once the gateway has seen that they are gone.
    within("a place for another trace", async {
        while gateway.page("/connections?limit=1").await.0 != 200 {}
        drop(trace(&gateway, &id).await);
    })
    .await;
}

#[tokio::test]
async fn command_prints_a_trace_until_the_connection_ends() {
    let gateway = serve().await;
    let (mut ada, id) = named(&gateway, "/s", "ada").await;
    let address = gateway.management().to_string();
    let words = ["connections", "trace", &id, "--management", &address];
    let tracing = LOCKGATE.run(&words);
    let story = async {
        // Until the command looks, messages leave no trace.
        gateway.log().line(&["a trace begins"]).await;
        ada.id().await;
        command(&gateway, &["connections", "close", &id, "--code", "4001"]).await;
        ada.expect_close(4001, "").await;
    };
    let (ended, ()) = tokio::join!(tracing, story);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<_> = ended.output.lines().collect();
    assert_eq!(lines.len(), 3, "{ended:?}");
    assert!(lines[0].contains("looking"), "{ended:?}");
    assert!(
        lines[1].contains("in   $default") && lines[1].contains("answered with"),
        "{ended:?}"
    );
    assert!(lines[2].contains("ended with 4001, by the "), "{ended:?}");
}
