//! HTTP/3 on the server's side (RFC 9114), as far as a gateway of WebSockets needs it: requests and their answers, a stream
//! of bytes over an extended CONNECT (RFC 9220), and WebTransport sessions. No released library on quinn does this yet.
//!
//! [`connection`] and [`stream`] move bytes. All else takes bytes and gives values, knows no socket, and bounds what it
//! keeps.

mod body;
mod capsule;
mod code;
mod connection;
mod control;
mod data;
mod datagram;
mod frame;
pub(crate) mod fuzz;
mod message;
mod qpack;
mod request;
mod session;
mod settings;
mod static_table;
mod stream;
mod uni;
mod varint;
mod window;

pub(crate) use capsule::SessionClose;
pub(crate) use code::Code;
pub(crate) use connection::{Connection, NoHead, RequestStream};
pub(crate) use session::{MessageStream, Session};
pub(crate) use stream::Stream;

/// Longest field section of a request in bytes, encoded or decoded.
pub(crate) const MAX_HEAD: usize = 16 << 10;
