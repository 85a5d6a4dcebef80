//! The time from the start of the process until it listens, with components compiled before.

use anyhow::Result;

use super::Bench;
use crate::measure::Round;
use crate::report::{Row, Target};

pub(crate) async fn start(bench: &Bench) -> Result<Vec<Row>> {
    // Fills the compile cache.
    drop(bench.gateway(&bench.echo, &[]).await?);
    let mut rounds = Vec::new();
    for _ in 0..bench.rounds {
        let gateway = bench.gateway(&bench.echo, &[]).await?;
        rounds.push(Round {
            cost: gateway.took.as_secs_f64() * 1_000.0,
            ..Round::default()
        });
    }
    Ok(vec![Row {
        lockgate: rounds,
        target: Some(Target::AtMost(100.0)),
        ..Row::new(
            "start with a warm compile cache, to listening".to_owned(),
            "ms",
            "",
        )
    }])
}
