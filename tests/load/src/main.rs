//! Measures the gateway against a bare tokio-tungstenite server: two processes on this machine, in turn and in the same
//! run. `tests/load/README.md` explains each figure.
#![forbid(unsafe_code)]

#[allow(dead_code, unused_imports, reason = "the bench uses a part of it")]
mod auth;
mod bare;
mod client;
mod conditions;
#[allow(dead_code, reason = "the bench uses a part of it")]
mod config;
mod frame;
mod http2;
mod http3;
mod measure;
mod modes;
mod peer;
mod raw;
mod report;
mod server;
/// The signer of the tests.
#[allow(
    dead_code,
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "it is public in the harness of the tests, and fails there"
)]
#[path = "../../src/sigv4.rs"]
mod sigv4;
mod tls;
mod token;
mod versions;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};

use crate::client::Scheme;
use crate::conditions::Conditions;
use crate::measure::Pace;
use crate::modes::{Bench, Wishes};
use crate::report::Row;
use crate::server::Lockgate;

/// Measures the gateway beside it against a bare WebSocket server.
#[derive(Debug, Parser)]
#[command(name = "lockgate-load", version)]
struct Flags {
    /// What to measure; everything but `peers` unless given
    #[arg(long, value_enum, value_delimiter = ',')]
    mode: Vec<Mode>,
    /// Length of one round on one server
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Rounds on each server
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=50))]
    rounds: u64,
    /// Clients, in place of those of each mode; at most what the open files of a process allow
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=15_000))]
    connections: Option<u64>,
    /// Messages that a client sends before it waits (echo)
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=256))]
    window: Option<u64>,
    /// Length of a message (echo)
    #[arg(long, value_parser = clap::value_parser!(u64).range(frame::MIN_BYTES as u64..=128 << 10))]
    bytes: Option<u64>,
    /// How clients connect (echo)
    #[arg(long, value_enum)]
    scheme: Option<Scheme>,
    /// Every mode for a moment with few clients: tells whether it works, and judges no time
    #[arg(long)]
    short: bool,
    /// Writes the figures of every round to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    child: Option<Child>,
}

/// The roles of this executable as its own child process.
#[derive(Debug, Subcommand)]
enum Child {
    #[command(hide = true)]
    Bare,
    #[command(hide = true)]
    Leashed {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Mode {
    /// Messages that come back
    Echo,
    /// Echo with a fresh instance for each message
    PerMessage,
    /// The languages of plugins beside each other
    Languages,
    /// A handler that posts to another connection
    Post,
    /// A message for every member of a group
    Publish,
    /// Posts by the connections API
    Calls,
    /// Tokens and signatures that are verified
    Verify,
    /// Handshakes: TLS, upgrade and the $connect handler; with a token; over QUIC
    Handshakes,
    /// WebSockets over HTTP/3 and WebTransport sessions beside wss
    Quic,
    /// Echo with access log, trace and scrapes of the metrics
    Watching,
    /// Servers that others use beside the gateway, fetched by npm, Go and pip
    Peers,
    /// Memory of a connection that waits
    Idle,
    /// Cost of a message with 10, 1,000 and 15,000 connections open
    Scale,
    /// Look-ups and growth of the directory of connections
    Directory,
    /// Joins and publishes in the map of a group's members
    Groups,
    /// From the start of the process to its listening
    Start,
    /// From a replaced component file to the new version's answer
    Swap,
    /// From a save to the new build's answer under `lockgate dev`, in each language
    Saves,
    /// What clients wait while a large component is compiled
    Compile,
    /// Guests that take more than they should
    Hostile,
    /// Clients that do
    Floods,
}

impl Flags {
    /// The modes that are asked for: all unless some are named, except that with what has to be fetched.
    fn modes(&self) -> BTreeSet<Mode> {
        if self.mode.is_empty() {
            let all = Mode::value_variants().iter().copied();
            return all.filter(|mode| *mode != Mode::Peers).collect();
        }
        self.mode.iter().copied().collect()
    }
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    match &flags.child {
        Some(Child::Bare) => bare::main(),
        Some(Child::Leashed { words }) => server::become_leashed(words),
        None => {
            rlimit::increase_nofile_limit(u64::MAX).context("open files")?;
            // One thread, since the servers need the other cores, and the kernel ends a leashed child with the thread
            // that started it.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(measure(&flags))
        }
    }
}

async fn measure(flags: &Flags) -> Result<()> {
    let lockgate = Lockgate::find()?;
    let pace = if flags.short {
        Pace {
            warm_up: Duration::from_millis(20),
            length: Duration::from_millis(100),
        }
    } else {
        Pace {
            warm_up: Duration::from_millis(300),
            length: Duration::from_secs(flags.seconds),
        }
    };
    let rounds = if flags.short {
        1
    } else {
        flags.rounds as usize
    };
    let mut conditions = Conditions::now(lockgate.version()?, pace.length.as_secs_f64(), rounds);
    let bench = Bench {
        echo: lockgate.build("plugins/echo")?,
        load: lockgate.build("tests/load/guest")?,
        lockgate,
        pace,
        rounds,
        short: flags.short,
        wishes: Wishes {
            connections: flags.connections.map(|connections| connections as usize),
            window: flags.window,
            bytes: flags.bytes.map(|bytes| bytes as usize),
            scheme: flags.scheme,
        },
    };
    let (mut rows, mut tables) = (Vec::new(), Vec::new());
    for mode in flags.modes() {
        let name = mode
            .to_possible_value()
            .map_or_else(String::new, |mode| mode.get_name().to_owned());
        eprintln!("measuring: {name}");
        let measured = match mode {
            Mode::Echo => modes::echo::echo(&bench).await,
            Mode::PerMessage => modes::echo::per_message(&bench).await,
            Mode::Languages => modes::languages::languages(&bench)
                .await
                .map(|(rows, table)| {
                    tables.push(table);
                    rows
                }),
            Mode::Peers => modes::peers::peers(&bench).await.map(|(rows, table)| {
                tables.push(table);
                rows
            }),
            Mode::Post => modes::echo::post(&bench).await,
            Mode::Publish => modes::publish::publish(&bench).await,
            Mode::Calls => modes::calls::calls(&bench).await,
            Mode::Verify => modes::verify::verify(&bench),
            Mode::Quic => modes::quic::quic(&bench).await,
            Mode::Watching => modes::watching::watching(&bench).await,
            Mode::Handshakes => modes::handshakes::handshakes(&bench).await,
            Mode::Idle => modes::idle::idle(&bench).await,
            Mode::Scale => modes::scale::scale(&bench).await,
            Mode::Directory => modes::directory::directory(&bench),
            Mode::Groups => modes::groups::groups(&bench),
            Mode::Start => modes::start::start(&bench).await,
            Mode::Swap => modes::swap::swap(&bench).await,
            Mode::Saves => modes::saves::saves(&bench).await,
            Mode::Compile => modes::compile::compile(&bench).await,
            Mode::Hostile => modes::hostile::hostile(&bench).await.map(|made| {
                tables.extend(made);
                Vec::new()
            }),
            Mode::Floods => modes::floods::floods(&bench).await.map(|made| {
                tables.push(made);
                Vec::new()
            }),
        };
        match measured {
            Ok(measured) => rows.extend(measured),
            Err(error) => rows.push(Row::failed(name, &error)),
        }
    }
    conditions.end();
    if let Some(file) = &flags.json {
        let whole = serde_json::json!({ "conditions": conditions, "rows": rows, "tables": tables });
        std::fs::write(file, serde_json::to_vec_pretty(&whole)?)
            .with_context(|| file.display().to_string())?;
    }
    let failed = rows
        .iter()
        .filter_map(|row| Some((&row.what, row.error.as_ref()?)));
    let failed: Vec<_> = failed
        .map(|(what, error)| format!("{what}: {error}"))
        .collect();
    let mut text = report::text(&rows, &tables, &conditions);
    if flags.short {
        let all = rows.len() + tables.len();
        let works = all - failed.len();
        text = format!(
            "{works} of {all} measurements work: every message answered, once and in order\n"
        );
    }
    std::io::stdout().lock().write_all(text.as_bytes())?;
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn modes(words: &[&str]) -> BTreeSet<Mode> {
        let words = ["lockgate-load"].iter().chain(words);
        Flags::try_parse_from(words).unwrap().modes()
    }

    #[test]
    fn peers_are_measured_only_where_they_are_named() {
        for everything in [&[][..], &["--short"]] {
            let modes = modes(everything);
            assert_eq!(modes.len(), Mode::value_variants().len() - 1);
            assert!(!modes.contains(&Mode::Peers));
        }
        assert_eq!(modes(&["--mode", "peers"]), BTreeSet::from([Mode::Peers]));
        let both = BTreeSet::from([Mode::Echo, Mode::Peers]);
        assert_eq!(modes(&["--mode", "peers,echo", "--rounds", "3"]), both);
    }
}
