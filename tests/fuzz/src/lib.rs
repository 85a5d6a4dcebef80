//! What strangers can write, given to the gateway's parsers as it comes: a function for each parser, which panics when
//! something does not hold. `targets/` has libFuzzer call them, `replay.rs` gives them what has been found before.
//!
//! The parsers are the host's own files. It is a binary, and has no other way to be looked into.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "to panic is what a target is for"
)]

mod bytes;
mod targets;

#[allow(dead_code, unused_imports, reason = "the host needs the rest")]
#[path = "../../../host/src/config/mod.rs"]
mod config;

#[allow(dead_code, unused_imports, reason = "the host needs the rest")]
#[path = "../../../host/src/connections/mod.rs"]
mod connections;

#[allow(dead_code, unused_imports, reason = "the host needs the rest")]
#[path = "../../../host/src/net/mod.rs"]
mod net;

#[allow(dead_code, unused_imports, reason = "the host needs the rest")]
#[path = "../../../host/src/route/mod.rs"]
mod route;

/// What is read of a handshake before any plugin is asked.
#[allow(dead_code, unused_imports, reason = "the host needs the rest")]
mod handshake {
    #[path = "../../../../host/src/handshake/admission.rs"]
    mod admission;
    #[path = "../../../../host/src/handshake/forwarded.rs"]
    mod forwarded;
    #[path = "../../../../host/src/handshake/head.rs"]
    mod head;
    #[path = "../../../../host/src/handshake/origin.rs"]
    mod origin;
    #[path = "../../../../host/src/handshake/places.rs"]
    mod places;
    #[path = "../../../../host/src/handshake/refusal.rs"]
    mod refusal;
    #[path = "../../../../host/src/handshake/strict.rs"]
    mod strict;

    pub(crate) mod target;
}

/// What is read before TLS.
#[allow(dead_code, unused_imports, reason = "the host needs the rest")]
mod listener {
    #[path = "../../../../host/src/listener/proxy.rs"]
    mod proxy;

    pub(crate) mod target;
}

/// What is read of a session.
#[allow(dead_code, unused_imports, reason = "the host needs the rest")]
mod session {
    #[path = "../../../../host/src/session/meter.rs"]
    mod meter;
    #[path = "../../../../host/src/session/simple.rs"]
    mod simple;
    #[path = "../../../../host/src/session/wire.rs"]
    mod wire;

    pub(crate) mod target;
}

/// In place of the host's, which runs components: no parser calls one.
mod plugin {
    #[derive(Debug, thiserror::Error)]
    #[error("{self:?}")]
    #[allow(dead_code, reason = "a refusal knows them, and here there are none")]
    pub(crate) enum InvokeError {
        Busy(u32),
        Deadline(&'static str),
        Failed(String),
        Trapped(String),
        Removed,
        Host(anyhow::Error),
    }
}

pub use targets::{TARGETS, Target};
