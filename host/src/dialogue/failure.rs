//! The report of a step that failed.

use std::fmt;

/// Log lines that a report shows.
const SHOWN_LINES: usize = 40;

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) line: usize,
    /// The step as it was written.
    pub(crate) written: String,
    /// What was expected, what came, how they differ: each with its lines.
    pub(crate) details: Vec<(&'static str, Vec<String>)>,
    /// What the plugin and the gateway have logged, from the start of the dialogue.
    pub(crate) log: Vec<String>,
}

/// The details alone, each on its lines, indented.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (label, lines) in &self.details {
            for (index, line) in lines.iter().enumerate() {
                let label = if index == 0 { label } else { "" };
                writeln!(f, "  {label:<9} {line}")?;
            }
        }
        let left_out = self.log.len().saturating_sub(SHOWN_LINES);
        if left_out > 0 {
            writeln!(f, "  {:<9} … {left_out} lines before these", "log")?;
        }
        for (index, line) in self.log.iter().skip(left_out).enumerate() {
            let label = if index == 0 && left_out == 0 {
                "log"
            } else {
                ""
            };
            writeln!(f, "  {label:<9} {line}")?;
        }
        Ok(())
    }
}
