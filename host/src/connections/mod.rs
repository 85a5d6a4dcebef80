//! The open connections of a stage: their directory, their outboxes, their groups.
//!
//! Knows neither the WebSocket protocol nor WebAssembly: a session empties an outbox; a plugin's imports and the
//! management API fill it. Every request about a connection or a group goes to the [`Directory`].

mod attributes;
mod connection;
mod datagram;
mod directory;
mod groups;
mod id;
mod members;
mod message;
mod outbox;
mod shards;
mod trace;
mod walk;

pub(crate) use connection::{
    AttributeError, Carrier, Client, Connection, ConnectionLimits, RenewError,
};
pub(crate) use datagram::{Datagram, DatagramError, DatagramSink};
pub(crate) use directory::{Directory, Gone, Info, Registration, View};
pub(crate) use groups::{
    GroupInfo, JoinError, MAX_NAME, MAX_PAGE, PrincipalLimit, Published, TooManyOfPrincipal,
    is_reserved,
};
pub(crate) use id::{ConnectionId, MessageId, RequestId};
pub(crate) use message::{Message, MessageKind, Payload};
pub(crate) use outbox::{
    Closer, Closing, Outbox, OutboxLimits, PostError, Taken, has_posted_enough,
};
pub(crate) use trace::{TraceEvent, TraceReader, TraceStep, Traced};
pub(crate) use walk::{Description, Filter, Walk};

#[cfg(test)]
mod tests;
