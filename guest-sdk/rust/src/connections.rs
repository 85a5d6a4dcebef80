//! Open connections of the same API and stage. Needs the grant `connections`.
//!
//! Every function takes the id of any connection of the stage, the event's own one or another. An id of
//! another API or stage is answered like an unknown one.

use crate::gateway::connections as contract;
use crate::{Error, Fields, Message, Result};

pub use crate::bindings::lockgate::plugin::connections::ConnectionInfo;

/// Queues a message for a connection, and never waits. Messages from one invocation arrive in the order
/// they were sent.
///
/// Fails with [`Gone`](Error::Gone), [`Busy`](Error::Busy) (the connection reads too slowly and its queue
/// is full, or this invocation has sent its share) or [`TooLarge`](Error::TooLarge) (over the stage's
/// message limit).
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

/// Closes a connection once what is queued for it has been written; its client has 25 seconds to take that.
///
/// `code` is 1000, 1001, 1002, 1003, 1007 to 1014, or 3000 to 4999; `reason` has at most 123 bytes; anything
/// else is [`Invalid`](Error::Invalid). Fails with [`Gone`](Error::Gone) when the connection is closed or
/// closing.
pub fn close(id: &str, code: u16, reason: &str) -> Result<(), Error> {
    contract::close(id, code, reason)
}

/// What the gateway knows of a connection. Fails with [`Gone`](Error::Gone).
pub fn info(id: &str) -> Result<ConnectionInfo, Error> {
    contract::info(id)
}

/// The value of one attribute of a connection, `None` when it is not set. Fails with
/// [`Gone`](Error::Gone).
///
/// Attributes are small texts that live as long as the connection and are seen by every handler of the
/// stage: a name, a room, a tenant.
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

/// All attributes of a connection, ordered by name. Fails with [`Gone`](Error::Gone).
pub fn attributes(id: &str) -> Result<Fields, Error> {
    contract::attributes(id)
}

/// Sets an attribute of a connection.
///
/// Fails with [`Gone`](Error::Gone), [`Invalid`](Error::Invalid) (an empty name) or
/// [`TooLarge`](Error::TooLarge) (the attributes of a connection, names and values together, are over the
/// stage's limit; 4 KiB unless configured).
pub fn set_attribute(id: &str, name: &str, value: &str) -> Result<(), Error> {
    contract::set_attribute(id, name, Some(value))
}

/// Removes an attribute of a connection; one that is not set is no error. Fails with
/// [`Gone`](Error::Gone) or [`Invalid`](Error::Invalid) (an empty name).
pub fn remove_attribute(id: &str, name: &str) -> Result<(), Error> {
    contract::set_attribute(id, name, None)
}
