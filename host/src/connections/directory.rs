//! The directory of one stage. Every request about a connection or a group comes here, with an id or a name, so that
//! the same call can answer for a connection on another node.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::connection::{AttributeError, Client, Connection, ConnectionLimits};
use super::datagram::{Datagram, DatagramError};
use super::groups::{Group, GroupInfo, Groups, JoinError, PrincipalLimit, TooManyOfPrincipal};
use super::id::ConnectionId;
use super::message::Message;
use super::outbox::{Closing, PostError};
use super::shards::ShardedMap;
use super::trace::TraceReader;
use super::walk::{Description, Filter, Walk};

/// The connections of one stage. Each is found here from just before its 101 is written until its session has ended.
#[derive(Debug)]
pub(crate) struct Directory {
    open: ShardedMap<ConnectionId, Arc<Connection>>,
    groups: Groups,
    /// Cancelled at a stop: clients of connections that have left the directory get no more time for their last
    /// bytes.
    pub(crate) closes_over: CancellationToken,
}

/// No open connection has this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is gone")]
pub(crate) struct Gone;

/// A description of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) client: Client,
    /// Milliseconds since the Unix epoch.
    pub(crate) connected_at: u64,
    /// The time of the last message in either direction, in milliseconds since the Unix epoch.
    pub(crate) last_active_at: u64,
    pub(crate) subprotocol: Option<String>,
    /// A close was asked for: no message is taken any more.
    pub(crate) is_closing: bool,
}

/// The number of shards: of a million connections each holds 4,000, and grows within a fraction of a millisecond.
const SHARDS: usize = 256;

impl Default for Directory {
    fn default() -> Self {
        Self {
            open: ShardedMap::new(SHARDS),
            groups: Groups::default(),
            closes_over: CancellationToken::new(),
        }
    }
}

impl Directory {
    /// Admits a connection, if its principal may have one more. Dropping the registration removes it and all its group
    /// memberships: code that admits and never removes cannot be written.
    pub(crate) fn admit(
        self: &Arc<Self>,
        connection: Arc<Connection>,
        limit: Option<PrincipalLimit>,
    ) -> Result<Registration, TooManyOfPrincipal> {
        let principal = connection.principal();
        let group = principal.map(|principal| {
            let groups = &self.groups;
            groups.add_to_principal(&principal, &connection, limit)
        });
        let place = group.transpose()?;
        let place = place.map(|group| {
            let directory = Arc::clone(self);
            Arc::new(PrincipalPlace { directory, group })
        });
        Ok(self.add(connection, place))
    }

    /// Whether one more connection of a principal would be admitted.
    pub(crate) fn check_principal(
        &self,
        principal: &str,
        limit: PrincipalLimit,
    ) -> Result<(), TooManyOfPrincipal> {
        self.groups.check_principal(principal, limit)
    }

    /// Admits a connection in a test.
    #[cfg(test)]
    pub(crate) fn register(self: &Arc<Self>, connection: Arc<Connection>) -> Registration {
        let admitted = self.admit(connection, None);
        admitted.expect("there is no limit")
    }

    fn add(
        self: &Arc<Self>,
        connection: Arc<Connection>,
        principal: Option<Arc<PrincipalPlace>>,
    ) -> Registration {
        let entry = Arc::clone(&connection);
        self.open.change(entry.id, |slot| *slot = Some(entry));
        self.groups.open(&connection);
        Registration {
            directory: Arc::clone(self),
            connection,
            principal,
        }
    }

    /// The view that the handler of an event has of the directory. It finds the event's `own` connection in every
    /// state: before it is let in, and after its end.
    pub(crate) fn view<'a>(
        &'a self,
        limits: &'a ConnectionLimits,
        own: Option<&'a Arc<Connection>>,
    ) -> View<'a> {
        View {
            directory: self,
            limits,
            own,
        }
    }

    /// The ids of all open connections. Those that come or go meanwhile may be listed or not. Nobody waits long for
    /// this.
    pub(crate) fn list(&self) -> Vec<ConnectionId> {
        self.open.keys()
    }

    /// Walks over the connections that meet the conditions, from the first or from the one after an id.
    pub(crate) fn walk(self: &Arc<Self>, filter: Filter, after: Option<ConnectionId>) -> Walk {
        Walk::new(Arc::clone(self), filter, after)
    }

    /// All that is known of a connection.
    pub(crate) fn describe(&self, id: ConnectionId) -> Result<Description, Gone> {
        Ok(Description::of(&*self.find(id)?))
    }

    /// Looks at the messages of a connection as they come and go.
    pub(crate) fn trace(&self, id: ConnectionId) -> Result<TraceReader, Gone> {
        TraceReader::new(self.find(id)?).ok_or(Gone)
    }

    /// At most `limit` groups after the one with the name `after`, in an order of the directory's own.
    pub(crate) fn list_groups(&self, after: Option<&str>, limit: usize) -> Vec<GroupInfo> {
        self.groups.list(after, limit)
    }

    /// Whether an open connection came over QUIC.
    pub(crate) fn is_over_quic(&self, id: ConnectionId) -> bool {
        self.find(id).is_ok_and(|found| found.client.over_quic)
    }

    /// Closes a connection once its queue is written.
    pub(crate) fn close(&self, id: ConnectionId, closing: Closing) -> Result<(), Gone> {
        close(&*self.find(id)?, closing)
    }

    /// Ends a connection now, with an unwritten queue; its client gets no close frame.
    pub(crate) fn cut(&self, id: ConnectionId, closing: Closing) -> Result<(), Gone> {
        self.find(id)?.outbox.cut(closing);
        Ok(())
    }

    pub(super) fn find(&self, id: ConnectionId) -> Result<Arc<Connection>, Gone> {
        self.open.get(&id).ok_or(Gone)
    }

    pub(super) fn shard_count(&self) -> usize {
        self.open.count()
    }

    pub(super) fn shard_of(&self, id: ConnectionId) -> usize {
        self.open.place(&id)
    }

    /// The ids in one shard, in no order.
    pub(super) fn ids_of(&self, shard: usize) -> Vec<ConnectionId> {
        self.open.keys_of(shard)
    }

    /// Some members of a group after an id, ordered by id. None when there are no more.
    pub(super) fn members_after(
        &self,
        group: &str,
        after: Option<ConnectionId>,
    ) -> Option<Vec<Arc<Connection>>> {
        self.groups.members_after(group, after)
    }
}

/// A connection's entry in the directory.
#[derive(Debug)]
pub(crate) struct Registration {
    directory: Arc<Directory>,
    pub(crate) connection: Arc<Connection>,
    /// Among the connections of its principal, if it has one.
    principal: Option<Arc<PrincipalPlace>>,
}

impl Registration {
    /// The place among the connections of its principal, which may outlive the registration.
    pub(crate) fn principal_place(&self) -> Option<Arc<PrincipalPlace>> {
        self.principal.clone()
    }
}

/// The place of a connection among those of its principal, as long as it has one among all connections: one that has ended
/// is in no group, and may take half a minute to say goodbye.
#[derive(Debug)]
pub(crate) struct PrincipalPlace {
    directory: Arc<Directory>,
    group: Arc<Group>,
}

impl Drop for PrincipalPlace {
    fn drop(&mut self) {
        self.directory.groups.leave_principal(&self.group);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let open = &self.directory.open;
        open.change(self.connection.id, |slot| *slot = None);
        let groups = &self.directory.groups;
        if let Some(principal) = &self.principal {
            groups.remove_from_principal(&principal.group, self.connection.id);
        }
        groups.end(&self.connection);
        self.connection.outbox.end();
        self.connection.trace.end();
    }
}

/// A directory under the limits of a stage's snapshot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    directory: &'a Directory,
    limits: &'a ConnectionLimits,
    own: Option<&'a Arc<Connection>>,
}

impl View<'_> {
    /// Whether there is such a connection; it may be closing.
    pub(crate) fn has(&self, id: ConnectionId) -> bool {
        self.find(id).is_ok()
    }

    /// Queues a message for a connection, without waiting.
    pub(crate) fn send(&self, id: ConnectionId, message: Message) -> Result<(), PostError> {
        let connection = self.find(id).or(Err(PostError::Gone))?;
        connection.post(message, self.limits)
    }

    /// Sends a datagram to the client of a connection, without waiting.
    pub(crate) fn send_datagram(
        &self,
        id: ConnectionId,
        payload: &[u8],
    ) -> Result<Datagram, DatagramError> {
        let connection = self.find(id).or(Err(DatagramError::Gone))?;
        connection.send_datagram(payload, self.limits)
    }

    /// Closes a connection once its queue is written.
    pub(crate) fn close(&self, id: ConnectionId, closing: Closing) -> Result<(), Gone> {
        close(&*self.find(id)?, closing)
    }

    pub(crate) fn info(&self, id: ConnectionId) -> Result<Info, Gone> {
        let connection = self.find(id)?;
        Ok(Info {
            client: connection.client.clone(),
            connected_at: connection.connected_at,
            last_active_at: connection.last_active_at(),
            subprotocol: connection.subprotocol(),
            is_closing: connection.outbox.closing().is_some(),
        })
    }

    pub(crate) fn attribute(&self, id: ConnectionId, name: &str) -> Result<Option<String>, Gone> {
        Ok(self.find(id)?.attribute(name))
    }

    /// All attributes of a connection, ordered by name.
    pub(crate) fn attributes(&self, id: ConnectionId) -> Result<Vec<(String, String)>, Gone> {
        Ok(self.find(id)?.attributes())
    }

    /// Sets an attribute of a connection, or removes it.
    pub(crate) fn set_attribute(
        &self,
        id: ConnectionId,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), AttributeError> {
        let connection = self.find(id).or(Err(AttributeError::Gone))?;
        connection.set_attribute(name, value, self.limits)
    }

    /// Adds a connection to a group: at once, or as soon as it is let in.
    pub(crate) fn join(&self, group: &str, id: ConnectionId) -> Result<(), JoinError> {
        let connection = self.find(id).or(Err(JoinError::Gone))?;
        self.directory.groups.join(group, &connection, self.limits)
    }

    /// Removes a connection from a group, if it is a member.
    pub(crate) fn leave(&self, group: &str, id: ConnectionId) -> Result<(), Gone> {
        let connection = self.find(id)?;
        self.directory.groups.leave(group, &connection);
        Ok(())
    }

    /// Queues a message for every member except `except`, and gives their number. A member without room is closed, so
    /// that no one misses a message unnoticed.
    pub(crate) fn publish(
        &self,
        group: &str,
        message: Message,
        except: Option<ConnectionId>,
    ) -> Result<u32, PostError> {
        let groups = &self.directory.groups;
        groups.publish(group, message, except, self.limits)
    }

    /// At most `limit` members with ids after `after`, ordered by id.
    pub(crate) fn members(
        &self,
        group: &str,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Vec<ConnectionId> {
        self.directory.groups.members(group, after, limit)
    }

    pub(crate) fn count(&self, group: &str) -> usize {
        self.directory.groups.count(group)
    }

    fn find(&self, id: ConnectionId) -> Result<Arc<Connection>, Gone> {
        match self.own {
            Some(own) if own.id == id => Ok(Arc::clone(own)),
            Some(_) | None => self.directory.find(id),
        }
    }
}

fn close(connection: &Connection, closing: Closing) -> Result<(), Gone> {
    connection.close(closing).then_some(()).ok_or(Gone)
}
