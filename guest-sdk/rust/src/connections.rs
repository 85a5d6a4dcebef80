//! Open connections of the same API and stage. Needs the grant `connections`.
//!
//! Every function takes the id of any connection of the stage, the event's own or another. An id of another
//! API or stage counts as unknown.

use crate::gateway::connections as contract;
use crate::{Error, Fields, Message, Result};

pub use crate::bindings::lockgate::plugin::connections::ConnectionInfo;

/// Queues a message for a connection, and never waits. Messages from one invocation arrive in the order in
/// which they were sent.
///
/// Fails with [`Gone`](Error::Gone); with [`Busy`](Error::Busy), when the connection reads too slowly and its
/// queue is full, or when this invocation has used up its sends and publishes (256 unless configured); and with
/// [`TooLarge`](Error::TooLarge), when the message is over the stage's limit.
///
/// ```no_run
/// # use lockgate_plugin::{connections, Error, Event, Message, Result};
/// fn message(event: Event, message: Message) -> Result<Option<Message>> {
///     let Some((to, text)) = message.as_text().and_then(|line| line.split_once(' ')) else {
///         return Ok(Some("usage: <connection id> <text>".into()));
///     };
///     match connections::send(to, text) {
///         Ok(()) => Ok(None),
///         Err(Error::Gone) => Ok(Some("no one is there".into())),
///         Err(error) => Err(error.into()),
///     }
/// }
/// ```
pub fn send(to: &str, message: impl Into<Message>) -> Result<(), Error> {
    contract::send(to, &message.into())
}

/// Sends a datagram to a client that speaks WebTransport. It may be lost, or overtake others and messages, and none waits
/// for room: one that finds none is dropped. `Ok` says that nothing is wrong with it, not that it arrives; one to a client
/// that has not been let in yet is dropped.
///
/// Fails with [`Gone`](Error::Gone); with [`Busy`](Error::Busy), when this invocation has used up its sends and publishes;
/// with [`Denied`](Error::Denied), when the stage's `datagrams` is off; with [`Invalid`](Error::Invalid), when the client
/// takes no datagrams, as a WebSocket does not; and with [`TooLarge`](Error::TooLarge), when it is over the stage's limit of a
/// message, or does not fit into a packet: 1,100 bytes always do.
///
/// ```no_run
/// # use lockgate_plugin::{connections, context, Event, Message, Result};
/// fn message(event: Event, message: Message) -> Result<Option<Message>> {
///     if context::is_datagram() {
///         // The next position makes up for one that is lost.
///         connections::send_datagram(&event.connection_id, message.as_bytes())?;
///         return Ok(None);
///     }
///     Ok(Some(message))
/// }
/// ```
pub fn send_datagram(to: &str, payload: &[u8]) -> Result<(), Error> {
    contract::send_datagram(to, payload)
}

/// Closes a connection after the messages queued for it. Its client has 25 seconds to take them; the rest is
/// dropped.
///
/// `code` is 1000, 1001, 1002, 1003, 1007 to 1014, or 3000 to 4999; `reason` has at most 123 bytes. Fails with
/// [`Invalid`](Error::Invalid) for any other code or reason, and with [`Gone`](Error::Gone) when the connection
/// is closed or closing.
pub fn close(id: &str, code: u16, reason: &str) -> Result<(), Error> {
    contract::close(id, code, reason)
}

/// Returns the facts about a connection. Fails with [`Gone`](Error::Gone).
pub fn info(id: &str) -> Result<ConnectionInfo, Error> {
    contract::info(id)
}

/// Returns the value of an attribute of a connection, `None` when it is not set. Fails with
/// [`Gone`](Error::Gone).
///
/// Attributes are small texts, such as a name, a room or a tenant. They live as long as the connection, and
/// every handler of the stage sees them.
///
/// ```no_run
/// # use lockgate_plugin::{connections, Event, Message, Result};
/// fn message(event: Event, _: Message) -> Result<Option<Message>> {
///     let count = match connections::attribute(&event.connection_id, "count")? {
///         Some(count) => count.parse::<u64>()? + 1,
///         None => 1,
///     };
///     connections::set_attribute(&event.connection_id, "count", &count.to_string())?;
///     Ok(Some(format!("message {count}").into()))
/// }
/// ```
pub fn attribute(id: &str, name: &str) -> Result<Option<String>, Error> {
    contract::attribute(id, name)
}

/// Returns all attributes of a connection, ordered by name. Fails with [`Gone`](Error::Gone).
pub fn attributes(id: &str) -> Result<Fields, Error> {
    contract::attributes(id)
}

/// Sets an attribute of a connection.
///
/// Fails with [`Gone`](Error::Gone); with [`Invalid`](Error::Invalid), when the name is empty; and with
/// [`TooLarge`](Error::TooLarge), when the connection's attributes, names and values together and 8 bytes for each, are over the
/// stage's limit (4 KiB unless configured).
pub fn set_attribute(id: &str, name: &str, value: &str) -> Result<(), Error> {
    contract::set_attribute(id, name, Some(value))
}

/// Removes an attribute of a connection. Removing an attribute that is not set is no error. Fails with
/// [`Gone`](Error::Gone), and with [`Invalid`](Error::Invalid) when the name is empty.
pub fn remove_attribute(id: &str, name: &str) -> Result<(), Error> {
    contract::set_attribute(id, name, None)
}
