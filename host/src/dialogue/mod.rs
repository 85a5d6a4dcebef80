//! Dialogues: scripts of clients that connect, send and expect, for tests of plugins (docs/testing.md).
//!
//! A dialogue runs against a whole gateway in memory: its clients speak HTTP and WebSocket over streams that are no
//! sockets, and everything runs on one thread whose clock is the dialogue's.

mod client;
mod expected;
mod failure;
mod holes;
mod json;
mod parse;
mod run;
mod script;
mod world;

pub(crate) use failure::{Failure, Log};
pub(crate) use holes::Captures;
pub(crate) use parse::{Mistake, parse};
pub(crate) use run::run;
pub(crate) use script::{Action, ClientAction, Script};
