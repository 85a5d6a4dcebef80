//! The problems of a configuration file, each with its place and remedy.

use std::fmt;
use std::path::PathBuf;

/// All problems of one file, in the file's order; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The file, as the caller named it.
    pub(crate) file: PathBuf,
    /// The line, from 1; 0 if the file could not be read.
    pub(crate) line: usize,
    /// The column in characters, from 1; 0 if the file could not be read.
    pub(crate) column: usize,
    /// The key, dotted, as in `apis.chat.routes.sendmessage.integration` or `listeners[0].tls`; empty if the problem is
    /// of the whole file.
    pub(crate) key: String,
    /// The fault in words.
    pub(crate) message: String,
    /// The text that corrects it.
    pub(crate) remedy: String,
}

/// A fault of a key's value that shows when the value is used: a component that does not load, a certificate that is
/// none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The key, dotted.
    pub(crate) key: String,
    /// The fault in words.
    pub(crate) message: String,
    /// The text that corrects it.
    pub(crate) remedy: String,
    /// Nobody has judged the value: the gateway lacked files, time or room for that, and may have them later.
    pub(crate) is_passing: bool,
}

/// All faults that were found; never empty. [`super::blame`] adds their places in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (
            index,
            Fault {
                key,
                message,
                remedy,
                is_passing: _,
            },
        ) in self.0.iter().enumerate()
        {
            let separator = if index > 0 { "\n" } else { "" };
            write!(f, "{separator}{key}: {message}\n  remedy: {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}\n  remedy: {}", self.message, self.remedy)
    }
}
