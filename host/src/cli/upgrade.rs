//! `lockgate upgrade`: asks a running gateway to hand over to a new process.

use std::time::Duration;

use anyhow::{Result, bail};
use http::{Method, StatusCode};
use serde_json::json;

use super::client::{Question, Whom, ask, error};

/// How long the gateway may take: longer than any `limits.upgrade_s`.
const PATIENCE: Duration = Duration::from_secs(3_700);

/// The gateway is named by its configuration file, or by the address of its management listener.
pub(super) fn upgrade(gateway: &str) -> Result<()> {
    let whom = match gateway.parse() {
        Ok(address) => Whom::Management(address),
        Err(_) => Whom::File(gateway.into()),
    };
    let question = Question {
        method: Method::POST,
        path: "/upgrade",
        body: json!({}),
        patience: PATIENCE,
    };
    let (status, answer) = ask(&whom, &question)?;
    if status != StatusCode::OK {
        bail!("{}", error(&answer));
    }
    super::print(answer.trim_end())
}
