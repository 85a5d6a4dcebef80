//! `lockgate upgrade`: asks a running gateway to hand over to a new process.

use std::time::Duration;

use anyhow::Result;
use http::Method;
use serde_json::json;

use super::client::{ManagementRequest, UPGRADE, ask};
use super::whom::GatewayArgument;

/// Time limit of the answer: longer than twice the largest `limits.upgrade_s`, for a reload before the upgrade and for
/// the new process.
const TIMEOUT: Duration = Duration::from_secs(7_300);

pub(super) fn upgrade(gateway: &GatewayArgument) -> Result<()> {
    let request = ManagementRequest {
        method: Method::POST,
        path: UPGRADE,
        body: json!({}),
        time_limit: TIMEOUT,
    };
    super::print(ask(&gateway.target()?, &request)?.trim_end())
}
