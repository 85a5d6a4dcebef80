//! Named sets of connections of one stage.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connection::{Connection, ConnectionLimits};
use super::id::ConnectionId;
use super::members::{Members, Rest};
use super::message::{Message, Payload};
use super::outbox::{Closing, PostError};
use super::shards::ShardedMap;

/// Bytes of the longest name of a group.
pub(crate) const MAX_NAME: usize = 128;

/// Members of the largest page.
pub(crate) const MAX_PAGE: usize = 1_000;

/// The beginning of the names of groups that no connection joins or leaves by itself: each has the connections of one
/// principal, whose name follows.
const PRINCIPAL: &str = "$principal/";

/// The name of the group that has the connections of a principal.
pub(crate) fn principal_group(principal: &str) -> String {
    format!("{PRINCIPAL}{principal}")
}

/// Whether the name is that of a principal's group.
pub(crate) fn is_reserved(group: &str) -> bool {
    group.starts_with(PRINCIPAL)
}

/// The limit of open connections of one principal, and what happens to one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrincipalLimit {
    pub(crate) connections: usize,
    /// Closes the oldest connection, and does not refuse the new one.
    pub(crate) closes_oldest: bool,
}

/// The principal has as many connections as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the principal has as many connections as limits.connections_per_principal of the stage allows, or too many that are closing, or \
     whose $disconnect runs"
)]
pub(crate) struct TooManyOfPrincipal;

/// As many connections of a principal may be closing at least, however few may be open: their `$disconnect`s may take a while,
/// and a page that is loaded again and again is no flood.
const MIN_CLOSING: usize = 8;

/// The close code of a connection that a newer one of its principal has replaced.
const REPLACED: u16 = 4_000;

/// Why a connection did not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("the connection is gone")]
    Gone,
    #[error("the connection is in as many groups as it may be")]
    TooMany,
}

#[derive(Debug)]
pub(super) struct Groups {
    named: ShardedMap<Box<str>, Arc<Group>>,
}

/// A group, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupInfo {
    pub(crate) name: Box<str>,
    pub(crate) members: usize,
}

/// The result of a message to many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// Connections that it was queued for.
    pub(crate) queued: usize,
    /// Connections without room, which are closed with 1013.
    pub(crate) closed: usize,
}

impl AddAssign for Published {
    fn add_assign(&mut self, other: Self) {
        self.queued += other.queued;
        self.closed += other.closed;
    }
}

/// The number of shards for the names, which grow more slowly than the connections.
const SHARDS: usize = 64;

impl Default for Groups {
    fn default() -> Self {
        Self {
            named: ShardedMap::new(SHARDS),
        }
    }
}

/// Lock order: a connection's membership, then the shard of a name, then the members of one group.
#[derive(Debug)]
pub(crate) struct Group {
    name: Box<str>,
    /// Locked for a moment by each change, and by a publish for each chunk of members.
    members: Mutex<GroupMembers>,
    /// The places of a principal's connections: of its members, and of those that say goodbye. Changed under the lock of the
    /// name.
    places: AtomicUsize,
}

type GroupMembers = Members<ConnectionId, Arc<Connection>>;

/// The groups of a connection, over its life.
#[derive(Debug)]
pub(super) enum Membership {
    /// Not let in yet: the groups that it joins when it is.
    Opening(Vec<Box<str>>),
    Open(Vec<Arc<Group>>),
    Ended,
}

impl Default for Membership {
    fn default() -> Self {
        Self::Opening(Vec::new())
    }
}

/// The methods of [`super::View`] describe these.
impl Groups {
    pub(super) fn join(
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

    pub(super) fn leave(&self, name: &str, connection: &Connection) {
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

    /// Joins a connection that has been let in to the groups that its `$connect` handler chose.
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

    /// Whether one more connection of a principal would be let in.
    pub(super) fn check_principal(
        &self,
        principal: &str,
        limit: PrincipalLimit,
    ) -> Result<(), TooManyOfPrincipal> {
        let group = self.named.get(&*principal_group(principal));
        group.map_or(Ok(()), |group| group.find_replaced(limit).map(drop))
    }

    /// Adds a connection that is let in to those of its principal.
    pub(super) fn add_to_principal(
        &self,
        principal: &str,
        connection: &Arc<Connection>,
        limit: Option<PrincipalLimit>,
    ) -> Result<Arc<Group>, TooManyOfPrincipal> {
        let name: Box<str> = principal_group(principal).into();
        // The lock of the name is held throughout, so that no other connection takes the last place.
        self.named.change(name.clone(), |slot| {
            if let (Some(limit), Some(group)) = (limit, &*slot) {
                for replaced in group.find_replaced(limit)? {
                    let reason = "a newer connection of the same principal";
                    replaced.close(Closing::new(REPLACED, reason));
                }
            }
            let group = slot.get_or_insert_with(|| Group::new(name));
            group.lock().insert(connection.id, Arc::clone(connection));
            group.places.fetch_add(1, Ordering::Relaxed);
            Ok(Arc::clone(group))
        })
    }

    /// Removes a connection that has ended from those of its principal. It has its place until [`Self::leave_principal`].
    pub(super) fn remove_from_principal(&self, group: &Group, id: ConnectionId) {
        self.remove(group, id);
    }

    /// Gives back a place among the connections of a principal.
    pub(super) fn leave_principal(&self, group: &Group) {
        self.named.change(group.name.clone(), |slot| {
            group.places.fetch_sub(1, Ordering::Relaxed);
            if group.is_over() {
                *slot = None;
            }
        });
    }

    /// Removes a connection that has ended from every group; it joins none any more.
    pub(super) fn end(&self, connection: &Connection) {
        let before = std::mem::replace(&mut *membership(connection), Membership::Ended);
        if let Membership::Open(joined) = before {
            for group in joined {
                self.remove(&group, connection.id);
            }
        }
    }

    pub(super) fn publish(
        &self,
        name: &str,
        message: Message,
        except: Option<ConnectionId>,
        limits: &ConnectionLimits,
    ) -> Result<u32, PostError> {
        if message.len() > limits.message_bytes {
            return Err(PostError::TooLarge);
        }
        let Some(group) = self.named.get(name) else {
            return Ok(0);
        };
        let payload = Payload::from(message);
        let (mut reached, mut after) = (0, None);
        while let Some(rest) = group.after(after) {
            let entries = rest.entries();
            after = entries.last().map(|(id, _)| *id);
            let others = entries.iter().filter(|(id, _)| Some(*id) != except);
            let members = others.map(|(_, member)| member);
            reached += publish_to(members, &payload, limits).queued;
        }
        Ok(u32::try_from(reached).unwrap_or(u32::MAX))
    }

    pub(super) fn members(
        &self,
        name: &str,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Vec<ConnectionId> {
        let Some(group) = self.named.get(name) else {
            return Vec::new();
        };
        let (mut ids, mut after) = (Vec::new(), after);
        while ids.len() < limit
            && let Some(rest) = group.after(after)
        {
            let next = rest.entries().iter().map(|(id, _)| *id);
            ids.extend(next.take(limit - ids.len()));
            after = ids.last().copied();
        }
        ids
    }

    /// Some members after an id, ordered by id. None when there are no more.
    pub(super) fn members_after(
        &self,
        name: &str,
        after: Option<ConnectionId>,
    ) -> Option<Vec<Arc<Connection>>> {
        let rest = self.named.get(name)?.after(after)?;
        let members = rest.entries().iter().map(|(_, member)| member);
        Some(members.cloned().collect())
    }

    /// The groups of the shard of `after` that come behind it, then those of the next shards: by name within each.
    pub(super) fn list(&self, after: Option<&str>, limit: usize) -> Vec<GroupInfo> {
        let first = after.map_or(0, |after| self.named.place(after));
        let mut groups = Vec::new();
        for shard in first..self.named.count() {
            let mut names = self.named.keys_of(shard);
            names.retain(|name| !is_reserved(name));
            names.retain(|name| shard > first || after.is_none_or(|after| **name > *after));
            names.sort_unstable();
            groups.extend(names.into_iter().map(|name| GroupInfo {
                members: self.count(&name),
                name,
            }));
            if groups.len() >= limit {
                groups.truncate(limit);
                break;
            }
        }
        groups
    }

    pub(super) fn count(&self, name: &str) -> usize {
        self.named.get(name).map_or(0, |group| group.lock().len())
    }

    fn add(&self, name: &str, connection: &Arc<Connection>) -> Arc<Group> {
        self.named.change(name.into(), |slot| {
            let group = slot.get_or_insert_with(|| Group::new(name.into()));
            group.lock().insert(connection.id, Arc::clone(connection));
            Arc::clone(group)
        })
    }

    /// Holds the lock of the name throughout, so that no connection joins a group that is being dropped.
    fn remove(&self, group: &Group, id: ConnectionId) {
        self.named.change(group.name.clone(), |slot| {
            group.lock().remove(&id);
            if group.is_over() {
                *slot = None;
            }
        });
    }
}

/// Queues a message for each. One without room is closed, so that no one misses a message unnoticed.
pub(super) fn publish_to<'a>(
    connections: impl Iterator<Item = &'a Arc<Connection>>,
    payload: &Payload,
    limits: &ConnectionLimits,
) -> Published {
    let mut published = Published::default();
    for connection in connections {
        match connection.push(payload.clone(), limits) {
            Ok(()) => published.queued += 1,
            Err(PostError::Gone | PostError::TooLarge) => {}
            Err(PostError::Busy) => {
                connection.close(Closing::new(1013, "slow consumer"));
                published.closed += 1;
            }
        }
    }
    published
}

impl Membership {
    /// The names of the groups, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let (wanted, joined): (&[Box<str>], &[Arc<Group>]) = match self {
            Self::Opening(wanted) => (wanted, &[]),
            Self::Open(joined) => (&[], joined),
            Self::Ended => (&[], &[]),
        };
        let wanted = wanted.iter().map(|name| &**name);
        wanted.chain(joined.iter().map(|group| &*group.name))
    }
}

impl Group {
    fn new(name: Box<str>) -> Arc<Self> {
        Arc::new(Self {
            name,
            members: Mutex::default(),
            places: AtomicUsize::new(0),
        })
    }

    /// Whether it has neither members nor places.
    fn is_over(&self) -> bool {
        self.lock().len() == 0 && self.places.load(Ordering::Relaxed) == 0
    }

    /// The connections that make room for one more; none if there is room. Those that are closing do not count, unless there are
    /// too many of them: a client that reconnects without end, or says goodbye for long, would pile them up.
    fn find_replaced(
        &self,
        limit: PrincipalLimit,
    ) -> Result<Vec<Arc<Connection>>, TooManyOfPrincipal> {
        let (mut open, mut after) = (Vec::new(), None);
        while let Some(rest) = self.after(after) {
            after = rest.entries().last().map(|(id, _)| *id);
            let members = rest.entries().iter().map(|(_, member)| member);
            open.extend(
                members
                    .filter(|it| it.outbox.closing().is_none())
                    .map(Arc::clone),
            );
        }
        let closing = self
            .places
            .load(Ordering::Relaxed)
            .saturating_sub(open.len());
        let too_many = (open.len() + 1).saturating_sub(limit.connections);
        let is_refused = too_many > 0 && !limit.closes_oldest;
        if is_refused || closing >= limit.connections.max(MIN_CLOSING) {
            return Err(TooManyOfPrincipal);
        }
        open.sort_by_key(|it| it.connected_at);
        open.truncate(too_many);
        Ok(open)
    }

    fn after(&self, id: Option<ConnectionId>) -> Option<Rest<ConnectionId, Arc<Connection>>> {
        self.lock().after(id.as_ref())
    }

    fn lock(&self) -> MutexGuard<'_, GroupMembers> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a connection has been let in, and may have ended since.
pub(super) fn is_let_in(connection: &Connection) -> bool {
    !matches!(&*membership(connection), Membership::Opening(_))
}

fn membership(connection: &Connection) -> MutexGuard<'_, Membership> {
    connection
        .membership
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}
