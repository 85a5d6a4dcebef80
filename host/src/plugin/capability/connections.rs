//! `lockgate:plugin/connections`: send to any connection of the stage, close it, keep attributes with it.

use std::sync::atomic::Ordering;

use wasmtime::component::HasSelf;

use super::call;
use super::{Capability, Interface};
use crate::config::Grant;
use crate::connections::{
    AttributeError, Closer, Closing, Datagram, DatagramError, Message, PostError,
};
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

impl connections::Host for HostState {
    fn send(&mut self, to: String, message: WitMessage) -> Result<(), Error> {
        let to = call::parse_id(&to)?;
        if self.posts_left == 0 && !self.directory()?.has(to) {
            return Err(Error::Gone);
        }
        self.take_post()?;
        let message = Message::from(message);
        let bytes = message.len();
        let sent = self.directory()?.send(to, message);
        if sent == Err(PostError::Gone) {
            // A post to a connection that has gone does not count.
            self.posts_left += 1;
        }
        sent.map_err(|error| self.refuse_post(error, bytes))
    }

    fn send_datagram(&mut self, to: String, payload: Vec<u8>) -> Result<(), Error> {
        let to = call::parse_id(&to)?;
        if self.posts_left == 0 && !self.directory()?.has(to) {
            return Err(Error::Gone);
        }
        self.take_post()?;
        let sent = self.directory()?.send_datagram(to, &payload);
        let counters = &self.invocation()?.scope.counters.datagrams;
        match sent {
            Ok(Datagram::Sent) => counters.outgoing.fetch_add(1, Ordering::Relaxed),
            Ok(Datagram::Dropped) => counters.outgoing_dropped.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                if error == DatagramError::Gone {
                    // As for a message.
                    self.posts_left += 1;
                }
                return Err(self.refuse_datagram(error, payload.len()));
            }
        };
        Ok(())
    }

    fn close(&mut self, id: String, code: u16, reason: String) -> Result<(), Error> {
        let closing = Closing::checked(code, reason, Closer::Handler);
        let closing = closing.map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(self.directory()?.close(call::parse_id(&id)?, closing)?)
    }

    fn info(&mut self, id: String) -> Result<connections::ConnectionInfo, Error> {
        let info = self.directory()?.info(call::parse_id(&id)?)?;
        Ok(connections::ConnectionInfo {
            connected_at: info.connected_at,
            last_active_at: info.last_active_at,
            source_ip: info.client.source_ip.to_string(),
            user_agent: info.client.user_agent.map(String::from),
            domain_name: info.client.domain_name.into(),
            subprotocol: info.subprotocol,
        })
    }

    fn attribute(&mut self, id: String, name: String) -> Result<Option<String>, Error> {
        Ok(self.directory()?.attribute(call::parse_id(&id)?, &name)?)
    }

    fn attributes(&mut self, id: String) -> Result<Fields, Error> {
        Ok(self.directory()?.attributes(call::parse_id(&id)?)?)
    }

    fn set_attribute(
        &mut self,
        id: String,
        name: String,
        value: Option<String>,
    ) -> Result<(), Error> {
        let most = self.invocation()?.scope.limits.attributes_bytes;
        let directory = self.directory()?;
        let set = directory.set_attribute(call::parse_id(&id)?, &name, value.as_deref());
        set.map_err(|error| match error {
            AttributeError::Gone => Error::Gone,
            AttributeError::EmptyName => Error::Invalid(error.to_string()),
            AttributeError::TooLarge => {
                self.log_limit(Limit::Attributes(most));
                Error::TooLarge
            }
        })
    }
}
