//! The file: every key with its documentation, default and bounds.
//!
//! The JSON Schema made from these types is what `lockgate config schema` prints and what
//! `tree` reads a file against, so a default or a bound stands here and nowhere else.

mod api;
mod plugin;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::{ForwardedHeader, LogFormat};
pub(in crate::config) use api::{Api, Integration, Mock, OUTBOX_KIB, Route, Stage, StageLimits};
pub(in crate::config) use plugin::{CPU_MS, Plugin, PluginLimits, Rollback, Signature};

/// The configuration of one Lockgate gateway. Relative paths are relative to the file's folder.
/// Inside string values, `${VAR}` and `${VAR:-default}` expand to environment variables, and
/// `$${` is a literal `${`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(title = "Lockgate configuration")]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct File {
    /// Where clients connect. At least one.
    pub(in crate::config) listeners: Vec<Listener>,
    /// Where the management API listens: `@connections`, admin API, console, metrics, health.
    /// Without it there is none.
    pub(in crate::config) management: Option<Management>,
    /// Where it is told whether the gateway lives (`/healthz`) and wants clients (`/readyz`), and nothing
    /// else: an address, or a table. Others than this machine may reach it, as orchestrators and load
    /// balancers do. Without it only the management listener tells.
    pub(in crate::config) health: Option<Health>,
    /// The WebSocket APIs, by name (`A-Z a-z 0-9 _ -`, at most 128). At least one.
    pub(in crate::config) apis: BTreeMap<String, Api>,
    /// The plugins, by name (`A-Z a-z 0-9 _ -`, at most 128).
    pub(in crate::config) plugins: BTreeMap<String, Plugin>,
    /// What routes may name beside plugins, by name (`A-Z a-z 0-9 _ -`, at most 128; no plugin's).
    pub(in crate::config) integrations: BTreeMap<String, Integration>,
    /// Whether a plugin must have a `signature`: then nothing runs here that nobody has signed.
    pub(in crate::config) require_signatures: bool,
    /// Bounds of the gateway as a whole.
    pub(in crate::config) limits: GatewayLimits,
    /// A folder that keeps compiled components, so that the next start need not compile them.
    /// Whoever may write there may run code as the gateway. It is kept to half a GiB. Without it, or where the
    /// gateway cannot write to it, which is warned of, each start compiles, and components pass through a folder of the gateway's own in the temporary one
    /// (`TMPDIR`).
    pub(in crate::config) compile_cache: Option<String>,
    /// A folder that keeps components from registries, by digest, so that the next start needs no
    /// registry. What is in it is checked whenever it is read. Without it, each load pulls.
    pub(in crate::config) component_cache: Option<String>,
    /// How registries that components are pulled from want to be asked, by host, or host and port. One
    /// that asks for no credentials need not be here.
    pub(in crate::config) registries: BTreeMap<String, Registry>,
    /// What is logged, and how.
    pub(in crate::config) log: Log,
}

/// How one registry wants to be asked.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Registry {
    /// Whom to log in as; with `password`.
    pub(in crate::config) username: Option<String>,
    /// The password or token; best from the environment, as in `"${REGISTRY_TOKEN}"`.
    pub(in crate::config) password: Option<String>,
    /// Whether it speaks HTTP without TLS. For a loopback address only.
    pub(in crate::config) plain_http: bool,
}

/// One address that clients connect to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Listener {
    /// The IP address and port, as in `"127.0.0.1:8443"` or `"[::]:443"`. Port 0 takes any free one. An IPv6
    /// address takes IPv6 only: for all addresses of both kinds write two listeners, `"0.0.0.0:443"` and
    /// `"[::]:443"`. Or a socket in the file system for a proxy on this machine, as in
    /// `"unix:/run/lockgate/clients.sock"`: who comes by it has the address 127.0.0.1, and the limits for one address do
    /// not count. A proxy there names its clients if 127.0.0.1 is among the `trusted_proxies`.
    pub(in crate::config) address: String,
    /// Who may connect to a `unix:` address, as permissions of its file in octal: `"0660"` by default, the gateway's user
    /// and group. Those of its folder count too.
    pub(in crate::config) mode: Option<String>,
    /// How connections are encrypted; `"off"` by default, but to be said where the address is not
    /// a loopback one, so that nobody serves in the clear by omission.
    pub(in crate::config) tls: Option<Tls>,
    /// Whether HTTP/2 (RFC 8441) is offered beside HTTP/1.1. True by default with TLS; not
    /// possible without, since browsers speak it over TLS only.
    pub(in crate::config) http2: Option<bool>,
    /// The proxies in front of this listener, by address or network, as in `["10.0.0.0/8", "2001:db8::7"]`. Only
    /// what they say of a client's address counts, for limits, logs and plugins: anyone else could write it too.
    #[serde(default)]
    pub(in crate::config) trusted_proxies: Vec<String>,
    /// Whether each connection begins with a PROXY header (version 1 or 2), which names its client. Connections
    /// from others than `trusted_proxies`, and those without such a header, are closed.
    #[serde(default)]
    pub(in crate::config) proxy_protocol: bool,
    /// The header in which `trusted_proxies` name a request's client. Each proxy has to add to it or to replace it:
    /// one that a proxy only passes on is the client's own writing. `x-forwarded-for` by default, and `none` with
    /// `proxy_protocol`.
    pub(in crate::config) forwarded_header: Option<ForwardedHeader>,
}

/// How the connections of a listener are encrypted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Tls {
    /// By a word.
    Word(TlsWord),
    /// With a certificate of your own.
    Files(TlsFiles),
    /// With several, each for the names of its `subjectAltName`, wildcards included: a client is shown the one for
    /// the host that it names (SNI). The first is for clients that name no host, or none of these. No two may be
    /// for one name.
    Several(Vec<TlsFiles>),
}

/// `"off"` or `"self-signed"`.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum TlsWord {
    /// Not encrypted: for loopback, or behind a proxy that does TLS.
    Off,
    /// A certificate made at start, which no client trusts: for development.
    SelfSigned,
}

/// A certificate and its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TlsFiles {
    /// The PEM file of the certificate chain, the server's own first. It is read again when it changes.
    pub(in crate::config) certificate: String,
    /// The PEM file of the certificate's private key, without a passphrase.
    pub(in crate::config) key: String,
}

/// The management API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Management {
    /// The IP address and port, a loopback one, since the management API asks for no credentials yet; or a socket in
    /// the file system, as in `"unix:/run/lockgate/management.sock"`, whose permissions say who may use it.
    pub(in crate::config) address: String,
    /// Who may connect to a `unix:` address, as permissions of its file in octal: `"0600"` by default, the gateway's user
    /// alone, since its group may be a proxy's.
    pub(in crate::config) mode: Option<String>,
}

/// The health listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Health {
    /// Its IP address and port, as in `"0.0.0.0:9091"`, or a socket in the file system (`"unix:PATH"`).
    Address(String),
    /// With more than its address.
    Table(HealthTable),
}

/// The health listener, with more than its address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HealthTable {
    /// The IP address and port, as in `"0.0.0.0:9091"`, or a socket in the file system (`"unix:PATH"`).
    pub(in crate::config) address: String,
    /// Who may connect to a `unix:` address, as permissions of its file in octal: `"0660"` by default.
    pub(in crate::config) mode: Option<String>,
    /// Whether it has the page `/metrics` too, which names plugins and versions to everyone who can
    /// connect. False by default.
    #[serde(default)]
    pub(in crate::config) metrics: bool,
}

/// Bounds of the gateway as a whole.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct GatewayLimits {
    /// Connections open at once; further ones are refused. By default as many as the process may
    /// open files, less a reserve: beyond that, accepting fails anyway.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(in crate::config) connections: Option<u32>,
    /// New connections a second of all clients together; as many may come at once after a quiet second,
    /// further ones are refused. 0 is as many as come: what is right depends on what a connection costs
    /// behind the gateway, and after an outage all clients come back at once.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) connections_per_s: u32,
    /// New connections a second from one IPv4 address, or one IPv6 network of 64 bits; as many may
    /// come at once after a quiet second. 0 is as many as come: networks and proxies put thousands of
    /// clients behind one address.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) connections_per_s_per_ip: u32,
    /// Connections open at once from one IPv4 address, or one IPv6 network of 64 bits. An HTTP/2
    /// connection counts, and so does each WebSocket on it. 0 is as many as come: networks and proxies
    /// put thousands of clients behind one address.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub(in crate::config) connections_per_ip: u32,
    /// Handshakes under way at once. A handshake costs more than an open connection (TLS, the
    /// `$connect` route): beyond these a client is told at once to come again. Each WebSocket of an HTTP/2
    /// connection counts, and so does a client that has gone while its `$connect` handler is at work.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) handshakes: u32,
    /// Seconds from a client's first byte to its request's last: a client that trickles one holds a
    /// handshake for no longer. As long may a client take to read a refusal, and an HTTP/2 connection be
    /// without a WebSocket.
    #[schemars(range(min = 1, max = 60))]
    pub(in crate::config) handshake_timeout_s: u32,
    /// Seconds over which the closes are spread when the gateway stops, so that the clients do not
    /// all come back at once. 0 closes all together. A client whose `$connect` handler takes longer is refused
    /// when they are over.
    #[schemars(range(min = 0, max = 3_600))]
    pub(in crate::config) drain_s: u32,
    /// Seconds that the `$disconnect` handlers may take altogether which still run or wait for their turn when the
    /// window of `drain_s` and 3 seconds for the last answers are over. Those that have not ended then are given up:
    /// handlers that hang must not keep the process for ever.
    #[schemars(range(min = 1, max = 86_400))]
    pub(in crate::config) disconnects_s: u32,
    /// Seconds over which clients are advised to spread their reconnects: the close frame's reason then
    /// ends with `; reconnect in 0-N s`. 0 gives no advice.
    #[schemars(range(min = 0, max = 3_600))]
    pub(in crate::config) reconnect_jitter_s: u32,
    /// Seconds that the new process of a binary upgrade may take to load everything and be ready. After
    /// that it is ended, and this one goes on. A reload that is under way may take as long before it; after that there is
    /// no upgrade.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) upgrade_s: u32,
    /// Seconds that pulling a component from a registry may take altogether.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) pull_s: u32,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            connections: None,
            connections_per_s: 0,
            connections_per_s_per_ip: 0,
            connections_per_ip: 0,
            handshakes: 1_024,
            handshake_timeout_s: 5,
            drain_s: 30,
            disconnects_s: 50,
            reconnect_jitter_s: 0,
            upgrade_s: 60,
            pull_s: 60,
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Log {
    /// The least severe level that is logged: `error`, `warn`, `info`, `debug` or `trace`; or
    /// directives for each module, as in `"info,lockgate::session=debug"`. What they do not speak of is
    /// logged when it is an error, unless it is said to be `off`. The environment variable
    /// `LOCKGATE_LOG`, if set, counts instead.
    pub(in crate::config) level: String,
    /// How a line is written.
    pub(in crate::config) format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}
