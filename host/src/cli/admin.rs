//! `lockgate reload` and `lockgate plugins`: asks a running gateway through its management listener.

use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;
use serde_json::{Value, json};

use super::client::{self, ManagementRequest, encoded};
use super::table::{list, table, text};
use super::whom::{self, GatewayOption};

/// Time limit of an answer: a reload compiles.
const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Debug, clap::Subcommand)]
pub(super) enum PluginsCommand {
    /// List the versions that serve: number, digest, calls, traps
    List {
        #[command(flatten)]
        gateway: GatewayOption,
    },
    /// List the versions that a plugin has had, newest first
    History {
        /// The plugin
        name: String,
        #[command(flatten)]
        gateway: GatewayOption,
    },
    /// Go back to an earlier version, until the component file changes
    ///
    /// The last three versions that were replaced are kept compiled. The rollback holds over upgrades too. A restart
    /// serves the file.
    Rollback {
        /// The plugin
        name: String,
        /// The version to go back to [default: the last one with other code]
        ///
        /// A signed version below the newest one loaded needs its number here, unless signature.min_version allows it.
        #[arg(long, value_name = "N")]
        to: Option<u64>,
        #[command(flatten)]
        gateway: GatewayOption,
    },
    /// Give the next version of the file a share of the connections, or change that share
    Rollout {
        /// The plugin
        name: String,
        /// The share of the connections in percent, 1 to 100
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
        share: u32,
        #[command(flatten)]
        gateway: GatewayOption,
    },
    /// End the rollout: its version serves all connections
    Promote {
        /// The plugin
        name: String,
        #[command(flatten)]
        gateway: GatewayOption,
    },
    /// End the rollout: the version before it serves all connections
    Abort {
        /// The plugin
        name: String,
        #[command(flatten)]
        gateway: GatewayOption,
    },
}

pub(super) fn reload(gateway: &whom::GatewayArgument) -> Result<()> {
    let answer = ask(&gateway.target()?, Method::POST, "/reload", json!({}))?;
    print_changes(&answer)?;
    for note in list(answer.get("notes")).filter_map(Value::as_str) {
        super::print(note)?;
    }
    Ok(())
}

pub(super) fn plugins(command: &PluginsCommand) -> Result<()> {
    let (gateway, name, action, body) = match command {
        PluginsCommand::List { gateway } => {
            let list = ask(&gateway.target()?, Method::GET, "/plugins", Value::Null)?;
            return super::print(&plugin_table(&list));
        }
        PluginsCommand::History { name, gateway } => {
            let path = format!("/plugins/{}/history", encoded(name.as_bytes()));
            let list = ask(&gateway.target()?, Method::GET, &path, Value::Null)?;
            return super::print(&history_table(&list));
        }
        PluginsCommand::Rollback { name, to, gateway } => {
            (gateway, name, "rollback", json!({ "version": to }))
        }
        PluginsCommand::Rollout {
            name,
            share,
            gateway,
        } => (gateway, name, "rollout", json!({ "share": share })),
        PluginsCommand::Promote { name, gateway } => (gateway, name, "promote", json!({})),
        PluginsCommand::Abort { name, gateway } => (gateway, name, "abort", json!({})),
    };
    let path = format!("/plugins/{}/{action}", encoded(name.as_bytes()));
    print_changes(&ask(&gateway.target()?, Method::POST, &path, body)?)
}

pub(super) fn ask(
    target: &whom::AskedGateway,
    method: Method,
    path: &str,
    body: Value,
) -> Result<Value> {
    let request = ManagementRequest {
        method,
        path,
        body,
        time_limit: TIMEOUT,
    };
    let text = client::ask(target, &request)?;
    serde_json::from_str(&text).context("the gateway's answer is no JSON")
}

fn print_changes(answer: &Value) -> Result<()> {
    let changes: Vec<_> = list(answer.get("changed"))
        .filter_map(Value::as_str)
        .collect();
    if changes.is_empty() {
        return super::print("nothing has changed");
    }
    super::print(&changes.join("\n"))
}

fn plugin_table(answer: &Value) -> String {
    let mut rows =
        vec![["PLUGIN", "VERSION", "SERVES", "CALLS", "TRAPS", "DIGEST"].map(String::from)];
    for plugin in list(Some(answer)) {
        let share = plugin.get("share").and_then(Value::as_u64);
        let candidate = plugin
            .get("candidate")
            .filter(|candidate| !candidate.is_null());
        let serves = [
            (
                plugin.get("serving"),
                share
                    .filter(|_| candidate.is_some())
                    .map(|share| 100 - share.min(100)),
            ),
            (candidate, share),
        ];
        for (version, percent) in serves {
            let Some(version) = version else { continue };
            rows.push([
                text(plugin, "name"),
                text(version, "version"),
                format!("{} %", percent.unwrap_or(100)),
                text(version, "calls"),
                text(version, "traps"),
                text(version, "digest"),
            ]);
        }
        if let (None, Some(share)) = (candidate, share) {
            rows.push([
                text(plugin, "name"),
                "next".to_owned(),
                format!("{share} %"),
                String::new(),
                String::new(),
                "the rollout waits for the next file".to_owned(),
            ]);
        }
    }
    table(&rows)
}

fn history_table(answer: &Value) -> String {
    let mut rows = vec![
        [
            "VERSION", "CALLS", "TRAPS", "COMPILED", "CAME BY", "ENDED", "DIGEST",
        ]
        .map(String::from),
    ];
    for version in list(Some(answer)) {
        let ended = text(version, "ended");
        rows.push([
            text(version, "version"),
            text(version, "calls"),
            text(version, "traps"),
            if text(version, "compiled") == "true" {
                "yes"
            } else {
                "no"
            }
            .to_owned(),
            text(version, "came"),
            if ended.is_empty() {
                "serves".to_owned()
            } else {
                ended
            },
            text(version, "digest"),
        ]);
    }
    table(&rows)
}
