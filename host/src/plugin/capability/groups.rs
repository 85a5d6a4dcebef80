//! `lockgate:plugin/groups`: join and leave groups, publish to them.

use wasmtime::component::HasSelf;

use super::call;
use super::{Capability, Interface};
use crate::config::Grant;
use crate::connections::{ConnectionId, JoinError, MAX_NAME, MAX_PAGE, Message, is_reserved};
use crate::plugin::run::bindings::lockgate::plugin::groups;
use crate::plugin::run::bindings::lockgate::plugin::types::{Error, MessageResult as WitMessage};
use crate::plugin::run::instance::HostState;
use crate::plugin::run::limit::Limit;

pub(super) const CAPABILITY: Capability = Capability {
    grant: Some(Grant::Groups),
    interfaces: &[Interface {
        name: "lockgate:plugin/groups",
        link: |linker| groups::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state),
    }],
};

impl groups::Host for HostState {
    fn join(&mut self, group: String, id: String) -> Result<(), Error> {
        check_name(&group)?;
        let most = self.invocation()?.scope.limits.groups;
        let joined = self.directory()?.join(&group, call::parse_id(&id)?);
        joined.map_err(|error| match error {
            JoinError::Gone => Error::Gone,
            JoinError::TooMany => {
                self.log_limit(Limit::Groups(most));
                Error::Busy
            }
        })
    }

    fn leave(&mut self, group: String, id: String) -> Result<(), Error> {
        check_chosen(&group)?;
        Ok(self.directory()?.leave(&group, call::parse_id(&id)?)?)
    }

    fn publish(
        &mut self,
        group: String,
        message: WitMessage,
        exclude: Option<String>,
    ) -> Result<u32, Error> {
        self.take_post()?;
        let exclude = exclude.as_deref().and_then(ConnectionId::parse);
        let message = Message::from(message);
        let bytes = message.len();
        let published = self.directory()?.publish(&group, message, exclude);
        published.map_err(|error| self.refuse_post(error, bytes))
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
        let members = self.directory()?.members(&group, after, limit);
        Ok(members.iter().map(ConnectionId::to_string).collect())
    }

    fn count(&mut self, group: String) -> Result<u32, Error> {
        let count = self.directory()?.count(&group);
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

/// Checks that connections join and leave the group by themselves.
fn check_chosen(group: &str) -> Result<(), Error> {
    if is_reserved(group) {
        let why = "a connection is in the group of its principal as long as it is open";
        return Err(Error::Invalid(why.into()));
    }
    Ok(())
}

fn check_name(group: &str) -> Result<(), Error> {
    check_chosen(group)?;
    if (1..=MAX_NAME).contains(&group.len()) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "a group's name has 1 to {MAX_NAME} bytes"
    )))
}
