//! Named sets of connections of the same API and stage. Needs the grant `groups`.
//!
//! A group exists while it has members. A connection leaves its groups when it ends.

use crate::gateway::groups as contract;
use crate::{ConnectionId, Error, Message, Result};

/// Adds a connection to a group. To join twice is to join once.
///
/// Fails with [`Gone`](Error::Gone), [`Invalid`](Error::Invalid) (a group's name has 1 to 128 bytes) or
/// [`Busy`](Error::Busy) (the connection is in as many groups as the stage allows; 64 unless configured).
pub fn join(group: &str, id: &str) -> Result<(), Error> {
    contract::join(group, id)
}

/// Takes a connection out of a group. To leave a group it is not in is no error. Fails with
/// [`Gone`](Error::Gone).
pub fn leave(group: &str, id: &str) -> Result<(), Error> {
    contract::leave(group, id)
}

/// Queues a message for every member of a group, and never waits. Returns for how many it was queued.
///
/// A member that reads too slowly to have room is closed with 1013 and not counted, so that no one misses a
/// message without knowing. Fails with [`TooLarge`](Error::TooLarge) or, when this invocation has sent its
/// share, [`Busy`](Error::Busy).
///
/// ```no_run
/// # use lockgate_plugin::{groups, Event, Message, Result};
/// fn message(_: Event, message: Message) -> Result<Option<Message>> {
///     groups::publish("lobby", message)?;
///     Ok(None)
/// }
/// ```
pub fn publish(group: &str, message: impl Into<Message>) -> Result<u32, Error> {
    contract::publish(group, &message.into(), None)
}

/// [`publish`], but not to the connection `except`: most often the one that spoke.
pub fn publish_except(
    group: &str,
    message: impl Into<Message>,
    except: &str,
) -> Result<u32, Error> {
    contract::publish(group, &message.into(), Some(except))
}

/// The members of a group, ordered by id: at most `limit` of them (1 to 1,000), those after the id
/// `after`. Fails with [`Invalid`](Error::Invalid).
///
/// To see all of a large group, call again with the last id:
///
/// ```no_run
/// # use lockgate_plugin::{groups, Error};
/// # fn everyone() -> Result<(), Error> {
/// let mut page = groups::members("lobby", None, 100)?;
/// while let Some(last) = page.last() {
///     for id in &page {
///         println!("{id}");
///     }
///     page = groups::members("lobby", Some(last), 100)?;
/// }
/// # Ok(())
/// # }
/// ```
pub fn members(group: &str, after: Option<&str>, limit: u32) -> Result<Vec<ConnectionId>, Error> {
    contract::members(group, after, limit)
}

/// How many members a group has; 0 when there is no such group.
pub fn count(group: &str) -> u32 {
    contract::count(group)
}
