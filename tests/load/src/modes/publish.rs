//! A message to every member of a group, against as many bare writes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Bench, US};
use crate::client::{self, Client, Load, Scheme};
use crate::frame::{MIN_BYTES, Template};
use crate::measure::{Cpu, Round, percentiles};
use crate::report::{Row, Target};
use crate::server::Server;

/// The deadline for a message to reach every member.
const DELIVERY: Duration = Duration::from_secs(20);

/// A group, and a client outside it that publishes.
pub(super) struct Room {
    members: Vec<Client>,
    publisher: Client,
}

pub(crate) async fn publish(bench: &Bench) -> Result<Vec<Row>> {
    let count = bench.clients(5_000, 16);
    let gateway = bench.gateway(&bench.load, &["join", "publish"]).await?;
    let bare = Server::bare().await?;
    let mut ours = room(&gateway, count).await?;
    let mut theirs = room(&bare, count).await?;
    let mut rows = Vec::new();
    for (window, target) in [(1, Some(Target::Ratio(1.3))), (8, None)] {
        let what = format!(
            "publish to a group of {count}, ws, window {window}, {MIN_BYTES} B, each delivery"
        );
        let mut row = Row {
            target,
            ..Row::new(what, US, "bare")
        };
        for _ in 0..bench.rounds {
            row.lockgate
                .push(round(bench, &gateway, &mut ours, window).await?);
            row.reference
                .push(round(bench, &bare, &mut theirs, window).await?);
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Connects a group and its publisher.
pub(super) async fn room(server: &Server, count: usize) -> Result<Room> {
    let message = Arc::new(Template::new("publish", None, MIN_BYTES));
    let join = Template::new("join", None, MIN_BYTES);
    let mut members = client::connect(server, Scheme::Ws, count + 1, &message).await?;
    let publisher = members.pop().context("there is one more than members")?;
    for member in &mut members {
        let answer = member.ask(&join).await?;
        let text = String::from_utf8_lossy(&answer);
        ensure!(
            join.is(0, &answer),
            "in place of an answer to join came {text}"
        );
    }
    Ok(Room { members, publisher })
}

/// Publishes `window` messages at a time, each time once every member has those before.
pub(super) async fn round(
    bench: &Bench,
    server: &Server,
    room: &mut Room,
    window: u64,
) -> Result<Round> {
    let load = Arc::new(Load::new(1));
    let (delivered, over) = (Arc::new(Notify::new()), CancellationToken::new());
    let count = room.members.len() as u64 * window;
    let mut tasks = JoinSet::new();
    for mut member in room.members.drain(..) {
        let (load, delivered, over) = (Arc::clone(&load), Arc::clone(&delivered), over.clone());
        tasks.spawn(async move {
            while let Some(received) = over.run_until_cancelled(member.receive(&load)).await {
                received?;
                if load.answered.load(Ordering::Relaxed) % count == 0 {
                    delivered.notify_one();
                }
            }
            anyhow::Ok(member)
        });
    }
    let mut took = Vec::new();
    let mut publish = async |length: Duration| {
        let (before, started) = (Cpu::of(server)?, Instant::now());
        took.clear();
        while took.is_empty() || started.elapsed() < length {
            let sent = Instant::now();
            room.publisher.send(window).await?;
            timeout(DELIVERY, delivered.notified())
                .await
                .context("a member missed a message")?;
            took.push(u32::try_from(sent.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
        let deliveries = (took.len() as u64 * count) as f64;
        anyhow::Ok((
            Cpu::of(server)?.since(&before) / deliveries,
            deliveries / started.elapsed().as_secs_f64(),
        ))
    };
    let published = async {
        publish(bench.pace.warm_up).await?;
        publish(bench.pace.length).await
    };
    let published = published.await;
    over.cancel();
    // A failed member is the reason why the rest waited.
    while let Some(member) = tasks.join_next().await {
        room.members.push(member??);
    }
    let (cost, per_second) = published?;
    Ok(Round {
        cost,
        per_second: Some(per_second),
        latency_us: percentiles(took),
    })
}
