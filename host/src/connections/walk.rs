//! The connections of a stage, some at a time: for an operator who lists them, or sends to many.
//!
//! A walk holds a lock for no longer than a copy of one shard's ids takes, and no more than these ids. It finds every
//! connection that is there from its begin to its end, once; those that come or go meanwhile it may find or not.

use std::sync::Arc;
use std::vec;

use super::connection::{Client, Connection, ConnectionLimits};
use super::directory::Directory;
use super::groups::{Published, principal_group, publish_to};
use super::id::{ConnectionId, RequestId};
use super::message::Payload;
use super::outbox::{Closing, QueueLength};
use crate::auth::Identity;

/// Connections of the largest chunk: some tens of microseconds of work, after which others may run.
const CHUNK: usize = 128;

/// The connections that an operator means: those that meet every condition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) principal: Option<String>,
    pub(crate) group: Option<String>,
    /// The name of an attribute, and its value.
    pub(crate) attribute: Option<(String, String)>,
}

impl Filter {
    /// Whether there is any condition.
    pub(crate) fn is_set(&self) -> bool {
        self.principal.is_some() || self.group.is_some() || self.attribute.is_some()
    }
}

/// A walk over the connections of a stage: of a group in the order of their ids, or of all in an order of the
/// directory's own. Both orders continue after an id, even if that connection has gone.
#[derive(Debug)]
pub(crate) struct Walk {
    directory: Arc<Directory>,
    filter: Filter,
    after: Option<ConnectionId>,
    /// The next shard of the directory.
    shard: usize,
    /// The rest of the shard before it.
    ids: vec::IntoIter<ConnectionId>,
}

/// The next connections of a walk.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Count of the connections that were compared with the filter.
    pub(crate) looked_at: usize,
    connections: Vec<Arc<Connection>>,
}

/// All that is known of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub(crate) id: ConnectionId,
    pub(crate) client: Client,
    pub(crate) identity: Option<Arc<Identity>>,
    /// Milliseconds since the Unix epoch.
    pub(crate) connected_at: u64,
    /// The time of the last message in either direction, in milliseconds since the Unix epoch.
    pub(crate) last_active_at: u64,
    pub(crate) subprotocol: Option<String>,
    /// Ordered by name.
    pub(crate) groups: Vec<String>,
    /// Ordered by name.
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) queue: QueueLength,
    /// The close that waits for the queue.
    pub(crate) closing: Option<Closing>,
    /// The requests that handled its last messages, newest first.
    pub(crate) last_requests: Vec<RequestId>,
}

impl Walk {
    pub(super) fn new(
        directory: Arc<Directory>,
        filter: Filter,
        after: Option<ConnectionId>,
    ) -> Self {
        let mut walk = Self {
            directory,
            filter,
            after,
            shard: 0,
            ids: vec::IntoIter::default(),
        };
        if let Some(after) = after {
            walk.shard = walk.directory.shard_of(after);
            walk.load_shard();
        }
        walk
    }

    /// The id after which another walk continues this one.
    pub(crate) fn after(&self) -> Option<ConnectionId> {
        self.after
    }

    /// Gives the next connections that meet the conditions, perhaps none of those that were compared. None at the end.
    pub(crate) fn next_chunk(&mut self) -> Option<Chunk> {
        let Filter {
            principal, group, ..
        } = &self.filter;
        let principal = principal.as_deref().map(principal_group);
        // A principal has fewer connections than a group.
        let (looked_at, mut connections) = match principal.as_ref().or(group.as_ref()) {
            Some(members_of) => {
                let members = self.directory.members_after(members_of, self.after)?;
                self.after = members.last().map(|member| member.id).or(self.after);
                (members.len(), members)
            }
            None => self.next_of_all()?,
        };
        if let (Some(_), Some(group)) = (&principal, &self.filter.group) {
            connections.retain(|connection| connection.groups().contains(group));
        }
        if let Some((name, value)) = &self.filter.attribute {
            connections.retain(|connection| connection.attribute(name).as_ref() == Some(value));
        }
        Some(Chunk {
            looked_at,
            connections,
        })
    }

    fn next_of_all(&mut self) -> Option<(usize, Vec<Arc<Connection>>)> {
        while self.ids.len() == 0 {
            if self.shard == self.directory.shard_count() {
                return None;
            }
            self.load_shard();
        }
        let ids: Vec<_> = self.ids.by_ref().take(CHUNK).collect();
        self.after = ids.last().copied().or(self.after);
        let found = ids.iter().filter_map(|id| self.directory.find(*id).ok());
        Some((ids.len(), found.collect()))
    }

    /// Takes the ids of the next shard, in order. Those of the first one begin after the id that the walk continues.
    fn load_shard(&mut self) {
        let mut ids = self.directory.ids_of(self.shard);
        if let Some(after) = self.after
            && self.directory.shard_of(after) == self.shard
        {
            ids.retain(|id| *id > after);
        }
        ids.sort_unstable();
        self.ids = ids.into_iter();
        self.shard += 1;
    }
}

impl Chunk {
    pub(crate) fn describe(&self) -> impl Iterator<Item = Description> {
        self.connections
            .iter()
            .map(|connection| Description::of(connection))
    }

    /// Queues a message for each. One without room is closed, as [`super::View::publish`] does.
    pub(crate) fn send(&self, payload: &Payload, limits: &ConnectionLimits) -> Published {
        publish_to(self.connections.iter(), payload, limits)
    }

    /// Closes each once its queue is written. Gives the count of those that were not closing already.
    pub(crate) fn close(&self, closing: &Closing) -> usize {
        let closed = self.connections.iter();
        closed
            .filter(|connection| connection.close(closing.clone()))
            .count()
    }
}

impl Description {
    pub(super) fn of(connection: &Connection) -> Self {
        Self {
            id: connection.id,
            client: connection.client.clone(),
            identity: connection.identity(),
            connected_at: connection.connected_at,
            last_active_at: connection.last_active_at(),
            subprotocol: connection.subprotocol(),
            groups: connection.groups(),
            attributes: connection.attributes(),
            queue: connection.outbox.queue(),
            closing: connection.outbox.closing(),
            last_requests: connection.last_requests(),
        }
    }
}
