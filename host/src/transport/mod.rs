//! Transports carry messages and closes over a socket.
//!
//! A session drives a [`Transport`] and knows no protocol: WebSocket, over all versions of HTTP, and WebTransport.

pub(crate) mod in_memory;
pub(crate) mod websocket;
pub(crate) mod webtransport;

use std::io;
use std::task::{Context, Poll};

use tokio::time::Instant;

use crate::config::StageLimits;
use crate::connections::{Closing, Message, Outbox, Taken};
use crate::net::LastBytes;
use websocket::flood_guard::Flood;

/// The server's end of one open connection.
///
/// Sent frames gather in a buffer, which [`Self::poll_flush`] writes.
pub(crate) trait Transport: LastBytes + Send {
    /// Takes the limits of a new snapshot.
    fn set_limits(&mut self, limits: &StageLimits);

    /// Reads the client's input, a message at a time.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Received, ReadError>>;

    /// Whether bytes have come since the last call of this function.
    fn heard(&mut self) -> bool;

    /// The time of the last bytes, in milliseconds since the Unix epoch.
    fn heard_at(&self) -> u64;

    /// The start of the message that has not come to its end.
    fn message_since(&self) -> Option<Instant>;

    /// Drops all input of the client: nobody will parse it.
    fn drop_input(&mut self);

    /// Moves messages from a connection's outbox into the buffer, while it has room.
    fn take(&mut self, outbox: &Outbox) -> Taken;

    /// Adds a message to the buffer.
    fn send(&mut self, message: &Message);

    /// Adds a ping to the buffer.
    fn ping(&mut self);

    /// Sets the close, with its code and reason or without: it goes behind the buffer.
    fn close(&mut self, closing: Option<&Closing>);

    /// Bytes in the buffer.
    fn waiting(&self) -> usize;

    /// Whether the buffer is full: reading stops then, and the outbox waits.
    fn is_full(&self) -> bool;

    /// Writes the buffer, as much as the socket takes, and sets `progress` if it took anything.
    fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<io::Result<()>>;

    /// Tells the close where it is not a part of the buffer: once the client has all that was written.
    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = context;
        Poll::Ready(Ok(()))
    }

    /// Drops the messages that the client does not take. Whether the close can be told without them.
    fn give_up_messages(&mut self) -> bool {
        false
    }

    /// Ends our half of the connection: a FIN, and with TLS a close_notify before it.
    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// The client's input, but for pings, which the transport answers.
pub(crate) enum Received {
    Message(Message),
    /// A message that came as a datagram: others may have been lost.
    Datagram(Vec<u8>),
    /// A pong or a ping: a sign of life.
    Control,
}

/// The end of the client's input: an error of the client, or its departure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The client closed, with a code and reason or without.
    Closed(Option<Closing>),
    /// The socket ended without a close.
    Gone,
    /// A violation of the protocol.
    Protocol(String),
    /// Text that is not UTF-8.
    Utf8,
    /// Over the frame or the message limit.
    TooLarge,
    /// A binary message, where none is taken.
    Binary,
    Flood(Flood),
}
