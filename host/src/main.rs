//! Lockgate: an edge gateway for real-time APIs. It terminates `wss://`, routes messages the way Amazon API
//! Gateway's WebSocket APIs do, and runs the handlers as WebAssembly components.
//!
//! # Layout, in reading order
//!
//! | module | its one job |
//! |---|---|
//! | [`cli`] | words typed → calls |
//! | [`gateway`] | the composition root: start, reload, stop |
//! | [`config`] | the file as written → the configuration as meant |
//! | [`listener`] | sockets, TLS, HTTP, permits |
//! | [`management`] | health, metrics, admin API, upgrade |
//! | [`handover`] | the binary upgrade: sockets from process to process |
//! | [`telemetry`] | logs, metrics |
//! | [`handshake`] | from a request's head to a session or a refusal |
//! | [`session`] | the life of one open connection |
//! | [`stage`] | a stage as an immutable snapshot |
//! | [`route`] | which route a message asks for: pure |
//! | [`plugin`] | load, link, pool, call components |
//! | [`registry`] | components from OCI registries |
//! | [`signature`] | who answers for a component: keys, signatures |
//! | [`connections`] | registry, outboxes, groups, attributes |
//! | [`net`] | connections of either kind; files that are read again while the gateway serves |
//!
//! `host/README.md` tells what each must not know.
#![forbid(unsafe_code)]

mod cli;
mod config;
mod connections;
mod gateway;
mod handover;
mod handshake;
mod listener;
mod management;
mod net;
mod plugin;
mod registry;
mod route;
mod session;
mod signature;
mod stage;
mod telemetry;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
