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

use super::grant::Grants;
use super::{Address, OriginPattern, Problem};
use crate::route;

/// All that one gateway serves, and within which bounds.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where clients connect; at least one.
    pub(crate) listeners: Vec<Listener>,
    /// Where the management API listens, which only this machine reaches; `None` when there is none.
    pub(crate) management: Option<Address>,
    /// The health listener, if there is one.
    pub(crate) health: Option<Health>,
    /// The APIs, by name; at least one.
    pub(crate) apis: Vec<Api>,
    /// The plugins, by name. Every route's integration is one of them, or a mock.
    pub(crate) plugins: Vec<Plugin>,
    /// Bounds of the gateway as a whole.
    pub(crate) limits: GatewayLimits,
    /// The folder that keeps compiled components between starts; `None` compiles at every start.
    pub(crate) compile_cache: Option<PathBuf>,
    /// What is logged, and how.
    pub(crate) log: Log,
    /// What is no mistake, and hardly meant.
    pub(crate) doubts: Vec<Problem>,
}

/// One address that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Where it listens; port 0 takes any free one.
    pub(crate) address: Address,
    /// How connections are encrypted.
    pub(crate) tls: Tls,
    /// Whether HTTP/2 is offered beside HTTP/1.1; never without TLS.
    pub(crate) http2: bool,
    /// The proxies in front of it.
    pub(crate) proxies: Proxies,
}

/// The proxies in front of a listener, and how they name the clients that they pass on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Proxies {
    /// Those who may name a client, without bits beyond the prefix.
    pub(crate) trusted: Vec<IpNet>,
    /// Each connection begins with a PROXY header.
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

/// How the connections of a listener are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Not at all.
    Off,
    /// With a certificate made at start, which no client trusts: for development.
    SelfSigned,
    /// With certificates of the owner's; at least one, of which the first is for clients that name no host.
    Files(Vec<CertificateFiles>),
}

/// A certificate of the owner's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    /// The certificate chain, PEM.
    pub(crate) certificate: PathBuf,
    /// Its private key, PEM.
    pub(crate) key: PathBuf,
}

/// Where health is told, to everyone who can connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) address: Address,
    /// Whether the metrics are there too.
    pub(crate) metrics: bool,
}

/// Bounds of the gateway as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayLimits {
    /// Connections open at once; `None` takes as many as the process may open files.
    pub(crate) connections: Option<u32>,
    /// New connections a second; `None` is as many as come.
    pub(crate) connections_per_s: Option<NonZeroU32>,
    /// New connections a second from one address; `None` is as many as come.
    pub(crate) connections_per_s_per_ip: Option<NonZeroU32>,
    /// Connections of one address open at once; `None` is as many as come.
    pub(crate) connections_per_ip: Option<NonZeroU32>,
    /// Handshakes under way at once.
    pub(crate) handshakes: u32,
    /// How long a client may take from its first byte to its request's last.
    pub(crate) handshake_timeout: Duration,
    /// The time over which the closes are spread when the gateway stops.
    pub(crate) drain: Duration,
    /// Seconds over which clients are advised to spread their reconnects; 0 gives no advice.
    pub(crate) reconnect_jitter_s: u32,
    /// How long `$disconnect` handlers may take after the drain window.
    pub(crate) disconnects: Duration,
    /// How long the new process of an upgrade may take to be ready.
    pub(crate) upgrade: Duration,
    /// How long pulling a component from a registry may take.
    pub(crate) pull: Duration,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    /// Directives of `tracing_subscriber::EnvFilter`, known to parse.
    pub(crate) filter: String,
    /// How a line is written.
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

/// One WebSocket API: how a message chooses its route, the routes, and where it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Api {
    /// Its name, of `A-Z a-z 0-9 _ -`.
    pub(crate) name: String,
    /// The route selection expression.
    pub(crate) selection: route::Selection,
    /// The routes, by key.
    pub(crate) routes: Vec<Route>,
    /// The stages, by name; at least one.
    pub(crate) stages: Vec<Stage>,
}

/// What answers the messages of one route key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// `$connect`, `$disconnect`, `$default`, or a key of the owner's that starts with no `$`.
    pub(crate) key: String,
    pub(crate) integration: Integration,
    /// Whether the answer is sent to the client.
    pub(crate) two_way: bool,
}

/// What a route points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Integration {
    /// The plugin of this name.
    Plugin(String),
    Mock(Mock),
}

/// An answer that is always the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mock {
    pub(crate) name: String,
    /// Of `$connect`: 200, or 300 to 599.
    pub(crate) status: u16,
    pub(crate) reply: Option<String>,
}

/// One place at which an API is served, with its own variables and bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stage {
    /// Its name, of `A-Z a-z 0-9 _ -`.
    pub(crate) name: String,
    /// Where it is served; at `/NAME` of every host when there are none.
    pub(crate) domains: Vec<Domain>,
    /// The stage variables.
    pub(crate) variables: BTreeMap<String, String>,
    /// Which web pages may connect.
    pub(crate) origins: Origins,
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

/// Which `Origin` headers a handshake may bear. One without the header, which no browser sends, is
/// not concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origins {
    /// Every origin may connect.
    pub(crate) any: bool,
    /// The pages of the host that the request is for may connect.
    pub(crate) same_host: bool,
    /// These may connect.
    pub(crate) list: Vec<OriginPattern>,
}

/// Bounds of each connection of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StageLimits {
    /// The longest message, either way.
    pub(crate) message_bytes: usize,
    /// The longest frame of a message from a client; at most `message_bytes`.
    pub(crate) frame_bytes: usize,
    /// A connection with no message for so long is closed; `None` is never.
    pub(crate) idle_timeout: Option<Duration>,
    /// A connection is closed at this age; `None` is never.
    pub(crate) max_age: Option<Duration>,
    /// The time between pings; `None` sends none.
    pub(crate) ping_interval: Option<Duration>,
    /// How long a client may take to answer a ping.
    pub(crate) pong_timeout: Duration,
    /// Bytes that wait for the client; at least `message_bytes`.
    pub(crate) outbox_bytes: usize,
    /// Messages that wait for the client.
    pub(crate) outbox_messages: usize,
    /// How long the client may take nothing of what is written to it.
    pub(crate) stall_timeout: Duration,
    /// How long a client may take from the first byte of a message to its last.
    pub(crate) message_timeout: Duration,
    /// Fragments of a message, beside one for each 64 bytes.
    pub(crate) fragments: u32,
    /// Control frames a second from a client, in the long run.
    pub(crate) control_frames_per_s: u32,
    /// Bytes of attributes that plugins may keep with a connection.
    pub(crate) attributes_bytes: usize,
    /// Groups that a connection may be in at once.
    pub(crate) groups: usize,
}

/// A component, what it may do, and how it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plugin {
    /// Its name, of `A-Z a-z 0-9 _ -`.
    pub(crate) name: String,
    /// Where its component is.
    pub(crate) component: Component,
    /// The interfaces that it may import.
    pub(crate) grants: Grants,
    /// Whether the interfaces of WASI that no plugin is given are there, and refuse every call.
    pub(crate) stub_wasi: bool,
    /// Who must have signed the component; `None` asks for no signature.
    pub(crate) signature: Option<Signature>,
    /// Whether an instance serves one message or many.
    pub(crate) isolation: Isolation,
    /// Bounds of its invocations and instances.
    pub(crate) limits: PluginLimits,
    /// When a new version of it is withdrawn by itself; `None` is never.
    pub(crate) rollback: Option<Rollback>,
}

/// When a new version of a plugin is withdrawn by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rollback {
    /// More than so many percent of its calls trap or compute for too long.
    pub(crate) trap_percent: u32,
    /// It has had so many calls.
    pub(crate) calls: u32,
    /// Only while it is younger than this.
    pub(crate) within: Duration,
}

/// Where a component is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Component {
    /// In a file.
    File(PathBuf),
    /// In a registry.
    Image(Box<Image>),
    /// Where cargo puts it: `lockgate dev` builds the plugin from its source.
    Source {
        /// The plugin's folder.
        folder: PathBuf,
        /// The file that the last good build made; none before there was one.
        built: Option<PathBuf>,
    },
}

/// The path, or the reference as it is written.
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
    /// The registry's host, with its port if that is said.
    pub(crate) registry: String,
    /// The name within the registry.
    pub(crate) repository: String,
    /// The manifest's digest, `sha256:` and 64 hexadecimal digits.
    pub(crate) digest: String,
    /// Whom to log in as.
    pub(crate) credentials: Option<Credentials>,
    /// Whether the registry, on a loopback address, speaks HTTP without TLS.
    pub(crate) plain_http: bool,
    /// The folder that keeps what was pulled.
    pub(crate) cache: Option<PathBuf>,
    /// How long pulling may take.
    pub(crate) patience: Duration,
}

/// The reference without its scheme.
impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.registry, self.repository, self.digest)
    }
}

/// Whom to log in to a registry as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: Secret,
}

/// What no log or error shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(super) String);

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

/// Whose signature a component must bear, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    /// The files of the public keys that count, PEM; at least one.
    pub(crate) keys: Vec<PathBuf>,
    /// The signature file.
    pub(crate) file: PathBuf,
    /// The oldest version that serves; `None` does not go below one that was loaded already, unless it is named.
    pub(crate) min_version: Option<u32>,
    /// How long a signature counts; `None` is for ever.
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
    /// How long an invocation may last.
    pub(crate) deadline: Duration,
    /// How long an invocation may compute; at most `deadline`.
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
    /// How long the invocations of a version may go on after another has taken its place.
    pub(crate) retire: Duration,
    /// Processor time that compiling the component may take.
    pub(crate) compile: Duration,
}
