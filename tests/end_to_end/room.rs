//! The room for instances of all plugins together: idle instances make room for others, and a machine with little
//! address space has less room.

use std::time::{Duration, Instant};

use lockgate_tests::{Client, Gateway, write_configuration};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::LOCKGATE;

/// A command that limits the address space to about 20 instances.
const SMALL: &str = "ulimit -v 125829120";

/// A configuration with the plugins `0`, `1` and so on, each at a stage of its name.
fn plugins(count: usize, limits: &str) -> String {
    let plugin = |number| {
        format!(
            r#"
[apis.a{number}.stages.{number}]

[apis.a{number}.routes."$default"]
integration = "{number}"
two_way = true

[plugins.{number}]
component = "{{probe}}"
grants = ["connections", "groups"]
limits = {{ {limits} }}
"#
        )
    };
    (0..count).map(plugin).collect()
}

/// Holds `count` clients of a plugin in its handler at once, and returns their answers.
async fn at_once(gateway: &Gateway, plugin: usize, count: usize) -> Vec<String> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(gateway.connect(&format!("/{plugin}")).await);
    }
    let mut answers = JoinSet::new();
    for mut client in clients {
        answers.spawn(async move {
            client
                .send(json!([{"do": "sleep", "ms": 300}]).to_string())
                .await;
            client.text().await
        });
    }
    answers.join_all().await
}

#[tokio::test]
async fn idle_instances_of_a_plugin_make_room_for_another_and_for_a_reload() {
    let configuration = plugins(4, "instances = 12, waiting = 16, cpu_ms = 1000");
    let gateway = LOCKGATE.serve_after(SMALL, &configuration).await;
    gateway
        .log()
        .line(&["limits.instances of all plugins add up to more"])
        .await;
    for plugin in [0, 1, 2, 3, 0] {
        let answers = at_once(&gateway, plugin, 12).await;
        assert!(
            answers.iter().all(|answer| answer == "[null]"),
            "{answers:?}"
        );
    }
    let file = gateway.folder().join("gateway.toml");
    let changed = std::fs::read_to_string(&file)
        .unwrap()
        .replace("= 12", "= 11");
    std::fs::write(&file, changed).unwrap();
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{said}");
}

#[tokio::test]
async fn calls_without_room_for_an_instance_are_busy_and_nothing_traps() {
    let configuration = plugins(3, "instances = 16, waiting = 1, cpu_ms = 1000");
    let gateway = LOCKGATE.serve_after(SMALL, &configuration).await;
    let others = async { tokio::join!(at_once(&gateway, 0, 16), at_once(&gateway, 1, 16)) };
    let all = tokio::join!(others, at_once(&gateway, 2, 16));
    let ((zero, one), two) = all;
    for answer in zero.iter().chain(&one).chain(&two) {
        assert!(
            answer == "[null]" || answer.contains("Too Many Requests"),
            "{answer}"
        );
    }
    for answers in [&zero, &one, &two] {
        // Each plugin has room for one instance and one waiting call.
        assert!(
            answers.iter().filter(|answer| *answer == "[null]").count() >= 2,
            "{answers:?}"
        );
    }
    gateway
        .log()
        .line(&["room for", "instances of all plugins", "limits.waiting"])
        .await;
    let (_, page) = gateway.page("/metrics").await;
    for plugin in 0..3 {
        let traps = format!("lockgate_traps_total{{plugin=\"{plugin}\"}} 0");
        assert!(page.contains(&traps), "{page}");
        let mut client = gateway.connect(&format!("/{plugin}")).await;
        client.id().await;
    }
}

/// All waiting calls get the room at once, and not one by one as the plugin's own calls end.
#[tokio::test]
async fn waiting_calls_get_the_room_that_another_plugin_leaves_idle() {
    const CALLS: u32 = 24;
    const EACH: Duration = Duration::from_millis(500);
    let sleep = |time: Duration| json!([{"do": "sleep", "ms": time.as_millis()}]).to_string();
    let configuration = plugins(2, "instances = 32, waiting = 64, cpu_ms = 1000");
    let gateway = LOCKGATE.serve_after(SMALL, &configuration).await;
    let mut others = Vec::new();
    for _ in 0..32 {
        let mut client = gateway.connect("/1").await;
        client.send(sleep(2 * EACH)).await; // more calls than there is room for, for a while
        others.push(client);
    }
    let mut answers = JoinSet::new();
    for _ in 0..CALLS {
        let mut client = gateway.connect("/0").await;
        client.send(sleep(EACH)).await;
        answers.spawn(async move { client.text().await });
    }
    for client in &mut others {
        assert_eq!(client.text().await, "[null]");
    }
    let idle = Instant::now();
    let answers = answers.join_all().await;
    assert!(
        answers.iter().all(|answer| answer == "[null]"),
        "{answers:?}"
    );
    assert!(idle.elapsed() < EACH * CALLS / 3, "{:?}", idle.elapsed());
}

#[tokio::test]
async fn validate_warns_of_more_instances_than_fit() {
    let folder = TempDir::new().unwrap();
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    let text = listener.to_owned() + &plugins(5, "instances = 1000");
    let file = write_configuration(folder.path(), &text);
    let ended = LOCKGATE.run(&["validate", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    for words in ["WARN", "instances=5000", "room=3584"] {
        assert!(ended.error.contains(words), "{words}: {}", ended.error);
    }
}

/// Checks that a handler works, with memory that grows, and moves if it must.
async fn works(mut client: Client) {
    assert_eq!(
        client
            .steps(json!([{"do": "counter"}, {"do": "grow", "mib": 40}, {"do": "grow", "mib": 40}]))
            .await,
        [json!(0), json!(true), json!(false)]
    );
    client.send(json!([{"do": "recurse"}]).to_string()).await;
    client.expect_error("Internal server error").await;
    client.send(json!([{"do": "spin"}]).to_string()).await;
    client.expect_error("Endpoint request timed out").await;
    assert_eq!(client.step(json!({"do": "counter"})).await, 0);
}

#[tokio::test]
async fn gateway_with_39_bits_of_address_space_starts_and_says_the_cost() {
    let configuration = plugins(1, "memory_mib = 64");
    let gateway = LOCKGATE
        .serve_after("ulimit -v 536870912", &configuration)
        .await;
    gateway
        .log()
        .line(&["WARN", "room for", "each reserves 4 GiB", "\"instances\":"])
        .await;
    works(gateway.connect("/0").await).await;
}

#[tokio::test]
async fn gateway_with_little_address_space_starts_and_says_the_cost() {
    let configuration = plugins(2, "memory_mib = 64");
    let gateway = LOCKGATE
        .serve_after("ulimit -v 6291456", &configuration)
        .await;
    gateway
        .log()
        .line(&[
            "WARN",
            "little address space",
            "ulimit -v",
            "\"instances\":",
        ])
        .await;
    works(gateway.connect("/0").await).await;
    works(gateway.connect("/1").await).await;
    // More calls at once than there is room for.
    let answers = at_once(&gateway, 0, 60).await;
    for answer in &answers {
        assert!(
            answer == "[null]" || answer.contains("Too Many Requests"),
            "{answer}"
        );
    }
    // Only the calls of `works` count.
    let (_, page) = gateway.page("/metrics").await;
    assert!(
        page.contains("lockgate_traps_total{plugin=\"0\"} 2\n"),
        "{page}"
    );
}

#[tokio::test]
async fn component_is_validated_with_little_address_space() {
    let folder = TempDir::new().unwrap();
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    let text = listener.to_owned() + &plugins(1, "instances = 8");
    let file = write_configuration(folder.path(), &text);
    for limit in ["ulimit -v 536870912", "ulimit -v 6291456"] {
        let ended = LOCKGATE
            .run_after(limit, &["validate", file.to_str().unwrap()])
            .await;
        assert_eq!(ended.code, Some(0), "{limit}: {}", ended.error);
    }
}
