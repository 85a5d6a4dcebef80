//! An API in the file, with its routes and stages.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::limits::StageLimits;
use crate::config::compat::Compat;

/// One WebSocket API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Api {
    /// The expression that gives a message's route key, as API Gateway writes it. Environment variables do
    /// not expand here: `${request.body.action}` is the expression's own syntax.
    #[schemars(extend("x-verbatim" = true))]
    pub(in crate::config) route_selection_expression: String,
    /// The name of the authorizer that decides who may connect. Without it, everyone comes to `$connect`.
    #[schemars(extend("x-example" = "authorizer = \"NAME\", where there is an [authorizers.NAME]"))]
    pub(in crate::config) authorizer: Option<String>,
    /// The name of an authorizer with `api_keys`, one of whose keys clients need beside what `authorizer` asks
    /// for. It is looked at after that, and counted by its usage plan.
    #[schemars(extend("x-example" = "api_key = \"NAME\", where there is an [authorizers.NAME] with api_keys"))]
    pub(in crate::config) api_key: Option<String>,
    /// `"aws"` gives the API the limits, close codes and bytes of API Gateway, where the defaults here are
    /// others: docs/api-gateway.md has the list. Limits that a stage sets hold all the same.
    #[schemars(extend("x-example" = "compat = \"aws\", or leave it out"))]
    pub(in crate::config) compat: Compat,
    /// New connections a second to all stages of the API together. As many may come at once after a quiet
    /// second; further ones get 429. 0 sets no limit. The default is 0, or 500 with `compat = "aws"`.
    #[schemars(range(min = 0, max = 1_000_000), extend("default" = 0))]
    pub(in crate::config) connections_per_s: Option<u32>,
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
            authorizer: None,
            api_key: None,
            compat: Compat::default(),
            connections_per_s: None,
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
    /// The scopes that a client needs for this route, all of them, as its authorizer gives them. A message
    /// without them gets the error frame `Forbidden`; on `$connect` the client is refused with 403. Not for
    /// `$disconnect`. The routes of an API name 64 scopes at most.
    #[serde(default)]
    pub(in crate::config) scopes: Vec<String>,
    /// Messages of this route renew what let their client in, which an authorizer has to have done. `"handler"` lets the
    /// route's handler do it, by `context.renew`. A place in the message, as in `"$request.body.token"`, has a fresh
    /// token, which the stage's authorizer (`jwt`) judges before the handler is called: it must be of the same
    /// principal, and any other gets an error frame.
    #[schemars(extend("x-example" = "renews = \"handler\", or the place of a token as in renews = \"$request.body.token\"", "x-verbatim" = true))]
    pub(in crate::config) renews: Option<String>,
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
    /// The name of the stage's own authorizer, in place of the API's. `"none"` has everyone come to
    /// `$connect`.
    #[schemars(extend("x-example" = "authorizer = \"NAME\", where there is an [authorizers.NAME]"))]
    pub(in crate::config) authorizer: Option<String>,
    /// The name of the authorizer with the stage's own `api_keys`, in place of the API's. `"none"` asks for no
    /// key.
    #[schemars(extend("x-example" = "api_key = \"NAME\", where there is an [authorizers.NAME] with api_keys"))]
    pub(in crate::config) api_key: Option<String>,
    /// Lets the pages of every site connect. Written in place of `origins`.
    pub(in crate::config) allow_any_origin: bool,
    /// Serves the connections API on the listeners, at `/@connections/ID` below the stage's address:
    /// programs with an access key post to connections, describe and close them. The default is false.
    pub(in crate::config) connections_api: bool,
    /// Takes datagrams from WebTransport clients, each a binary message that may be lost or overtake others, and
    /// lets handlers send them. It takes a listener with `quic = true`. The default is false: datagrams are dropped.
    pub(in crate::config) datagrams: bool,
    /// The limits of each connection.
    pub(in crate::config) limits: StageLimits,
}
