//! The integration of a route: it answers the events of connections.

mod mock;

use std::sync::Arc;

pub(crate) use mock::Mock;

use crate::connections::ConnectionId;
use crate::invocation::{self, Called, Invocation};
use crate::plugin::{Export, PluginHandle};

/// The integration that a route points to.
#[derive(Clone)]
pub(crate) enum Integration {
    Plugin(Arc<PluginHandle>),
    Mock(Arc<Mock>),
}

/// An event that every integration answers.
pub(crate) trait IntegrationEvent: invocation::Event + Export {
    /// The answer of a mock.
    fn mock_answer(mock: &Mock) -> Self::Answer;
}

impl Integration {
    /// The name that the configuration gives it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Plugin(plugin) => &plugin.name,
            Self::Mock(mock) => mock.name(),
        }
    }

    /// Whether no code is called: its answer takes no time worth a number.
    pub(crate) fn is_mock(&self) -> bool {
        matches!(self, Self::Mock(_))
    }

    /// Calls the integration for an event. Gives the event back if a reload has replaced the integration: the newest
    /// snapshot of the stage has the new one.
    pub(crate) async fn invoke<E: IntegrationEvent>(
        &self,
        invocation: &Arc<Invocation>,
        event: E,
    ) -> Called<E> {
        match self {
            Self::Plugin(plugin) => plugin.invoke(invocation, event).await,
            Self::Mock(mock) => Called::Ended(Ok(E::mock_answer(mock))),
        }
    }

    /// The same integration under the newest configuration that has it.
    pub(crate) fn newest(&self) -> Self {
        match self {
            Self::Plugin(plugin) => Self::Plugin(plugin.newest()),
            Self::Mock(mock) => Self::Mock(Arc::clone(mock)),
        }
    }

    /// The number of the plugin's version that serves a connection. None for a mock.
    pub(crate) fn version_for(&self, id: ConnectionId) -> Option<u64> {
        match self {
            Self::Plugin(plugin) => plugin.version_for(id),
            Self::Mock(_) => None,
        }
    }
}
