//! Data that a guest leaves in its memory, and the calls that can find it there.

use lockgate_tests::Gateway;
use tokio::task::JoinSet;

use crate::{
    LOCKGATE,
    hostile::{FAILED, configuration, deed, serve},
};

/// The plugin `hostile` at `/h`, and another plugin of the same component at `/t`; each message in a fresh instance.
async fn serve_two(limits: &str) -> Gateway {
    let plugin = format!("isolation = \"per-message\"\nlimits = {{ {limits} }}");
    let other = format!(
        r#"
[apis.b.stages.t]

[apis.b.routes."$default"]
integration = "finder"
two_way = true

[plugins.finder]
component = "{{hostile}}"
grants = ["connections", "groups"]
{plugin}
"#
    );
    LOCKGATE.serve(&(configuration(&plugin) + &other)).await
}

#[tokio::test]
async fn leftovers_are_seen_by_the_next_call_of_a_reused_instance() {
    let gateway = serve("limits = { instances = 1, cpu_ms = 2000 }").await;
    let mut one = gateway.connect("/h").await;
    let mut other = gateway.connect("/h").await;
    assert_eq!(deed(&mut one, "hide 7").await, "hidden");
    let found: usize = deed(&mut other, "find 7").await.parse().unwrap();
    assert!(found >= 64 * 1024, "{found}");
    assert_eq!(deed(&mut other, "find 8").await, "0");
    // A broken instance takes its memory along.
    one.send("descend").await;
    one.expect_error(FAILED).await;
    assert_eq!(deed(&mut other, "find 7").await, "0");
}

/// 20,000 instantiations in turn: of the same plugin, whose memory lies where the last one had its own, and of another
/// plugin.
#[tokio::test]
async fn leftovers_are_never_seen_by_a_fresh_instance() {
    const HIDDEN: u64 = 7_000;
    let gateway = serve_two("instances = 1, waiting = 16, cpu_ms = 2000").await;
    let mut hider = gateway.connect("/h").await;
    let mut finder = gateway.connect("/t").await;
    for seed in 0..HIDDEN {
        let find = format!("find {seed}");
        assert_eq!(deed(&mut hider, &format!("hide {seed}")).await, "hidden");
        let (by_other, by_same) = tokio::join!(deed(&mut finder, &find), deed(&mut hider, &find));
        assert_eq!(by_other, "0", "by another plugin");
        assert_eq!(by_same, "0", "by the same plugin");
    }
}

/// wasmtime prefers memory that the same plugin had before: here one plugin leaves enough memories behind that another
/// gets them.
#[tokio::test]
async fn memory_of_another_plugin_is_zeroed_before_reuse() {
    const INSTANCES: usize = 160;
    let gateway =
        serve_two("instances = 200, waiting = 200, cpu_ms = 5000, deadline_ms = 20000").await;
    let all = async |path: &str, what: &str, answer: &'static str| {
        let mut asking = JoinSet::new();
        for _ in 0..INSTANCES {
            let mut client = gateway.connect(path).await;
            let what = what.to_owned();
            asking.spawn(async move { assert_eq!(deed(&mut client, &what).await, answer) });
        }
        while let Some(asked) = asking.join_next().await {
            asked.unwrap();
        }
    };
    for seed in 0..3 {
        all("/h", &format!("hide slowly {seed}"), "hidden").await;
        all("/t", &format!("find slowly {seed}"), "0").await;
        all("/h", &format!("find slowly {seed}"), "0").await;
    }
}
