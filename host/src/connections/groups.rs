//! Named sets of connections of one stage.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connection::{Connection, ConnectionLimits};
use super::id::ConnectionId;
use super::message::{Message, Payload};
use super::outbox::{Closing, PostError};

/// Bytes of the longest name of a group.
pub(crate) const MAX_NAME: usize = 128;

/// Members that one call of [`Groups::members`] gives at most.
pub(crate) const MAX_PAGE: usize = 1_000;

/// Why a connection did not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("the connection is gone")]
    Gone,
    #[error("the connection is in as many groups as it may be")]
    TooMany,
}

#[derive(Debug, Default)]
pub(crate) struct Groups {
    named: Mutex<HashMap<Box<str>, Arc<Group>>>,
}

/// Lock order: a connection's membership, then the names, then the members of one group.
#[derive(Debug)]
pub(crate) struct Group {
    name: Box<str>,
    /// Shared with publishes under way: they go through it without its lock, and it is copied only if it changes
    /// meanwhile.
    members: Mutex<Arc<Members>>,
}

type Members = BTreeMap<ConnectionId, Arc<Connection>>;

/// A connection's side of its groups, over its life.
#[derive(Debug)]
pub(super) enum Membership {
    /// Not let in yet: the groups it will join when it is.
    Opening(Vec<Box<str>>),
    Open(Vec<Arc<Group>>),
    Ended,
}

impl Default for Membership {
    fn default() -> Self {
        Self::Opening(Vec::new())
    }
}

impl Groups {
    /// Adds a connection to a group; if it has not been let in yet, as soon as it is.
    pub(crate) fn join(
        &self,
        name: &str,
        connection: &Arc<Connection>,
        limits: &ConnectionLimits,
    ) -> Result<(), JoinError> {
        match &mut *membership(connection) {
            Membership::Opening(wanted) => {
                if wanted.iter().any(|group| &**group == name) {
                    return Ok(());
                }
                if wanted.len() >= limits.groups {
                    return Err(JoinError::TooMany);
                }
                wanted.push(name.into());
            }
            Membership::Open(joined) => {
                if joined.iter().any(|group| &*group.name == name) {
                    return Ok(());
                }
                if joined.len() >= limits.groups {
                    return Err(JoinError::TooMany);
                }
                joined.push(self.add(name, connection));
            }
            Membership::Ended => return Err(JoinError::Gone),
        }
        Ok(())
    }

    /// Takes a connection out of a group; nothing happens when it is not in it.
    pub(crate) fn leave(&self, name: &str, connection: &Connection) {
        match &mut *membership(connection) {
            Membership::Opening(wanted) => wanted.retain(|group| &**group != name),
            Membership::Open(joined) => {
                if let Some(at) = joined.iter().position(|group| &*group.name == name) {
                    self.remove(&joined.swap_remove(at), connection.id);
                }
            }
            Membership::Ended => {}
        }
    }

    /// The connection has been let in: it joins what its `$connect` handler wanted.
    pub(super) fn open(&self, connection: &Arc<Connection>) {
        let mut membership = membership(connection);
        if let Membership::Opening(wanted) = &*membership {
            let joined = wanted
                .iter()
                .map(|name| self.add(name, connection))
                .collect();
            *membership = Membership::Open(joined);
        }
    }

    /// The connection has ended: it leaves every group and joins none any more.
    pub(super) fn end(&self, connection: &Connection) {
        let before = std::mem::replace(&mut *membership(connection), Membership::Ended);
        if let Membership::Open(joined) = before {
            for group in joined {
                self.remove(&group, connection.id);
            }
        }
    }

    /// Queues a message for every member but `except`; gives for how many. One that has no room is closed,
    /// so that no one misses a message without knowing.
    pub(crate) fn publish(
        &self,
        name: &str,
        message: Message,
        except: Option<ConnectionId>,
        limits: &ConnectionLimits,
    ) -> Result<u32, PostError> {
        if message.len() > limits.message_bytes {
            return Err(PostError::TooLarge);
        }
        let Some(group) = self.find(name) else {
            return Ok(0);
        };
        let payload = Payload::from(message);
        let members = Arc::clone(&group.lock());
        let mut reached = 0;
        for member in members.values().filter(|member| Some(member.id) != except) {
            match member.outbox.push(payload.clone(), limits.outbox) {
                Ok(()) => reached += 1,
                Err(PostError::Gone | PostError::TooLarge) => {}
                Err(PostError::Busy) => {
                    member.close(Closing::new(1013, "slow consumer"));
                }
            }
        }
        Ok(reached)
    }

    /// At most `limit` members after the id `after`, ordered by id.
    pub(crate) fn members(
        &self,
        name: &str,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Vec<ConnectionId> {
        let Some(group) = self.find(name) else {
            return Vec::new();
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        group
            .lock()
            .range((from, Bound::Unbounded))
            .map(|(id, _)| *id)
            .take(limit)
            .collect()
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.find(name).map_or(0, |group| group.lock().len())
    }

    fn find(&self, name: &str) -> Option<Arc<Group>> {
        self.lock().get(name).cloned()
    }

    fn add(&self, name: &str, connection: &Arc<Connection>) -> Arc<Group> {
        let mut named = self.lock();
        let group = named.entry(name.into()).or_insert_with(|| {
            Arc::new(Group {
                name: name.into(),
                members: Mutex::default(),
            })
        });
        Arc::make_mut(&mut group.lock()).insert(connection.id, Arc::clone(connection));
        Arc::clone(group)
    }

    fn remove(&self, group: &Group, id: ConnectionId) {
        // The names are locked first, so that no one joins a group that is being forgotten.
        let mut named = self.lock();
        let mut members = group.lock();
        Arc::make_mut(&mut members).remove(&id);
        if members.is_empty() {
            named.remove(&group.name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Group>>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, Arc<Members>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn membership(connection: &Connection) -> MutexGuard<'_, Membership> {
    connection
        .membership
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}
