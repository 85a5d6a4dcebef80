//! Datagrams to a client: messages that may be lost, and wait in no outbox.

use std::fmt;

/// What takes the datagrams to one client: the protocol that carries its messages.
pub(crate) trait DatagramSink: fmt::Debug + Send + Sync {
    /// Gives a datagram to the network, without waiting.
    fn send(&self, payload: &[u8]) -> Result<Datagram, DatagramError>;
}

/// What has become of a datagram that nothing is wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Datagram {
    /// The network has it.
    Sent,
    /// There was no room.
    Dropped,
}

/// Why no datagram like this one is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DatagramError {
    #[error("the connection is gone")]
    Gone,
    #[error("the stage's datagrams are off")]
    Off,
    #[error("the client takes no datagrams: it takes a WebTransport client that allows them")]
    NotTaken,
    /// The most bytes that it may have.
    #[error("the datagram is over {0} bytes")]
    TooLarge(usize),
}
