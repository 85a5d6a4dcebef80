//! The configuration: from the file to its model.
//!
//! `key_check` reads the TOML against the schema of `file` and keeps valid values. `check` and `api` make a `Config`
//! of them. A `Report` collects each problem with its place in the file. One run finds all problems of a file; no
//! content causes a panic.
//!
//! This module knows no socket, task or component: a start finds whether an address can be bound or a component loads.

mod access_key;
mod access_log;
mod address;
mod api;
mod authorizer;
mod check;
mod compat;
mod doubt;
mod expand;
mod file;
mod grant;
mod issuer;
mod jwt;
mod key_check;
mod log;
mod management;
mod model;
mod names;
mod origin;
mod otlp;
mod plugin;
mod problem;
mod proxies;
mod report;
mod schema;
mod units;
mod usage_plan;

#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Deserialize;

pub(crate) use access_key::{AccessKey, KeyMethods, Permission};
pub(crate) use access_log::{
    AccessLog, AccessLogFormat, AccessLogTarget, LogFile, LoggedMessages, TemplatePart, Variable,
};
pub(crate) use address::{Address, Mode};
pub(crate) use authorizer::{
    Authorizer, AuthorizerKind, ContextVariable, Forward, IdentitySource, OnExpiry,
};
pub(crate) use check::overlap;
pub(crate) use compat::Compat;
pub(crate) use grant::{Grant, Grants};
pub(crate) use issuer::{JwtAlgorithm, JwtIssuer, JwtKeys};
pub(crate) use jwt::may_have_keys;
pub(crate) use log::filter as log_filter;
pub(crate) use model::*;
pub(crate) use origin::{
    Host, Origin, OriginPattern, Site, is_loopback_authority, port_unless_implied,
};
pub(crate) use otlp::{ClientTraces, Otlp, OtlpProtocol};
pub(crate) use plugin::{is_digest, signature_beside};
pub(crate) use problem::{Fault, Faults, Problem, Problems};
use report::Report;
pub(crate) use usage_plan::{ApiKeys, Period, UsagePlan};
#[cfg(test)]
pub(crate) use usage_plan::{PlanQuota, PlanRate};

use crate::net::watch::{self, Stamp};

/// Longest file that is read, in MiB: far more than anyone writes, far less than memory.
const MAX_FILE_MIB: u64 = 4;

/// The mode in which a configuration is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoadMode {
    /// To serve it: every plugin needs a component.
    Serve,
    /// To develop its plugins on this machine: plugins with a source are built, and only listeners on loopback
    /// addresses count.
    Develop,
}

impl Config {
    /// Reads a file, and checks that the files it names exist, and that no others may read a secret in it.
    pub(crate) fn load(path: &Path) -> Result<Self, Problems> {
        let (text, stamp) = read(path)?;
        Self::of(&text, path, LoadMode::Serve, Some(stamp.mode()))
    }

    /// Reads a file as [`Self::load`] does, for `lockgate dev`: it may have no listener, and plugins with a source are
    /// not built yet.
    pub(crate) fn develop(path: &Path) -> Result<Self, Problems> {
        Self::develop_text(&read(path)?.0, path)
    }

    /// Reads `text` as the content of `file`, as [`Self::develop`] does.
    pub(crate) fn develop_text(text: &str, file: &Path) -> Result<Self, Problems> {
        Self::of(text, file, LoadMode::Develop, None)
    }

    /// Logs a warning for each doubt.
    pub(crate) fn warn(&self) {
        for doubt in &self.doubts {
            tracing::warn!(target: "config", "{doubt}");
        }
    }

    /// `permissions` are those of the file; without them its secrets are not asked about.
    fn of(
        text: &str,
        file: &Path,
        mode: LoadMode,
        permissions: Option<u32>,
    ) -> Result<Self, Problems> {
        let mut report = Report::new(file, text);
        let config = interpret(text, mode, &mut report);
        report.check_files();
        if let Some(permissions) = permissions {
            report.check_secrecy(permissions);
        }
        report.judge(config)
    }

    /// Reads `text` as the content of `file`, whose folder relative paths are resolved against.
    /// Looks at no file.
    #[cfg(test)]
    pub(crate) fn parse(text: &str, file: &Path) -> Result<Self, Problems> {
        let mut report = Report::new(file, text);
        let config = interpret(text, LoadMode::Serve, &mut report);
        report.judge(config)
    }
}

/// The address to ask for the health of a gateway that runs this file: its health listener's, or else its management
/// listener's.
///
/// Mistakes elsewhere in the file do not matter: it may have been edited since the gateway read it.
pub(crate) fn health_address(path: &Path) -> Result<Option<Address>, Problems> {
    part_of(path, &["health", "management"], |config| {
        let health = config.health.map(|health| health.address);
        health.or_else(|| Some(config.management?.address))
    })
}

/// The management listener of a gateway that runs this file; mistakes elsewhere do not matter either.
pub(crate) fn management(path: &Path) -> Result<Option<Management>, Problems> {
    part_of(path, &["management"], |config| config.management)
}

/// Reads a part of the file, if these keys have no mistake.
fn part_of<T>(
    path: &Path,
    keys: &[&str],
    part: impl FnOnce(Config) -> Option<T>,
) -> Result<Option<T>, Problems> {
    let (text, _) = read(path)?;
    let mut report = Report::new(path, &text);
    match interpret(&text, LoadMode::Serve, &mut report) {
        Some(config) if keys.iter().all(|key| report.is_clean(key)) => Ok(part(config)),
        Some(_) => {
            let mut problems = report.into_problems();
            let matters =
                |problem: &Problem| keys.iter().any(|key| report::is_within(&problem.key, key));
            problems.0.retain(matters);
            Err(problems)
        }
        None => Err(report.into_problems()),
    }
}

/// Adds the place in the file, if there is one, to faults that were found after the file was read. Other errors stay as
/// they are.
pub(crate) fn blame(path: Option<&Path>, error: anyhow::Error) -> anyhow::Error {
    match (error.downcast::<Faults>(), path) {
        (Ok(faults), Some(path)) => match locate(path, &faults) {
            Ok(problems) => problems.into(),
            // That the file cannot be read now would hide what was found.
            Err(_) => faults.into(),
        },
        (Ok(faults), None) => faults.into(),
        (Err(error), _) => error,
    }
}

fn locate(path: &Path, faults: &Faults) -> Result<Problems, Problems> {
    let (text, _) = read(path)?;
    let mut report = Report::new(path, &text);
    interpret(&text, LoadMode::Serve, &mut report);
    // Only the places count here: the next reading reports other mistakes.
    report.forget_problems();
    for fault in &faults.0 {
        report.problem(&fault.key, &*fault.message, &*fault.remedy);
    }
    Ok(report.into_problems())
}

/// The JSON Schema of a configuration file, for editors and for reference.
pub(crate) fn schema() -> String {
    format!("{:#}", schema::schema())
}

/// Makes the configuration of the report's text; `None`, and a problem in the report, if it is not TOML.
fn interpret(text: &str, mode: LoadMode, report: &mut Report<'_>) -> Option<Config> {
    let valid = key_check::read(text, &schema::schema(), mode, report)?;
    match file::File::deserialize(valid) {
        Ok(file) => Some(check::config(file, mode, report)),
        Err(error) => {
            report.problem("", error.to_string(), "correct the value");
            None
        }
    }
}

fn read(path: &Path) -> Result<(String, Stamp), Problems> {
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
    let (bytes, stamp) = watch::read(path, MAX_FILE_MIB << 20).map_err(|error| {
        let otherwise = "name the gateway's configuration file, such as gateway.toml";
        let remedy = watch::remedy(&error, otherwise);
        unreadable(format!("cannot be read: {error}"), remedy)
    })?;
    if bytes.starts_with(b"\0asm") {
        return Err(unreadable(
            "is a WebAssembly component, and no configuration".into(),
            "name the configuration file, or look at the component with `lockgate inspect`",
        ));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| unreadable(format!("is not text: {error}"), "save the file as UTF-8"))?;
    Ok((text, stamp))
}
