//! The cost of watching a gateway: echoes while something looks, beside a gateway that nothing looks at; and the page of
//! its metrics.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::echo::{USUAL, alone};
use super::{Bench, US};
use crate::client::{self, Scheme};
use crate::frame::{MIN_BYTES, Template};
use crate::measure::{self, Repeat, Round, repeat};
use crate::raw::Raw;
use crate::report::{Row, Target};
use crate::server::Lockgate;

/// The largest ratio where only another connection, or nobody's message, is looked at.
const MOST: f64 = 1.1;

/// The interval of scrapes.
const SCRAPE: Duration = Duration::from_secs(1);

/// The interval of the messages of the connection whose trace is printed.
const TRACED: Duration = Duration::from_millis(20);

/// The routes of the gateway with a large page, and the limit of the page in KiB.
const ROUTES: usize = 10_000;
const SHORT_ROUTES: usize = 50;
const MOST_OF_PAGE_KIB: f64 = 2_000.0;

/// The ways to watch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    AccessLog,
    Trace,
    Metrics,
}

/// The management listener of a gateway.
#[derive(Clone)]
struct Management(PathBuf);

/// What watches, until it is dropped.
struct Watching {
    tasks: JoinSet<Result<()>>,
    /// The lines or pages that it has had.
    seen: Arc<AtomicUsize>,
}

pub(crate) async fn watching(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for watch in [Watch::AccessLog, Watch::Trace, Watch::Metrics] {
        for window in [1, 16] {
            rows.push(beside_plain(bench, watch, window).await?);
        }
    }
    rows.extend(page(bench).await?);
    Ok(rows)
}

async fn beside_plain(bench: &Bench, watch: Watch, window: u64) -> Result<Row> {
    let count = bench.clients(USUAL.connections, 8);
    let template = Arc::new(Template::new("echo", None, MIN_BYTES));
    let plain = bench.gateway(&bench.echo, &[]).await?;
    let (management, table) = Management::new(&bench.lockgate);
    let log = bench.lockgate.file("access.log");
    let _ = fs::remove_file(&log);
    let tables = table
        + &match watch {
            // One old file, so that a long measurement does not fill the disk.
            Watch::AccessLog => format!(
                "\n[access_log]\nto = \"file:{}\"\nrotate_mib = 100\nkeep = 1\nmessages = {{ one_in = 1 }}\n",
                log.display()
            ),
            Watch::Trace | Watch::Metrics => String::new(),
        };
    let watched = bench.gateway_with(&bench.echo, &[], &tables).await?;
    // The only connection when its trace begins.
    let traced = Raw::open(watched.plain, "/load").await?;
    let watching = match watch {
        Watch::AccessLog => None,
        Watch::Trace => Some(trace(&bench.lockgate, &management, traced).await?),
        Watch::Metrics => Some(scrape(&management)),
    };
    let mut ours = alone(client::connect(&watched, Scheme::Ws, count, &template).await?);
    let mut theirs = alone(client::connect(&plain, Scheme::Ws, count, &template).await?);
    let mut row = Row::new(String::new(), US, "plain");
    for _ in 0..bench.rounds {
        let with = measure::exchange(&watched, &mut ours, window, bench.pace).await?;
        let without = measure::exchange(&plain, &mut theirs, window, bench.pace).await?;
        row.lockgate.push(with);
        row.reference.push(without);
    }
    let what = match watch {
        Watch::AccessLog => {
            let dropped = dropped(&management).await?;
            let written = fs::metadata(&log).with_context(|| log.display().to_string())?;
            ensure!(written.len() > 0, "the access log is empty");
            let _ = fs::remove_file(log.with_extension("log.1"));
            format!("a line for each message in a file ({dropped:.0} lines dropped)")
        }
        Watch::Trace => "a trace of another connection".to_owned(),
        Watch::Metrics => "the metrics scraped each second".to_owned(),
    };
    if let Some(watching) = watching {
        watching.end()?;
    }
    row.what = format!("echo, ws, {count} connections, window {window}, with {what}");
    row.target = (watch != Watch::AccessLog).then_some(Target::Ratio(MOST));
    Ok(row)
}

/// Prints the trace of a connection by the gateway's command, while the connection sends now and then.
async fn trace(lockgate: &Lockgate, management: &Management, mut traced: Raw) -> Result<Watching> {
    let page: Value = serde_json::from_slice(&management.get("/connections").await?)?;
    let id = page.pointer("/connections/0/id").and_then(Value::as_str);
    let id = id.context("the list has the connection")?;
    let command = lockgate.command(&[
        "connections",
        "trace",
        id,
        "--management",
        &management.address(),
    ])?;
    let mut command = tokio::process::Command::from(command);
    let mut printing = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // It complains of the gateway that ends.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let lines = printing.stdout.take().context("it is piped")?;
    let mut lines = BufReader::new(lines).lines();
    let first = lines.next_line().await?;
    first.context("the trace does not begin")?;
    let (mut tasks, seen) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    let printed = Arc::clone(&seen);
    tasks.spawn(async move {
        while lines.next_line().await?.is_some() {
            printed.fetch_add(1, Ordering::Relaxed);
        }
        drop(printing);
        Ok(())
    });
    tasks.spawn(async move {
        let mut turns = interval(TRACED);
        loop {
            turns.tick().await;
            traced.ask("traced").await?;
        }
    });
    Ok(Watching { tasks, seen })
}

/// Gets the metrics each second.
fn scrape(management: &Management) -> Watching {
    let (mut tasks, seen) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    let (management, pages) = (management.clone(), Arc::clone(&seen));
    tasks.spawn(async move {
        let mut turns = interval(SCRAPE);
        loop {
            turns.tick().await;
            management.get("/metrics").await?;
            pages.fetch_add(1, Ordering::Relaxed);
        }
    });
    Watching { tasks, seen }
}

impl Watching {
    /// Fails unless something was seen up to now.
    fn end(mut self) -> Result<()> {
        if let Some(ended) = self.tasks.try_join_next() {
            ended??;
        }
        ensure!(self.seen.load(Ordering::Relaxed) > 0, "nothing was seen");
        Ok(())
    }
}

/// The lines that the access log has lost.
async fn dropped(management: &Management) -> Result<f64> {
    let page = String::from_utf8(management.get("/metrics").await?)?;
    let mut lines = page.lines();
    let line = lines.find_map(|line| line.strip_prefix("lockgate_access_log_dropped_total "));
    Ok(line.context("no counter of dropped lines")?.parse()?)
}

/// Processor time and size of the page, once every route has had messages.
async fn page(bench: &Bench) -> Result<Vec<Row>> {
    let count = if bench.short { SHORT_ROUTES } else { ROUTES };
    let (management, mut tables) = Management::new(&bench.lockgate);
    for route in 0..count {
        tables +=
            &format!("\n[apis.load.routes.r{route}]\nintegration = \"load\"\ntwo_way = true\n");
    }
    let gateway = bench.gateway_with(&bench.echo, &[], &tables).await?;
    let mut client = Raw::open(gateway.plain, "/load").await?;
    for route in 0..count {
        client.ask(&format!("{{\"action\":\"r{route}\"}}")).await?;
    }
    let mut time = Row::new(
        format!("a page of metrics, {count} routes, processor time"),
        US,
        "",
    );
    for _ in 0..bench.rounds {
        let scrapes = vec![management.clone()];
        time.lockgate
            .push(repeat(&gateway, scrapes, bench.pace).await?);
    }
    let bytes = management.get("/metrics").await?.len();
    let size = Row {
        lockgate: vec![Round {
            cost: bytes as f64 / 1_024.0,
            ..Round::default()
        }],
        target: Some(Target::AtMost(MOST_OF_PAGE_KIB)),
        ..Row::new(
            format!("a page of metrics, {count} routes, size"),
            "KiB",
            "",
        )
    };
    Ok(vec![time, size])
}

impl Repeat for Management {
    async fn once(&mut self) -> Result<()> {
        self.get("/metrics").await?;
        Ok(())
    }
}

impl Management {
    /// A management listener, and its table in a configuration.
    fn new(lockgate: &Lockgate) -> (Self, String) {
        let management = Self(lockgate.file("management.sock"));
        let table = format!("\n[management]\naddress = {:?}\n", management.address());
        (management, table)
    }

    fn address(&self) -> String {
        format!("unix:{}", self.0.display())
    }

    /// The body of an answer.
    async fn get(&self, path: &str) -> Result<Vec<u8>> {
        let mut socket = UnixStream::connect(&self.0).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.context("closed in place of an answer")? + 4;
        let (head, body) = answer.split_at(end);
        ensure!(
            head.starts_with(b"HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        Ok(body.to_vec())
    }
}
