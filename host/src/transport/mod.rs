//! Transports: how messages and closes go over a socket.
//!
//! A session drives a [`Transport`] and knows no protocol. WebSocket is the first.

pub(crate) mod websocket;

use std::io;
use std::task::{Context, Poll};

use tokio::time::Instant;

use crate::config::StageLimits;
use crate::connections::{Closing, Message, Outbox, Taken};
use websocket::flood_guard::Flood;

/// The server's end of one open connection.
///
/// What is sent gathers in a buffer, which [`Self::poll_flush`] writes.
pub(crate) trait Transport: Send {
    /// The limits may have changed with the stage.
    fn set_limits(&mut self, limits: &StageLimits);

    /// Reads what the client sent, a message at a time.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Received, ReadError>>;

    /// Whether bytes have come since this was asked last.
    fn heard(&mut self) -> bool;

    /// When the last bytes came, in milliseconds since the Unix epoch.
    fn heard_at(&self) -> u64;

    /// When the message that has not come to its end began.
    fn message_since(&self) -> Option<Instant>;

    /// Holds nothing any more of what the client sent: nobody will make sense of it.
    fn forget(&mut self);

    /// Reads and forgets what still comes. Ready at the end of the stream.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Moves messages from a connection's outbox behind what waits, while there is room.
    fn take(&mut self, outbox: &Outbox) -> Taken;

    /// Puts a message behind what waits.
    fn send(&mut self, message: &Message);

    /// Puts a ping behind what waits.
    fn ping(&mut self);

    /// Puts the close behind what waits, with its code and reason, or without.
    fn close(&mut self, closing: Option<&Closing>);

    /// Bytes that wait to be written.
    fn waiting(&self) -> usize;

    /// Whether so much waits that reading stops and the outbox has to wait.
    fn is_full(&self) -> bool;

    /// Writes what waits, as much as the socket takes, and sets `progress` if it took anything.
    fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<io::Result<()>>;

    /// Ends our half of the connection: a FIN, and with TLS a close_notify before it.
    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// What a client sent, but for pings, which the transport answers.
pub(crate) enum Received {
    Message(Message),
    /// A pong or a ping: a sign of life.
    Control,
}

/// What a client can do wrong, or how it can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The client closed; what it gave, if it gave anything.
    Closed(Option<Closing>),
    /// The socket ended without a close.
    Gone,
    /// A violation of the protocol.
    Protocol(String),
    /// Text that is not UTF-8.
    Utf8,
    /// Over the frame or the message limit.
    TooLarge,
    Flood(Flood),
}
