//! Which of a plugin's versions serves a call.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use super::event::Event;
use super::instance::Called;
use super::lifecycle::Plugin;
use super::version::Version;
use super::{Invocation, InvokeError};
use crate::connections::ConnectionId;

/// Which version serves: one, or two with a share of the connections for the newer.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) stable: Arc<Version>,
    pub(super) candidate: Option<Arc<Version>>,
    /// Percent of the connections that the candidate serves.
    pub(super) share: u32,
}

impl Serving {
    fn version_of(&self, id: ConnectionId) -> &Arc<Version> {
        match &self.candidate {
            Some(candidate) if bucket(id) < self.share => candidate,
            Some(_) | None => &self.stable,
        }
    }
}

impl Plugin {
    /// Calls the handler for an event, on the version that serves its connection.
    pub(crate) async fn invoke<E: Event>(
        self: &Arc<Self>,
        invocation: Arc<Invocation>,
        mut event: E,
    ) -> Result<E::Answer, InvokeError> {
        loop {
            // A version is replaced before it is retired: the next look finds another. Looking counts nothing that
            // threads would have to share, and holds the version until its call is over.
            let serving = self.serving.load();
            let serving = serving.as_ref().ok_or(InvokeError::Removed)?;
            let version = serving.version_of(invocation.connection.id);
            match version.invoke(&invocation, event).await {
                Called::Ended(answer) => {
                    if answer.is_err() && version.is_failing() {
                        let (plugin, number) = (Arc::clone(self), version.number);
                        self.slots
                            .spawn(async move { plugin.withdraw(number).await });
                    }
                    return answer;
                }
                Called::Retired(again) => event = again,
            }
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
