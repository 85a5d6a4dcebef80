//! Stopping: SIGTERM sends everyone away and ends with 0; a second one does not wait.

use std::collections::HashSet;

use lockgate_tests::{Gateway, within};
use serde_json::json;

use crate::{LOCKGATE, probe_configuration};

async fn draining_over(seconds: u32) -> Gateway {
    let limits = format!("[limits]\ndrain_s = {seconds}\n");
    LOCKGATE
        .serve(&(limits + &probe_configuration("", "")))
        .await
}

#[tokio::test]
async fn everyone_is_told_and_every_disconnect_runs() {
    let mut gateway = draining_over(2).await;
    let http2 = gateway.http2().await;
    let mut clients = Vec::new();
    let mut ids = HashSet::new();
    for number in 0..30 {
        let mut client = match number % 3 {
            0 => gateway.connect("/s").await,
            1 => gateway.wss("/s").open().await,
            _ => http2.open("/s").await,
        };
        ids.insert(client.id().await);
        clients.push(client);
    }
    // And one that never answers anything.
    let silent = gateway.ws("/s").open_raw().await;
    gateway.terminate();

    for client in &mut clients {
        client.expect_close(1001, "Going away").await;
        client.expect_end().await;
    }
    assert_eq!(gateway.ended().await, Some(0));
    drop(silent);
    for id in &ids {
        gateway
            .log()
            .line(&[&format!("ended: {id} 1001 \\\"Going away\\\"")])
            .await;
    }
    let ended = gateway
        .log()
        .lines()
        .iter()
        .filter(|line| line.contains("\"message\":\"ended: "))
        .count();
    assert_eq!(ended, 31);
}

#[tokio::test]
async fn closes_are_spread_over_the_window() {
    let mut gateway = draining_over(3).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(gateway.connect("/s").await);
    }
    let began = std::time::Instant::now();
    gateway.terminate();
    let mut times = Vec::new();
    let mut waiting: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            Box::pin(async move {
                client.expect_close(1001, "Going away").await;
                began.elapsed()
            })
        })
        .collect();
    while !waiting.is_empty() {
        let (time, place) = first_of(&mut waiting).await;
        times.push(time);
        drop(waiting.swap_remove(place));
    }
    // Not all together: some in the first half of the window, some in the second, and none long after it.
    let half = std::time::Duration::from_millis(1_500);
    assert!(times.first().is_some_and(|time| *time < half), "{times:?}");
    assert!(times.last().is_some_and(|time| *time > half), "{times:?}");
    assert_eq!(gateway.ended().await, Some(0));
}

/// The first of several futures to be ready, with its place.
async fn first_of<T>(futures: &mut [std::pin::Pin<Box<impl Future<Output = T>>>]) -> (T, usize) {
    std::future::poll_fn(|context| {
        for (place, future) in futures.iter_mut().enumerate() {
            if let std::task::Poll::Ready(output) = future.as_mut().poll(context) {
                return std::task::Poll::Ready((output, place));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

#[tokio::test]
async fn a_gateway_that_drains_is_not_ready_and_takes_no_one_in() {
    let mut gateway = draining_over(30).await;
    let client = gateway.connect("/s").await;
    let waiting_at_the_door = gateway.ws("/s").stream().await.unwrap();
    assert_eq!(gateway.page("/readyz").await.0, 200);
    gateway.terminate();
    within("readiness to end", async {
        while gateway.page("/readyz").await.0 != 503 {}
    })
    .await;
    assert_eq!(gateway.page("/healthz").await.0, 200);
    // No one gets in: the socket is closed, or its handshake refused.
    within("the door to close", async {
        while gateway.ws("/s").stream().await.is_ok() {}
    })
    .await;
    drop(waiting_at_the_door);
    assert!(gateway.is_running());

    // A second signal does not wait for the window.
    gateway.terminate();
    gateway.ended().await;
    drop(client);
}

#[tokio::test]
async fn an_invocation_under_way_is_finished() {
    let mut gateway = draining_over(5).await;
    let mut client = gateway.connect("/s").await;
    let steps = json!([{"do": "print", "text": "it runs"}, {"do": "sleep", "ms": 500}, {"do": "reply", "text": "done"}]);
    client.send(steps.to_string()).await;
    gateway.log().line(&["it runs"]).await;
    gateway.terminate();
    client.expect("done").await;
    client.expect_close(1001, "Going away").await;
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn without_a_window_all_are_closed_together() {
    let mut gateway = draining_over(0).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(gateway.connect("/s").await);
    }
    gateway.terminate();
    for client in &mut clients {
        client.expect_close(1001, "Going away").await;
    }
    drop(clients);
    assert_eq!(gateway.ended().await, Some(0));
    gateway.log().nth_line(4, &["ended: ", "1001"]).await;
}

#[tokio::test]
async fn an_idle_gateway_ends_at_once() {
    let mut gateway = draining_over(3_600).await;
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn a_hang_up_never_kills() {
    let mut gateway = draining_over(0).await;
    let mut client = gateway.connect("/s").await;
    gateway.hang_up();
    client.id().await;
    assert!(gateway.is_running());
}
