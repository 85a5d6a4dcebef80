//! An API in the file, with its routes and stages.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// One WebSocket API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Api {
    /// How a message's route key is found, as API Gateway writes it. Environment variables do not
    /// expand here: `${request.body.action}` is the expression's own syntax.
    #[schemars(extend("x-verbatim" = true))]
    pub(in crate::config) route_selection_expression: String,
    /// Where the API is served, by name (`A-Z a-z 0-9 _ -`, at most 128). At least one.
    pub(in crate::config) stages: BTreeMap<String, Stage>,
    /// What answers, by route key: `$connect`, `$disconnect`, `$default`, or a key of your own, which
    /// starts with no `$`.
    pub(in crate::config) routes: BTreeMap<String, Route>,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            route_selection_expression: "$request.body.action".to_owned(),
            stages: BTreeMap::new(),
            routes: BTreeMap::new(),
        }
    }
}

/// What answers the messages of one route key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Route {
    /// The name of the plugin that is called, or of an integration.
    pub(in crate::config) integration: String,
    /// Whether the answer is sent to the client. Not for `$connect` and `$disconnect`,
    /// which have no reply frame.
    #[serde(default)]
    pub(in crate::config) two_way: bool,
}

/// Something other than a plugin that answers routes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Integration {
    /// An answer that is always the same, as API Gateway's integrations of the type MOCK give it.
    pub(in crate::config) mock: Mock,
}

/// An answer that is always the same.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Mock {
    /// What `$connect` is answered: 200 lets the client in, 300 to 599 refuse it. Other routes do not look
    /// at it.
    #[schemars(range(min = 200, max = 599))]
    pub(in crate::config) status: u16,
    /// The text that a two-way route sends to the client; with a refused `$connect`, the body. Without it
    /// nothing is sent.
    pub(in crate::config) reply: Option<String>,
}

impl Default for Mock {
    fn default() -> Self {
        Self {
            status: 200,
            reply: None,
        }
    }
}

/// One place at which an API is served.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Stage {
    /// Hosts that belong to this stage, each with a base path or without: `"chat.example.com"`,
    /// `"example.com/v1"`. Without any, the stage is served at `/NAME` of every host.
    pub(in crate::config) domains: Vec<String>,
    /// The stage variables.
    pub(in crate::config) variables: BTreeMap<String, String>,
    /// Which web pages may connect: origins as browsers send them (`"https://app.example.com"`); all below
    /// a host (`"https://*.example.com"`, not the host itself); `"null"`, which is every page without an
    /// origin, such as one from a file or in a sandboxed frame of any site; `"file://"`, as some embedded
    /// browsers name a file; and `"self"`, the host that the request itself is for. By default `["self"]`: a
    /// page of another site must not act with its visitor's cookies. `"self"` is `https` where clients
    /// connect by TLS, and for connections over a loopback address only a loopback name or one of
    /// `domains`: any site can have its own name lead there. Requests without an `Origin` header, which no
    /// browser sends, are not concerned.
    #[schemars(extend("default" = ["self"]))]
    pub(in crate::config) origins: Option<Vec<String>>,
    /// Lets the pages of every site connect, instead of `origins`.
    pub(in crate::config) allow_any_origin: bool,
    /// Bounds of each connection.
    pub(in crate::config) limits: StageLimits,
}

/// The default of `outbox_kib`, unless `message_kib` is above it.
pub(in crate::config) const OUTBOX_KIB: u32 = 1_024;

/// Bounds of each connection of a stage.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct StageLimits {
    /// KiB of the longest message, either way. By default what API Gateway takes; at most 64 MiB,
    /// since a message is held in memory whole.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) message_kib: u32,
    /// KiB of the longest frame from a client. By default `message_kib`, and not above it.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) frame_kib: Option<u32>,
    /// Seconds without a message after which a connection is closed. 0 is never: pings already tell
    /// the quiet from the gone. At most a day.
    #[schemars(range(min = 0, max = 86_400))]
    pub(in crate::config) idle_timeout_s: u32,
    /// Seconds after which a connection is closed, however busy. 0 is never. At most a week.
    #[schemars(range(min = 0, max = 604_800))]
    pub(in crate::config) max_age_s: u32,
    /// Seconds between pings, which find clients that are gone and keep proxies from closing quiet
    /// connections (many do after 30 or 60). 0 sends none.
    #[schemars(range(min = 0, max = 3_600))]
    pub(in crate::config) ping_interval_s: u32,
    /// Seconds that a client may take to answer a ping: a slow phone needs a few.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) pong_timeout_s: u32,
    /// KiB that may wait for a slow client before a post to it is refused as busy. By default 1024,
    /// or `message_kib` where that is more; not below it, so that every message fits.
    #[schemars(range(min = 1, max = 65_536), extend("default" = OUTBOX_KIB))]
    pub(in crate::config) outbox_kib: Option<u32>,
    /// Messages that may wait for a slow client: small ones cost more than their bytes. Four times as many may wait for
    /// one that has taken some of what it is sent within the last second.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) outbox_messages: u32,
    /// Seconds that a client may take nothing of what is written to it before it is closed: what it
    /// is sent meanwhile is held in memory.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) stall_timeout_s: u32,
    /// Seconds that a client may take from the first byte of a message to its last: what has come of it
    /// is held in memory.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) message_timeout_s: u32,
    /// Fragments that a message may come in, beside one for each 64 bytes: honest fragments of a large
    /// message pass, empty ones, which cost work and hold nothing, do not.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) fragments: u32,
    /// Pings and pongs a second from a client, in the long run; five times as many may come at once.
    /// Each ping costs an answer.
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::config) control_frames_per_s: u32,
    /// KiB of attributes that plugins may keep with a connection: memory that every connection may
    /// cost. 0 is none.
    #[schemars(range(min = 0, max = 64))]
    pub(in crate::config) attributes_kib: u32,
    /// Groups that a connection may be in at once: each is left when it closes. 0 is none.
    #[schemars(range(min = 0, max = 1_024))]
    pub(in crate::config) groups: u32,
}

impl Default for StageLimits {
    fn default() -> Self {
        Self {
            message_kib: 128,
            frame_kib: None,
            idle_timeout_s: 0,
            max_age_s: 0,
            ping_interval_s: 25,
            pong_timeout_s: 8,
            outbox_kib: None,
            outbox_messages: 1_024,
            stall_timeout_s: 10,
            message_timeout_s: 30,
            fragments: 1_024,
            control_frames_per_s: 20,
            attributes_kib: 4,
            groups: 64,
        }
    }
}
