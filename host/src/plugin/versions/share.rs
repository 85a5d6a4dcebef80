//! The share of a rollout: which of two versions serves a connection.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use super::version::Version;
use crate::connections::ConnectionId;

/// Which version serves: one, or two with a share of the connections for the newer.
#[derive(Clone)]
pub(crate) struct Versions {
    pub(crate) stable: Arc<Version>,
    pub(crate) candidate: Option<Arc<Version>>,
    /// Percent of the connections that the candidate serves.
    pub(crate) share: u32,
}

impl Versions {
    /// One version for all.
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

/// Where a connection stands among a hundred, always the same: a larger share takes in more of them, and none that
/// the smaller one had is left out.
fn bucket(id: ConnectionId) -> u32 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    u32::try_from(hasher.finish() % 100).expect("below 100")
}
