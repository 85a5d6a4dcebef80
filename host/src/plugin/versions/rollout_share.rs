//! The share of a rollout: it decides which of two versions serves a connection.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use super::version::Version;
use crate::connections::ConnectionId;

/// The versions that serve: one, or two with a share of the connections for the newer.
#[derive(Clone)]
pub(crate) struct Versions {
    pub(crate) stable: Arc<Version>,
    pub(crate) candidate: Option<Arc<Version>>,
    /// The percentage of connections that the candidate serves.
    pub(crate) share: u32,
}

impl Versions {
    /// One version for all connections.
    pub(crate) fn only(stable: Arc<Version>) -> Self {
        Self {
            stable,
            candidate: None,
            share: 0,
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Version>> {
        std::iter::once(&self.stable).chain(&self.candidate)
    }

    pub(crate) fn of(&self, id: ConnectionId) -> &Version {
        match &self.candidate {
            Some(candidate) if bucket(id) < self.share => candidate,
            Some(_) | None => &self.stable,
        }
    }
}

/// The bucket of a connection, of a hundred, always the same: a larger share keeps the connections of a smaller one
/// and adds others.
fn bucket(id: ConnectionId) -> u32 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    u32::try_from(hasher.finish() % 100).expect("below 100")
}
