//! The memory of instances: its limit, and the end of an instance that met it.

use serde_json::{Value, json};

use crate::{
    connect::{check_refusal, connecting},
    metrics::expect,
    plugin::counter,
    probe_with,
};

#[tokio::test]
async fn memory_growth_beyond_the_limit_is_refused() {
    let gateway = probe_with(
        "",
        "isolation = \"per-message\"\nlimits = { memory_mib = 16, cpu_ms = 2000 }",
    )
    .await;
    let mut client = gateway.connect("/s").await;
    let steps = json!([{"do": "grow", "mib": 8}, {"do": "grow", "mib": 16}, {"do": "grow", "mib": 4_000}, {"do": "grow", "mib": 1}]);
    assert_eq!(client.steps(steps).await, [true, false, false, true]);
    client.send(json!([{"do": "hog"}]).to_string()).await;
    client.expect_error("Internal server error").await;
    assert_eq!(client.step(json!({"do": "counter"})).await, 0);
}

/// A language that catches the lack of memory returns a failure, and what it keeps would make each later call fail too.
#[tokio::test]
async fn instance_that_was_refused_memory_is_never_used_again() {
    let gateway = probe_with("", "limits = { instances = 1, memory_mib = 8 }").await;
    let mut client = gateway.connect("/s").await;
    let (keep, grow) = (
        json!({"do": "keep", "mib": 5}),
        json!({"do": "grow", "mib": 8}),
    );
    let limit = "it was refused memory: it has ";
    let key = "and 8 MiB is limits.memory_mib of the plugin; hold less, or raise it";
    assert_eq!(counter(&mut client).await, 0);
    assert_eq!(client.step(keep.clone()).await, Value::Null);
    for times in 0..2 {
        client.send(json!([keep]).to_string()).await;
        client.expect_error("Internal server error").await;
        let failed = [
            "the handler failed: it was refused memory: it has ",
            key,
            "its instance is thrown away; no memory",
        ];
        gateway.log().nth_line(times, &failed).await;
        assert_eq!(
            client.step(keep.clone()).await,
            Value::Null,
            "a fresh instance"
        );
    }

    // An answer stands.
    let thrown_away = [
        "the handler has answered, and its instance is thrown away: ",
        limit,
        key,
    ];
    assert_eq!(client.step(grow.clone()).await, false);
    gateway.log().line(&thrown_away).await;
    assert_eq!(counter(&mut client).await, 0);

    let target = connecting(&json!([{"do": "keep", "mib": 9}]));
    check_refusal(
        &gateway.ws(&target).refused().await,
        500,
        "Internal Server Error",
    );
    gateway.log().nth_line(1, &thrown_away).await;
    assert_eq!(counter(&mut client).await, 0);

    let farewell = json!([grow]).to_string();
    client
        .step(json!({"do": "set", "name": "farewell", "value": farewell}))
        .await;
    client.close(1000, "").await;
    gateway.log().nth_line(2, &thrown_away).await;
    let mut next = gateway.connect("/s").await;
    // `$connect` was the first use.
    assert_eq!(counter(&mut next).await, 0);
    // A client could have a version roll itself back by asking for more than there is.
    expect(&gateway, "traps_total{plugin=\"probe\"} 0").await;
}
