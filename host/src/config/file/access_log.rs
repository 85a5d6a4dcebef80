//! The access log in the file.

use schemars::JsonSchema;
use serde::Deserialize;

/// The access log: a line for each handshake and for each end of a connection, and for messages where that is switched
/// on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct AccessLog {
    /// The place of the lines. `"log"` makes them lines of the log at the level `info`, of which one client gets 50 at
    /// once and one a second. `"stdout"`, `"file:PATH"` and `"syslog"` (or `"syslog:PATH"`, a datagram socket) take
    /// every line, and the log has none of them. `"none"` writes none.
    pub(in crate::config) to: String,
    /// The format of a line: `"json"`, or a text with variables of API Gateway, as in `"$context.identity.sourceIp
    /// $context.routeKey $context.status"`. Every field of the JSON line is a variable too. A variable without a value
    /// is written as `-`. Not for the log, which has its own format.
    pub(in crate::config) format: String,
    /// The size in MiB at which a file is renamed to `PATH.1` and made anew; 0 is never. A file that is moved or removed
    /// is made anew in any case.
    #[schemars(range(min = 0, max = 1_048_576))]
    pub(in crate::config) rotate_mib: u32,
    /// The renamed files that are kept: `PATH.1` is the newest.
    #[schemars(range(min = 1, max = 1_000))]
    pub(in crate::config) keep: u32,
    /// The messages that have a line.
    pub(in crate::config) messages: Messages,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            to: "log".to_owned(),
            format: "json".to_owned(),
            rotate_mib: 100,
            keep: 5,
            messages: Messages::default(),
        }
    }
}

/// The messages that have a line.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Messages {
    /// One message in so many has a line, chosen at random; 1 is every message, 0 none.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub(in crate::config) one_in: u32,
    /// The route keys of which every message has a line, in every API.
    pub(in crate::config) routes: Vec<String>,
}
