//! `lockgate connections` and `lockgate groups`: shows the open connections of a running gateway, sends to them and
//! closes them, through its management listener.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::admin::ask;
use super::client::{self, encoded};
use super::table::{cut, list, printable, table, text};
use super::whom::{AskedGateway, GatewayOption};
use crate::words::count_of;

/// Entries that a command asks for at a time: the largest page.
const PAGE: usize = 1_000;

#[derive(Debug, clap::Subcommand)]
pub(super) enum ConnectionsCommand {
    /// List open connections: id, stage, address, times, what waits for the client
    List {
        #[command(flatten)]
        conditions: Conditions,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        gateway: GatewayOption,
    },
    /// Show all that is known of a connection
    Show {
        /// The connection's id
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        gateway: GatewayOption,
    },
    /// Print the messages of a connection as they come and go, until it ends or you end the command
    ///
    /// Shows the route key, bytes, time and outcome of each, never its content. Nothing waits for the command: if it
    /// is too slow, it says how many events it has missed.
    Trace {
        /// The connection's id
        id: String,
        /// Print a line of JSON for each event
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        gateway: GatewayOption,
    },
    /// Send a message to one connection, or to all that meet the conditions
    ///
    /// One connection without room in its queue is an error. Of many, those without room are closed with 1013, so that
    /// none misses a message unnoticed.
    Send {
        #[command(flatten)]
        receivers: Receivers,
        #[command(flatten)]
        message: MessageOption,
        #[command(flatten)]
        gateway: GatewayOption,
    },
    /// Close one connection, or all that meet the conditions, after the messages that wait for them
    Close {
        #[command(flatten)]
        receivers: Receivers,
        /// The close code: 1000 to 1003, 1007 to 1014, or one of your own from 3000 to 4999
        #[arg(long, value_name = "CODE", default_value_t = 1000)]
        code: u16,
        /// The reason that the client gets, 123 bytes at most
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        gateway: GatewayOption,
    },
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum GroupsCommand {
    /// List groups: name, stage, number of members
    List {
        /// Only those of this stage
        #[arg(long, value_name = "API/STAGE")]
        stage: Option<String>,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        gateway: GatewayOption,
    },
    /// Send a message to every member of a group
    Publish {
        /// The group
        name: String,
        /// The stage of the group; needed if the gateway has more than one
        #[arg(long, value_name = "API/STAGE")]
        stage: Option<String>,
        #[command(flatten)]
        message: MessageOption,
        #[command(flatten)]
        gateway: GatewayOption,
    },
}

/// The connections of a command. All conditions must be met.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Conditions {
    /// Only those of this stage
    #[arg(long, value_name = "API/STAGE")]
    stage: Option<String>,
    /// Only those of this principal: who the client is, as the stage's authorizer says
    #[arg(long)]
    principal: Option<String>,
    /// Only members of this group
    #[arg(long)]
    group: Option<String>,
    /// Only those with this attribute
    #[arg(long, value_name = "NAME=VALUE")]
    attribute: Option<String>,
}

/// One connection, or many.
#[derive(Debug, clap::Args)]
pub(super) struct Receivers {
    /// The id of one connection
    id: Option<String>,
    #[command(flatten)]
    conditions: Conditions,
    /// Every connection of the stage
    #[arg(long)]
    all: bool,
}

/// The part of a list that is printed.
#[derive(Debug, clap::Args)]
pub(super) struct Page {
    /// The longest list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Continue a list: the value that its last line names
    #[arg(long)]
    after: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct MessageOption {
    /// The message, as text
    #[arg(long)]
    text: Option<String>,
    /// A file with the message, sent as binary; - is standard input
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

pub(super) fn connections(command: &ConnectionsCommand) -> Result<()> {
    match command {
        ConnectionsCommand::List {
            conditions,
            page,
            gateway,
        } => {
            let found = page.load("connections", conditions, &gateway.target()?)?;
            page.print("connections", &found, connection_table)
        }
        ConnectionsCommand::Show { id, json, gateway } => {
            let path = format!("/connections/{}", encoded(id.as_bytes()));
            let shown = ask(&gateway.target()?, Method::GET, &path, Value::Null)?;
            super::print(&match json {
                true => format!("{shown:#}"),
                false => description(&shown),
            })
        }
        ConnectionsCommand::Trace { id, json, gateway } => {
            let path = format!("/connections/{}/trace", encoded(id.as_bytes()));
            client::follow(&gateway.target()?, &path, |line| match json {
                true => super::print(line),
                false => super::print(&trace_line(line)),
            })
        }
        ConnectionsCommand::Send {
            receivers,
            message,
            gateway,
        } => send(receivers.selection(), message, gateway),
        ConnectionsCommand::Close {
            receivers,
            code,
            reason,
            gateway,
        } => {
            let body =
                json!({ "connections": receivers.selection(), "code": code, "reason": reason });
            let answer = ask(&gateway.target()?, Method::POST, "/connections/close", body)?;
            super::print(&format!("closed: {}", connection_count(&answer, "closed")))
        }
    }
}

pub(super) fn groups(command: &GroupsCommand) -> Result<()> {
    match command {
        GroupsCommand::List {
            stage,
            page,
            gateway,
        } => {
            let conditions = Conditions {
                stage: stage.clone(),
                ..Conditions::default()
            };
            let found = page.load("groups", &conditions, &gateway.target()?)?;
            page.print("groups", &found, group_table)
        }
        GroupsCommand::Publish {
            name,
            stage,
            message,
            gateway,
        } => {
            let conditions = Conditions {
                stage: stage.clone(),
                group: Some(name.clone()),
                ..Conditions::default()
            };
            send(conditions.selection(), message, gateway)
        }
    }
}

fn send(
    receivers: Map<String, Value>,
    message: &MessageOption,
    gateway: &GatewayOption,
) -> Result<()> {
    let mut body = message.body()?;
    body.insert("connections".into(), receivers.into());
    let target = gateway.target()?;
    let answer = ask(&target, Method::POST, "/connections/send", body.into())?;
    super::print(&format!("sent to: {}", connection_count(&answer, "queued")))?;
    if answer.get("closed").and_then(Value::as_u64) > Some(0) {
        let closed = connection_count(&answer, "closed");
        super::print(&format!(
            "closed with 1013, since their queues are full: {closed}"
        ))?;
    }
    Ok(())
}

fn connection_count(answer: &Value, key: &str) -> String {
    count_in(answer, key, "connection")
}

/// The count that an answer has at this key, with the name of what is counted.
fn count_in(answer: &Value, key: &str, name: &str) -> String {
    let count = answer.get(key).and_then(Value::as_u64);
    count_of(count.unwrap_or_default(), name)
}

impl Conditions {
    /// The conditions as the admin API reads them.
    fn selection(&self) -> Map<String, Value> {
        let conditions = [
            ("stage", &self.stage),
            ("principal", &self.principal),
            ("group", &self.group),
            ("attribute", &self.attribute),
        ];
        let written = conditions
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into())));
        written.collect()
    }
}

impl Receivers {
    fn selection(&self) -> Map<String, Value> {
        let mut selection = self.conditions.selection();
        if let Some(id) = &self.id {
            selection.insert("id".into(), id.clone().into());
        }
        if self.all {
            selection.insert("all".into(), true.into());
        }
        selection
    }
}

impl MessageOption {
    fn body(&self) -> Result<Map<String, Value>> {
        let (key, value) = match (&self.text, &self.binary) {
            (Some(text), _) => ("text", text.clone()),
            (None, Some(file)) => ("binary", STANDARD.encode(read(file)?)),
            (None, None) => ("text", String::new()),
        };
        Ok([(key.to_owned(), value.into())].into_iter().collect())
    }
}

fn read(file: &PathBuf) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("standard input cannot be read")?;
        return Ok(bytes);
    }
    std::fs::read(file).with_context(|| format!("{}: cannot be read", file.display()))
}

impl Page {
    /// Asks for pages until there are as many entries as are wanted.
    fn load(&self, what: &str, conditions: &Conditions, target: &AskedGateway) -> Result<Value> {
        let mut entries = Vec::new();
        let mut after = self.after.clone();
        let wanted = usize::try_from(self.limit).unwrap_or(usize::MAX);
        loop {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &PAGE.min(wanted - entries.len()).to_string());
            for (name, value) in conditions.selection() {
                query.append_pair(&name, value.as_str().unwrap_or_default());
            }
            if let Some(after) = &after {
                query.append_pair("after", after);
            }
            let path = format!("/{what}?{}", query.finish());
            let page = ask(target, Method::GET, &path, Value::Null)?;
            entries.extend(list(page.get(what)).cloned());
            after = page.get("next").and_then(Value::as_str).map(str::to_owned);
            if after.is_none() || entries.len() >= wanted {
                return Ok(json!({ what: entries, "next": after }));
            }
        }
    }

    fn print(&self, what: &str, found: &Value, table: fn(&Value) -> String) -> Result<()> {
        if self.json {
            return super::print(&format!("{found:#}"));
        }
        super::print(&table(found))?;
        match found.get("next").and_then(Value::as_str) {
            Some(next) => super::print(&format!(
                "there may be more {what}: raise --limit, or write --after '{}'",
                printable(next)
            )),
            None => Ok(()),
        }
    }
}

fn connection_table(found: &Value) -> String {
    let mut rows = vec![
        [
            "CONNECTION",
            "STAGE",
            "PRINCIPAL",
            "ADDRESS",
            "CONNECTED",
            "LAST ACTIVE",
            "WAITING",
        ]
        .map(String::from),
    ];
    for connection in list(found.get("connections")) {
        rows.push([
            text(connection, "id"),
            text(connection, "stage"),
            cut(&text(connection, "principal")),
            text(connection, "source_ip"),
            moment(connection, "connected_at"),
            moment(connection, "last_active_at"),
            format!("{} B", text(connection, "queued_bytes")),
        ]);
    }
    table(&rows)
}

fn group_table(found: &Value) -> String {
    let mut rows = vec![["GROUP", "STAGE", "MEMBERS"].map(String::from)];
    for group in list(found.get("groups")) {
        rows.push([
            cut(&text(group, "name")),
            text(group, "stage"),
            text(group, "members"),
        ]);
    }
    table(&rows)
}

fn description(shown: &Value) -> String {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push([name.to_owned(), value]);
        }
    };
    row("connection", text(shown, "id"));
    for (name, key) in [
        ("stage", "stage"),
        ("principal", "principal"),
        ("address", "source_ip"),
        ("http", "http"),
        ("protocol", "protocol"),
        ("host", "domain_name"),
        ("user agent", "user_agent"),
        ("subprotocol", "subprotocol"),
    ] {
        row(name, text(shown, key));
    }
    let authorizer = shown.get("authorizer").and_then(Value::as_object);
    for (name, value) in authorizer.into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), printable);
        row("authorizer", format!("{}={value}", printable(name)));
    }
    for scope in list(shown.get("scopes")).filter_map(Value::as_str) {
        row("scope", printable(scope));
    }
    row("expires", moment(shown, "expires_at"));
    row("connected", moment(shown, "connected_at"));
    row("last active", moment(shown, "last_active_at"));
    let limits = shown.get("limits").unwrap_or(&Value::Null);
    row(
        "waiting",
        format!(
            "{}, {} bytes of {}",
            count_in(shown, "queued_messages", "message"),
            text(shown, "queued_bytes"),
            text(limits, "outbox_bytes"),
        ),
    );
    for request in list(shown.get("last_request_ids")).filter_map(Value::as_str) {
        row("last request", printable(request));
    }
    for group in list(shown.get("groups")).filter_map(Value::as_str) {
        row("group", printable(group));
    }
    for (key, name) in [("attributes", "attribute"), ("plugins", "plugin")] {
        let entries = shown.get(key).and_then(Value::as_object);
        for (entry, value) in entries.into_iter().flatten() {
            let value = value
                .as_str()
                .map_or_else(|| format!("version {value}"), printable);
            let separator = if key == "plugins" { " " } else { "=" };
            row(name, format!("{}{separator}{value}", printable(entry)));
        }
    }
    if let Some(closing) = shown.get("closing").filter(|closing| !closing.is_null()) {
        let (code, reason) = (text(closing, "code"), text(closing, "reason"));
        row("closing", [code, reason].join(" ").trim_end().to_owned());
    }
    for (name, key) in [
        ("message limit", "message_bytes"),
        ("attribute limit", "attributes_bytes"),
    ] {
        row(name, format!("{} bytes", text(limits, key)));
    }
    table(&rows)
}

/// An event of a trace as a line for people.
fn trace_line(line: &str) -> String {
    let event = serde_json::from_str::<Value>(line).unwrap_or_default();
    let at = |event: &Value| moment(event, "at");
    match text(&event, "event").as_str() {
        "begin" => format!("{}  looking; ctrl-c ends it", at(&event)),
        "missed" => format!("missed: {}", count_in(&event, "events", "event")),
        "handled" => {
            let took = event.get("took_ms").and_then(Value::as_f64);
            let outcome = match (text(&event, "error"), text(&event, "answer_bytes")) {
                (error, _) if !error.is_empty() => error,
                (_, bytes) if bytes.is_empty() => "no answer".to_owned(),
                _ => format!("answered with {}", count_in(&event, "answer_bytes", "byte")),
            };
            format!(
                "{}  in   {:<16}  {:>8} B  {:>8.1} ms  {}  {outcome}",
                at(&event),
                text(&event, "route"),
                text(&event, "bytes"),
                took.unwrap_or_default(),
                text(&event, "request_id"),
            )
        }
        "queued" => format!(
            "{}  out  {:<16}  {:>8} B",
            at(&event),
            text(&event, "kind"),
            text(&event, "bytes")
        ),
        "no-room" => format!(
            "{}  out  {:<16}  {:>8} B  not queued: its queue is full",
            at(&event),
            "",
            text(&event, "bytes")
        ),
        "ended" => {
            let (code, reason) = (text(&event, "code"), text(&event, "reason"));
            let by = text(&event, "by");
            format!(
                "{}  ended with {}, by the {by}",
                at(&event),
                [code, reason].join(" ").trim_end()
            )
        }
        _ => printable(line),
    }
}

/// A time in milliseconds since the Unix epoch, as RFC 3339 in UTC with seconds.
fn moment(value: &Value, key: &str) -> String {
    let seconds = value.get(key).and_then(Value::as_i64).map(|ms| ms / 1_000);
    let moment = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let moment = moment.and_then(|moment| moment.format(&Rfc3339).ok());
    moment.unwrap_or_default()
}
