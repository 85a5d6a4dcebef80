//! An API in the file, with its routes and stages.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// One WebSocket API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Api {
    /// The expression that gives a message's route key, as API Gateway writes it. Environment variables do
    /// not expand here: `${request.body.action}` is the expression's own syntax.
    #[schemars(extend("x-verbatim" = true))]
    pub(in crate::config) route_selection_expression: String,
    /// The stages at which the API is served, by name (`A-Z a-z 0-9 _ -`, at most 128 characters). At least
    /// one.
    pub(in crate::config) stages: BTreeMap<String, Stage>,
    /// The routes, by route key: `$connect`, `$disconnect`, `$default`, or a key of your own, which does
    /// not start with `$`.
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

/// The integration that answers one route key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Route {
    /// The name of the plugin that answers, or of an entry in `integrations`.
    #[schemars(extend("x-example" = "integration = \"NAME\", where there is a [plugins.NAME] or an [integrations.NAME]"))]
    pub(in crate::config) integration: String,
    /// Sends the answer to the client. Not for `$connect` and `$disconnect`, which have no reply frame.
    #[serde(default)]
    pub(in crate::config) two_way: bool,
}

/// An integration that is not a plugin.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Integration {
    /// A fixed answer, as API Gateway's integrations of the type MOCK give it.
    #[schemars(extend("x-example" = "mock = { reply = \"…\" }, an answer that is always the same"))]
    pub(in crate::config) mock: Mock,
}

/// A fixed answer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Mock {
    /// The HTTP status that answers `$connect`: 200 lets the client in, 300 to 599 refuse it. Other routes
    /// ignore it.
    #[schemars(range(min = 200, max = 599))]
    pub(in crate::config) status: u16,
    /// The text that a two-way route sends to the client, and the body of a refused `$connect`. Without it
    /// nothing is sent.
    #[schemars(extend("x-example" = "it as text in quotes, as in reply = '{\"pong\":true}'"))]
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

/// One stage: a place at which an API is served.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Stage {
    /// The hosts of this stage, each with or without a base path: `"chat.example.com"`, `"example.com/v1"`.
    /// A stage without domains is served at `/NAME` of every host.
    pub(in crate::config) domains: Vec<String>,
    /// The stage variables, which plugins read.
    pub(in crate::config) variables: BTreeMap<String, String>,
    /// The web pages that may connect, by their origin as browsers send it: `"https://app.example.com"`.
    /// `"https://*.example.com"` takes every name below the host, and not the host itself. `"self"` takes
    /// the host that the request is for. `"null"` takes every page without an origin, such as one from a
    /// file or in a sandboxed frame of any site. `"file://"` takes pages from a file, as some embedded
    /// browsers name them. The default is `["self"]`, so that a page of another site cannot act with its
    /// visitor's cookies. Where clients connect by TLS, `"self"` takes `https` pages only. Over a loopback
    /// address it takes only loopback names and `domains`, since any site can point a name of its own at a
    /// loopback address. Requests without an `Origin` header pass: no browser sends them.
    #[schemars(extend("default" = ["self"]))]
    pub(in crate::config) origins: Option<Vec<String>>,
    /// Lets the pages of every site connect. Written in place of `origins`.
    pub(in crate::config) allow_any_origin: bool,
    /// The limits of each connection.
    pub(in crate::config) limits: StageLimits,
}

/// The default of `outbox_kib`, unless `message_kib` is above it.
pub(in crate::config) const OUTBOX_KIB: u32 = 1_024;

/// The limits of each connection of a stage.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct StageLimits {
    /// KiB of the longest message, in either direction. The default is API Gateway's. The maximum is 64
    /// MiB, since a message is held in memory whole.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) message_kib: u32,
    /// KiB of the longest frame from a client. The default is `message_kib`, which is also the maximum.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) frame_kib: Option<u32>,
    /// Seconds without a message after which a connection is closed. 0 means never: pings already tell a
    /// quiet client from one that is gone. The maximum is a day.
    #[schemars(range(min = 0, max = 86_400))]
    pub(in crate::config) idle_timeout_s: u32,
    /// Seconds after which a connection is closed, however busy it is. 0 means never. The maximum is a
    /// week.
    #[schemars(range(min = 0, max = 604_800))]
    pub(in crate::config) max_age_s: u32,
    /// Seconds between pings. Pings find clients that are gone, and keep proxies from closing quiet
    /// connections: many do so after 30 or 60 seconds. 0 sends none.
    #[schemars(range(min = 0, max = 3_600))]
    pub(in crate::config) ping_interval_s: u32,
    /// Seconds that a client has to answer a ping. A slow phone needs a few.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) pong_timeout_s: u32,
    /// KiB that may wait for a slow client. A post beyond that fails as busy. The default is 1024, or
    /// `message_kib` if that is more. It cannot be below `message_kib`, so that every message fits.
    #[schemars(range(min = 1, max = 65_536), extend("default" = OUTBOX_KIB))]
    pub(in crate::config) outbox_kib: Option<u32>,
    /// Messages that may wait for a slow client: small messages cost more than their bytes. Four times as
    /// many may wait for a client that has taken data within the last second.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) outbox_messages: u32,
    /// Seconds after which a client that takes none of its data is closed. Memory holds that data
    /// meanwhile.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) stall_timeout_s: u32,
    /// Seconds that a client has from the first byte of a message to the last. Memory holds the incomplete
    /// message meanwhile.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) message_timeout_s: u32,
    /// Fragments of one message, plus one for each 64 bytes of it. Honest fragments of a large message
    /// pass. Empty fragments, which cost work and carry nothing, do not.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) fragments: u32,
    /// Pings and pongs a second from a client, on average. Five times as many may come at once. Each ping
    /// costs an answer.
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::config) control_frames_per_s: u32,
    /// KiB of attributes that plugins may keep with a connection. Every connection may cost that memory. 0
    /// allows none.
    #[schemars(range(min = 0, max = 64))]
    pub(in crate::config) attributes_kib: u32,
    /// Groups that a connection may be in at once. When it ends, it leaves each of them. 0 allows none.
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
