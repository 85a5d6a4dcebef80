//! Traces and logs for a collector that reads them with OpenTelemetry's own classes.

use std::process::Stdio;

use lockgate_tests::{Python, probe_configuration, within};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::LOCKGATE;
use crate::clients::script;

pub(crate) async fn opentelemetrys_classes_read_traces_and_logs() {
    let python = Python::find(LOCKGATE.target()).unwrap();
    let path = script("python/otlp_collector.py");
    let mut collector = Command::from(python.command("python", &[path.to_str().unwrap()]));
    collector.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut collector = collector.kill_on_drop(true).spawn().unwrap();
    let mut said = BufReader::new(collector.stdout.take().unwrap()).lines();
    let mut endpoints = Vec::new();
    for protocol in ["grpc", "http"] {
        let endpoint = within("the collector's address", said.next_line()).await;
        endpoints.push((protocol, endpoint.unwrap().unwrap()));
    }
    for (protocol, endpoint) in endpoints {
        let otlp =
            format!("[otlp]\nendpoint = {endpoint:?}\nprotocol = {protocol:?}\none_in = 1\n");
        let mut gateway = LOCKGATE.serve(&(otlp + &probe_configuration("", ""))).await;
        let mut client = gateway.connect("/s").await;
        client.step(json!({"do": "print", "text": "κόσμε"})).await;
        client.close(1_000, "").await;
        gateway.log().line(&["disconnected"]).await;
        gateway.terminate();
        assert_eq!(gateway.ended().await, Some(0));
        // All of it has been sent by now.
        let (mut message, mut line) = (None, None);
        while message.is_none() || line.is_none() {
            let got = within("what the collector got", said.next_line()).await;
            let got: Value = serde_json::from_str(&got.unwrap().unwrap()).unwrap();
            assert_eq!(got["known"], true, "{got}");
            if got["by"] != protocol {
                continue;
            }
            if got["span"] == "process $default" {
                message = Some(got.clone());
            }
            if got["line"] == "κόσμε" {
                line = Some(got);
            }
        }
        let (message, line) = (message.unwrap(), line.unwrap());
        assert_eq!(
            (&message["service"], &message["kind"]),
            (&json!("lockgate"), &json!(5))
        );
        assert_eq!(
            (
                &message["positive"],
                message["links"].as_array().unwrap().len()
            ),
            (&json!(true), 1)
        );
        assert_eq!(message["attributes"]["lockgate.plugin"], "probe");
        assert_eq!(
            (&line["trace"], &line["id"]),
            (&message["trace"], &message["id"])
        );
        assert_eq!(
            (&line["severity"], &line["number"]),
            (&json!("INFO"), &json!(9))
        );
    }
}
