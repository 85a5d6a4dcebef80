//! Why a component is not compiled: the words, the remedy, and whether it may be compiled later.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use super::compile::MAX_MEMORY;
use crate::net::watch;

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error("it is no component that can be compiled: {0}")]
    NoComponent(String),
    #[error("compiling it takes more than {0} s of processor time")]
    TooLong(u64),
    #[error("compiling it takes more than {} MiB of memory", MAX_MEMORY >> 20)]
    TooMuch,
    /// The gateway does not compile it itself, without bounds: there may be files left the next time.
    #[error("no process can compile it: {0}")]
    NoFiles(io::Error),
    #[error("there was no processor time to compile it")]
    NoTime,
    #[error("the gateway stopped meanwhile")]
    Stopped,
    /// The gateway does not compile it once more: it serves, and would do so without bounds.
    #[error("{} did not take what was compiled{why}", cache.display())]
    NotKept {
        cache: PathBuf,
        why: String,
        remedy: &'static str,
    },
    #[error(
        "it was not compiled: the process that did it ended with {status}{}",
        quoted(output)
    )]
    Ended { status: ExitStatus, output: String },
}

impl CompileError {
    /// Turns the exit status and the output of a child into its result.
    pub(super) fn judge(status: ExitStatus, output: &str, cpu: Duration) -> Result<(), Self> {
        if status.success() {
            return Ok(());
        }
        let output = output.trim_end();
        let signal = |signal: Signal| status.signal() == Some(signal.as_raw());
        Err(if status.code() == Some(1) {
            let error = output.strip_prefix("error: ").unwrap_or(output);
            Self::NoComponent(error.to_owned())
        } else if signal(Signal::XCPU) {
            Self::TooLong(cpu.as_secs())
        } else if signal(Signal::ABORT) && output.contains("memory allocation of") {
            Self::TooMuch
        } else {
            let output = output.to_owned();
            Self::Ended { status, output }
        })
    }

    /// Whether the same component may be compiled later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::NoComponent(_) | Self::TooLong(_) | Self::TooMuch | Self::Stopped => false,
            Self::NoFiles(_) | Self::NoTime | Self::NotKept { .. } | Self::Ended { .. } => true,
        }
    }

    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::NoComponent(_) => "build it with `lockgate build DIR`, and copy it whole",
            Self::TooLong(_) => {
                "raise limits.compile_s of the plugin if the machine is slow, or build a smaller component"
            }
            Self::TooMuch => "build a smaller component, of smaller functions",
            Self::Stopped => "start it again",
            Self::NotKept { remedy, .. } => remedy,
            Self::NoFiles(_) => watch::RAISE_FILES,
            Self::NoTime => "look what the machine is busy with, and try again",
            Self::Ended { .. } => {
                "if the machine ended it for want of memory, give it more; if not, tell the authors of Lockgate"
            }
        }
    }
}

/// Quotes the output of a child behind its exit status. The first line of a panic tells the place, the second the
/// reason.
pub(super) fn quoted(output: &str) -> String {
    let mut lines = output.lines().filter(|line| !line.is_empty());
    match (lines.next(), lines.next()) {
        (Some(first), Some(second)) => format!(" and said: {first} {second}"),
        (Some(only), None) => format!(" and said: {only}"),
        (None, _) => String::new(),
    }
}
