//! The report of a step that failed.

use std::fmt;

use crate::words::count_of;

/// Log lines that a report shows.
const SHOWN_LINES: usize = 40;

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) line: usize,
    /// The step as it was written.
    pub(crate) written: String,
    /// What was expected, what came, how they differ: each with its lines.
    pub(crate) details: Vec<(&'static str, Vec<String>)>,
}

/// The details, each on its lines, indented.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (label, lines) in &self.details {
            write_lines(f, label, lines)?;
        }
        Ok(())
    }
}

/// The end of a log, indented as the details of a failure are.
pub(crate) struct Log<'a>(pub(crate) &'a [String]);

impl fmt::Display for Log<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.0.len().saturating_sub(SHOWN_LINES);
        let mut lines = self.0.get(before..).unwrap_or_default().to_vec();
        if before > 0 {
            lines.insert(0, format!("… {} before these", count_of(before, "line")));
        }
        write_lines(f, "log", &lines)
    }
}

fn write_lines(f: &mut fmt::Formatter<'_>, label: &str, lines: &[String]) -> fmt::Result {
    for (index, line) in lines.iter().enumerate() {
        let label = if index == 0 { label } else { "" };
        writeln!(f, "  {label:<9} {line}")?;
    }
    Ok(())
}
