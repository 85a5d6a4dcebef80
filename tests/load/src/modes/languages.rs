//! The languages of plugins beside each other: an echo in each, what its component costs, and what an instance needs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::echo::{Case, USUAL, echo_by};
use super::{Bench, US};
use crate::client::{self, Load, Scheme};
use crate::frame::{MIN_BYTES, Template};
use crate::measure::settled_rss;
use crate::report::{Row, Table, Target, median};
use crate::server::Server;

/// A language: its echo, and how many times the bare server's cost a message may have, one at a time.
struct Language {
    name: &'static str,
    folder: &'static str,
    most: f64,
}

const LANGUAGES: [Language; 4] = [
    Language {
        name: "Rust",
        folder: "plugins/echo",
        most: 1.25,
    },
    Language {
        name: "Go",
        folder: "plugins/echo-go",
        most: 1.3,
    },
    Language {
        name: "TypeScript",
        folder: "plugins/echo-ts",
        most: 1.6,
    },
    Language {
        name: "the Lambda adapter",
        folder: "tests/load/lambda",
        most: 2.2,
    },
];

/// Names of plugins of the same component: one, and eight more, whose needs are divided by eight.
const ONE: &[&str] = &["a"];
const NINE: &[&str] = &["a", "b", "c", "d", "e", "f", "g", "h", "i"];

/// The ticks of a second in `/proc/PID/stat`.
const TICKS: f64 = 100.0;

pub(crate) async fn languages(bench: &Bench) -> Result<(Vec<Row>, Table)> {
    let mut rows = Vec::new();
    let mut table = Table::new(
        "What a component of each language costs",
        [
            "echo in",
            "component",
            "first start, CPU",
            "start",
            "first answer",
            "fresh instance",
            "one more plugin with an instance",
        ],
    );
    for language in LANGUAGES {
        let measured = async {
            let component = bench.lockgate.build(language.folder)?;
            let fresh = echoes(bench, &language, &component, &mut rows).await?;
            let line = component_line(bench, &language, &component, fresh).await?;
            table.lines.push(line);
            anyhow::Ok(())
        };
        if let Err(error) = measured.await {
            rows.push(Row::failed(language.name.to_owned(), &error));
        }
    }
    Ok((rows, table))
}

/// Measures echoes, and gives what a message costs more when it has an instance of its own, in µs.
async fn echoes(
    bench: &Bench,
    language: &Language,
    component: &Path,
    rows: &mut Vec<Row>,
) -> Result<f64> {
    let name = format!("echo in {}", language.name);
    let case = |window, target| Case {
        window,
        target,
        ..USUAL
    };
    let target = Some(Target::Ratio(language.most));
    let one = echo_by(bench, component, &name, case(1, target), "reused").await;
    let many = echo_by(bench, component, &name, case(16, None), "reused").await;
    let fresh = echo_by(bench, component, &name, case(1, None), "per-message").await;
    if let Some(error) = &fresh.error {
        bail!("{error}");
    }
    let cost = |row: &Row| median(row.lockgate.iter().map(|round| round.cost)).unwrap_or_default();
    let more = cost(&fresh) - cost(&one);
    rows.extend([one, many]);
    Ok(more)
}

/// A line of the table.
async fn component_line(
    bench: &Bench,
    language: &Language,
    component: &Path,
    fresh: f64,
) -> Result<Vec<String>> {
    let cache = bench.lockgate.file("compiled-now");
    let _ = fs::remove_dir_all(&cache);
    let serve = async |plugins: &'static [&'static str]| {
        let text = configuration(&cache, component, plugins);
        bench.lockgate.serve_text(&text).await
    };
    let before = ended_cpu_s()?;
    drop(serve(ONE).await?);
    let compiled = ended_cpu_s()? - before;

    let one = serve(ONE).await?;
    let began = Instant::now();
    greet(&one, ONE).await?;
    let answered = began.elapsed();
    let small = settled_rss(&one).await?;
    let nine = serve(NINE).await?;
    greet(&nine, NINE).await?;
    let large = settled_rss(&nine).await?;
    let more = large.saturating_sub(small) / (NINE.len() - ONE.len()) as u64;
    Ok(vec![
        language.name.to_owned(),
        format!("{} KiB", fs::metadata(component)?.len() >> 10),
        format!("{compiled:.2} s"),
        format!("{:.0} ms", one.took.as_secs_f64() * 1e3),
        format!("{:.1} ms", answered.as_secs_f64() * 1e3),
        format!("{fresh:.0} {US}"),
        format!("{more} KiB"),
    ])
}

/// A gateway with so many plugins of one component, each behind a route.
fn configuration(cache: &Path, component: &Path, plugins: &[&str]) -> String {
    let mut text = format!(
        r#"
compile_cache = {cache:?}
listeners = [
    {{ address = "127.0.0.1:0", tls = "off" }},
    {{ address = "127.0.0.1:0", tls = "self-signed" }},
]

[apis.load.stages.load]
"#
    );
    for plugin in plugins {
        let _ = write!(
            text,
            r#"
[plugins.{plugin}]
component = {component:?}
grants = ["connections", "groups"]

[apis.load.routes.{plugin}]
integration = "{plugin}"
two_way = true
"#
        );
    }
    text
}

/// A client has one answer of each plugin.
async fn greet(server: &Server, plugins: &[&str]) -> Result<()> {
    for plugin in plugins {
        let template = Arc::new(Template::new(plugin, None, MIN_BYTES));
        for mut client in client::connect(server, Scheme::Ws, 1, &template).await? {
            client.round_trip(&Load::new(1)).await?;
        }
    }
    Ok(())
}

/// The processor time of all processes that this one has started and that have ended, and of theirs, in seconds.
fn ended_cpu_s() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name of the process may have spaces; behind it, cutime and cstime are the fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').context("stat has a name")?;
    let ticks = fields.split_whitespace().skip(13).take(2);
    let ticks = ticks.map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS)
}
