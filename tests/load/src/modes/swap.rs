//! The time from the replacement of a component file until the new version answers an open connection.

use std::time::Duration;

use anyhow::Result;

use super::Bench;
use crate::measure::{Round, percentiles};
use crate::raw::Raw;
use crate::report::{Row, Target};
use crate::server::Server;
use crate::versions::Versions;

/// Swaps in one round.
const SWAPS: usize = 10;

/// The interval of asking for the version, which is the resolution of the figure.
const PAUSE: Duration = Duration::from_millis(1);

/// The limit in milliseconds until the new version answers.
const MOST: f64 = 300.0;

pub(crate) async fn swap(bench: &Bench) -> Result<Vec<Row>> {
    let (server, mut versions) = serve(bench).await?;
    let mut client = Raw::open(server.plain, "/versions").await?;
    versions.served(&server, &mut client, PAUSE).await?;
    let mut row = Row {
        target: Some(Target::AtMost(MOST)),
        ..Row::new(
            "swap, from a replaced file to the new version's answer".to_owned(),
            "ms",
            "",
        )
    };
    let swaps = if bench.short { 1 } else { SWAPS };
    for _ in 0..bench.rounds {
        let mut took = Vec::new();
        for _ in 0..swaps {
            let replaced = versions.replace(None)?;
            let answered = versions.served(&server, &mut client, PAUSE).await?;
            took.push(u32::try_from((answered - replaced).as_nanos())?);
        }
        let latency = percentiles(took);
        row.lockgate.push(Round {
            cost: latency.map_or(0.0, |latency| latency.p50 / 1_000.0),
            latency_us: latency,
            ..Round::default()
        });
    }
    Ok(vec![row])
}

/// A gateway with the echo at `/load` and the guest `versions` at `/versions`.
pub(super) async fn serve(bench: &Bench) -> Result<(Server, Versions)> {
    let guest = bench.lockgate.build("tests/guests/versions")?;
    let versions = Versions::new(&guest, bench.lockgate.file("versions.wasm"))?;
    let mut text = bench.lockgate.preamble();
    for (name, component) in [("load", &bench.echo), ("versions", &versions.file)] {
        text += &format!(
            r#"
[plugins.{name}]
component = {component:?}

[apis.{name}.stages.{name}]
limits = {{ ping_interval_s = 0 }}

[apis.{name}.routes."$default"]
integration = "{name}"
two_way = true
"#
        );
    }
    Ok((bench.lockgate.serve_text(&text).await?, versions))
}
