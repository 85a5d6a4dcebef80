//! `lockgate upgrade`: asks a running gateway to hand over to a new process.

use std::time::Duration;

use anyhow::Result;
use http::Method;
use serde_json::json;

use super::client::{Question, ask};
use super::whom::{self, Whom};
use crate::config::Address;

/// How long the gateway may take: longer than any `limits.upgrade_s` twice, for a reload before it and for the process.
const PATIENCE: Duration = Duration::from_secs(7_300);

/// The gateway that is asked.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Options {
    /// The gateway's configuration file, or the address of its management listener
    #[arg(value_name = "FILE")]
    gateway: Option<String>,
    /// The address of the gateway's management listener
    #[arg(long, value_name = "ADDR", value_parser = whom::address)]
    management: Option<Address>,
}

pub(super) fn upgrade(options: &Options) -> Result<()> {
    let whom = match &options.gateway {
        Some(gateway) => Whom::named(gateway)?,
        None => Whom::of(None, options.management.as_ref())?,
    };
    let question = Question {
        method: Method::POST,
        path: "/upgrade",
        body: json!({}),
        patience: PATIENCE,
    };
    super::print(ask(&whom, &question)?.trim_end())
}
