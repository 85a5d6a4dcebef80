//! The file → its model.
//!
//! `schema_check` reads the TOML against the schema of `file` and keeps what is right; `check` and `api`
//! make a `Config` of that, and a `Report` gathers what is wrong with its place in the file. All
//! problems of a file are found in one run; nothing in it, however odd, is a panic.
//!
//! Knows of no socket, task or component: whether an address can be bound or a component loads is
//! found when the gateway starts.

mod address;
mod api;
mod check;
mod doubt;
mod expand;
mod file;
mod grant;
mod limits;
mod log;
mod model;
mod origin;
mod plugin;
mod problem;
mod proxies;
mod report;
mod schema;
mod schema_check;
mod spelling;

#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;

pub(crate) use address::Address;
pub(crate) use check::overlap;
pub(crate) use grant::{Grant, Grants};
pub(crate) use log::filter as log_filter;
pub(crate) use model::*;
pub(crate) use origin::{
    Host, Origin, OriginPattern, Site, is_loopback_authority, port_unless_implied,
};
pub(crate) use plugin::{is_digest, signature_beside};
pub(crate) use problem::{Fault, Faults, Problem, Problems};
use report::Report;

use crate::net::watch;

/// MiB of the longest file that is read: far more than anyone writes, far less than memory.
const FILE_MIB: u64 = 4;

/// What a configuration is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To serve it: every plugin has a component.
    Serve,
    /// To develop its plugins on this machine: those with a source are built, and only listeners on loopback
    /// addresses count.
    Develop,
}

impl Config {
    /// Reads a file, and checks that the files it names exist.
    pub(crate) fn load(path: &Path) -> Result<Self, Problems> {
        Self::of(&read(path)?, path, Purpose::Serve)
    }

    /// As [`Self::load`], for `lockgate dev`: it may have no listener, and a plugin with a source is not built yet.
    pub(crate) fn develop(path: &Path) -> Result<Self, Problems> {
        Self::develop_text(&read(path)?, path)
    }

    /// As [`Self::develop`], with `text` as the content of `file`.
    pub(crate) fn develop_text(text: &str, file: &Path) -> Result<Self, Problems> {
        Self::of(text, file, Purpose::Develop)
    }

    /// Tells an operator what is hardly meant as it is written.
    pub(crate) fn warn(&self) {
        for doubt in &self.doubts {
            tracing::warn!(target: "config", "{doubt}");
        }
    }

    fn of(text: &str, file: &Path, purpose: Purpose) -> Result<Self, Problems> {
        let mut report = Report::new(file, text);
        let config = interpret(text, purpose, &mut report);
        report.check_files();
        report.judge(config)
    }

    /// Reads `text` as the content of `file`, whose folder relative paths are resolved against.
    /// Looks at no file.
    #[cfg(test)]
    pub(crate) fn parse(text: &str, file: &Path) -> Result<Self, Problems> {
        let mut report = Report::new(file, text);
        let config = interpret(text, Purpose::Serve, &mut report);
        report.judge(config)
    }
}

/// Where a gateway that runs this file tells how it is: its health listener, or else its management listener.
///
/// What is wrong elsewhere in the file does not matter: it may have been edited since the gateway has read it.
pub(crate) fn health_address(path: &Path) -> Result<Option<Address>, Problems> {
    address_of(path, &["health", "management"], |config| {
        let health = config.health.map(|health| health.address);
        health.or(config.management)
    })
}

/// Where a gateway that runs this file is asked, likewise.
pub(crate) fn management_address(path: &Path) -> Result<Option<Address>, Problems> {
    address_of(path, &["management"], |config| config.management)
}

/// What is said under these keys, if that is right.
fn address_of(
    path: &Path,
    keys: &[&str],
    address: impl FnOnce(Config) -> Option<Address>,
) -> Result<Option<Address>, Problems> {
    let text = read(path)?;
    let mut report = Report::new(path, &text);
    match interpret(&text, Purpose::Serve, &mut report) {
        Some(config) if keys.iter().all(|key| report.is_clean(key)) => Ok(address(config)),
        Some(_) | None => Err(report.into_problems()),
    }
}

/// Adds the places in the file, if there is one, to what was found wrong with its values later than when it was read.
/// Other errors stay as they are.
pub(crate) fn blame(path: Option<&Path>, error: anyhow::Error) -> anyhow::Error {
    match (error.downcast::<Faults>(), path) {
        (Ok(faults), Some(path)) => in_file(path, faults).into(),
        (Ok(faults), None) => faults.into(),
        (Err(error), _) => error,
    }
}

fn in_file(path: &Path, faults: Faults) -> Problems {
    let text = match read(path) {
        Ok(text) => text,
        Err(problems) => return problems,
    };
    let mut report = Report::new(path, &text);
    interpret(&text, Purpose::Serve, &mut report);
    // Only the places are wanted: what else is wrong by now is for the next reading to say.
    report.forget_problems();
    for Fault {
        key,
        message,
        remedy,
    } in faults.0
    {
        report.problem(&key, message, remedy);
    }
    report.into_problems()
}

/// The JSON Schema of a configuration file, for editors and for reference.
pub(crate) fn schema() -> String {
    format!("{:#}", schema::schema())
}

/// Gives what the report's text means; `None`, and a problem in the report, when it is no TOML.
fn interpret(text: &str, purpose: Purpose, report: &mut Report<'_>) -> Option<Config> {
    let right = schema_check::read(text, &schema::schema(), report)?;
    match file::File::deserialize(right) {
        Ok(file) => Some(check::config(file, purpose, report)),
        Err(error) => {
            report.problem("", error.to_string(), "correct the value");
            None
        }
    }
}

fn read(path: &Path) -> Result<String, Problems> {
    let unreadable = |message: String, remedy: &str| {
        Problems(vec![Problem {
            file: path.to_owned(),
            line: 0,
            column: 0,
            key: String::new(),
            message,
            remedy: remedy.to_owned(),
        }])
    };
    let (bytes, _) = watch::read(path, FILE_MIB << 20).map_err(|error| {
        let remedy = if error.kind() == ErrorKind::PermissionDenied {
            watch::LET_READ
        } else {
            "name the configuration file, as in lockgate run gateway.toml"
        };
        unreadable(format!("cannot be read: {error}"), remedy)
    })?;
    String::from_utf8(bytes)
        .map_err(|error| unreadable(format!("is not text: {error}"), "save the file as UTF-8"))
}
