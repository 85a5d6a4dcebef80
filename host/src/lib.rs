//! Lockgate: an edge gateway for real-time APIs. It terminates `wss://`, routes messages the way Amazon API
//! Gateway's WebSocket APIs do, and runs the handlers as WebAssembly components.
//!
//! The modules stand in reading order, and each imports only those below it: `tests/tidy.rs` reads this list.
//! `host/README.md` says what each must not know.
#![forbid(unsafe_code)]

/// Fuzz targets over the parsers below.
#[doc(hidden)]
pub mod fuzz;

/// The command line: words typed → calls.
mod cli;

/// Dialogues: scripts of clients, run against a gateway in memory.
mod dialogue;

/// The composition root: start, reload, stop.
mod gateway;

/// TCP, TLS, HTTP, permits; one tracked task a socket.
mod listener;

/// Health, metrics, the admin API, upgrade.
mod management;

/// The binary upgrade: listening sockets from process to process.
mod handover;

/// Logs and the metrics page.
mod telemetry;

/// From a request's head to a session or a refusal.
mod handshake;

/// The life of one open connection.
mod session;

/// How messages go over a socket: WebSocket.
mod transport;

/// HTTP/3: requests, their answers, and the bytes of an extended CONNECT.
mod http3;

/// A stage as an immutable snapshot: routes, origins, limits, variables.
mod stage;

/// Who may connect: the kinds of authorizer, which may wait.
mod authorizer;

/// The integration of a route: a plugin or a mock.
mod integration;

/// Plugins: load, link, pool, call, swap versions.
mod plugin;

/// Components from OCI registries, by digest.
mod registry;

/// Who answers for a component: keys, signatures, trust.
mod signature;

/// The vocabulary of an invocation: event, scope, answer, error.
mod invocation;

/// The access log: a line for each handshake, each end, and messages.
mod access_log;

/// Traces and logs for a collector, by OTLP.
mod otlp;

/// Lines for a reader that nobody waits for.
mod output;

/// The numbers of handshakes, stages and routes, for the metrics page.
mod counters;

/// The directory of open connections: outboxes, groups, attributes.
mod connections;

/// Who a client or a caller is: pure, given a clock.
mod auth;

/// The configuration: the file → the model.
mod config;

/// Which route a message asks for: pure.
mod route;

/// The ids of traces and spans, and the header that carries them: pure.
mod trace_context;

/// Cache-padded shards, one a thread at best.
mod sharded;

/// A semaphore whose limit can change.
mod permits;

/// The time of day.
mod clock;

/// Counts in words.
mod words;

/// Sockets of either kind, and files that are read again while the gateway serves.
mod net;

pub use cli::main;
