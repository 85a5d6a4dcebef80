//! Limits on the number and the rate of connections, of all addresses together and of one: a connection over a limit is
//! refused before TLS and before any plugin runs, and there is room again a moment later.

use std::{
    fs,
    time::{Duration, Instant},
};

use lockgate_tests::{Answer, Gateway, Request, within};
use tokio::{io::AsyncReadExt, task::JoinSet};

use crate::{LOCKGATE, probe_configuration};

/// Clients that connect together.
const BURST: usize = 5_000;

/// Requests of them under way at the same time: fewer than `limits.handshakes`.
const AT_A_TIME: usize = 200;

/// Time until there is room again: on an idle machine a second.
const ROOM_AGAIN: Duration = Duration::from_secs(3);

/// Another address of this machine.
const ELSEWHERE: &str = "127.0.0.2";

/// The target whose handler prints a line for each client that reaches it.
const PRINTING_TARGET: &str = "/s?do=%5B%7B%22do%22:%22print%22,%22text%22:%22let+in%22%7D%5D";

async fn serve(limits: &str) -> Gateway {
    let configuration = probe_configuration("", "limits = { waiting = 4000 }");
    LOCKGATE
        .serve(&format!("[limits]\n{limits}\n{configuration}"))
        .await
}

/// The outcome of a burst.
struct Burst {
    let_in: usize,
    /// The answers to the refused ones.
    refused: Vec<Answer>,
    took: Duration,
}

async fn burst(request: &Request) -> Burst {
    let began = Instant::now();
    let mut outcome = Burst {
        let_in: 0,
        refused: Vec::new(),
        took: Duration::ZERO,
    };
    let mut attempts = JoinSet::new();
    let mut open = Vec::new();
    for number in 0..BURST + AT_A_TIME {
        if number < BURST {
            let request = request.clone();
            attempts.spawn(async move { request.attempt().await });
        }
        if number < AT_A_TIME {
            continue;
        }
        match attempts.join_next().await.unwrap().unwrap() {
            Ok(client) => open.push(client),
            Err(answer) => outcome.refused.push(answer),
        }
    }
    outcome.let_in = open.len();
    outcome.took = began.elapsed();
    outcome
}

/// Checks that a burst met a rate of `per_s`: that number is let in at once, and that number more each second.
fn check_rate(burst: &Burst, per_s: usize, status: u16) {
    let most = per_s as f64 * (1.0 + burst.took.as_secs_f64());
    eprintln!("{} of {BURST} let in within {:?}", burst.let_in, burst.took);
    assert!(burst.let_in >= per_s, "only {}", burst.let_in);
    assert!(burst.let_in as f64 <= most + 1.0, "{}", burst.let_in);
    for answer in &burst.refused {
        assert!(answer.status == status && answer.closed, "{answer:?}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(answer.body.is_empty());
    }
}

/// Waits until a request is let in, and fails if that takes longer than [`ROOM_AGAIN`].
async fn room_again(request: &Request) {
    let began = Instant::now();
    let let_in = async { while request.attempt().await.is_err() {} };
    within("room again", let_in).await;
    eprintln!("room again after {:?}", began.elapsed());
    assert!(began.elapsed() < ROOM_AGAIN, "{:?}", began.elapsed());
}

#[tokio::test]
async fn connections_are_not_rate_limited_by_default() {
    let gateway = serve("").await;
    let burst = burst(&gateway.ws("/s")).await;
    assert_eq!(burst.let_in, BURST, "{:?}", burst.refused.first());
}

#[tokio::test]
async fn connections_over_the_rate_are_refused_before_the_plugin() {
    const PER_S: usize = 20;
    let gateway = serve(&format!("connections_per_s = {PER_S}")).await;
    let burst = burst(&gateway.ws(PRINTING_TARGET)).await;
    check_rate(&burst, PER_S, 503);
    // No other client reached the plugin. A line of the log comes a moment after the answer.
    gateway
        .log()
        .nth_line(burst.let_in - 1, &["\"let in\""])
        .await;
    let lines = gateway.log().lines();
    let handled = lines.iter().filter(|line| line.contains("\"let in\""));
    assert_eq!(handled.count(), burst.let_in);
    room_again(&gateway.ws("/s")).await;
    gateway
        .log()
        .line(&["turned away", "limits.connections_per_s allows"])
        .await;
}

#[tokio::test]
async fn connections_of_one_address_over_its_rate_are_refused() {
    const PER_S: usize = 5;
    let gateway = serve(&format!("connections_per_s_per_ip = {PER_S}")).await;
    let burst = burst(&gateway.ws("/s")).await;
    check_rate(&burst, PER_S, 429);
    // Clients of another address are not affected.
    gateway.ws("/s").from_address(ELSEWHERE).open().await;
    room_again(&gateway.ws("/s")).await;
}

/// The second connection within a second.
#[tokio::test]
async fn one_connection_over_the_rate_is_refused() {
    for (limit, status) in [
        ("connections_per_s", 503),
        ("connections_per_s_per_ip", 429),
    ] {
        let gateway = serve(&format!("{limit} = 1")).await;
        // On a machine that stalls for a second the next one is let in: try again.
        let refused = within("a client to be refused", async {
            loop {
                let _first = gateway.ws("/s").attempt().await;
                if let Err(answer) = gateway.ws("/s").attempt().await {
                    return answer;
                }
            }
        });
        assert_eq!(refused.await.status, status, "{limit}");
        room_again(&gateway.ws("/s")).await;
    }
}

/// A reload of other settings does not refill a rate.
#[tokio::test]
async fn used_share_of_a_rate_outlives_a_reload() {
    for limit in ["connections_per_s", "connections_per_s_per_ip"] {
        let gateway = serve(&format!("{limit} = 1\ndrain_s = 1")).await;
        let file = gateway.folder().join("gateway.toml");
        // On a machine whose reload takes longer than a second the next one is let in: try again.
        let refused = async {
            for drain_s in 2.. {
                let _first = gateway.ws("/s").attempt().await;
                let text = fs::read_to_string(&file).unwrap();
                let before = format!("drain_s = {}", drain_s - 1);
                fs::write(
                    &file,
                    text.replace(&before, &format!("drain_s = {drain_s}")),
                )
                .unwrap();
                let (status, answer) = gateway.post("/reload", "{}").await;
                assert_eq!(status, 200, "{answer}");
                if gateway.ws("/s").attempt().await.is_err() {
                    return;
                }
            }
        };
        within(&format!("a client to be refused by {limit}"), refused).await;
    }
}

#[tokio::test]
async fn connection_over_the_limit_of_its_address_is_refused() {
    let gateway = serve("connections_per_ip = 2").await;
    let first = gateway.connect("/s").await;
    let mut second = gateway.wss("/s").open().await;
    let refused = gateway.ws("/s").refused().await;
    assert!(refused.status == 429 && refused.closed, "{refused:?}");
    gateway.ws("/s").from_address(ELSEWHERE).open().await;
    // A connection that ends makes room once its `$disconnect` is over.
    first.close(1000, "").await;
    room_again(&gateway.ws("/s")).await;
    second.id().await;
}

#[tokio::test]
async fn refused_client_of_a_tls_listener_gets_no_byte() {
    let gateway = serve("connections_per_ip = 1").await;
    let mut held = gateway.wss("/s").open().await;
    // Not a byte of TLS.
    let mut socket = within(
        "the connection",
        tokio::net::TcpStream::connect(gateway.secure()),
    )
    .await
    .unwrap();
    let mut answer = Vec::new();
    let ended = within("the end", socket.read_to_end(&mut answer)).await;
    assert!(answer.is_empty() && ended.is_ok(), "{answer:?} {ended:?}");
    assert!(gateway.wss("/s").stream().await.is_err());
    held.id().await;
    drop(held);
    within("room again", async {
        while gateway.wss("/s").stream().await.is_err() {}
    })
    .await;
}

#[tokio::test]
async fn each_websocket_of_an_http_2_connection_counts() {
    let gateway = serve("connections_per_ip = 3").await;
    let http2 = gateway.http2().await;
    let mut one = http2.open("/s").await;
    let other = http2.open("/s").await;
    assert_eq!(http2.refused("/s", &[]).await.status, 429);
    other.close(1000, "").await;
    within("room again", async {
        while gateway.ws("/s").attempt().await.is_err() {}
    })
    .await;
    one.id().await;
}
