//! Write [Lockgate](https://github.com/lockgate/lockgate) plugins in Rust.
//!
//! A plugin handles the events of WebSocket connections: a client connects, sends messages, is gone.
//! Implement [`Handler`] for a type, name it to [`export!`], and build a component:
//!
//! ```
//! use lockgate_plugin::{Event, Handler, Message, Result};
//!
//! struct Shout;
//!
//! impl Handler for Shout {
//!     fn message(_: Event, message: Message) -> Result<Option<Message>> {
//!         let text = message.as_text().ok_or("expected text")?;
//!         Ok(Some(text.to_uppercase().into()))
//!     }
//! }
//!
//! lockgate_plugin::export!(Shout);
//! # fn main() {}
//! ```
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//! ```
//!
//! ```console
//! $ cargo build --release --target wasm32-wasip2
//! ```
//!
//! # Reaching other connections
//!
//! [`connections`] sends to a connection by its id, closes it, and keeps its attributes. [`groups`]
//! sends to many at once. [`context`] has the place and time of an event. A plugin that calls a function
//! of `connections` or of `groups` needs the operator's grant for it.
//!
//! # Deciding who may connect
//!
//! A plugin that implements [`Authorizer`] and names itself to [`export_authorizer!`] decides who may connect to the APIs
//! whose configuration names it. A plugin may be a [`Handler`] too.
//!
//! # Logs
//!
//! The gateway's log has the lines that a plugin writes with `println!` and `eprintln!`, with the plugin, the
//! connection and the request id.
//!
//! # Tests
//!
//! The crate also builds for the machine that you work on, so `cargo test` runs a plugin's tests. There
//! [`testing::Gateway`] stands in for the gateway: it runs the handler, answers its calls of
//! [`connections`], [`groups`] and [`context`], and returns the messages that each client was sent. Without a
//! gateway those functions panic, and name themselves.
#![warn(missing_docs)]

mod authorizer;
#[doc(hidden)]
pub mod bindings;
pub mod connections;
pub mod context;
mod error;
pub mod groups;
mod handler;
mod message;
// A component has the real gateway in place of this one.
#[cfg(not(target_family = "wasm"))]
pub mod testing;

// The module that answers the handler's calls.
#[cfg(target_family = "wasm")]
use bindings::lockgate::plugin as gateway;
#[cfg(not(target_family = "wasm"))]
use testing::calls as gateway;

#[doc(hidden)]
pub use authorizer::ExportedAuthorizer;
#[doc(hidden)]
pub use handler::Exported;

pub use authorizer::Authorizer;
pub use bindings::authorizer::exports::lockgate::plugin::authorizer::Identity;
pub use bindings::exports::lockgate::plugin::handler::{Acceptance, Closing, Event, Handshake};
pub use bindings::lockgate::plugin::types::Message;
pub use error::{Error, Failure, Refusal, Result};
pub use handler::Handler;

/// The name of one open connection: opaque, unguessable, safe in a URL, and never used again once the
/// connection has ended. Compare it, store it, send it to other clients; do not take it apart.
pub type ConnectionId = String;

/// Names with values, in order; a name may occur more than once. Header names are lower case.
pub type Fields = Vec<(String, String)>;
