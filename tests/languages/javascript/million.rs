//! A million calls of one instance in JavaScript.

use lockgate_tests::Client;
use serde_json::{Value, json};

use crate::project::{Project, resident};

/// Counts the calls of its instance, leaves circles of objects behind, awaits, throws now and then.
const PLUGIN: &str = r#"
import { connections, define, json, parseJson } from "@lockgate/sdk";

let calls = 0;
const handlers = {
  circle({ connectionId }) {
    const circle = { bytes: new Uint8Array(1024), at: new Date(), map: new Map([[calls, `${calls}`]]) };
    circle.self = circle;
    connections.setAttribute(connectionId, "calls", String(calls));
    return json(calls);
  },
  async wait() {
    await null;
    await Promise.all([1, 2].map(async (number) => (await Promise.resolve(number)) * 2));
    return json(calls);
  },
  async fail() {
    setTimeout(() => {}, 1000);
    Promise.reject(new Error("on purpose")).catch(() => {});
    throw new Error("on purpose");
  },
  calls: () => json(calls),
};

export default define({
  message(event, message) {
    calls += 1;
    return handlers[parseJson(message).do](event);
  },
});
"#;

/// Calls that go out together.
const BATCH: u64 = 200;

/// Takes minutes.
pub(crate) async fn million_calls_of_one_javascript_instance_need_no_more_memory() {
    let project = Project::named("js-million", "js", "echo").await;
    project.save("src/plugin.js", PLUGIN);
    let limits =
        "limits = { instances = 1, max_uses = 1000000000, memory_mib = 16, cpu_ms = 1000 }";
    let configuration = project
        .read("gateway.toml")
        .replace("grants = []", "grants = [\"connections\"]");
    project.save("gateway.toml", &format!("{configuration}\n{limits}\n"));
    let gateway = project.dev("gateway.toml").await;
    let mut client = gateway.connect("/dev").await;
    call(&mut client, 100_000).await;
    let early = resident(&gateway);
    call(&mut client, 900_000).await;
    let late = resident(&gateway);
    client.send(json!({"do": "calls"}).to_string()).await;
    assert_eq!(
        client.json().await,
        json!(1_000_001),
        "it is the same instance"
    );
    assert!(late < early + (8 << 10), "{early} KiB, then {late} KiB");
}

async fn call(client: &mut Client, count: u64) {
    for _ in 0..count / BATCH {
        client.feed(json!({"do": "fail"}).to_string()).await;
        for number in 1..BATCH - 1 {
            let step = if number % 2 == 0 { "wait" } else { "circle" };
            client.feed(json!({"do": step}).to_string()).await;
        }
        client.send(json!({"do": "calls"}).to_string()).await;
        client.expect_error("Internal server error").await;
        for _ in 1..BATCH {
            assert!(matches!(client.json().await, Value::Number(_)));
        }
    }
}
