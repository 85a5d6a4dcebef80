//! `compat = "aws"`: the limits, close codes and bytes of API Gateway, beside the defaults. The first test walks the table of
//! `docs/api-gateway.md`; the others are API Gateway's own rules, by the headings of that page.

use std::fs;
use std::path::Path;
use std::time::Instant;

use lockgate_tests::{Answer, Frame, Gateway, Opcode, Request, probe_configuration};
use serde_json::{Value, json};

use crate::LOCKGATE;
use crate::connect::connecting;

/// The guest `probe` behind an API with `compat = "aws"`, with these lines in the API's table, the stage's and the
/// plugin's.
async fn aws_with(api: &str, stage: &str, plugin: &str) -> Gateway {
    let configuration = probe_configuration(stage, plugin);
    let api = format!("[apis.a]\ncompat = \"aws\"\n{api}\n{configuration}");
    LOCKGATE.serve(&api).await
}

async fn aws() -> Gateway {
    aws_with("", "", "limits = { deadline_ms = 300, cpu_ms = 100 }").await
}

/// The rows of the table below this heading.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/api-gateway.md")).unwrap();
    let (_, below) = page.split_once(heading).unwrap();
    let rows = below
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with("| "));
    rows.map(|row| {
        let cells = row.trim_matches(['|', ' ']).split(" | ");
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

/// Each row says what the test sees, in both columns.
#[tokio::test]
async fn each_difference_is_as_the_page_says() {
    let rows = rows("| case | default | with `compat = \"aws\"` |");
    assert!(rows.len() >= 15, "{rows:?}");
    let limits = "limits = { deadline_ms = 300, cpu_ms = 100 }";
    let defaults = LOCKGATE.serve(&probe_configuration("", limits)).await;
    let as_aws = aws().await;
    let rate = "[apis.a]\nconnections_per_s = 1\n";
    let bounded = LOCKGATE
        .serve(&format!("{rate}{}", probe_configuration("", limits)))
        .await;
    let as_aws_bounded = aws_with("connections_per_s = 1", "", limits).await;
    for row in rows {
        let [case, by_default, with_compat] = row.as_slice() else {
            panic!("not three cells: {row:?}")
        };
        let [own, theirs] = match case.as_str() {
            "a client beyond `connections_per_s`" => [&bounded, &as_aws_bounded],
            _ => [&defaults, &as_aws],
        };
        assert_eq!(&seen(case, own).await, by_default, "{case}");
        assert_eq!(&seen(case, theirs).await, with_compat, "{case}, compat");
    }
}

/// The status, and the error that AWS's SDKs raise, of a post by the connections API.
async fn post_bytes(gateway: &Gateway, id: &str, bytes: &[u8]) -> (u16, String) {
    let mut http = gateway.http_to(gateway.management()).await;
    let path = format!("/s/@connections/{id}");
    let answer = http.ask("POST", &path, &[], bytes).await;
    let error = answer.header("x-amzn-errortype").unwrap_or_default();
    (answer.status, error.to_owned())
}

/// What a gateway does in a case, in the words of the page.
async fn seen(case: &str, gateway: &Gateway) -> String {
    match case {
        "a binary message" => {
            let mut client = gateway.ws("/s").open_raw().await;
            client.send(&Frame::new(Opcode::BINARY, "[]")).await;
            answered_or_closed(&client.data().await.unwrap())
        }
        "a frame of 32 KiB and a byte" => {
            let mut client = gateway.ws("/s").open_raw().await;
            client.send(&padded((32 << 10) + 1)).await;
            answered_or_closed(&client.data().await.unwrap())
        }
        "a message of 70,000 bytes to a client" => {
            let mut client = gateway.ws("/s").open_raw().await;
            let steps = json!([{"do": "reply", "letters": 70_000}]);
            client.send(&Frame::text(&steps.to_string())).await;
            let (mut frames, mut bytes) = (0, 0);
            loop {
                let frame = client.data().await.unwrap();
                let opcode = if frames == 0 {
                    Opcode::TEXT
                } else {
                    Opcode::CONTINUATION
                };
                assert_eq!(frame.opcode, opcode);
                (frames, bytes) = (frames + 1, bytes + frame.payload.len());
                if frame.fin {
                    break;
                }
            }
            assert_eq!(bytes, 70_000);
            let plural = if frames == 1 { "" } else { "s" };
            format!("comes in {frames} frame{plural}")
        }
        "a two-way route without an answer" => {
            let mut client = gateway.connect("/s").await;
            client.send(json!([{"do": "silence"}]).to_string()).await;
            client.send("[]").await;
            match client.text().await.as_str() {
                "[]" => "sends nothing".into(),
                "" => "sends an empty text".into(),
                other => panic!("{other}"),
            }
        }
        "a connection id" => {
            let mut client = gateway.connect("/s").await;
            shape(&client.id().await)
        }
        "a request id" => {
            let mut client = gateway.connect("/s").await;
            client.send("no JSON").await;
            let (_, id) = client.expect_error("Internal server error").await;
            gateway.log().line(&[&id]).await;
            shape(&id)
        }
        "a message id" => {
            let mut client = gateway.connect("/s").await;
            let context = client.step(json!({"do": "context"})).await;
            shape(context["message"].as_str().unwrap())
        }
        "a send to the own connection in `$connect`" => {
            let steps = json!([{"do": "send", "text": "early"}, {"do": "set", "name": "sent", "value": "x"}]);
            let mut client = gateway.connect(&connecting(&steps)).await;
            client.send("[]").await;
            match client.text().await.as_str() {
                "early" => "comes behind the 101".into(),
                "[]" => "is `gone`".into(),
                other => panic!("{other}"),
            }
        }
        "a post of bytes that are no text" => {
            let mut client = gateway.connect("/s").await;
            let id = client.id().await;
            let (status, error) = post_bytes(gateway, &id, &[0xff, 0]).await;
            if status == 200 {
                assert_eq!(client.binary().await.as_ref(), [0xff, 0]);
                return "is a binary message".into();
            }
            format!("gets {status} `{error}`")
        }
        "a header of a `$connect` answer" => {
            let steps = json!([{"do": "accept", "headers": [["X-Own", "1"]]}]);
            let client = gateway.connect(&connecting(&steps)).await;
            match client.answer().header("x-own") {
                Some(_) => "is in the 101".into(),
                None => "is left out".into(),
            }
        }
        "a subprotocol that the client did not offer" => {
            let steps = json!([{"do": "accept", "subprotocol": "other"}]);
            let answer = answer(&gateway.ws(&connecting(&steps))).await;
            match (answer.status, answer.header("sec-websocket-protocol")) {
                (101, Some("other")) => "is in the 101".into(),
                _ => format!("gets {}", answer.status),
            }
        }
        "a `$connect` handler that fails" => refusal(gateway, &json!([{"do": "trap"}])).await,
        "a `$connect` handler that returns an error" => {
            refusal(gateway, &json!([{"do": "fail", "reason": "no luck"}])).await
        }
        "a `$connect` handler that takes too long" => {
            refusal(gateway, &json!([{"do": "spin"}])).await
        }
        "a client beyond `connections_per_s`" => loop {
            let answer = answer(&gateway.ws("/s")).await;
            if answer.status != 101 {
                return gets(&answer);
            }
        },
        "a page of another origin" => {
            let request = gateway.ws("/s").header("Origin", "https://other.example");
            gets(&answer(&request).await)
        }
        "the id of a refusal" => {
            let request = gateway.ws("/s").header("Origin", "https://other.example");
            let answer = answer(&request).await;
            let id = answer.header("x-request-id").unwrap();
            gateway.log().line(&[id]).await;
            match answer.header("x-amzn-requestid") {
                Some(same) if same == id => "is in `X-Request-Id` and `x-amzn-RequestId`".into(),
                None => "is in `X-Request-Id`".into(),
                Some(other) => panic!("{other} is not {id}"),
            }
        }
        unknown => panic!("no test looks at {unknown:?}"),
    }
}

fn answered_or_closed(frame: &Frame) -> String {
    match frame.opcode {
        Opcode::CLOSE => {
            let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
            format!("closes with {code}")
        }
        Opcode::TEXT => "is answered".into(),
        other => panic!("{other:?}"),
    }
}

/// A text frame of this length without steps.
fn padded(bytes: usize) -> Frame {
    Frame::text(&format!("[{}]", " ".repeat(bytes - 2)))
}

fn shape(id: &str) -> String {
    let (digits, rest) = id.split_at(15);
    let is_digit = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    assert!(digits.chars().all(is_digit) && rest.len() == 1, "{id}");
    match rest {
        "=" => "has 15 characters and `=`".into(),
        _ => "has 16 characters".into(),
    }
}

async fn refusal(gateway: &Gateway, steps: &Value) -> String {
    gets(&answer(&gateway.ws(&connecting(steps))).await)
}

/// The answer to a request, whether it lets the client in or not.
async fn answer(request: &Request) -> Answer {
    match request.attempt().await {
        Ok(client) => Answer {
            status: client.answer().status,
            headers: client.answer().headers.clone(),
            body: Vec::new(),
            closed: false,
        },
        Err(refused) => refused,
    }
}

/// The status, the message and the error type of a refusal.
fn gets(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let message = body["message"].as_str().unwrap();
    let error = answer.header("x-amzn-errortype");
    let error = error.map_or(String::new(), |error| format!(", `{error}`"));
    format!("gets {} `{message}`{error}", answer.status)
}

/// Frames, sizes and binary messages.
#[tokio::test]
async fn message_of_128_kib_in_frames_of_32_passes_and_one_more_byte_closes_with_1009() {
    const FRAME: usize = 32 << 10;
    let gateway = aws().await;
    for (more, closes) in [(0, false), (1, true)] {
        let mut client = gateway.ws("/s").open_raw().await;
        let text = format!("[{}]", " ".repeat(4 * FRAME - 2));
        let (first, rest) = text.as_bytes().split_at(FRAME);
        client
            .send(&Frame::new(Opcode::TEXT, first).unfinished())
            .await;
        let mut parts = rest.chunks(FRAME).peekable();
        while let Some(part) = parts.next() {
            let frame = Frame::new(Opcode::CONTINUATION, part);
            let last = parts.peek().is_none() && more == 0;
            client
                .send(&if last { frame } else { frame.unfinished() })
                .await;
        }
        if closes {
            client.send(&Frame::new(Opcode::CONTINUATION, " ")).await;
            client.expect_close(1009).await;
        } else {
            client.expect("[]").await;
        }
    }
}

#[tokio::test]
async fn offered_compression_is_not_negotiated() {
    let gateway = aws().await;
    let offer = "permessage-deflate; client_max_window_bits";
    let request = gateway.ws("/s").header("Sec-WebSocket-Extensions", offer);
    let client = request.open().await;
    assert_eq!(client.answer().header("sec-websocket-extensions"), None);
}

#[tokio::test]
async fn disconnect_is_told_of_a_binary_message() {
    let gateway = aws().await;
    let mut observer = gateway.connect("/s").await;
    observer.observe().await;
    let mut client = gateway.connect("/s").await;
    let id = client.id().await;
    client.send_binary(vec![1]).await;
    let (code, _) = client.closed().await;
    assert_eq!((code, observer.ended(&id).await.code), (1003, 1003));
}

/// Error frames, on one-way and two-way routes alike. The client stays.
#[tokio::test]
async fn error_frames_are_api_gateways() {
    let routes = "\n[apis.b]\ncompat = \"aws\"\n[apis.b.stages.b]\n[apis.b.routes.one]\nintegration = \"probe\"";
    let plugin = format!("limits = {{ deadline_ms = 300, cpu_ms = 100 }}\n{routes}");
    let gateway = aws_with("", "", &plugin).await;
    let mut without_default = gateway.connect("/b").await;
    let mut client = gateway.connect("/s").await;
    for route in ["quietly", "loudly"] {
        for (step, message) in [
            ("fail", "Internal server error"),
            ("trap", "Internal server error"),
            ("spin", "Endpoint request timed out"),
        ] {
            let steps = json!([{"do": step, "reason": "x"}]);
            let text = json!({"action": route, "steps": steps}).to_string();
            client.send(text).await;
            let (connection, request) = client.expect_error(message).await;
            assert!(connection.ends_with('=') && request.ends_with('='));
        }
        without_default
            .send(json!({"action": route}).to_string())
            .await;
        without_default.expect_error("Forbidden").await;
    }
    client.send("[]").await;
    client.expect("[]").await;
}

/// The result of `$connect` is the status of the handshake.
#[tokio::test]
async fn handshake_has_the_status_of_connect() {
    let gateway = aws().await;
    for status in [301, 400, 401, 403, 404, 500, 501, 503] {
        let steps = json!([{"do": "refuse", "status": status, "message": "no"}]);
        let answer = answer(&gateway.ws(&connecting(&steps))).await;
        assert_eq!(
            (answer.status, answer.text()),
            (status, "{\"message\":\"no\"}")
        );
        // A handler's own answer is no error of the gateway's.
        assert_eq!(answer.header("x-amzn-errortype"), None);
    }
    // Without a text, too: it is told from an error of the handler's, which is 502.
    let steps = json!([{"do": "refuse", "status": 500}]);
    let own = answer(&gateway.ws(&connecting(&steps))).await;
    let phrase = "{\"message\":\"Internal Server Error\"}";
    assert_eq!((own.status, own.text()), (500, phrase));
    let unknown = answer(&gateway.ws("/other")).await;
    assert_eq!(unknown.status, 403);
    let plain = answer(&gateway.ws("/s").without("Upgrade")).await;
    assert_eq!(plain.status, 426);
    gateway.connect("/s/").await;
}

/// The gateway chooses none, and the handler's choice alone is in the answer.
#[tokio::test]
async fn subprotocol_is_the_handlers_choice() {
    let gateway = aws().await;
    let steps = json!([{"do": "accept", "subprotocol": "two", "headers": [["X", "1"]]}]);
    let request = gateway
        .ws(&connecting(&steps))
        .header("Sec-WebSocket-Protocol", "one, two");
    let client = request.open().await;
    assert_eq!(
        client.answer().header("sec-websocket-protocol"),
        Some("two")
    );
    let request = gateway
        .ws("/s")
        .header("Sec-WebSocket-Protocol", "one, two");
    let answer = answer(&request).await;
    assert_eq!(
        (answer.status, answer.header("sec-websocket-protocol")),
        (101, None)
    );
}

/// The code and the reason that `$disconnect` is told. A refused client has none.
#[tokio::test]
async fn disconnect_is_told_as_by_api_gateway() {
    let gateway = aws_with("", "limits = { idle_timeout_s = 1 }", "").await;
    let unlimited = aws().await;
    let mut observer = unlimited.connect("/s").await;
    observer.observe().await;
    let mut client = unlimited.connect("/s").await;
    let id = client.id().await;
    client.close_without_code().await;
    let report = observer.ended(&id).await;
    let reason = "Client-side close frame status not set";
    assert_eq!((report.code, report.reason.as_str()), (1005, reason));
    for (code, reason) in [(1001, ""), (1000, "bye"), (4000, "own")] {
        let mut client = unlimited.connect("/s").await;
        let id = client.id().await;
        client.close(code, reason).await;
        let report = observer.ended(&id).await;
        assert_eq!((report.code, report.reason.as_str()), (code.into(), reason));
    }
    let mut client = unlimited.connect("/s").await;
    let id = client.id().await;
    client.vanish();
    let report = observer.ended(&id).await;
    assert_eq!((report.code, report.reason.as_str()), (1006, ""));

    let mut client = gateway.connect("/s").await;
    let id = client.id().await;
    client.expect_close(1001, "Going away").await;
    let told = format!("ended: {id} 1001 \\\"Going away\\\"");
    gateway.log().line(&[&told]).await;
}

/// Pings of a client are answered and are no messages; the gateway sends none of its own.
#[tokio::test]
async fn clients_pings_are_answered_and_leave_it_idle() {
    let gateway = aws_with("", "limits = { idle_timeout_s = 2 }", "").await;
    let mut client = gateway.ws("/s").open_raw().await;
    let mut pace = gateway.connect("/s").await;
    let (mut pongs, began) = (0, Instant::now());
    loop {
        client.send(&Frame::new(Opcode::PING, "p")).await;
        match client.frame().await {
            Some(frame) if frame.opcode == Opcode::PONG => pongs += 1,
            Some(frame) => {
                assert_eq!(answered_or_closed(&frame), "closes with 1001");
                break;
            }
            None => panic!("ended without a close frame"),
        }
        pace.step(json!({"do": "sleep", "ms": 100})).await;
        assert!(
            began.elapsed() < lockgate_tests::PATIENCE,
            "it is kept open"
        );
    }
    assert!(pongs > 0);
}

/// Limits that a stage sets hold beside `compat`.
#[tokio::test]
async fn written_limit_holds_beside_compat() {
    let gateway = aws_with("", "limits = { frame_kib = 64 }", "").await;
    let mut client = gateway.ws("/s").open_raw().await;
    client.send(&padded(64 << 10)).await;
    client.expect("[]").await;
    client.send(&padded((64 << 10) + 1)).await;
    client.expect_close(1009).await;
}

/// A reload of the file keeps the count of a rate, and changes it where it is written anew.
#[tokio::test]
async fn rate_of_an_api_is_kept_over_a_reload() {
    let gateway = aws_with("connections_per_s = 1", "", "").await;
    let file = gateway.folder().join("gateway.toml");
    let refused = async || loop {
        let answer = answer(&gateway.ws("/s")).await;
        if answer.status == 429 {
            break answer;
        }
    };
    refused().await;
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replace("connections_per_s = 1", "connections_per_s = 0"),
    )
    .unwrap();
    gateway.hang_up();
    gateway.log().line(&["reloaded: "]).await;
    for _ in 0..10 {
        gateway.connect("/s").await;
    }
}

/// An id with `=`, bare or escaped, a long post, and a close.
#[tokio::test]
async fn backend_posts_to_a_connection_and_closes_it() {
    let gateway = aws().await;
    let mut observer = gateway.connect("/s").await;
    observer.observe().await;
    let mut client = gateway.ws("/s").open_raw().await;
    client.send(&Frame::text(r#"[{"do": "event"}]"#)).await;
    let answer: Value = serde_json::from_slice(&client.data().await.unwrap().payload).unwrap();
    let id = answer[0]["connection"].as_str().unwrap();
    let escaped = id.replace('=', "%3D");
    let host = "Host: localhost\r\n";
    let post = async |id: &str, text: &str| {
        let line = format!("POST /s/@connections/{id}");
        gateway.request(&line, host, text).await
    };
    for id in [id, &escaped] {
        assert_eq!(post(id, "hi").await, (200, String::new()));
        client.expect("hi").await;
    }
    assert_eq!(post(id, &"x".repeat(40_000)).await.0, 200);
    let [first, last] = [client.data().await.unwrap(), client.data().await.unwrap()];
    let lengths = [first.payload.len(), last.payload.len()];
    assert_eq!(
        (first.fin, last.fin, lengths),
        (false, true, [32_768, 7_232])
    );
    let path = format!("/s/@connections/{escaped}");
    assert_eq!(gateway.ask("DELETE", &path, host).await.0, 204);
    let reason = "Connection Closed Normally";
    assert_eq!(client.expect_close(1000).await, reason);
    let told = observer.ended(id).await;
    assert_eq!((told.code, told.reason.as_str()), (1000, reason));
}
