//! The memory of an idle connection, after one message each way.

use std::sync::Arc;

use anyhow::Result;

use super::{Bench, quic};
use crate::client::{self, Client, Load, Scheme};
use crate::frame::{MIN_BYTES, Template};
use crate::measure::{Round, settled_rss};
use crate::report::{Row, Target};
use crate::server::Server;

/// Clients before the first reading of the memory: fixed costs of a server do not count.
const FIRST: usize = 64;

/// Each round is a fresh process, and takes seconds.
pub(super) const MAX_ROUNDS: usize = 3;

pub(crate) async fn idle(bench: &Bench) -> Result<Vec<Row>> {
    let count = bench.clients(5_000, 32);
    let mut rows = Vec::new();
    for (scheme, most) in [(Scheme::Ws, 4.0), (Scheme::Wss, 12.0)] {
        rows.push(idle_row(bench, scheme, count, Target::AtMost(most)).await?);
    }
    Ok(rows)
}

/// The row of one scheme. The reference is the bare server, or wss for what that does not have.
pub(super) async fn idle_row(
    bench: &Bench,
    scheme: Scheme,
    count: usize,
    target: Target,
) -> Result<Row> {
    let against = if scheme.is_quic() { "wss" } else { "bare" };
    let mut row = Row {
        target: Some(target),
        ..Row::new(
            format!("memory of an idle connection, {scheme}, {count} connections"),
            "KiB",
            against,
        )
    };
    for _ in 0..bench.rounds.min(MAX_ROUNDS) {
        let (ours, theirs) = match scheme.is_quic() {
            true => {
                let wss = round(quic::serve(bench).await?, Scheme::Wss, count).await?;
                (quic::serve(bench).await?, wss)
            }
            false => {
                let bare = round(Server::bare().await?, scheme, count).await?;
                (bench.gateway(&bench.echo, &[]).await?, bare)
            }
        };
        row.lockgate.push(round(ours, scheme, count).await?);
        row.reference.push(theirs);
    }
    Ok(row)
}

/// The memory of a connection in a server that has just been started.
pub(super) async fn round(server: Server, scheme: Scheme, count: usize) -> Result<Round> {
    let _first = greeted(&server, scheme, FIRST).await?;
    let before = settled_rss(&server).await?;
    let _clients = greeted(&server, scheme, count).await?;
    let after = settled_rss(&server).await?;
    Ok(Round {
        cost: after.saturating_sub(before) as f64 / count as f64,
        ..Round::default()
    })
}

/// Clients that have each had an answer.
async fn greeted(server: &Server, scheme: Scheme, count: usize) -> Result<Vec<Client>> {
    let template = Arc::new(Template::new("echo", None, MIN_BYTES).over(scheme));
    let load = Load::new(1);
    let mut clients = client::connect(server, scheme, count, &template).await?;
    for client in &mut clients {
        client.round_trip(&load).await?;
    }
    Ok(clients)
}
