//! The gateway beside servers that others use: the same echoes, publishes and idle connections, in turn.

use std::fmt;
use std::sync::Arc;

use anyhow::{Error, Result};

use super::echo::{FIVE, alone, size};
use super::{Bench, US, idle, publish};
use crate::client::{self, Client, Scheme};
use crate::frame::{MIN_BYTES, Template};
use crate::measure::{self, Round};
use crate::peer::{Installed, PEERS, Peer};
use crate::report::{Row, Table, median};
use crate::server::Server;

/// The columns of the table: the server, and a figure each.
const HEAD: [&str; 7] = [
    "server",
    "one at a time",
    "16 at a time",
    "16 KiB, 4 at a time",
    "each delivery of a publish",
    "8 at a time",
    "idle connection",
];

/// A figure of each server.
#[derive(Clone, Copy)]
enum Figure {
    Echo {
        connections: usize,
        window: u64,
        bytes: usize,
    },
    Publish {
        members: usize,
        window: u64,
    },
    Idle {
        connections: usize,
    },
}

/// A server that can be started again and again.
enum Contender {
    Lockgate,
    Peer(Installed),
}

/// The rounds of one server, or why there are none.
type Rounds = Result<Vec<Round>>;

pub(crate) async fn peers(bench: &Bench) -> Result<(Vec<Row>, Table)> {
    let mut table = Table::new("Servers beside each other", HEAD);
    let mut contenders = vec![Contender::Lockgate];
    table.lines.push(vec![bench.lockgate.version()?]);
    let mut missing = Vec::new();
    for peer in &PEERS {
        let installed = match bench.short {
            true => Err(Error::msg("--short installs nothing")),
            false => peer.install(&bench.lockgate.file("peers")),
        };
        match installed {
            Ok(installed) => {
                table.lines.push(vec![installed.version.clone()]);
                contenders.push(Contender::Peer(installed));
            }
            Err(error) => missing.push(missing_line(peer, &error)),
        }
    }
    let (few, many) = (bench.clients(64, 8), bench.clients(5_000, 32));
    let mut rows = Vec::new();
    for figure in figures(few, many) {
        let mut ours = Vec::new();
        let measured = figure.measure(bench, &contenders).await;
        for ((contender, line), rounds) in contenders.iter().zip(&mut table.lines).zip(measured) {
            let row = match (contender, rounds) {
                (_, None) => {
                    line.push("–".to_owned());
                    continue;
                }
                (_, Some(Err(error))) => Row::failed(contender.row(figure), &error),
                (Contender::Lockgate, Some(Ok(rounds))) => {
                    ours = rounds;
                    Row {
                        lockgate: ours.clone(),
                        ..Row::new(contender.row(figure), figure.unit(), "")
                    }
                }
                (Contender::Peer(_), Some(Ok(rounds))) => Row {
                    lockgate: ours.clone(),
                    reference: rounds,
                    ..Row::new(contender.row(figure), figure.unit(), contender.name())
                },
            };
            line.push(cell(&row));
            rows.push(row);
        }
    }
    table.lines.extend(missing);
    Ok((rows, table))
}

/// The figures, in the order of [`HEAD`].
fn figures(few: usize, many: usize) -> [Figure; HEAD.len() - 1] {
    let echo = |window, bytes| Figure::Echo {
        connections: few,
        window,
        bytes,
    };
    let publish = |window| Figure::Publish {
        members: many,
        window,
    };
    [
        echo(1, MIN_BYTES),
        echo(16, MIN_BYTES),
        echo(4, 16 << 10),
        publish(1),
        publish(8),
        Figure::Idle { connections: many },
    ]
}

/// The line of a server that is not here.
fn missing_line(peer: &Peer, error: &Error) -> Vec<String> {
    let mut line = vec![format!("{}: not installed: {error:#}", peer.name)];
    line.resize(HEAD.len(), "–".to_owned());
    line
}

/// The median of the row's last server.
fn cell(row: &Row) -> String {
    let rounds = match row.reference.is_empty() {
        true => &row.lockgate,
        false => &row.reference,
    };
    match median(rounds.iter().map(|round| round.cost)) {
        Some(cost) if row.error.is_none() => format!("{cost:.2} {}", row.unit),
        _ => "failed".to_owned(),
    }
}

impl Contender {
    fn name(&self) -> &'static str {
        match self {
            Self::Lockgate => "Lockgate",
            Self::Peer(installed) => installed.peer.name,
        }
    }

    fn row(&self, figure: Figure) -> String {
        match self {
            Self::Lockgate => figure.to_string(),
            Self::Peer(_) => format!("{figure}, beside {}", self.name()),
        }
    }

    /// Starts the server. The gateway has a handler of the same five actions.
    async fn serve(&self, bench: &Bench) -> Result<Server> {
        match self {
            Self::Lockgate => bench.gateway(&bench.load, FIVE).await,
            Self::Peer(installed) => installed.serve().await,
        }
    }
}

impl Figure {
    fn unit(self) -> &'static str {
        match self {
            Self::Echo { .. } | Self::Publish { .. } => US,
            Self::Idle { .. } => "KiB",
        }
    }

    /// Whether the server has what is measured.
    fn is_of(self, contender: &Contender) -> bool {
        match (self, contender) {
            (Self::Publish { .. }, Contender::Peer(installed)) => installed.peer.publishes,
            _ => true,
        }
    }

    /// Measures every contender, in their order.
    async fn measure(self, bench: &Bench, contenders: &[Contender]) -> Vec<Option<Rounds>> {
        match self {
            Self::Echo {
                connections,
                window,
                bytes,
            } => {
                let template = Arc::new(Template::new("echo", None, bytes));
                let start = async |contender: &Contender| {
                    let server = contender.serve(bench).await?;
                    let clients = client::connect(&server, Scheme::Ws, connections, &template);
                    let clients = alone(clients.await?);
                    Ok((server, clients))
                };
                let round = async |(server, clients): &mut (Server, Vec<Vec<Client>>)| {
                    measure::exchange(server, clients, window, bench.pace).await
                };
                self.in_turn(contenders, bench.rounds, start, round).await
            }
            // A room for each round: all rooms together are more sockets than a process may open.
            Self::Publish { members, window } => {
                let start = async |contender: &Contender| contender.serve(bench).await;
                let round = async |server: &mut Server| {
                    let mut room = publish::room(server, members).await?;
                    publish::round(bench, server, &mut room, window).await
                };
                self.in_turn(contenders, bench.rounds, start, round).await
            }
            Self::Idle { connections } => {
                let rounds = bench.rounds.min(idle::MAX_ROUNDS);
                let round = async |contender: &mut &Contender| {
                    let server = contender.serve(bench).await?;
                    idle::round(server, Scheme::Ws, connections).await
                };
                let start = async |contender| Ok(contender);
                self.in_turn(contenders, rounds, start, round).await
            }
        }
    }

    /// The rounds of all contenders, one of each in turn; one that fails is left out from then on.
    async fn in_turn<'c, S>(
        self,
        contenders: &'c [Contender],
        rounds: usize,
        start: impl AsyncFn(&'c Contender) -> Result<S>,
        round: impl AsyncFn(&mut S) -> Result<Round>,
    ) -> Vec<Option<Rounds>> {
        let mut started = Vec::new();
        for contender in contenders {
            started.push(match self.is_of(contender) {
                true => Some(start(contender).await.map(|state| (state, Vec::new()))),
                false => None,
            });
        }
        for _ in 0..rounds {
            for one in &mut started {
                let Some(Ok((state, measured))) = one else {
                    continue;
                };
                match round(state).await {
                    Ok(round) => measured.push(round),
                    Err(error) => *one = Some(Err(error)),
                }
            }
        }
        let rounds = |one: Result<(S, Vec<Round>)>| one.map(|(_, measured)| measured);
        started.into_iter().map(|one| one.map(rounds)).collect()
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo {
                connections,
                window,
                bytes,
            } => write!(
                f,
                "echo by one of {} actions, ws, {connections} connections, window {window}, {}",
                FIVE.len(),
                size(*bytes)
            ),
            Self::Publish { members, window } => write!(
                f,
                "publish to a group of {members}, ws, window {window}, {MIN_BYTES} B, each delivery"
            ),
            Self::Idle { connections } => {
                write!(
                    f,
                    "memory of an idle connection, ws, {connections} connections"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_peer_is_a_line_with_its_reason() {
        let [peer, ..] = &PEERS;
        let line = missing_line(peer, &Error::msg("sh: npm: not found"));
        assert_eq!(line.len(), HEAD.len());
        let first = line.first().unwrap();
        assert!(first.starts_with(peer.name), "{first}");
        assert!(first.ends_with("npm: not found"), "{first}");
    }
}
