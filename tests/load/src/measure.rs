//! The cost of a server process, as the kernel counts it.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::client::{Client, Load};
use crate::server::Server;

/// The deadline of the last answers once the load has stopped.
const LAST_ANSWERS: Duration = Duration::from_secs(20);

/// Memory has settled once it stays within this range for [`SETTLED`].
const SETTLED_KIB: u64 = 64;
const SETTLED: Duration = Duration::from_millis(500);
const MAX_SETTLING: Duration = Duration::from_secs(10);

/// One measurement of one server.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Round {
    /// The cost in the unit of its row.
    pub(crate) cost: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_us: Option<Latency>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// The CPU time of each thread of a process, user and system, in nanoseconds.
pub(crate) struct Cpu(HashMap<String, u64>);

impl Cpu {
    pub(crate) fn of(server: &Server) -> Result<Self> {
        let mut threads = HashMap::new();
        let folder = format!("/proc/{}/task", server.pid());
        for thread in fs::read_dir(&folder).with_context(|| server.log())? {
            let thread = thread?;
            // A thread that has ended meanwhile is skipped.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else {
                continue;
            };
            let ran = text.split(' ').next().and_then(|ran| ran.parse().ok());
            let name = thread.file_name().to_string_lossy().into_owned();
            threads.insert(name, ran.context("schedstat begins with a number")?);
        }
        if threads.is_empty() {
            bail!("{folder}/*/schedstat: this kernel does not count what threads run");
        }
        Ok(Self(threads))
    }

    /// The CPU time of the process since `earlier`, in microseconds.
    pub(crate) fn since(&self, earlier: &Self) -> f64 {
        let ran = self.0.iter().map(|(thread, ran)| {
            let before = earlier.0.get(thread).copied().unwrap_or(0);
            ran.saturating_sub(before)
        });
        ran.sum::<u64>() as f64 / 1_000.0
    }
}

/// Resident memory in KiB, once it has settled.
pub(crate) async fn settled_rss(server: &Server) -> Result<u64> {
    let started = Instant::now();
    let (mut since, mut seen) = (started, rss(server.pid())?);
    while since.elapsed() < SETTLED && started.elapsed() < MAX_SETTLING {
        tokio::time::sleep(SETTLED / 10).await;
        let now = rss(server.pid())?;
        if now.abs_diff(seen) > SETTLED_KIB {
            (since, seen) = (Instant::now(), now);
        }
    }
    rss(server.pid())
}

/// Resident memory of a process in KiB.
pub(crate) fn rss(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/status");
    let status =
        fs::read_to_string(&file).with_context(|| format!("{file}: the server has ended"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.context("VmRSS is a number")
}

/// The phases of a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The time before anything is counted.
    pub(crate) warm_up: Duration,
    pub(crate) length: Duration,
}

/// Measures the cost of a message. Groups of clients keep the server busy: all groups at the same time, the clients of
/// a group in turn. A group of one keeps its window full, a larger one sends one message at a time.
pub(crate) async fn exchange(
    server: &Server,
    groups: &mut Vec<Vec<Client>>,
    window: u64,
    pace: Pace,
) -> Result<Round> {
    let load = Arc::new(Load::new(window));
    let mut tasks = JoinSet::new();
    for mut group in groups.drain(..) {
        let load = Arc::clone(&load);
        tasks.spawn(async move {
            take_turns(&mut group, &load).await?;
            anyhow::Ok(group)
        });
    }
    let counted = async {
        tokio::time::sleep(pace.warm_up).await;
        load.measuring.store(true, Ordering::Relaxed);
        let (start, first) = (Instant::now(), load.answered.load(Ordering::Relaxed));
        let before = Cpu::of(server)?;
        tokio::time::sleep(pace.length).await;
        let after = Cpu::of(server)?;
        let answered = load.answered.load(Ordering::Relaxed) - first;
        let took = start.elapsed();
        load.measuring.store(false, Ordering::Relaxed);
        load.stop.store(true, Ordering::Relaxed);
        anyhow::Ok((after.since(&before), answered, took))
    };
    let ended = async {
        while let Some(group) = tasks.join_next().await {
            groups.push(group??);
        }
        anyhow::Ok(())
    };
    let limit = pace.warm_up + pace.length + LAST_ANSWERS;
    let both = tokio::time::timeout(limit, async { tokio::try_join!(counted, ended) });
    let both = both.await.context("not every message was answered");
    let both = both.and_then(|both| both).with_context(|| server.log())?;
    let ((cpu, answered, took), ()) = both;
    let latencies = groups.iter_mut().flatten();
    let latencies = latencies
        .flat_map(|client| client.latencies.drain(..))
        .collect();
    if answered == 0 {
        bail!("no message was answered within {took:?}");
    }
    Ok(Round {
        cost: cpu / answered as f64,
        per_second: Some(answered as f64 / took.as_secs_f64()),
        latency_us: percentiles(latencies),
    })
}

/// Time for something to be done in a round.
const LONGEST: Duration = Duration::from_secs(10);

/// One who does the same again and again.
pub(crate) trait Repeat: Send + 'static {
    fn once(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// Measures the cost of what each of them does, all at the same time.
pub(crate) async fn repeat<R: Repeat>(server: &Server, all: Vec<R>, pace: Pace) -> Result<Round> {
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for mut one in all {
        let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
        tasks.spawn(async move {
            let mut took = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let started = Instant::now();
                one.once().await?;
                count.fetch_add(1, Ordering::Relaxed);
                took.push(u32::try_from(started.elapsed().as_nanos()).unwrap_or(u32::MAX));
            }
            anyhow::Ok(took)
        });
    }
    tokio::time::sleep(pace.warm_up).await;
    let (before, first, started) = (
        Cpu::of(server)?,
        count.load(Ordering::Relaxed),
        Instant::now(),
    );
    tokio::time::sleep(pace.length).await;
    // A short round may be over before a busy machine has done anything.
    while count.load(Ordering::Relaxed) == first && started.elapsed() < LONGEST {
        tokio::time::sleep(pace.length).await;
    }
    let cpu = Cpu::of(server)?.since(&before);
    let done = (count.load(Ordering::Relaxed) - first) as f64;
    let per_second = done / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    while let Some(took) = tasks.join_next().await {
        latencies.extend(took?.with_context(|| server.log())?);
    }
    ensure!(done > 0.0, "nothing was done");
    Ok(Round {
        cost: cpu / done,
        per_second: Some(per_second),
        latency_us: percentiles(latencies),
    })
}

async fn take_turns(group: &mut [Client], load: &Load) -> Result<()> {
    if let [client] = group {
        return client.exchange(load).await;
    }
    while !load.stop.load(Ordering::Relaxed) {
        for client in &mut *group {
            client.round_trip(load).await?;
            if load.stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    Ok(())
}

pub(crate) fn percentiles(mut nanoseconds: Vec<u32>) -> Option<Latency> {
    nanoseconds.sort_unstable();
    let last = nanoseconds.len().checked_sub(1)?;
    let at = |share: f64| {
        let place = (last as f64 * share).round() as usize;
        nanoseconds
            .get(place)
            .map_or(0.0, |ns| f64::from(*ns) / 1_000.0)
    };
    Some(Latency {
        p50: at(0.5),
        p99: at(0.99),
        max: at(1.0),
    })
}
