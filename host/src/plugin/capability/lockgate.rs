//! What a guest may ask of the gateway: the imports of `wit/`, one `impl` an interface. None of them waits.

use std::sync::Arc;

use crate::connections::{
    AttributeError, Closing, Connection, ConnectionId, JoinError, MAX_NAME, MAX_PAGE, Message,
    PostError,
};
use crate::invocation::Invocation;
use crate::plugin::run::bindings::lockgate::plugin::types::{
    Error, FieldsResult as Fields, MessageResult as WitMessage,
};
use crate::plugin::run::bindings::lockgate::plugin::{connections, context, groups, types};
use crate::plugin::run::instance::State;
use crate::plugin::run::limit::Limit;

/// Bytes of the longest reason of a close frame (RFC 6455 §5.5).
const MAX_REASON: usize = 123;

impl State {
    /// What the present call is about. Guests run during a call only, but for their start-up code.
    fn invocation(&self) -> Result<&Arc<Invocation>, Error> {
        self.invocation
            .as_ref()
            .ok_or_else(|| Error::Invalid("there is no event yet".into()))
    }

    /// The connection that an id names: the event's own, in whatever state, or an open one of the stage.
    fn connection(&self, id: &str) -> Result<Arc<Connection>, Error> {
        let invocation = self.invocation()?;
        let id = ConnectionId::parse(id).ok_or(Error::Gone)?;
        if id == invocation.connection.id {
            return Ok(Arc::clone(&invocation.connection));
        }
        invocation.scope.connections.find(id).ok_or(Error::Gone)
    }

    /// Takes one from what the present call may send.
    fn take_post(&mut self) -> Result<(), Error> {
        if let Some(left) = self.posts_left.checked_sub(1) {
            self.posts_left = left;
            return Ok(());
        }
        self.tell(Limit::Posts(self.posts));
        Err(Error::Busy)
    }

    /// Tells the log which limit a guest has met, once in a call: the contract's errors have no words.
    fn tell(&mut self, limit: Limit) {
        let Some(call) = &self.invocation else { return };
        if self.bounds.is_news(limit) {
            let plugin = self.console.plugin();
            let (connection, stage, route) = (call.connection.id, &call.scope, &*call.route_key);
            let (request_id, client) = (call.request_id, call.connection.client.source_ip);
            tracing::warn!(plugin = &*plugin, %client, %connection, %stage, route, %request_id, "refused to the handler: {limit}");
        }
    }

    /// Why a message was not queued.
    fn refused(&mut self, error: PostError, bytes: usize) -> Error {
        if let Some(call) = &self.invocation {
            let limits = &call.scope.limits;
            match error {
                PostError::TooLarge => self.tell(Limit::Message(bytes, limits.message_bytes)),
                PostError::Busy => self.tell(Limit::Outbox(limits.outbox)),
                PostError::Gone => {}
            }
        }
        error.into()
    }
}

impl types::Host for State {}

impl connections::Host for State {
    fn send(&mut self, to: String, message: WitMessage) -> Result<(), Error> {
        let connection = self.connection(&to)?;
        self.take_post()?;
        let message = Message::from(message);
        let posted = connection.post(&message, &self.invocation()?.scope.limits);
        posted.map_err(|error| self.refused(error, message.len()))
    }

    fn close(&mut self, id: String, code: u16, reason: String) -> Result<(), Error> {
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(Error::Invalid(format!(
                "no endpoint may send the close code {code}"
            )));
        }
        if reason.len() > MAX_REASON {
            return Err(Error::Invalid(format!(
                "a reason has at most {MAX_REASON} bytes"
            )));
        }
        let connection = self.connection(&id)?;
        connection
            .close(Closing { code, reason })
            .then_some(())
            .ok_or(Error::Gone)
    }

    fn info(&mut self, id: String) -> Result<connections::ConnectionInfo, Error> {
        let connection = self.connection(&id)?;
        Ok(connections::ConnectionInfo {
            connected_at: connection.connected_at,
            last_active_at: connection.last_active_at(),
            source_ip: connection.client.source_ip.to_string(),
            user_agent: connection.client.user_agent.as_deref().map(str::to_owned),
            domain_name: connection.client.domain_name.to_string(),
            subprotocol: connection.subprotocol(),
        })
    }

    fn attribute(&mut self, id: String, name: String) -> Result<Option<String>, Error> {
        Ok(self.connection(&id)?.attribute(&name))
    }

    fn attributes(&mut self, id: String) -> Result<Fields, Error> {
        Ok(self.connection(&id)?.attributes())
    }

    fn set_attribute(
        &mut self,
        id: String,
        name: String,
        value: Option<String>,
    ) -> Result<(), Error> {
        let connection = self.connection(&id)?;
        let limits = self.invocation()?.scope.limits;
        let set = connection.set_attribute(&name, value.as_deref(), &limits);
        set.map_err(|error| match error {
            AttributeError::EmptyName => Error::Invalid(error.to_string()),
            AttributeError::TooLarge => {
                self.tell(Limit::Attributes(limits.attributes_bytes));
                Error::TooLarge
            }
        })
    }
}

impl groups::Host for State {
    fn join(&mut self, group: String, id: String) -> Result<(), Error> {
        check_name(&group)?;
        let connection = self.connection(&id)?;
        let scope = &self.invocation()?.scope;
        let (groups, most) = (&scope.connections.groups, scope.limits.groups);
        let joined = groups.join(&group, &connection, &scope.limits);
        joined.map_err(|error| match error {
            JoinError::Gone => Error::Gone,
            JoinError::TooMany => {
                self.tell(Limit::Groups(most));
                Error::Busy
            }
        })
    }

    fn leave(&mut self, group: String, id: String) -> Result<(), Error> {
        let connection = self.connection(&id)?;
        self.invocation()?
            .scope
            .connections
            .groups
            .leave(&group, &connection);
        Ok(())
    }

    fn publish(
        &mut self,
        group: String,
        message: WitMessage,
        except: Option<String>,
    ) -> Result<u32, Error> {
        self.take_post()?;
        let except = except.as_deref().and_then(ConnectionId::parse);
        let message = Message::from(message);
        let scope = &self.invocation()?.scope;
        let groups = &scope.connections.groups;
        let published = groups.publish(&group, &message, except, &scope.limits);
        published.map_err(|error| self.refused(error, message.len()))
    }

    fn members(
        &mut self,
        group: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<String>, Error> {
        let limit = limit as usize;
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Error::Invalid(format!("limit is 1 to {MAX_PAGE}")));
        }
        let after = match after.as_deref().map(ConnectionId::parse) {
            Some(None) => return Err(Error::Invalid("after is no connection id".into())),
            Some(after) => after,
            None => None,
        };
        let members = self
            .invocation()?
            .scope
            .connections
            .groups
            .members(&group, after, limit);
        Ok(members.iter().map(ConnectionId::to_string).collect())
    }

    fn count(&mut self, group: String) -> u32 {
        let count = self
            .invocation()
            .map_or(0, |call| call.scope.connections.groups.count(&group));
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

fn check_name(group: &str) -> Result<(), Error> {
    if (1..=MAX_NAME).contains(&group.len()) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "a group's name has 1 to {MAX_NAME} bytes"
    )))
}

impl context::Host for State {
    fn current(&mut self) -> context::Invocation {
        self.invocation.as_ref().map_or_else(
            || context::Invocation {
                request_id: String::new(),
                api: String::new(),
                stage: String::new(),
                requested_at: 0,
            },
            |call| context::Invocation {
                request_id: call.request_id.to_string(),
                api: call.scope.api.to_string(),
                stage: call.scope.stage.to_string(),
                requested_at: call.requested_at,
            },
        )
    }

    fn variables(&mut self) -> Fields {
        let variables = self
            .invocation
            .iter()
            .flat_map(|call| &call.scope.variables);
        variables
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

impl From<WitMessage> for Message {
    fn from(message: WitMessage) -> Self {
        match message {
            WitMessage::Text(text) => Self::Text(text),
            WitMessage::Binary(bytes) => Self::Binary(bytes),
        }
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
