//! The latency of a gateway's other clients while something else goes on, and its cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::measure::{Cpu, Latency, percentiles, rss};
use crate::raw::Raw;
use crate::server::Server;

/// The interval between two echoes, two pings, two readings of the memory.
const BETWEEN: Duration = Duration::from_millis(5);

/// A client that has its messages echoed and one that pings, until the measurement ends.
pub(crate) struct Beside {
    over: Arc<AtomicBool>,
    echoes: JoinHandle<Result<Vec<u32>>>,
    pings: JoinHandle<Result<Vec<u32>>>,
    memory: JoinHandle<Result<u64>>,
    before: Cpu,
    before_kib: u64,
}

/// The figures of the neighbours.
pub(crate) struct Noticed {
    /// CPU time of the whole server, with the neighbours' own.
    pub(crate) cpu_us: f64,
    /// Peak memory above the memory before.
    pub(crate) grown_kib: i64,
    pub(crate) echo: Latency,
    pub(crate) ping: Latency,
}

impl Beside {
    pub(crate) async fn begin(server: &Server, stage: &str) -> Result<Self> {
        let (tasks, over) = (TaskTracker::new(), Arc::new(AtomicBool::new(false)));
        let mut echoing = Raw::open(server.plain, stage).await?;
        let mut pinging = Raw::open(server.plain, stage).await?;
        echoing.ask("warm").await?;
        let (before, before_kib) = (Cpu::of(server)?, rss(server.pid())?);
        let until = Arc::clone(&over);
        let echoes = tasks.spawn(async move {
            let mut took = Vec::new();
            while took.is_empty() || !until.load(Ordering::Relaxed) {
                let asked = Instant::now();
                echoing.ask("neighbour").await?;
                took.push(nanoseconds(asked));
                tokio::time::sleep(BETWEEN).await;
            }
            Ok(took)
        });
        let until = Arc::clone(&over);
        let pings = tasks.spawn(async move {
            let mut took = Vec::new();
            while took.is_empty() || !until.load(Ordering::Relaxed) {
                let asked = Instant::now();
                pinging.ping().await?;
                took.push(nanoseconds(asked));
                // As often as the limit of control frames allows.
                tokio::time::sleep(BETWEEN * 10).await;
            }
            Ok(took)
        });
        let (until, pid) = (Arc::clone(&over), server.pid());
        let memory = tasks.spawn(async move {
            let mut most = 0;
            while most == 0 || !until.load(Ordering::Relaxed) {
                most = most.max(rss(pid)?);
                tokio::time::sleep(BETWEEN).await;
            }
            Ok(most)
        });
        Ok(Self {
            over,
            echoes,
            pings,
            memory,
            before,
            before_kib,
        })
    }

    pub(crate) async fn end(self, server: &Server) -> Result<Noticed> {
        let cpu_us = Cpu::of(server)?.since(&self.before);
        self.over.store(true, Ordering::Relaxed);
        let most = self.memory.await??;
        let echoes = self.echoes.await?.with_context(|| server.log())?;
        let pings = self.pings.await?.with_context(|| server.log())?;
        Ok(Noticed {
            cpu_us,
            grown_kib: i64::try_from(most)? - i64::try_from(self.before_kib)?,
            echo: percentiles(echoes).context("no echo")?,
            ping: percentiles(pings).context("no pong")?,
        })
    }
}

fn nanoseconds(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_nanos()).unwrap_or(u32::MAX)
}
