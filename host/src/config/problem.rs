//! What is wrong with a configuration file, where, and what to do about it.

use std::fmt;
use std::path::PathBuf;

/// Everything found wrong with one file, in the file's order; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The file, as it was named to us.
    pub(crate) file: PathBuf,
    /// The line, from 1; 0 when the file could not be read.
    pub(crate) line: usize,
    /// The column in characters, from 1; 0 when the file could not be read.
    pub(crate) column: usize,
    /// The key, dotted, as in `apis.chat.routes.sendmessage.integration` or `listeners[0].tls`;
    /// empty when the mistake is the file's and no key's.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) message: String,
    /// What would be right.
    pub(crate) remedy: String,
}

/// What turned out wrong with a key's value when it was tried: a component that does not load, a certificate
/// that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The key, dotted.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) message: String,
    /// What would be right.
    pub(crate) remedy: String,
}

/// All faults that were found; never empty. [`super::blame`] finds their places in the file.
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
