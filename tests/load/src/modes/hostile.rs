//! Guests that take more than they should, one deed after the other: the answer to their client, the cost, and the
//! latency of a neighbour on the same gateway.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;

use super::Bench;
use super::beside::{Beside, Noticed};
use crate::raw::{FIN, Raw, TEXT, frame};
use crate::report::Table;
use crate::server::Server;

/// A deed of the guest, with the message that asks for it.
struct Deed {
    what: &'static str,
    /// The stage that serves the guest.
    stage: &'static str,
    message: &'static str,
    /// Clients that ask for it at the same time.
    clients: usize,
}

const fn deed(what: &'static str, message: &'static str) -> Deed {
    Deed {
        what,
        stage: "/hostile",
        message,
        clients: 1,
    }
}

static DEEDS: [Deed; 16] = [
    deed("nothing, for comparison", "posts 0"),
    deed("spins", "spin"),
    deed("spins in host calls", "calls"),
    deed("copies 24 MiB to and fro by one instruction", "copy"),
    deed("takes all memory it can get", "hog"),
    deed("recurses until the stack is used up", "descend"),
    deed("traps", "trap"),
    deed("posts 100,000 messages", "posts 100000"),
    deed("joins 100,000 groups", "joins 100000"),
    deed("sets 100,000 attributes", "attributes 100000"),
    deed("logs 20,000 lines of escape sequences", "escapes 20000"),
    deed("returns 30 MB", "return 30000000"),
    deed("sleeps for a minute in a host call", "sleep 60000"),
    deed("leaves 1 MiB behind (reused)", "hide 7"),
    Deed {
        stage: "/fresh",
        ..deed("looks for what was left behind (per-message)", "find 7")
    },
    Deed {
        clients: 64,
        ..deed("64 spin at the same time", "spin")
    },
];

/// The minimum time for which a deed is repeated in a full run.
const LENGTH: Duration = Duration::from_secs(3);

pub(crate) async fn hostile(bench: &Bench) -> Result<Vec<Table>> {
    let guests = ["hostile", "tables", "filesystem", "sockets", "probe"];
    let mut components = Vec::new();
    for guest in guests {
        components.push(bench.lockgate.build(&format!("tests/guests/{guest}"))?);
    }
    let [hostile, others @ ..] = components.as_slice() else {
        anyhow::bail!("a component each was built");
    };
    let text = configuration(bench, hostile);
    let server = bench.lockgate.serve_text(&text).await?;
    let length = if bench.short {
        bench.pace.length
    } else {
        LENGTH
    };
    let mut table = Table::new(
        "Hostile guests",
        [
            "a guest that …",
            "its client is told",
            "times",
            "CPU each",
            "memory",
            "neighbour p50 / p99",
            "ping p99",
        ],
    );
    for deed in &DEEDS {
        table.lines.push(measure(&server, deed, length).await?);
    }
    table.lines.push(pipelining(&server, length).await?);
    Ok(vec![table, refusals(bench, others)?])
}

/// Measures one deed, over and over.
async fn measure(server: &Server, deed: &'static Deed, length: Duration) -> Result<Vec<String>> {
    // The first instance, and memory that the allocator keeps, are not the deed's cost.
    let answer = ask(server, deed).await.context(deed.what)?;
    let beside = Beside::begin(server, "/load").await?;
    let deadline = Instant::now() + length;
    let mut asking = JoinSet::new();
    for _ in 0..deed.clients {
        let mut client = Raw::open(server.plain, deed.stage).await?;
        asking.spawn(async move {
            let mut times = 0;
            while times == 0 || Instant::now() < deadline {
                client.ask(deed.message).await?;
                times += 1;
            }
            anyhow::Ok(times)
        });
    }
    let mut times = 0;
    while let Some(asked) = asking.join_next().await {
        times += asked?.context(deed.what)?;
    }
    let noticed = beside.end(server).await?;
    ensure!(
        !answer.is_empty(),
        "{}: its client was told nothing",
        deed.what
    );
    Ok(line(deed.what, answer, times, &noticed))
}

fn line(what: &str, answer: String, times: u32, noticed: &Noticed) -> Vec<String> {
    let Noticed {
        cpu_us,
        grown_kib,
        echo,
        ping,
    } = noticed;
    vec![
        what.to_owned(),
        answer,
        times.to_string(),
        format!("{:.3} ms", cpu_us / 1_000.0 / f64::from(times)),
        format!("{:+.1} MiB", *grown_kib as f64 / 1_024.0),
        format!("{:.2} / {:.2} ms", echo.p50 / 1_000.0, echo.p99 / 1_000.0),
        format!("{:.2} ms", ping.p99 / 1_000.0),
    ]
}

/// Four clients that send messages of one byte as fast as the gateway takes them, and read every answer. Each has a
/// nice thread of its own, so that their neighbour waits for the gateway alone.
async fn pipelining(server: &Server, length: Duration) -> Result<Vec<String>> {
    const CLIENTS: usize = 4;
    const AT_ONCE: usize = 4_096;
    let beside = Beside::begin(server, "/load").await?;
    let deadline = Instant::now() + length;
    let mut flooding = Vec::new();
    for _ in 0..CLIENTS {
        let socket = Raw::open(server.plain, "/load").await?.socket.into_std()?;
        socket.set_nonblocking(false)?;
        flooding.push(tokio::task::spawn_blocking(move || {
            let answers = socket.try_clone()?;
            let reading = std::thread::spawn(move || answers_read(answers));
            rustix::process::nice(19)?;
            let batch = frame(FIN | TEXT, b"x").repeat(AT_ONCE);
            while Instant::now() < deadline {
                (&socket).write_all(&batch)?;
            }
            socket.shutdown(std::net::Shutdown::Write)?;
            let bytes = reading.join().expect("no panic in a reader")?;
            // An answer of one byte takes three.
            anyhow::Ok(u32::try_from(bytes / 3)?)
        }));
    }
    let mut times = 0;
    for client in flooding {
        times += client.await?.context("pipelining")?;
    }
    let noticed = beside.end(server).await?;
    let what = "(4 clients that pipeline one-byte messages)";
    Ok(line(what, "its answers".to_owned(), times, &noticed))
}

/// The number of bytes up to the end.
fn answers_read(mut socket: std::net::TcpStream) -> Result<u64> {
    rustix::process::nice(19)?;
    Ok(std::io::copy(&mut socket, &mut std::io::sink())?)
}

/// The answer to a client that asks for a deed.
async fn ask(server: &Server, deed: &Deed) -> Result<String> {
    let answer = Raw::open(server.plain, deed.stage)
        .await?
        .ask(deed.message)
        .await?;
    let error = serde_json::from_str::<serde_json::Value>(&answer).ok();
    let error = error.and_then(|error| Some(error.get("message")?.as_str()?.to_owned()));
    Ok(error.unwrap_or_else(|| format!("“{answer}”")))
}

fn configuration(bench: &Bench, hostile: &Path) -> String {
    let mut text = bench.lockgate.preamble();
    for (stage, component, isolation) in [
        ("load", bench.echo.as_path(), "reused"),
        ("hostile", hostile, "reused"),
        ("fresh", hostile, "per-message"),
    ] {
        text += &format!(
            r#"
[plugins.{stage}]
component = {component:?}
grants = ["connections", "groups"]
isolation = "{isolation}"
limits = {{ waiting = 200 }}

[apis.{stage}.stages.{stage}]

[apis.{stage}.routes."$default"]
integration = "{stage}"
two_way = true
"#
        );
    }
    text
}

/// Components that are refused before any message.
fn refusals(bench: &Bench, components: &[PathBuf]) -> Result<Table> {
    let mut table = Table::new(
        "Refused when it is loaded",
        ["a component that …", "is told"],
    );
    let whats = [
        "has a table of over 20,000 elements",
        "imports the file system",
        "imports the network",
        "imports `connections` and `groups` without their grants",
    ];
    for (what, component) in whats.into_iter().zip(components) {
        let text = format!(
            "{}\n[plugins.load]\ncomponent = {component:?}\n[apis.load.stages.load]\n\
             [apis.load.routes.\"$default\"]\nintegration = \"load\"\n",
            bench.lockgate.preamble()
        );
        let said = bench.lockgate.refusal(&text).context(what)?;
        table.lines.push(vec![what.to_owned(), said]);
    }
    Ok(table)
}
