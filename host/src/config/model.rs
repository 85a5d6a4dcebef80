//! The model of a configuration: checked, in the units that the program computes with, paths resolved.
//!
//! Knows nothing of TOML.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access_log::AccessLog;
use super::grant::Grants;
use super::{AccessKey, Address, Authorizer, Compat, OriginPattern, Otlp, Problem};
use crate::route::Selection;

/// The configuration of one gateway.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The client listeners; at least one.
    pub(crate) listeners: Vec<Listener>,
    /// The management listener, if there is one.
    pub(crate) management: Option<Management>,
    /// The health listener, if there is one.
    pub(crate) health: Option<Health>,
    /// The APIs, by name; at least one.
    pub(crate) apis: Vec<Api>,
    /// The authorizers, by name. Every stage's authorizer is one of them.
    pub(crate) authorizers: Vec<Authorizer>,
    /// The plugins, by name. Every route's integration is one of them, or a mock.
    pub(crate) plugins: Vec<Plugin>,
    /// The keys of programs that use the connections API, by name.
    pub(crate) access_keys: Vec<AccessKey>,
    /// Bounds of the gateway as a whole.
    pub(crate) limits: GatewayLimits,
    /// The folder that keeps compiled components between starts; `None` compiles at every start.
    pub(crate) compile_cache: Option<PathBuf>,
    /// The log: its filter and its format.
    pub(crate) log: Log,
    /// The access log.
    pub(crate) access_log: AccessLog,
    /// The collector of traces and logs, if there is one.
    pub(crate) otlp: Option<Otlp>,
    /// Values that are valid and probably not intended.
    pub(crate) doubts: Vec<Problem>,
}

/// One address that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listener {
    /// The address; port 0 takes any free port.
    pub(crate) address: Address,
    /// The encryption of connections.
    pub(crate) tls: Tls,
    /// The certificates that clients show; `None` asks for none. Never without TLS.
    pub(crate) clients: Option<ClientCertificates>,
    /// Whether HTTP/2 is offered beside HTTP/1.1; never without TLS.
    pub(crate) http2: bool,
    /// Whether QUIC is served beside TCP; never without TLS. `Some(false)` has clients forget that it was.
    pub(crate) quic: Option<bool>,
    /// The proxies in front of it.
    pub(crate) proxies: Proxies,
}

/// The proxies in front of a listener, and how they name the clients that they pass on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Proxies {
    /// The networks whose proxies may name a client, without bits beyond the prefix.
    pub(crate) trusted: Vec<IpNet>,
    /// Whether each connection begins with a PROXY header.
    pub(crate) protocol: bool,
    /// The header of a request that counts, if a trusted proxy has sent it.
    pub(crate) header: ForwardedHeader,
}

/// The header in which proxies name the client of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ForwardedHeader {
    /// `X-Forwarded-For`, and `X-Forwarded-Proto` for whether the client speaks TLS.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// No header.
    None,
}

/// The encryption of a listener's connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tls {
    /// No encryption.
    Off,
    /// A certificate made at start, which no client trusts: for development.
    SelfSigned,
    /// The owner's certificates; at least one. The first is for clients that name no host.
    Files(Vec<CertificateFiles>),
}

/// The files of one of the owner's certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    /// The certificate chain, PEM.
    pub(crate) certificate: PathBuf,
    /// Its private key, PEM.
    pub(crate) key: PathBuf,
}

/// The management listener. Beyond this machine it has TLS and tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Management {
    pub(crate) address: Address,
    pub(crate) tls: Option<CertificateFiles>,
    /// The tokens of which each request needs one; without any, everyone who can connect may ask.
    pub(crate) tokens: Vec<Secret>,
    /// The file of the changes that operators ask for; `None` has them in the log alone.
    pub(crate) audit: Option<PathBuf>,
}

/// The certificates that clients show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificates {
    /// The authorities that they are from, PEM.
    pub(crate) ca: PathBuf,
    /// The revocation lists, PEM.
    pub(crate) crl: Option<PathBuf>,
    /// Whether a client without one is refused.
    pub(crate) required: bool,
}

/// The health listener, open to everyone who can connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) address: Address,
    /// Whether it shows the metrics too.
    pub(crate) metrics: bool,
}

/// Bounds of the gateway as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayLimits {
    /// Connections open at once; `None` takes as many as the process may open files.
    pub(crate) connections: Option<u32>,
    /// New connections a second; `None` is without limit.
    pub(crate) connections_per_s: Option<NonZeroU32>,
    /// New connections a second from one address; `None` is without limit.
    pub(crate) connections_per_s_per_ip: Option<NonZeroU32>,
    /// Connections of one address open at once; `None` is without limit.
    pub(crate) connections_per_ip: Option<NonZeroU32>,
    /// Handshakes under way at once.
    pub(crate) handshakes: u32,
    /// Time limit of a client's request, from its first byte to its last.
    pub(crate) handshake_timeout: Duration,
    /// The time over which the closes are spread when the gateway stops.
    pub(crate) drain: Duration,
    /// Seconds over which clients are advised to spread their reconnects; 0 gives no advice.
    pub(crate) reconnect_jitter_s: u32,
    /// Time limit for `$disconnect` handlers after the drain window.
    pub(crate) disconnects: Duration,
    /// Time limit for the new process of an upgrade to be ready.
    pub(crate) upgrade: Duration,
    /// Time limit for pulling a component from a registry.
    pub(crate) pull: Duration,
}

/// The log: its filter and its format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    /// Directives of `tracing_subscriber::EnvFilter`, which parse.
    pub(crate) filter: String,
    /// The format of a line.
    pub(crate) format: LogFormat,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line, for a machine.
    Json,
}

/// One WebSocket API: its route selection expression, routes and stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Api {
    /// Its name, of `A-Z a-z 0-9 _ -`.
    pub(crate) name: String,
    /// The route selection expression.
    pub(crate) selection: Selection,
    /// New connections a second, of all stages together; `None` is without limit.
    pub(crate) connections_per_s: Option<NonZeroU32>,
    /// The routes, by key.
    pub(crate) routes: Vec<Route>,
    /// The stages, by name; at least one.
    pub(crate) stages: Vec<Stage>,
}

/// The route of one route key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// `$connect`, `$disconnect`, `$default`, or a key of the owner's that starts with no `$`.
    pub(crate) key: String,
    pub(crate) integration: Integration,
    /// Whether the answer is sent to the client.
    pub(crate) two_way: bool,
    /// The scopes that a client needs for it.
    pub(crate) scopes: Vec<String>,
    /// Who renews what let the client of a message in; none if nobody does.
    pub(crate) renews: Option<Renews>,
}

/// Who renews what let the client of a message in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Renews {
    /// The route's handler, by `context.renew`.
    Handler,
    /// The stage's authorizer, by the token that the message has at this place.
    Token(Selection),
}

/// The integration that a route points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Integration {
    /// The plugin of this name.
    Plugin(String),
    Mock(Mock),
}

/// A mock: always the same answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mock {
    pub(crate) name: String,
    /// The answer to `$connect`: 200, or 300 to 599.
    pub(crate) status: u16,
    pub(crate) reply: Option<String>,
}

/// A stage: an address of an API, with its own variables and limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stage {
    /// Its name, of `A-Z a-z 0-9 _ -`.
    pub(crate) name: String,
    /// The domains that it is served at; if there are none, `/NAME` on every host.
    pub(crate) domains: Vec<Domain>,
    /// The stage variables.
    pub(crate) variables: BTreeMap<String, String>,
    /// The web pages that may connect.
    pub(crate) origins: Origins,
    /// The name of the authorizer that decides who may connect; `None` lets everyone on to `$connect`.
    pub(crate) authorizer: Option<String>,
    /// The name of another authorizer, one of whose API keys a client needs as well.
    pub(crate) api_key: Option<String>,
    /// Whether the listeners serve its connections API.
    pub(crate) connections_api: bool,
    /// Bounds of each connection.
    pub(crate) limits: StageLimits,
}

/// A host, or one path of a host, that belongs to a stage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Domain {
    /// The host as [`super::Host`] writes it, without a port.
    pub(crate) host: String,
    /// The first segment of the path, without slashes; `None` is the whole host.
    pub(crate) base_path: Option<String>,
}

/// The origins that may connect. A handshake without `Origin`, which no browser sends, is not affected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origins {
    /// Every origin may connect.
    pub(crate) any: bool,
    /// The pages of the host that the request is for may connect.
    pub(crate) same_host: bool,
    /// The listed origins may connect.
    pub(crate) list: Vec<OriginPattern>,
}

/// Bounds of each connection of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StageLimits {
    /// Where API Gateway's limits, close codes and bytes hold.
    pub(crate) compat: Compat,
    /// Whether WebTransport clients may send datagrams, and handlers may answer with them.
    pub(crate) datagrams: bool,
    /// The longest message, either way.
    pub(crate) message_bytes: usize,
    /// The longest frame of a message from a client; at most `message_bytes`.
    pub(crate) frame_bytes: usize,
    /// A connection without a message for this time is closed; `None` is never.
    pub(crate) idle_timeout: Option<Duration>,
    /// A connection is closed at about this age; `None` is never.
    pub(crate) max_age: Option<Duration>,
    /// The time between pings; `None` sends none.
    pub(crate) ping_interval: Option<Duration>,
    /// Time limit for a client to answer a ping.
    pub(crate) pong_timeout: Duration,
    /// Limit of bytes that wait for the client; at least `message_bytes`.
    pub(crate) outbox_bytes: usize,
    /// Limit of messages that wait for the client.
    pub(crate) outbox_messages: usize,
    /// Time after which a client that reads nothing of the written bytes is stalled.
    pub(crate) stall_timeout: Duration,
    /// Time limit of a message from a client, from its first byte to its last.
    pub(crate) message_timeout: Duration,
    /// Fragments of a message, beside one for each 64 bytes.
    pub(crate) fragments: u32,
    /// Control frames a second from a client, in the long run.
    pub(crate) control_frames_per_s: u32,
    /// Bytes of attributes that plugins may keep with a connection.
    pub(crate) attributes_bytes: usize,
    /// Groups that a connection may be in at once.
    pub(crate) groups: usize,
    /// Connections of one principal open at once; `None` is without limit.
    pub(crate) connections_per_principal: Option<NonZeroU32>,
    /// Whether one more closes the principal's oldest, and is not refused.
    pub(crate) closes_oldest_of_principal: bool,
}

/// A component, what it may do, and how it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plugin {
    /// Its name, of `A-Z a-z 0-9 _ -`.
    pub(crate) name: String,
    /// The place of its component.
    pub(crate) component: Component,
    /// What the configuration calls in it.
    pub(crate) roles: Roles,
    /// The interfaces that it may import.
    pub(crate) grants: Grants,
    /// Whether the WASI interfaces that no plugin gets are stubs that refuse every call.
    pub(crate) stub_wasi: bool,
    /// The environment variables that it sees. Their values may be secrets.
    pub(crate) environment: BTreeMap<String, Secret>,
    /// The signature that the component needs; `None` needs none.
    pub(crate) signature: Option<Signature>,
    /// Whether an instance serves one message or many.
    pub(crate) isolation: Isolation,
    /// Bounds of its invocations and instances.
    pub(crate) limits: PluginLimits,
    /// The rule for automatic rollbacks; `None` is never.
    pub(crate) rollback: Option<Rollback>,
}

/// What a plugin is called for: its component must export each of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Roles {
    /// A route points to it, or nothing calls it.
    pub(crate) handler: bool,
    /// An authorizer names it.
    pub(crate) authorizer: bool,
}

/// The rule by which a new version of a plugin is rolled back automatically.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rollback {
    /// The percentage of calls above which it is rolled back: calls that trap or compute for too long.
    pub(crate) trap_percent: u32,
    /// The least number of calls before the rule applies.
    pub(crate) calls: u32,
    /// The age of the version up to which the rule applies.
    pub(crate) within: Duration,
}

/// The place of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Component {
    /// In a file.
    File(PathBuf),
    /// In a registry.
    Image(Box<Image>),
    /// In cargo's target folder: `lockgate dev` builds the plugin from its source.
    Source {
        /// The plugin's folder.
        folder: PathBuf,
        /// The file that the last good build made; none before the first.
        built: Option<PathBuf>,
    },
}

/// Shows the path, or the reference as written.
impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Image(image) => write!(f, "oci://{image}"),
            Self::Source { folder, built } => built.as_ref().unwrap_or(folder).display().fmt(f),
        }
    }
}

/// A component in an OCI registry, and how to get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// The registry's host, with its port if one is written.
    pub(crate) registry: String,
    /// The name within the registry.
    pub(crate) repository: String,
    /// The manifest's digest, `sha256:` and 64 hexadecimal digits.
    pub(crate) digest: String,
    /// The account to log in with.
    pub(crate) credentials: Option<Credentials>,
    /// Whether the registry, on a loopback address, speaks HTTP without TLS.
    pub(crate) plain_http: bool,
    /// The folder that keeps pulled components.
    pub(crate) cache: Option<PathBuf>,
    /// Time limit for pulling.
    pub(crate) patience: Duration,
}

/// Shows the reference without its scheme.
impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.registry, self.repository, self.digest)
    }
}

/// An account of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: Secret,
}

/// A text that no log or error shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Secret {
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The requirements on a component's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    /// The files of the public keys that count, PEM; at least one.
    pub(crate) keys: Vec<PathBuf>,
    /// The signature file.
    pub(crate) file: PathBuf,
    /// The lowest version that serves. `None`: the highest version loaded since start; only a rollback that names a
    /// version goes lower.
    pub(crate) min_version: Option<u32>,
    /// The age up to which a signature counts; `None` is for ever.
    pub(crate) max_age: Option<Duration>,
}

/// Whether an instance of a plugin serves one message or many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Isolation {
    /// A fresh instance for every message: nothing is left of the message before.
    PerMessage,
    /// An instance serves one message at a time and is used again: what a handler leaves in its
    /// memory may be seen by a later message of another connection.
    #[default]
    Reused,
}

/// Bounds of a plugin's invocations and instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PluginLimits {
    /// Time limit of an invocation.
    pub(crate) deadline: Duration,
    /// Computing time of an invocation; at most `deadline`.
    pub(crate) cpu: Duration,
    /// Linear memory of an instance.
    pub(crate) memory_bytes: usize,
    /// Elements of an instance's tables.
    pub(crate) table_elements: usize,
    /// Instances at once.
    pub(crate) instances: u32,
    /// Invocations that may wait for an instance.
    pub(crate) waiting: u32,
    /// Invocations after which a reused instance is replaced.
    pub(crate) max_uses: u32,
    /// Messages that one invocation may send.
    pub(crate) posts: u32,
    /// Bytes that one invocation may log.
    pub(crate) log_bytes: usize,
    /// Time limit for the invocations of a replaced version.
    pub(crate) retire: Duration,
    /// Limit of processor time for compiling the component.
    pub(crate) compile: Duration,
}
