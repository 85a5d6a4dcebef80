//! A machine that is busy with other work: the CPU time of a handler counts, and not the time for which it got no core.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use lockgate_tests::{Client, within};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::connect::connecting;
use crate::{LOCKGATE, probe_configuration};

/// Processes that use up every core, at a priority that harms no other test. They end with this value.
struct BusyMachine(Vec<Child>);

impl BusyMachine {
    fn start() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let spin = || {
            let mut command = Command::new("nice");
            command.args(["-n", "5", "sh", "-c", "while :; do :; done"]);
            command.stdin(Stdio::null()).spawn().unwrap()
        };
        Self((0..2 * cores).map(|_| spin()).collect())
    }
}

impl Drop for BusyMachine {
    fn drop(&mut self) {
        for process in &mut self.0 {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The time in which a handler computes `rounds` rounds.
async fn computes(client: &mut Client, rounds: u64) -> Duration {
    let began = Instant::now();
    client
        .send(json!([{"do": "compute", "rounds": rounds}]).to_string())
        .await;
    let answer: Value = client.json().await;
    assert!(answer.is_array(), "after {:?}: {answer}", began.elapsed());
    began.elapsed()
}

/// The gateway gets a twentieth of the machine here, and its handler needs a fourth of the CPU time that it may use.
#[tokio::test]
async fn handler_starved_of_cpu_is_not_cut_off() {
    let plugin = "limits = { cpu_ms = 50, deadline_ms = 29000 }\nrollback = { calls = 5, trap_percent = 10 }";
    let configuration = probe_configuration("", plugin);
    let gateway = LOCKGATE
        .serve_after("renice -n 19 -p $$ >/dev/null", &configuration)
        .await;
    let mut client = gateway.connect("/s").await;
    // The fewest rounds that take a while. The machine may be busy now, and so the fastest of some tries counts.
    let mut rounds = 50;
    loop {
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            fastest = fastest.min(computes(&mut client, rounds).await);
        }
        if fastest >= Duration::from_millis(8) {
            break;
        }
        rounds = rounds * 5 / 4;
    }
    let busy = BusyMachine::start();
    let mut slowest = Duration::ZERO;
    let began = Instant::now();
    let mut calls = 0;
    while calls < 20 && began.elapsed() < Duration::from_secs(12) {
        slowest = slowest.max(computes(&mut client, rounds).await);
        calls += 1;
    }
    drop(busy);
    eprintln!("{calls} calls on a busy machine, the slowest took {slowest:?}");
    assert!(
        slowest > Duration::from_millis(60),
        "the machine was not busy: {slowest:?}"
    );
    // A handler that spins is still cut off.
    client.send(json!([{"do": "spin"}]).to_string()).await;
    client.expect_error("Endpoint request timed out").await;
    assert!(!gateway.log().contains(&["rolled itself back"]));
}

/// Each call is over within its first tick, so that a few of them have an instance at a time, however many clients there
/// are.
#[tokio::test]
async fn clients_of_a_costly_handler_wait_their_turn_and_none_is_refused() {
    let plugin = "limits = { instances = 40, waiting = 40 }";
    let gateway = LOCKGATE.serve(&probe_configuration("", plugin)).await;
    let mut clients = Vec::new();
    for _ in 0..240 {
        clients.push(gateway.ws("/s").open().await);
    }
    let mut served = JoinSet::new();
    for mut client in clients {
        served.spawn(async move {
            for _ in 0..20 {
                let step = json!([{"do": "compute", "rounds": 5}]);
                client.send(step.to_string()).await;
            }
            for _ in 0..20 {
                let answer: Value = client.json().await;
                assert!(answer.is_array(), "{answer}");
            }
        });
    }
    served.join_all().await;
}

/// More calls than the plugin has instances and places to wait: those beyond its share of a socket thread have no way round
/// it.
#[tokio::test]
async fn clients_of_a_costly_handler_are_served_between_others_however_many_they_are() {
    const CLIENTS: usize = 200;
    let plugin = "limits = { instances = 40, waiting = 40 }";
    let mut configuration = probe_configuration("", plugin);
    configuration.push_str(
        "\n[apis.a.routes.other]\nintegration = \"other\"\ntwo_way = true\n\
         [integrations.other]\nmock = { reply = \"here\" }\n",
    );
    let gateway = LOCKGATE.serve(&configuration).await;
    let mut other = gateway.ws("/s").open().await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(gateway.ws("/s").open().await);
    }
    let (answers, mut flood) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for mut client in clients {
        let answers = Arc::clone(&answers);
        flood.spawn(async move {
            let costly = json!([{"do": "compute", "rounds": 30}]).to_string();
            for _ in 0..100 {
                client.send(costly.clone()).await;
            }
            loop {
                let answer: Value = client.json().await;
                if answer.is_array() {
                    answers.fetch_add(1, Ordering::Relaxed);
                    client.send(costly.clone()).await;
                }
            }
        });
    }
    // The first of them show that they are costly.
    while answers.load(Ordering::Relaxed) < 2 * CLIENTS {
        tokio::task::yield_now().await;
    }
    let before = ["io", "guest"].map(|threads| ran_ns(gateway.id(), threads));
    while answers.load(Ordering::Relaxed) < 20 * CLIENTS {
        other.send(r#"{"action":"other"}"#).await;
        assert_eq!(other.text().await, "here");
    }
    let after = ["io", "guest"].map(|threads| ran_ns(gateway.id(), threads));
    flood.abort_all();
    let [io, guest] = [after[0] - before[0], after[1] - before[1]];
    assert!(
        guest > io / 10,
        "the threads of sockets ran for {io} ns, those of guests for {guest} ns"
    );
}

/// Handshakes hold what all stages share: no number of clients of a costly `$connect` handler takes it all. Who waits shows
/// in the metrics.
#[tokio::test]
async fn handshakes_of_a_costly_handler_that_wait_are_bounded_and_shown() {
    // Fewer than there is room for, and more than a quarter of it.
    const CLIENTS: usize = 48;
    let plugin = "limits = { instances = 100, cpu_ms = 2_000, deadline_ms = 10_000 }";
    let mut configuration = probe_configuration("", plugin);
    configuration.push_str("\n[limits]\nhandshakes = 64\n\n[apis.open.stages.open]\n");
    let gateway = Arc::new(LOCKGATE.serve(&configuration).await);
    let target = connecting(&json!([{"do": "compute", "rounds": 200}]));
    let mut flood = JoinSet::new();
    for _ in 0..CLIENTS {
        let (gateway, target) = (Arc::clone(&gateway), target.clone());
        flood.spawn(async move {
            loop {
                if let Err(answer) = gateway.ws(&target).attempt().await {
                    assert_eq!(answer.status, 429, "{answer:?}");
                }
            }
        });
    }
    let told = "handshakes wait for a processor";
    within("clients that wait and one that is turned away", async {
        let (mut shown, mut refused) = (false, false);
        while !shown || !refused {
            gateway.ws("/open").open().await;
            let (_, page) = gateway.page("/metrics").await;
            let waiting = page
                .lines()
                .find(|line| line.starts_with("lockgate_calls_waiting{plugin=\"probe\"}"));
            shown |= waiting.is_some_and(|line| !line.ends_with(" 0"));
            refused |= gateway.log().contains(&[told]);
        }
    })
    .await;
    flood.abort_all();
}

/// A storm fills the share of its plugin and no other's, however long the clients of both wait for a guest thread.
#[tokio::test]
async fn handshakes_of_a_costly_handler_are_not_refused_in_the_storm_of_another() {
    let limits = "limits = { instances = 100, cpu_ms = 2_000, deadline_ms = 10_000 }";
    let mut configuration = probe_configuration("", limits);
    configuration.push_str(&format!(
        "\n[limits]\nhandshakes = 64\n\n[apis.b.stages.b]\n[apis.b.routes]\n\"$connect\" = {{ integration = \"other\" }}\n\n\
         [plugins.other]\ncomponent = \"{{probe}}\"\ngrants = [\"connections\", \"groups\"]\n{limits}\n"
    ));
    let gateway = Arc::new(LOCKGATE.serve(&configuration).await);
    let storm = connecting(&json!([{"do": "compute", "rounds": 200}]));
    let (others, mut clients) = (storm.replacen("/s?", "/b?", 1), JoinSet::new());
    for _ in 0..48 {
        let (gateway, storm) = (Arc::clone(&gateway), storm.clone());
        clients.spawn(async move {
            loop {
                let _ = gateway.ws(&storm).attempt().await;
            }
        });
    }
    gateway
        .log()
        .line(&["handshakes wait for a processor"])
        .await;
    let admitted = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let (gateway, others) = (Arc::clone(&gateway), others.clone());
        let admitted = Arc::clone(&admitted);
        clients.spawn(async move {
            loop {
                gateway.ws(&others).open().await;
                admitted.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    within("clients of the other that wait and are let in", async {
        let mut waited = false;
        while !waited || admitted.load(Ordering::Relaxed) < 30 {
            if let Some(refused) = clients.try_join_next() {
                refused.unwrap();
            }
            let (_, page) = gateway.page("/metrics").await;
            let waiting = page
                .lines()
                .find(|line| line.starts_with("lockgate_calls_waiting{plugin=\"other\"}"));
            waited |= waiting.is_some_and(|line| !line.ends_with(" 0"));
        }
    })
    .await;
    clients.abort_all();
}

/// The processor time of a process's threads of this name.
fn ran_ns(process: u32, threads: &str) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    tasks
        .map(|task| task.unwrap().path())
        .filter(|task| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == threads)
        })
        .filter_map(|task| fs::read_to_string(task.join("schedstat")).ok())
        .filter_map(|times| times.split(' ').next()?.parse::<u64>().ok())
        .sum()
}
