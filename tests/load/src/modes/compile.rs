//! The latency of one plugin's clients while the component of another is compiled.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at};

use super::{Bench, swap};
use crate::client::{self, Client, Load, Scheme};
use crate::frame::{MIN_BYTES, Template};
use crate::measure::{Round, percentiles};
use crate::raw::Raw;
use crate::report::{Row, Target};
use crate::versions::large_module;

/// Bytes of code to compile.
const BYTES: usize = 12 << 20;
const SHORT_BYTES: usize = 100 << 10;

/// The interval between two messages of one client. A higher rate than the machine can serve would measure its queues.
const TURN: Duration = Duration::from_millis(32);

/// The interval of asking whether it is done. Each millisecond would be a load of its own, which the reference without
/// compiling does not have.
const PAUSE: Duration = Duration::from_millis(50);

/// The largest ratio of the 99th percentile to that without compiling.
const MOST: f64 = 1.2;

/// Measures in rounds of a whole reload each, as long as compiling takes.
pub(crate) async fn compile(bench: &Bench) -> Result<Vec<Row>> {
    let count = bench.clients(64, 8);
    let module = large_module(if bench.short { SHORT_BYTES } else { BYTES });
    let (server, mut versions) = swap::serve(bench).await?;
    let template = Arc::new(Template::new("echo", None, MIN_BYTES));
    let mut clients = client::connect(&server, Scheme::Ws, count, &template).await?;
    let mut asking = Raw::open(server.plain, "/versions").await?;
    let wait = async |time| {
        tokio::time::sleep(time).await;
        Ok(())
    };
    paced(&mut clients, wait(bench.pace.warm_up)).await?;
    let mut row = Row {
        target: Some(Target::Ratio(MOST)),
        ..Row::new(String::new(), "µs", "without")
    };
    let mut compiling = Duration::ZERO;
    for _ in 0..bench.rounds {
        row.reference
            .push(paced(&mut clients, wait(bench.pace.length)).await?);
        let replaced = versions.replace(Some(&module))?;
        let served = async {
            let served = versions.served(&server, &mut asking, PAUSE).await?;
            compiling += served - replaced;
            Ok(())
        };
        row.lockgate.push(paced(&mut clients, served).await?);
    }
    row.what = format!(
        "p99 of {} messages/s while a component of {:.1} MB is loaded ({:.1} s)",
        count as u128 * 1_000 / TURN.as_millis(),
        module.len() as f64 / 1e6,
        compiling.as_secs_f64() / bench.rounds as f64
    );
    Ok(vec![row])
}

/// Has each client send a message at each of its turns until something is over. The cost is the 99th percentile.
async fn paced(
    clients: &mut Vec<Client>,
    until: impl Future<Output = Result<()>>,
) -> Result<Round> {
    let load = Arc::new(Load::new(1));
    load.measuring.store(true, Ordering::Relaxed);
    let (count, began) = (clients.len() as u32, Instant::now());
    let mut tasks = JoinSet::new();
    for (place, mut client) in (0_u32..).zip(clients.drain(..)) {
        let load = Arc::clone(&load);
        let mut turns = interval_at((began + TURN * place / count).into(), TURN);
        // A late client keeps its turns. Otherwise clients that were late together would stay together, and wait for
        // each other.
        turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
        tasks.spawn(async move {
            while !load.stop.load(Ordering::Relaxed) {
                turns.tick().await;
                client.round_trip(&load).await?;
            }
            anyhow::Ok(client)
        });
    }
    let over = until.await;
    load.stop.store(true, Ordering::Relaxed);
    let took = began.elapsed();
    let mut latencies = Vec::new();
    while let Some(client) = tasks.join_next().await {
        let mut client = client??;
        latencies.append(&mut client.latencies);
        clients.push(client);
    }
    over?;
    let latency = percentiles(latencies).context("no message was answered")?;
    Ok(Round {
        cost: latency.p99,
        per_second: Some(load.answered.load(Ordering::Relaxed) as f64 / took.as_secs_f64()),
        latency_us: Some(latency),
    })
}
