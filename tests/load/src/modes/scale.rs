//! The cost of a message with many connections open: the number of messages under way is the same, each on the next
//! connection, so that only the number of connections differs.

use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::{Bench, US};
use crate::client::{self, Client, Scheme};
use crate::frame::{MIN_BYTES, Template};
use crate::measure::{self, Round};
use crate::report::{Row, Target, median};
use crate::server::Server;

/// Messages under way.
const AT_A_TIME: usize = 10;

/// The largest ratio of the cost of a message to that with few connections.
const MOST: f64 = 1.3;

/// One number of connections, with a server of its own.
struct Size {
    server: Server,
    groups: Vec<Vec<Client>>,
    rounds: Vec<Round>,
}

/// Measures the bare server after the gateway, since both together are more sockets than a process may open. The bare
/// server's growth shows the share of the kernel and the caches.
pub(crate) async fn scale(bench: &Bench) -> Result<Vec<Row>> {
    let counts = if bench.short {
        [10, 20, 40]
    } else {
        [10, 1_000, bench.clients(15_000, 0)]
    };
    let ours = sizes(bench, counts, async || {
        bench.gateway(&bench.echo, &[]).await
    })
    .await?;
    let theirs = sizes(bench, counts, Server::bare).await?;
    let cost = |rounds: &[Round]| median(rounds.iter().map(|round| round.cost));
    let (few, few_bare) = (ours.first(), theirs.first());
    let few = few.and_then(|few| cost(few)).context("no rounds")?;
    let few_bare = few_bare.and_then(|few| cost(few)).context("no rounds")?;
    let mut rows = Vec::new();
    for ((count, ours), theirs) in counts.into_iter().zip(&ours).zip(&theirs) {
        let mut what = format!("echo, ws, {count} connections, {AT_A_TIME} messages at a time");
        let mut target = None;
        if count != AT_A_TIME {
            let growth = cost(ours).unwrap_or(few) / few;
            let bare = cost(theirs).unwrap_or(few_bare) / few_bare;
            what += &format!(": {growth:.2} × as with {AT_A_TIME} (bare: {bare:.2} ×)");
            target = Some(Target::AtMost(few * MOST));
        }
        rows.push(Row {
            lockgate: ours.clone(),
            reference: theirs.clone(),
            target,
            ..Row::new(what, US, "bare")
        });
    }
    Ok(rows)
}

/// The rounds for each number of connections, in turn.
async fn sizes(
    bench: &Bench,
    counts: [usize; 3],
    start: impl AsyncFn() -> Result<Server>,
) -> Result<Vec<Vec<Round>>> {
    let template = Arc::new(Template::new("echo", None, MIN_BYTES));
    let mut sizes = Vec::new();
    for count in counts {
        let server = start().await?;
        let clients = client::connect(&server, Scheme::Ws, count, &template).await?;
        sizes.push(Size {
            server,
            groups: divide(clients),
            rounds: Vec::new(),
        });
    }
    for _ in 0..bench.rounds {
        for size in &mut sizes {
            let round = measure::exchange(&size.server, &mut size.groups, 1, bench.pace).await?;
            size.rounds.push(round);
        }
    }
    Ok(sizes.into_iter().map(|size| size.rounds).collect())
}

fn divide(clients: Vec<Client>) -> Vec<Vec<Client>> {
    let mut groups: Vec<Vec<Client>> = (0..AT_A_TIME).map(|_| Vec::new()).collect();
    for (place, client) in clients.into_iter().enumerate() {
        if let Some(group) = groups.get_mut(place % AT_A_TIME) {
            group.push(client);
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}
