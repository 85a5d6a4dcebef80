//! The mock integration: the same answer each time, without a plugin.

use super::IntegrationEvent;
use crate::config;
use crate::connections::{Closing, Message};
use crate::invocation::{self, Acceptance, Denial, Handshake};

/// The status by which `$connect` lets a client in.
const ACCEPTED: u16 = 200;

/// A mock, as the configuration describes it.
pub(crate) struct Mock(config::Mock);

impl Mock {
    pub(crate) fn new(config: &config::Mock) -> Self {
        Self(config.clone())
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }
}

impl IntegrationEvent for Handshake {
    fn mock_answer(mock: &Mock) -> <Self as invocation::Event>::Answer {
        match mock.0.status {
            ACCEPTED => Ok(Acceptance::default()),
            status => Err(Denial {
                status,
                message: mock.0.reply.clone(),
            }),
        }
    }
}

impl IntegrationEvent for Message {
    fn mock_answer(mock: &Mock) -> <Self as invocation::Event>::Answer {
        mock.0.reply.clone().map(Self::Text)
    }
}

impl IntegrationEvent for Closing {
    fn mock_answer(_: &Mock) {}
}
