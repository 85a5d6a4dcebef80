//! Stopping: SIGTERM closes every connection and ends with 0; a second one does not wait.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use lockgate_tests::{Frame, Gateway, LONG_PATIENCE, allow_many_files, within};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{LOCKGATE, probe_configuration};

async fn draining_over(seconds: u32) -> Gateway {
    draining(
        &format!("drain_s = {seconds}"),
        &probe_configuration("", ""),
    )
    .await
}

/// A gateway with these lines in its limits.
async fn draining(limits: &str, configuration: &str) -> Gateway {
    LOCKGATE
        .serve(&format!("[limits]\n{limits}\n{configuration}"))
        .await
}

#[tokio::test]
async fn stop_closes_every_client_and_runs_every_disconnect() {
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
    // This client never answers its close.
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
    assert_eq!(disconnects(&gateway, ""), 31);
}

/// The number of `$disconnect` handlers so far that were told an end with these words.
fn disconnects(gateway: &Gateway, said: &str) -> usize {
    let lines = gateway.log().lines();
    let ended = lines
        .iter()
        .filter(|line| line.contains("\"message\":\"ended: "));
    ended.filter(|line| line.contains(said)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closes_of_a_thousand_clients_are_spread_evenly() {
    const ANSWERING: usize = 900;
    const SILENT: usize = 100;
    /// Closes are spread over this part of the window of 10 s.
    const SPREAD: Duration = Duration::from_secs(7);
    allow_many_files();
    let mut gateway = draining(
        "drain_s = 10\nreconnect_jitter_s = 60",
        &probe_configuration("", ""),
    )
    .await;
    let mut clients = Vec::new();
    let mut silent = Vec::new();
    for number in 0..ANSWERING + SILENT {
        if number % 10 == 3 {
            silent.push(gateway.ws("/s").open_raw().await);
        } else {
            clients.push(gateway.connect("/s").await);
        }
    }
    let began = Instant::now();
    gateway.terminate();
    let mut closes = JoinSet::new();
    for mut client in clients {
        closes.spawn(async move {
            client
                .expect_close(1001, "Going away; reconnect in 0-60 s")
                .await;
            began.elapsed()
        });
    }
    let mut fifths = [0; 5];
    while let Some(time) = closes.join_next().await {
        let fifth = time.unwrap().as_millis() * 5 / SPREAD.as_millis();
        // On a busy machine the last ones come late.
        fifths[usize::try_from(fifth).unwrap().min(4)] += 1;
    }
    let even = ANSWERING / 10..=ANSWERING * 35 / 100;
    assert!(
        fifths.iter().all(|closes| even.contains(closes)),
        "{fifths:?}"
    );
    assert_eq!(gateway.ended().await, Some(0));
    drop(silent);
    let all = ANSWERING + SILENT;
    gateway
        .log()
        .nth_line_within(LONG_PATIENCE, all - 1, &["\"message\":\"ended: "])
        .await;
    assert_eq!(
        disconnects(&gateway, "1001 \\\"Going away; reconnect in 0-60 s\\\""),
        all
    );
    assert_eq!(disconnects(&gateway, ""), all);
}

/// The close frame never goes out, and so no answer comes in.
#[tokio::test]
async fn client_that_takes_nothing_is_cut_after_the_window() {
    let stage = "limits = { outbox_kib = 65536, stall_timeout_s = 60 }";
    let configuration = probe_configuration(stage, "limits = { cpu_ms = 2000 }");
    let mut gateway = draining("drain_s = 0", &configuration).await;
    let mut client = gateway.ws("/s").receive_buffer(4_096).open_raw().await;
    let flood = json!([{"do": "burst", "times": 200, "letters": 65_536}, {"do": "print", "text": "it is full"}]);
    client.send(&Frame::text(&flood.to_string())).await;
    gateway.log().line(&["it is full"]).await;
    gateway.terminate();
    gateway
        .log()
        .line(&["cutting the remaining connections", "\"connections\":1"])
        .await;
    assert_eq!(gateway.ended().await, Some(0));
    drop(client);
    gateway
        .log()
        .line(&["ended: ", "1001 \\\"Going away\\\""])
        .await;
}

#[tokio::test]
async fn closes_are_spread_over_the_window() {
    let mut gateway = draining_over(3).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(gateway.connect("/s").await);
    }
    let began = Instant::now();
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
    // Some close in the first half of the window, some in the second, and none long after it.
    let half = Duration::from_millis(1_500);
    assert!(times.first().is_some_and(|time| *time < half), "{times:?}");
    assert!(times.last().is_some_and(|time| *time > half), "{times:?}");
    assert_eq!(gateway.ended().await, Some(0));
}

/// The output of the first of several futures to be ready, with its index.
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
async fn draining_gateway_is_not_ready_and_lets_no_client_in() {
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
    // No client gets in: the socket is closed, or the handshake is refused.
    within("the listener to close", async {
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
async fn invocation_under_way_at_a_stop_is_finished() {
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
async fn stop_without_a_window_closes_all_clients_together() {
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
async fn stop_of_an_idle_gateway_ends_at_once() {
    let mut gateway = draining_over(3_600).await;
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn hang_up_signal_never_kills() {
    let mut gateway = draining_over(0).await;
    let mut client = gateway.connect("/s").await;
    gateway.hang_up();
    client.id().await;
    assert!(gateway.is_running());
}

/// As a stop by systemd, which signals all processes of a service.
#[tokio::test]
async fn signal_to_a_process_that_is_succeeded_closes_all_now_and_runs_every_disconnect() {
    let mut gateway = draining_over(3_600).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = gateway.connect("/s").await;
        client.id().await;
        clients.push(client);
    }
    let serving = crate::upgrade::upgrade(&gateway).await;
    gateway.terminate();
    for client in &mut clients {
        client.expect_close(1012, "Service restart").await;
    }
    drop(clients);
    assert_eq!(gateway.ended().await, Some(0));
    gateway.log().nth_line(9, &["ended: ", "1012"]).await;
    drop(serving);
}

#[tokio::test]
async fn second_signal_to_a_process_that_is_succeeded_ends_it() {
    let mut gateway = draining_over(3_600).await;
    let mut client = gateway.connect("/s").await;
    let farewell = r#"[{"do": "sleep", "ms": 2900}]"#;
    client
        .step(json!({"do": "set", "name": "farewell", "value": farewell}))
        .await;
    let serving = crate::upgrade::upgrade(&gateway).await;
    gateway.terminate();
    gateway.log().line(&["closing all connections now"]).await;
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(1));
    drop(serving);
}
