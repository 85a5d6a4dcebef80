//! The harness of the tests: it starts the real gateway and talks to it.
//!
//! [`Lockgate`] is the binary, [`Gateway`] one running process of it, [`Client`] a WebSocket client with one
//! connection, [`RawClient`] a client that can break the protocol, and [`Request`] the handshake of both. Nothing here
//! sleeps: each wait has the deadline [`PATIENCE`], and a test that misses it fails with the condition and the
//! gateway's log.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a harness fails its test where it stands"
)]

mod cable;
mod cases;
mod client;
mod collector;
mod configurations;
mod gateway;
mod guests;
mod http;
mod http2;
mod http3;
mod http3_wire;
mod issuer;
mod log;
mod lossy;
mod moving;
mod orphan;
mod private;
mod probe;
mod raw;
mod records;
mod refused;
mod registry;
mod relay;
mod request;
mod sigv4;
mod sources;
mod tls;
mod tools;
mod versions;
mod webtransport;

pub use cable::Cable;
pub use cases::{Case, long, run};
pub use client::Client;
pub use collector::{Collector, CollectorAnswer, Export, ExportedLine, ExportedSpan};
pub use configurations::{echo_configuration, probe_configuration};
pub use gateway::{CommandResult, Gateway, Lockgate, request_at, write_configuration};
pub use guests::Guest;
pub use http::Http;
pub use http2::{Http2, PendingRequest};
pub use http3::{FirstPackets, Http3, Http3Options, Http3Request};
pub use http3_wire::{encode, put_frame, put_integer, stream_head, take_integer};
pub use issuer::Issuer;
pub use log::Log;
pub use lossy::LossyNetwork;
pub use moving::MovingNetwork;
pub use orphan::Orphan;
pub use private::write_private;
pub use probe::DisconnectReport;
pub use quinn::ConnectionError;
pub use raw::{Frame, Opcode, RawClient};
pub use refused::Refused;
pub use registry::{After, Registry, digest};
pub use relay::Relay;
pub use request::{Answer, Request};
pub use sigv4::Signer;
pub use sources::{answer_with, copy_of_plugin};
pub use tls::{Certificate, Trust};
pub use tools::{
    Chromium, GoClient, Gopls, Node, OpenSsl, OtherLanguages, Python, Tool, with_a_small_disk,
    without_proc, without_watches,
};
pub use versions::{replace, version};
pub use webtransport::WebTransport;

use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};

/// The deadline of a wait, after which the test fails: long enough for a debug build on two shared cores that compiles
/// a component meanwhile.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The deadline for building a plugin, for a browser and for a whole foreign test suite.
pub const LONG_PATIENCE: Duration = Duration::from_secs(240);

/// Bytes both ways: a TCP socket, TLS over one, or a stream of an HTTP/2 connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Raises this process's limit of open files to its maximum, for a test with many clients.
pub fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Awaits `future`, for [`PATIENCE`] at most.
///
/// # Panics
///
/// At the deadline; the message says that `what` did not happen.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("did not happen within {PATIENCE:?}: {what}"),
    }
}
