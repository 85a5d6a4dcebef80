//! The collector of traces and logs in the file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::otlp::{ClientTraces, OtlpProtocol};

/// Traces and logs for a collector, by the OpenTelemetry Protocol. Nobody waits for the collector: what it does not take
/// in time is dropped and counted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Otlp {
    /// The address of the collector, `http://…` or `https://…`; `/v1/traces` and `/v1/logs` are added for the protocol
    /// `http`. Logs show it without user and password.
    pub(in crate::config) endpoint: String,
    /// The protocol: Protocol Buffers by HTTP, mostly on port 4318, or gRPC, mostly on port 4317.
    #[serde(default)]
    pub(in crate::config) protocol: OtlpProtocol,
    /// Headers of each request, by name, as in `{ Authorization = "Bearer ${OTLP_TOKEN}" }`. Nothing shows their values.
    #[serde(default)]
    pub(in crate::config) headers: BTreeMap<String, String>,
    /// The PEM file with the certificates of the authority that the collector's certificate is from. The default are
    /// the machine's own authorities. A reload reads it again.
    pub(in crate::config) ca: Option<String>,
    /// One handshake and one message in so many is traced, chosen at random; 1 is all, 0 none but what clients have
    /// asked for.
    #[serde(default = "one_in")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub(in crate::config) one_in: u32,
    /// What a client's trace means, which the header `traceparent` of its handshake names.
    #[serde(default)]
    pub(in crate::config) traceparent: ClientTraces,
    /// Whether the lines of the log go there too, with those of plugins: all that `log.level` lets pass.
    #[serde(default = "logs")]
    pub(in crate::config) logs: bool,
    /// KiB of spans that wait for the collector, and as many of log lines; as much may be on its way. More are dropped.
    #[serde(default = "queue_kib")]
    #[schemars(range(min = 64, max = 3_072))]
    pub(in crate::config) queue_kib: u32,
    /// Milliseconds in which the collector has to answer a request.
    #[serde(default = "timeout_ms")]
    #[schemars(range(min = 100, max = 60_000))]
    pub(in crate::config) timeout_ms: u32,
    /// The name of this gateway at the collector (`service.name`).
    #[serde(default = "service")]
    pub(in crate::config) service: String,
    /// Further attributes of this gateway, as in `{ "deployment.environment.name" = "prod" }`.
    #[serde(default)]
    pub(in crate::config) resource: BTreeMap<String, String>,
}

fn one_in() -> u32 {
    100
}

fn logs() -> bool {
    true
}

fn queue_kib() -> u32 {
    1_024
}

fn timeout_ms() -> u32 {
    10_000
}

fn service() -> String {
    "lockgate".to_owned()
}
