//! TLS, the upgrade and the `$connect` handler: clients that connect and leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Result;
use tokio::task::JoinSet;

use super::{Bench, US};
use crate::client::{self, Scheme};
use crate::measure::{Cpu, Round, percentiles};
use crate::report::{Row, Target};
use crate::server::Server;
use crate::tls::{self, HTTP1};

/// Clients that connect at the same time.
const AT_A_TIME: usize = 16;

pub(crate) async fn handshakes(bench: &Bench) -> Result<Vec<Row>> {
    let gateway = Arc::new(bench.gateway(&bench.echo, &["$connect"]).await?);
    let bare = Arc::new(Server::bare().await?);
    let mut row = Row {
        target: Some(Target::Ratio(1.25)),
        ..Row::new(
            "handshake: TLS, upgrade, $connect handler".to_owned(),
            US,
            "bare",
        )
    };
    for _ in 0..bench.rounds {
        row.lockgate.push(round(bench, &gateway).await?);
        row.reference.push(round(bench, &bare).await?);
    }
    Ok(vec![row])
}

async fn round(bench: &Bench, server: &Arc<Server>) -> Result<Round> {
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..AT_A_TIME {
        let (server, stop, count) = (Arc::clone(server), Arc::clone(&stop), Arc::clone(&count));
        tasks.spawn(async move {
            let tls = tls::connector(HTTP1);
            let mut took = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let started = Instant::now();
                drop(client::open(&server, Scheme::Wss, &tls).await?);
                count.fetch_add(1, Ordering::Relaxed);
                took.push(u32::try_from(started.elapsed().as_nanos()).unwrap_or(u32::MAX));
            }
            anyhow::Ok(took)
        });
    }
    tokio::time::sleep(bench.pace.warm_up).await;
    let (before, first, started) = (
        Cpu::of(server)?,
        count.load(Ordering::Relaxed),
        Instant::now(),
    );
    tokio::time::sleep(bench.pace.length).await;
    let cpu = Cpu::of(server)?.since(&before);
    let done = (count.load(Ordering::Relaxed) - first) as f64;
    let per_second = done / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    while let Some(took) = tasks.join_next().await {
        latencies.extend(took??);
    }
    anyhow::ensure!(done > 0.0, "no client was let in");
    Ok(Round {
        cost: cpu / done,
        per_second: Some(per_second),
        latency_us: percentiles(latencies),
    })
}
