//! The report: a table for people and JSON for machines, each with the conditions of the measurement.

use std::fmt::Write as _;

use serde::Serialize;

use crate::conditions::Conditions;
use crate::measure::{Latency, Round};

/// Figures without a reference, as text.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) head: Vec<&'static str>,
    pub(crate) lines: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(name: &'static str, head: impl Into<Vec<&'static str>>) -> Self {
        Self {
            name,
            head: head.into(),
            lines: Vec::new(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n\n| {} |\n", self.name, self.head.join(" | "));
        text += &format!("|{}\n", " --- |".repeat(self.head.len()));
        for line in &self.lines {
            let _ = writeln!(text, "| {} |", line.join(" | "));
        }
        text
    }
}

/// The figures of one measurement, and of its reference.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    /// The unit of the cost.
    pub(crate) unit: &'static str,
    pub(crate) lockgate: Vec<Round>,
    /// The rounds of the reference, in the same order; may be empty.
    pub(crate) reference: Vec<Round>,
    /// The name of the reference.
    pub(crate) against: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<Target>,
    /// The reason why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// The median cost is at most this many times the reference's.
    Ratio(f64),
    /// The median cost is at most this.
    AtMost(f64),
}

impl Row {
    /// A row without figures yet.
    pub(crate) fn new(what: String, unit: &'static str, against: &'static str) -> Self {
        Self {
            what,
            unit,
            lockgate: Vec::new(),
            reference: Vec::new(),
            against,
            target: None,
            error: None,
        }
    }

    /// A row for a failed measurement.
    pub(crate) fn failed(what: String, error: &anyhow::Error) -> Self {
        Self {
            error: Some(format!("{error:#}")),
            ..Self::new(what, "", "")
        }
    }

    pub(crate) fn ratio(&self) -> Option<f64> {
        let reference = median(self.reference.iter().map(|round| round.cost))?;
        Some(median(self.costs())? / reference)
    }

    pub(crate) fn met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::Ratio(most) => self.ratio()? <= most,
            Target::AtMost(most) => median(self.costs())? <= most,
        })
    }

    fn costs(&self) -> impl Iterator<Item = f64> {
        self.lockgate.iter().map(|round| round.cost)
    }

    /// The least and the greatest ratio of two consecutive rounds.
    fn spread(&self) -> Option<(f64, f64)> {
        let pairs = self.lockgate.iter().zip(&self.reference);
        let ratios = pairs.map(|(ours, theirs)| ours.cost / theirs.cost);
        ratios.fold(None, |spread, ratio| {
            let (least, most) = spread.unwrap_or((ratio, ratio));
            Some((ratio.min(least), ratio.max(most)))
        })
    }

    fn cells(&self) -> [String; 7] {
        let cost = |rounds: &[Round]| match median(rounds.iter().map(|round| round.cost)) {
            Some(cost) if cost >= 100.0 => format!("{cost:.0} {}", self.unit),
            Some(cost) => format!("{cost:.2} {}", self.unit),
            None => "–".to_owned(),
        };
        let mut reference = cost(&self.reference);
        if !self.against.is_empty() && self.against != "bare" {
            let _ = write!(reference, " ({})", self.against);
        }
        let dash = || "–".to_owned();
        let target = match self.target {
            Some(Target::Ratio(most)) => format!("≤ {most} ×"),
            Some(Target::AtMost(most)) => {
                format!("≤ {} {}", (most * 10.0).round() / 10.0, self.unit)
            }
            None => dash(),
        };
        let met = match self.met() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None if self.error.is_some() => "**failed**",
            None => "–",
        };
        [
            self.what.clone(),
            cost(&self.lockgate),
            reference,
            self.ratio()
                .map_or_else(dash, |ratio| format!("{ratio:.2}")),
            self.spread()
                .map_or_else(dash, |(least, most)| format!("{least:.2}–{most:.2}")),
            target,
            met.to_owned(),
        ]
    }

    fn speed(&self) -> [String; 5] {
        let speed = |rounds: &[Round]| {
            median(rounds.iter().filter_map(|round| round.per_second))
                .map_or_else(|| "–".to_owned(), |speed| format!("{speed:.0}"))
        };
        let latency = |rounds: &[Round]| {
            let part = |part: fn(&Latency) -> f64| {
                median(
                    rounds
                        .iter()
                        .filter_map(|round| round.latency_us.as_ref().map(part)),
                )
            };
            match (part(|l| l.p50), part(|l| l.p99), part(|l| l.max)) {
                (Some(p50), Some(p99), Some(max)) => format!("{p50:.0} / {p99:.0} / {max:.0}"),
                _ => "–".to_owned(),
            }
        };
        [
            self.what.clone(),
            speed(&self.lockgate),
            speed(&self.reference),
            latency(&self.lockgate),
            latency(&self.reference),
        ]
    }
}

/// The tables, in Markdown.
pub(crate) fn text(rows: &[Row], tables: &[Table], conditions: &Conditions) -> String {
    let tables: Vec<_> = tables.iter().map(Table::text).collect();
    let mut text = tables.join("\n");
    if rows.is_empty() {
        return text + "\n" + &conditions.text();
    }
    if !text.is_empty() {
        text += "\n";
    }
    text += &rows_text(rows);
    text + "\n" + &conditions.text()
}

fn rows_text(rows: &[Row]) -> String {
    let mut text = table(
        [
            "what", "lockgate", "bare", "ratio", "rounds", "target", "met",
        ],
        rows.iter().map(Row::cells).collect(),
    );
    let with_speed = rows
        .iter()
        .filter(|row| row.lockgate.iter().any(|round| round.latency_us.is_some()));
    text.push('\n');
    text += &table(
        [
            "what",
            "lockgate, 1/s",
            "bare, 1/s",
            "lockgate p50 / p99 / max, µs",
            "bare p50 / p99 / max, µs",
        ],
        with_speed.map(Row::speed).collect(),
    );
    text
}

fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows);
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    lines.insert(1, widths.map(|width| "-".repeat(width)));
    let mut text = String::new();
    for line in lines {
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text += "|\n";
    }
    text
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = values.get(half).copied()?;
    let lower = values.get(half.saturating_sub(1)).copied()?;
    Some(if values.len() % 2 == 0 {
        f64::midpoint(lower, upper)
    } else {
        upper
    })
}
