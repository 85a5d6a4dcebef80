//! `lockgate:plugin/connections`: send to any connection of the stage, close it, keep attributes with it.

use wasmtime::component::HasSelf;

use super::{Capability, Interface};
use crate::config::Grant;
use crate::connections::{AttributeError, Closing, Message};
use crate::plugin::run::bindings::lockgate::plugin::connections;
use crate::plugin::run::bindings::lockgate::plugin::types::{
    Error, FieldsResult as Fields, MessageResult as WitMessage,
};
use crate::plugin::run::instance::HostState;
use crate::plugin::run::limit::Limit;

pub(super) const CAPABILITY: Capability = Capability {
    grant: Some(Grant::Connections),
    interfaces: &[Interface {
        name: "lockgate:plugin/connections",
        link: |linker| connections::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state),
    }],
};

/// Bytes of the longest reason of a close frame (RFC 6455 §5.5).
const MAX_REASON: usize = 123;

impl connections::Host for HostState {
    fn send(&mut self, to: String, message: WitMessage) -> Result<(), Error> {
        let connection = self.connection(&to)?;
        self.take_post()?;
        let message = Message::from(message);
        let bytes = message.len();
        let posted = connection.post(message, &self.invocation()?.scope.limits);
        posted.map_err(|error| self.refused(error, bytes))
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
