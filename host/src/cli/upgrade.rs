//! `lockgate upgrade`: asks a running gateway to hand over to a new process.

use std::time::Duration;

use anyhow::Result;
use http::Method;
use serde_json::json;

use super::client::{ManagementRequest, ask};
use super::whom::{self, GatewayTarget};
use crate::config::Address;

/// Time limit of the answer: longer than twice the largest `limits.upgrade_s`, for a reload before the upgrade and for
/// the new process.
const TIMEOUT: Duration = Duration::from_secs(7_300);

/// The gateway that is asked.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct UpgradeOptions {
    /// The gateway's configuration file, or the address of its management listener
    #[arg(value_name = "FILE")]
    gateway: Option<String>,
    /// The address of the gateway's management listener
    #[arg(long, value_name = "ADDR", value_parser = whom::address)]
    management: Option<Address>,
}

pub(super) fn upgrade(options: &UpgradeOptions) -> Result<()> {
    let target = match &options.gateway {
        Some(gateway) => GatewayTarget::named(gateway)?,
        None => GatewayTarget::of(None, options.management.as_ref())?,
    };
    let request = ManagementRequest {
        method: Method::POST,
        path: "/upgrade",
        body: json!({}),
        time_limit: TIMEOUT,
    };
    super::print(ask(&target, &request)?.trim_end())
}
