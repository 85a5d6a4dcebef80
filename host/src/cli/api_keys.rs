//! `lockgate keys api`: the file of API keys.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use time::OffsetDateTime;

use crate::auth::api_keys::{BRAND, NewKey, Table};
use crate::authorizer::{read_api_keys, write_api_keys};
use crate::net;

#[derive(Debug, clap::Subcommand)]
pub(super) enum ApiKeysCommand {
    /// Make a key, and show it once
    ///
    /// Standard output is the key alone. The file has only its hash: nobody can show the key again. A running gateway
    /// takes the key within seconds.
    New {
        /// The name of its holder, which is the principal of its connections
        name: String,
        /// The usage plan, as in [usage_plans.NAME]; without it, that of the authorizer
        #[arg(long, value_name = "NAME")]
        plan: Option<String>,
        #[command(flatten)]
        file: KeysFile,
    },
    /// List the keys: prefix, day, plan and name
    List {
        #[command(flatten)]
        file: KeysFile,
    },
    /// Revoke a key: a running gateway refuses it within seconds
    ///
    /// Connections that it has opened stay open.
    Revoke {
        /// The key's name, or its prefix
        key: String,
        #[command(flatten)]
        file: KeysFile,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct KeysFile {
    /// The file that authorizers.NAME.api_keys names; `new` makes it if there is none
    #[arg(long, value_name = "FILE", default_value = "api-keys.toml")]
    file: PathBuf,
}

pub(super) fn api_keys(command: &ApiKeysCommand) -> Result<()> {
    match command {
        ApiKeysCommand::New { name, plan, file } => new(&file.file, name, plan.as_deref()),
        ApiKeysCommand::List { file } => list(&file.file),
        ApiKeysCommand::Revoke { key, file } => revoke(&file.file, key),
    }
}

fn new(file: &Path, name: &str, plan: Option<&str>) -> Result<()> {
    check_name(name)?;
    let _lock = lock(file)?;
    let mut table = match file.exists() {
        true => read(file)?,
        false => Table::new()?,
    };
    let key = NewKey::generate()?;
    let today = OffsetDateTime::now_utc().date().to_string();
    let added = table.add(&key, name, plan, &today);
    added.with_context(|| file.display().to_string())?;
    write(file, &table)?;
    super::print(&key.text)
}

fn list(file: &Path) -> Result<()> {
    for record in read(file)?.records() {
        let plan = record.plan.as_deref().unwrap_or("-");
        let (prefix, made, name) = (&record.prefix, &record.made, &record.name);
        super::print(&format!("{prefix}  {made}  {plan}  {name}"))?;
    }
    Ok(())
}

fn revoke(file: &Path, key: &str) -> Result<()> {
    // Who gives the whole key means its prefix.
    let key = match key.split_once('.') {
        Some((prefix, _)) if prefix.starts_with(BRAND) => prefix,
        Some(_) | None => key,
    };
    let _lock = lock(file)?;
    let mut table = read(file)?;
    let removed = table.remove(key);
    let removed = removed.with_context(|| file.display().to_string())?;
    write(file, &table)?;
    super::print(&format!("{}  {}  revoked", removed.prefix, removed.name))
}

/// A name is a principal: one line that logs show.
fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
        bail!("{name:?} cannot be a name: it has 1 to 256 bytes, and no control characters");
    }
    Ok(())
}

/// Keeps another command from changing the file meanwhile.
fn lock(file: &Path) -> Result<File> {
    net::lock(file).with_context(|| format!("{} cannot be changed", file.display()))
}

fn read(file: &Path) -> Result<Table> {
    read_api_keys(file).map_err(|error| {
        let remedy = error.remedy(file);
        anyhow!("{}: {error}\n  remedy: {remedy}", file.display())
    })
}

fn write(file: &Path, table: &Table) -> Result<()> {
    let written = write_api_keys(file, table);
    written.with_context(|| format!("{} cannot be written", file.display()))
}
