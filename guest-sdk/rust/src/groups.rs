//! Named sets of connections of the same API and stage. Needs the grant `groups`.
//!
//! A group exists while it has members. A connection leaves its groups when it ends.

use crate::gateway::groups as contract;
use crate::{ConnectionId, Error, Message, Result};

/// Returns the name of the group that has the connections of a principal, as the API's authorizer names it, for as long as
/// each is open: publish to it, list it, count it. No connection joins or leaves it by itself.
///
/// ```no_run
/// # use lockgate_plugin::{context, groups, Event, Message, Result};
/// fn message(_: Event, message: Message) -> Result<Option<Message>> {
///     if let Some(user) = context::principal() {
///         groups::publish(&groups::of_principal(&user), message)?; // to all devices of the user
///     }
///     Ok(None)
/// }
/// ```
#[must_use]
pub fn of_principal(principal: &str) -> String {
    format!("{PRINCIPAL}{principal}")
}

/// The beginning of the names of principals' groups.
pub(crate) const PRINCIPAL: &str = "$principal/";

/// Adds a connection to a group. Joining twice is joining once.
///
/// Fails with [`Gone`](Error::Gone), [`Invalid`](Error::Invalid) (a group's name has 1 to 128 bytes) or
/// [`Busy`](Error::Busy) (the connection is in as many groups as the stage allows; 64 unless configured).
pub fn join(group: &str, id: &str) -> Result<(), Error> {
    contract::join(group, id)
}

/// Takes a connection out of a group. Leaving a group that it is not in is no error. Fails with
/// [`Gone`](Error::Gone).
pub fn leave(group: &str, id: &str) -> Result<(), Error> {
    contract::leave(group, id)
}

/// Queues a message for every member of a group, and never waits. Returns the number of members that it was
/// queued for.
///
/// A member whose queue is full is closed with 1013 and not counted, so that no client misses a message without
/// knowing. Fails with [`TooLarge`](Error::TooLarge), and with [`Busy`](Error::Busy) when this invocation has
/// used up its sends.
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

/// [`publish`] to all but the connection `except`, most often the sender.
pub fn publish_except(
    group: &str,
    message: impl Into<Message>,
    except: &str,
) -> Result<u32, Error> {
    contract::publish(group, &message.into(), Some(except))
}

/// Returns the members of a group, ordered by id: at most `limit` of them (1 to 1,000), after the id
/// `after`. Fails with [`Invalid`](Error::Invalid) for another limit.
///
/// To list a large group, call again with the last id:
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

/// Returns the number of members of a group; 0 when there is no such group. Fails in a cluster only, with
/// [`Unreachable`](Error::Unreachable).
pub fn count(group: &str) -> Result<u32, Error> {
    contract::count(group)
}
