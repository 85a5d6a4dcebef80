//! The file: every key with its documentation, default and bounds.
//!
//! The JSON Schema made from these types is what `lockgate config schema` prints and what
//! `key_check` reads a file against, so a default or a bound stands here and nowhere else.

mod access_key;
mod access_log;
mod api;
mod authorizer;
mod jwt;
mod limits;
mod otlp;
mod plugin;
mod usage_plan;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::{ForwardedHeader, LogFormat};
pub(in crate::config) use access_key::AccessKey;
pub(in crate::config) use access_log::AccessLog;
pub(in crate::config) use api::{Api, Integration, Mock, Route, Stage};
pub(in crate::config) use authorizer::{Authorizer, Forward, Iam};
pub(in crate::config) use jwt::{Jwt, JwtIssuer, Required};
pub(in crate::config) use limits::{
    BeyondPrincipal, CPU_MS, GatewayLimits, OUTBOX_KIB, PING_INTERVAL_S, PluginLimits, Rollback,
    StageLimits,
};
pub(in crate::config) use otlp::Otlp;
pub(in crate::config) use plugin::{Plugin, Signature};
pub(in crate::config) use usage_plan::{ApiKeys, UsagePlan};

/// The configuration of one Lockgate gateway. Relative paths start at the folder of the file. In string
/// values, `${VAR}` and `${VAR:-default}` expand to environment variables, and `$${` is a literal `${`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(title = "Lockgate configuration")]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct File {
    /// The addresses that clients connect to. At least one.
    #[schemars(extend("x-example" = "[[listeners]] in two brackets, once for each"))]
    pub(in crate::config) listeners: Vec<Listener>,
    /// The listener for operators: health, metrics and the admin API. Without it there is none.
    pub(in crate::config) management: Option<Management>,
    /// The listener for health pages alone: `/healthz` tells that the gateway lives, `/readyz` whether it
    /// wants clients. An address, or a table. Other machines may reach it, such as orchestrators and load
    /// balancers. Without it, only the management listener has these pages.
    #[schemars(extend("x-example" = "health = \"127.0.0.1:9091\", or a table { … }"))]
    pub(in crate::config) health: Option<Health>,
    /// The WebSocket APIs, by name (`A-Z a-z 0-9 _ -`, at most 128 characters). At least one.
    pub(in crate::config) apis: BTreeMap<String, Api>,
    /// The plugins, by name (`A-Z a-z 0-9 _ -`, at most 128 characters).
    pub(in crate::config) plugins: BTreeMap<String, Plugin>,
    /// The integrations that routes may name beside plugins, by name (`A-Z a-z 0-9 _ -`, at most 128
    /// characters). No plugin may have the same name.
    #[schemars(extend("x-example" = "[integrations.NAME] with mock = { reply = \"…\" } below it"))]
    pub(in crate::config) integrations: BTreeMap<String, Integration>,
    /// The authorizers that APIs and stages may name, by name (`A-Z a-z 0-9 _ -`, at most 128 characters).
    /// Each decides who may connect, before `$connect`.
    #[schemars(extend("x-example" = "[authorizers.NAME] with plugin = \"…\" below it"))]
    pub(in crate::config) authorizers: BTreeMap<String, Authorizer>,
    /// The keys of programs that post to connections, describe or close them, by name
    /// (`A-Z a-z 0-9 _ -`, at most 128 characters).
    pub(in crate::config) access_keys: BTreeMap<String, AccessKey>,
    /// The usage plans of API keys, by name (`A-Z a-z 0-9 _ -`, at most 128 characters).
    pub(in crate::config) usage_plans: BTreeMap<String, UsagePlan>,
    /// Requires a `signature` table of every plugin, so that nothing unsigned runs here.
    pub(in crate::config) require_signatures: bool,
    /// The limits of the gateway as a whole.
    pub(in crate::config) limits: GatewayLimits,
    /// A folder for compiled components, so that the next start need not compile them. Anyone who can write
    /// there can run code as the gateway. Its size stays within 512 MiB. Without it, each start compiles,
    /// and compiled code passes through a folder of the gateway's own in the temporary one (`TMPDIR`). If
    /// the gateway cannot write 32 MiB to the cache, it warns and does the same.
    pub(in crate::config) compile_cache: Option<String>,
    /// A folder for components from registries, by digest, so that the next start needs no registry. Every
    /// read checks the digest. Without it, each load pulls. `validate` writes only to a folder of its own
    /// user.
    pub(in crate::config) component_cache: Option<String>,
    /// Access to the registries that components are pulled from, by host, or by host and port. A registry
    /// that asks for no credentials need not be listed.
    pub(in crate::config) registries: BTreeMap<String, Registry>,
    /// The log: its level and its format.
    pub(in crate::config) log: Log,
    /// The access log: a line for each handshake and for each end of a connection.
    pub(in crate::config) access_log: AccessLog,
    /// Traces and logs for a collector, by the OpenTelemetry Protocol. Without this table, nothing is traced.
    #[schemars(extend("x-example" = "[otlp] with endpoint = \"http://127.0.0.1:4318\" below it"))]
    pub(in crate::config) otlp: Option<Otlp>,
}

/// Access to one registry.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Registry {
    /// The user name to log in with. Needs `password`.
    pub(in crate::config) username: Option<String>,
    /// The password or token. Best taken from the environment, as in `"${REGISTRY_TOKEN}"`.
    pub(in crate::config) password: Option<String>,
    /// Uses HTTP without TLS. For a loopback address only.
    pub(in crate::config) plain_http: bool,
}

/// One address that clients connect to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Listener {
    /// The IP address and port, as in `"127.0.0.1:8443"` or `"[::]:443"`. Port 0 takes any free port. An
    /// IPv6 address takes IPv6 only: to listen on all addresses of both kinds, write two listeners,
    /// `"0.0.0.0:443"` and `"[::]:443"`. Or a socket in the file system, for a proxy on this machine, as in
    /// `"unix:/run/lockgate/clients.sock"`. Its clients have the address 127.0.0.1, and the limits for one
    /// address do not apply to them. A proxy there names its clients if 127.0.0.1 is among the
    /// `trusted_proxies`.
    pub(in crate::config) address: String,
    /// The permissions of the file of a `unix:` address, in octal: they say who may connect. The default is
    /// `"0660"`, the gateway's user and group. The permissions of its folder count too.
    pub(in crate::config) mode: Option<String>,
    /// The encryption of the connections. The default is `"off"` on a loopback address. On any other
    /// address the key must be written, so that nobody serves in the clear by omission.
    pub(in crate::config) tls: Option<Tls>,
    /// The clients' certificates, which TLS asks for and judges. Without this table it asks for none.
    pub(in crate::config) client_certificates: Option<ClientCertificates>,
    /// Offers HTTP/2 (RFC 8441) beside HTTP/1.1. The default is true with TLS. Without TLS it cannot be
    /// true, since browsers speak HTTP/2 over TLS only.
    pub(in crate::config) http2: Option<bool>,
    /// Serves QUIC beside TCP: WebSockets over HTTP/3 (RFC 9220), on the UDP port with the same number. Needs
    /// TLS and an IP address. Answers over TCP tell clients of it (`Alt-Svc`), and browsers remember that for a
    /// day: to switch it off, write false for that day, which has them forget it. Without the key, QUIC is off
    /// and nothing is said of it.
    pub(in crate::config) quic: Option<bool>,
    /// The proxies in front of this listener, by address or network, as in `["10.0.0.0/8", "2001:db8::7"]`.
    /// Limits, logs and plugins believe these alone about a client's address, since anyone else could write
    /// any address.
    #[serde(default)]
    pub(in crate::config) trusted_proxies: Vec<String>,
    /// Expects a PROXY header (version 1 or 2) at the start of each connection, which names its client.
    /// Connections from outside `trusted_proxies`, and those without the header, are closed.
    #[serde(default)]
    pub(in crate::config) proxy_protocol: bool,
    /// The header in which `trusted_proxies` name a request's client. Each proxy must add to the header or
    /// replace it: a header that a proxy passes on unchanged is the client's own. The default is
    /// `x-forwarded-for`, and `none` with `proxy_protocol`.
    pub(in crate::config) forwarded_header: Option<ForwardedHeader>,
}

/// The encryption of a listener's connections.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Tls {
    /// One word.
    Word(TlsWord),
    /// One certificate of your own.
    Files(TlsFiles),
    /// Several certificates, each for the names of its `subjectAltName`, wildcards included. A client is
    /// shown the certificate for the host that it names (SNI). The first one is for clients that name no
    /// host, or one that no certificate covers. Two certificates for one name are a mistake.
    Several(Vec<TlsFiles>),
}

/// `"off"` or `"self-signed"`.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum TlsWord {
    /// No encryption: for loopback, or behind a proxy that does TLS.
    Off,
    /// A certificate made at start, which no client trusts: for development.
    SelfSigned,
}

/// A certificate and its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TlsFiles {
    /// The PEM file of the certificate chain, the server's own first. The gateway reads it again when it
    /// changes.
    pub(in crate::config) certificate: String,
    /// The PEM file of the certificate's private key, without a passphrase.
    pub(in crate::config) key: String,
}

/// The certificates that clients have to show, or may.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ClientCertificates {
    /// The PEM file with the certificates of the authorities that clients' certificates are from. The gateway
    /// reads it again when it changes.
    pub(in crate::config) ca: String,
    /// The PEM file with the revocation lists of these authorities, one of each, and of those between them and
    /// clients, with the certificates of these: a list that its authority's key has not signed is refused. A
    /// client whose own certificate is on a list is refused, one whose authority has no list there, and one
    /// whose authority is itself on a list. The gateway reads it again when it changes. A list that is out of
    /// date still counts.
    pub(in crate::config) crl: Option<String>,
    /// Refuses clients without a certificate while TLS is negotiated. With false, they come on, and an
    /// authorizer or a handler decides.
    #[serde(default = "always")]
    pub(in crate::config) required: bool,
}

fn always() -> bool {
    true
}

/// The management listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Management {
    /// The IP address and port. Beyond loopback addresses it needs `tls` and `tokens`. Or a socket in the
    /// file system, as in `"unix:/run/lockgate/management.sock"`, whose permissions say who may use it.
    pub(in crate::config) address: String,
    /// The permissions of the file of a `unix:` address, in octal: they say who may connect. The default is
    /// `"0600"`, the gateway's user alone, since the group may be a proxy's.
    pub(in crate::config) mode: Option<String>,
    /// The certificate and its key. Without it the listener speaks HTTP in the clear. The gateway reads both
    /// files again when they change.
    pub(in crate::config) tls: Option<TlsFiles>,
    /// The tokens of operators and programs: each request needs one, as `Authorization: Bearer TOKEN`. At
    /// least 32 characters each, best taken from the environment, as in `["${ADMIN_TOKEN}"]`. Without any,
    /// everyone who can connect may use the management API.
    #[serde(default)]
    pub(in crate::config) tokens: Vec<String>,
    /// The file that gets a line for each change that operators ask for, before it is answered. Each line has the digest
    /// of the line before: `lockgate audit verify FILE` finds edits. Without a file that can be written, nothing is
    /// changed.
    #[schemars(extend("x-example" = "audit = \"audit.log\""))]
    pub(in crate::config) audit: Option<String>,
}

/// The health listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Health {
    /// Its IP address and port, as in `"0.0.0.0:9091"`, or a socket in the file system (`"unix:PATH"`).
    Address(String),
    /// A table: the address and other settings.
    Table(HealthTable),
}

/// The health listener: its address and other settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HealthTable {
    /// The IP address and port, as in `"0.0.0.0:9091"`, or a socket in the file system (`"unix:PATH"`).
    pub(in crate::config) address: String,
    /// The permissions of the file of a `unix:` address, in octal: they say who may connect. The default is
    /// `"0660"`.
    pub(in crate::config) mode: Option<String>,
    /// Serves `/metrics` too, which names plugins and versions to everyone who can connect. The default is
    /// false.
    #[serde(default)]
    pub(in crate::config) metrics: bool,
}

/// The log: its level and its format.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Log {
    /// The least severe level that is logged: `error`, `warn`, `info`, `debug` or `trace`; or directives
    /// for each module, as in `"info,lockgate::session=debug"`. A module that no directive covers logs its
    /// errors, unless the directives turn them `off`. The environment variable `LOCKGATE_LOG` overrides it.
    pub(in crate::config) level: String,
    /// The format of a line.
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
