//! The current call, as host functions see it: its context, its connections, its limits.

use std::fmt;
use std::sync::Arc;

use crate::connections::{ConnectionId, DatagramError, Gone, Message, PostError, View};
use crate::invocation::Invocation;
use crate::plugin::run::bindings::lockgate::plugin::types::{
    self, Error, MessageResult as WitMessage,
};
use crate::plugin::run::instance::HostState;
use crate::plugin::run::limit::Limit;

impl types::Host for HostState {}

impl HostState {
    /// The current invocation. Guests run outside of calls only to start up.
    pub(super) fn invocation(&self) -> Result<&Arc<Invocation>, Error> {
        self.invocation
            .as_ref()
            .ok_or_else(|| Error::Invalid("there is no event yet".into()))
    }

    /// The directory of the stage, as the current call may use it.
    pub(super) fn directory(&self) -> Result<View<'_>, Error> {
        Ok(self.invocation()?.directory())
    }

    /// Takes one post from those that the current call may still send.
    pub(super) fn take_post(&mut self) -> Result<(), Error> {
        if let Some(left) = self.posts_left.checked_sub(1) {
            self.posts_left = left;
            return Ok(());
        }
        self.log_limit(Limit::Posts(self.posts));
        Err(Error::Busy)
    }

    /// Logs a limit that the guest has met, once in a call: the errors of the contract carry no text.
    pub(super) fn log_limit(&mut self, limit: Limit) {
        if self.invocation.is_some() && self.limiter.is_first(limit) {
            self.warn(format_args!("refused to the handler: {limit}"));
        }
    }

    /// Logs what the author of the plugin should know about the current call.
    pub(crate) fn warn(&self, words: fmt::Arguments<'_>) {
        let Some(call) = &self.invocation else { return };
        let plugin = self.output.plugin();
        let (connection, stage, route) = (call.connection.id, &call.scope, &*call.route_key);
        let (request_id, client) = (call.request_id, call.connection.client.source_ip);
        let principal = call.connection.principal();
        tracing::warn!(plugin = &*plugin, %client, %connection, principal, %stage, route, %request_id, "{words}");
    }

    /// Logs why a message of `bytes` was not queued, and gives the error for the guest.
    pub(super) fn refuse_post(&mut self, error: PostError, bytes: usize) -> Error {
        if let Some(call) = &self.invocation {
            let limits = &call.scope.limits;
            match error {
                PostError::TooLarge => self.log_limit(Limit::Message(bytes, limits.message_bytes)),
                PostError::Busy => self.log_limit(Limit::Outbox(limits.outbox)),
                PostError::Gone => {}
            }
        }
        error.into()
    }
}

impl HostState {
    /// Logs why a datagram of `bytes` was not sent, and gives the error for the guest.
    pub(super) fn refuse_datagram(&mut self, error: DatagramError, bytes: usize) -> Error {
        match error {
            DatagramError::Gone => Error::Gone,
            DatagramError::Off => {
                self.log_limit(Limit::DatagramsOff);
                Error::Denied
            }
            DatagramError::NotTaken => Error::Invalid(error.to_string()),
            DatagramError::TooLarge(most) => {
                self.log_limit(Limit::Datagram(bytes, most));
                Error::TooLarge
            }
        }
    }
}

/// Parses the id that a handler gives. A malformed id is that of a connection that has gone.
pub(super) fn parse_id(text: &str) -> Result<ConnectionId, Error> {
    ConnectionId::parse(text).ok_or(Error::Gone)
}

impl From<WitMessage> for Message {
    fn from(message: WitMessage) -> Self {
        match message {
            WitMessage::Text(text) => Self::Text(text),
            WitMessage::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

impl From<Gone> for Error {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl From<PostError> for Error {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Gone => Self::Gone,
            PostError::Busy => Self::Busy,
            PostError::TooLarge => Self::TooLarge,
        }
    }
}
