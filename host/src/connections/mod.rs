//! The open connections of a stage: who is there, what waits for them, which groups they are in.
//!
//! Knows neither the WebSocket protocol nor WebAssembly: a session empties an outbox, a plugin's imports and
//! the management API fill it.

mod connection;
mod groups;
mod id;
mod message;
mod outbox;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;

pub(crate) use connection::{AttributeError, Client, Connection, ConnectionLimits, now_ms};
pub(crate) use groups::{Groups, JoinError, MAX_NAME, MAX_PAGE};
pub(crate) use id::{ConnectionId, RequestId};
pub(crate) use message::{Kind, Message, Payload};
pub(crate) use outbox::{Closing, Outbox, OutboxLimits, PostError, Taken, woke_others};

/// The registry of one stage. A connection is found here from its 101 until its session has ended.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: RwLock<HashMap<ConnectionId, Arc<Connection>>>,
    /// Clients of those that have left the registry have no more time to take their last bytes.
    pub(crate) closes_over: CancellationToken,
    pub(crate) groups: Groups,
}

impl Connections {
    /// Admits a connection. It is taken out again, with all its group memberships, when what this gives is
    /// dropped: to admit and not to remove cannot be written.
    pub(crate) fn register(self: &Arc<Self>, connection: Arc<Connection>) -> Registration {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(connection.id, Arc::clone(&connection));
        drop(open);
        self.groups.open(&connection);
        Registration {
            connections: Arc::clone(self),
            connection,
        }
    }

    pub(crate) fn find(&self, id: ConnectionId) -> Option<Arc<Connection>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.values().cloned().collect()
    }
}

/// A connection's place in the registry.
#[derive(Debug)]
pub(crate) struct Registration {
    connections: Arc<Connections>,
    connection: Arc<Connection>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut open = self
            .connections
            .open
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.connection.id);
        drop(open);
        self.connections.groups.end(&self.connection);
        self.connection.outbox.end();
    }
}

#[cfg(test)]
mod tests;
