//! The state of a gateway for tests: connections, groups, and the calls of the handler.

use std::collections::{BTreeMap, BTreeSet};

use super::answer;
use crate::connections::ConnectionInfo;
use crate::context::{Invocation, Value};
use crate::groups::PRINCIPAL;
use crate::{Closing, ConnectionId, Error, Fields, Handshake, Message};

// The gateway's defaults, as in `lockgate config schema`.
const ATTRIBUTES: usize = 4 << 10;
const GROUPS: usize = 64;
const MESSAGE: usize = 128 << 10;
const POSTS: u32 = 256;
/// Milliseconds. A handler takes none of them: the clock of a test stands still during an event.
const DEADLINE: u32 = 3_000;

// Limits that no configuration changes.
const GROUP_NAME: usize = 128;
const PAGE: u32 = 1_000;
const REASON: usize = 123;
const TIMES_END: u64 = 1 << 53;
/// A packet has no room for more. The gateway finds out how much the client's network takes, 1,100 bytes at least.
const DATAGRAM: usize = 1_200;

/// The time before the first event: the clock of a test advances only by a millisecond an event.
const FIRST: u64 = 1_700_000_000_000;

/// A call that a handler made to the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// [`connections::send`](crate::connections::send).
    Send {
        /// The connection.
        to: ConnectionId,
        /// The message.
        message: Message,
    },
    /// [`connections::send_datagram`](crate::connections::send_datagram).
    SendDatagram {
        /// The connection.
        to: ConnectionId,
        /// The payload.
        payload: Vec<u8>,
    },
    /// [`connections::close`](crate::connections::close).
    Close {
        /// The connection.
        id: ConnectionId,
        /// Code and reason.
        closing: Closing,
    },
    /// [`groups::publish`](crate::groups::publish) and [`groups::publish_except`](crate::groups::publish_except).
    Publish {
        /// The group.
        group: String,
        /// The message.
        message: Message,
        /// The connection that was left out.
        except: Option<ConnectionId>,
    },
}

#[derive(Debug, Default)]
pub(crate) struct GatewayState {
    variables: BTreeMap<String, String>,
    /// Who the clients to come are.
    identity: Identity,
    /// Whether they take datagrams, and the stage too.
    takes_datagrams: bool,
    connections: BTreeMap<ConnectionId, Connection>,
    pub(super) calls: Vec<Call>,
    /// The connection of the event under way.
    current: ConnectionId,
    /// The id of its message, if it is one.
    message_id: Option<String>,
    /// Whether it came as a datagram.
    is_datagram: bool,
    /// The number of events so far.
    events: u64,
    posts_left: u32,
}

/// What an authorizer says of a client.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity {
    pub(super) principal: Option<String>,
    pub(super) values: BTreeMap<String, Value>,
    pub(super) expires_at: Option<u64>,
}

impl Identity {
    /// These values, if they may be the client's.
    fn checked(&self, values: &[(String, Value)]) -> Result<BTreeMap<String, Value>, Error> {
        let renewed = crate::Identity {
            principal: self.principal.clone(),
            values: values.to_vec(),
            ..crate::Identity::anonymous()
        };
        if let Some(flaw) = answer::identity_flaw(&renewed) {
            return Err(Error::Invalid(flaw));
        }
        match answer::identity_excess(&renewed) {
            None => Ok(renewed.values.into_iter().collect()),
            Some(_) => Err(Error::TooLarge),
        }
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    life: Life,
    pub(super) identity: Identity,
    takes_datagrams: bool,
    pub(super) datagrams: Vec<Vec<u8>>,
    info: ConnectionInfo,
    attributes: BTreeMap<String, String>,
    groups: BTreeSet<String>,
    pub(super) received: Vec<Message>,
    pub(super) closing: Option<Closing>,
    pub(super) fails: Option<Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// The handler has not decided yet: other connections do not see this one.
    Opening,
    Open,
    Ended,
}

impl Connection {
    pub(super) fn attributes(&self) -> Fields {
        self.attributes.clone().into_iter().collect()
    }

    /// Queues a message, unless the test makes it fail.
    fn take(&mut self, message: &Message) -> Result<(), Error> {
        if self.closing.is_some() || self.life == Life::Ended {
            return Err(Error::Gone);
        }
        if let Some(error) = &self.fails {
            return Err(error.clone());
        }
        self.received.push(message.clone());
        Ok(())
    }
}

/// The calls of the test.
impl GatewayState {
    pub(super) fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    pub(super) fn take_datagrams(&mut self) {
        self.takes_datagrams = true;
    }

    /// Says who the clients to come are. Gives who they were before.
    pub(super) fn identify(&mut self, identity: Identity) -> Identity {
        std::mem::replace(&mut self.identity, identity)
    }

    /// Adds the connection of a client that asks to be let in.
    pub(super) fn open(&mut self, handshake: &Handshake) -> ConnectionId {
        let id = format!("connection-{:04}", self.connections.len() + 1);
        let now = FIRST + self.events + 1;
        let connection = Connection {
            life: Life::Opening,
            identity: self.identity.clone(),
            takes_datagrams: self.takes_datagrams,
            datagrams: Vec::new(),
            info: ConnectionInfo {
                connected_at: now,
                last_active_at: now,
                source_ip: handshake.source_ip.clone(),
                user_agent: handshake.header("user-agent").map(str::to_owned),
                domain_name: handshake.domain_name.clone(),
                subprotocol: None,
            },
            attributes: BTreeMap::new(),
            groups: BTreeSet::new(),
            received: Vec::new(),
            closing: None,
            fails: None,
        };
        self.connections.insert(id.clone(), connection);
        id
    }

    pub(super) fn let_in(&mut self, id: &str, subprotocol: Option<String>) {
        let connection = self.expect_mut(id);
        connection.life = Life::Open;
        connection.info.subprotocol = subprotocol;
    }

    /// Removes the connection of a refused client, and with it all effects of the handler.
    pub(super) fn turn_away(&mut self, id: &str) {
        self.connections.remove(id);
    }

    pub(super) fn end(&mut self, id: &str) {
        let connection = self.expect_mut(id);
        connection.life = Life::Ended;
        connection.groups.clear();
    }

    /// Begins an event.
    pub(super) fn begin(&mut self, id: &str, route_key: &str, is_datagram: bool) {
        self.is_datagram = is_datagram;
        id.clone_into(&mut self.current);
        self.events += 1;
        let is_message = !matches!(route_key, "$connect" | "$disconnect");
        self.message_id = is_message.then(|| format!("message-{:04}", self.events));
        self.posts_left = POSTS;
        let now = FIRST + self.events;
        if let Some(connection) = self.connections.get_mut(id) {
            connection.info.last_active_at = now;
        }
    }

    #[track_caller]
    pub(super) fn expect(&self, id: &str) -> &Connection {
        let connection = self.connections.get(id);
        connection.unwrap_or_else(|| unknown(id))
    }

    #[track_caller]
    pub(super) fn expect_mut(&mut self, id: &str) -> &mut Connection {
        let connection = self.connections.get_mut(id);
        connection.unwrap_or_else(|| unknown(id))
    }

    #[track_caller]
    pub(super) fn expect_open(&self, id: &str) {
        assert!(
            self.expect(id).life == Life::Open,
            "the connection {id} has ended: it has no events any more"
        );
    }

    #[track_caller]
    pub(super) fn expect_datagrams(&self, id: &str) {
        assert!(
            self.expect(id).takes_datagrams,
            "the client of {id} takes no datagrams: call Gateway::take_datagrams before it connects"
        );
    }

    /// The members of a group, ordered by id: of a principal's group its connections.
    pub(super) fn members_of(&self, group: &str) -> Vec<ConnectionId> {
        let principal = group.strip_prefix(PRINCIPAL);
        let members = self.connections.iter().filter(|(_, connection)| {
            let is_member = match principal {
                Some(_) => connection.identity.principal.as_deref() == principal,
                None => connection.groups.contains(group),
            };
            connection.life == Life::Open && is_member
        });
        members.map(|(id, _)| id.clone()).collect()
    }
}

/// Checks that connections join and leave the group by themselves.
fn check_chosen(group: &str) -> Result<(), Error> {
    if group.starts_with(PRINCIPAL) {
        let why = "a connection is in the group of its principal as long as it is open";
        return Err(Error::Invalid(why.into()));
    }
    Ok(())
}

#[track_caller]
#[expect(clippy::panic, reason = "a test fails where it stands")]
fn unknown(id: &str) -> ! {
    panic!("there is no connection {id}: `Gateway::connect` gives the ids of those there are")
}

/// The calls of the handler.
impl GatewayState {
    /// The event's own connection in any state, or an open one.
    fn connection(&mut self, id: &str) -> Result<&mut Connection, Error> {
        let own = id == self.current;
        let connection = self.connections.get_mut(id).ok_or(Error::Gone)?;
        (own || connection.life == Life::Open)
            .then_some(connection)
            .ok_or(Error::Gone)
    }

    fn take_post(&mut self) -> Result<(), Error> {
        self.posts_left = self.posts_left.checked_sub(1).ok_or(Error::Busy)?;
        Ok(())
    }

    pub(super) fn send(&mut self, to: &str, message: &Message) -> Result<(), Error> {
        self.calls.push(Call::Send {
            to: to.to_owned(),
            message: message.clone(),
        });
        self.connection(to)?;
        self.take_post()?;
        check_length(message)?;
        self.connection(to)?.take(message)
    }

    pub(super) fn send_datagram(&mut self, to: &str, payload: &[u8]) -> Result<(), Error> {
        self.calls.push(Call::SendDatagram {
            to: to.to_owned(),
            payload: payload.to_vec(),
        });
        self.connection(to)?;
        self.take_post()?;
        if !self.takes_datagrams {
            return Err(Error::Denied);
        }
        let connection = self.connection(to)?;
        if !connection.takes_datagrams {
            return Err(Error::Invalid("the client takes no datagrams".into()));
        }
        if connection.closing.is_some() || connection.life == Life::Ended {
            return Err(Error::Gone);
        }
        if payload.len() > DATAGRAM {
            return Err(Error::TooLarge);
        }
        if let Some(error) = &connection.fails {
            return Err(error.clone());
        }
        if connection.life == Life::Open {
            connection.datagrams.push(payload.to_vec());
        }
        Ok(())
    }

    pub(super) fn close(&mut self, id: &str, code: u16, reason: &str) -> Result<(), Error> {
        let closing = Closing {
            code,
            reason: reason.to_owned(),
        };
        self.calls.push(Call::Close {
            id: id.to_owned(),
            closing: closing.clone(),
        });
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(Error::Invalid(format!(
                "no endpoint may send the close code {code}"
            )));
        }
        if reason.len() > REASON {
            return Err(Error::Invalid(format!(
                "a reason has at most {REASON} bytes"
            )));
        }
        let connection = self.connection(id)?;
        if connection.closing.is_some() || connection.life == Life::Ended {
            return Err(Error::Gone);
        }
        connection.closing = Some(closing);
        Ok(())
    }

    pub(super) fn info(&mut self, id: &str) -> Result<ConnectionInfo, Error> {
        Ok(self.connection(id)?.info.clone())
    }

    pub(super) fn attribute(&mut self, id: &str, name: &str) -> Result<Option<String>, Error> {
        Ok(self.connection(id)?.attributes.get(name).cloned())
    }

    pub(super) fn attributes(&mut self, id: &str) -> Result<Fields, Error> {
        Ok(self.connection(id)?.attributes())
    }

    pub(super) fn set_attribute(
        &mut self,
        id: &str,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), Error> {
        let attributes = &mut self.connection(id)?.attributes;
        if name.is_empty() {
            return Err(Error::Invalid("an attribute's name is empty".into()));
        }
        let Some(value) = value else {
            attributes.remove(name);
            return Ok(());
        };
        let others = attributes.iter().filter(|(other, _)| *other != name);
        let size = |name: &str, value: &str| 8 + name.len() + value.len();
        let held: usize = others.map(|(name, value)| size(name, value)).sum();
        if held + size(name, value) > ATTRIBUTES {
            return Err(Error::TooLarge);
        }
        attributes.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    pub(super) fn join(&mut self, group: &str, id: &str) -> Result<(), Error> {
        check_chosen(group)?;
        if !(1..=GROUP_NAME).contains(&group.len()) {
            return Err(Error::Invalid(format!(
                "a group's name has 1 to {GROUP_NAME} bytes"
            )));
        }
        let connection = self.connection(id)?;
        if connection.life == Life::Ended {
            return Err(Error::Gone);
        }
        if !connection.groups.contains(group) && connection.groups.len() >= GROUPS {
            return Err(Error::Busy);
        }
        connection.groups.insert(group.to_owned());
        Ok(())
    }

    pub(super) fn leave(&mut self, group: &str, id: &str) -> Result<(), Error> {
        check_chosen(group)?;
        self.connection(id)?.groups.remove(group);
        Ok(())
    }

    pub(super) fn publish(
        &mut self,
        group: &str,
        message: &Message,
        except: Option<&str>,
    ) -> Result<u32, Error> {
        self.calls.push(Call::Publish {
            group: group.to_owned(),
            message: message.clone(),
            except: except.map(str::to_owned),
        });
        self.take_post()?;
        check_length(message)?;
        let mut reached = 0;
        for id in self.members_of(group) {
            if Some(&*id) == except {
                continue;
            }
            let member = self.expect_mut(&id);
            match member.take(message) {
                Ok(()) => reached += 1,
                Err(Error::Gone) => {}
                Err(Error::Busy) => {
                    member.closing = Some(Closing {
                        code: 1013,
                        reason: "slow consumer".into(),
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(reached)
    }

    pub(super) fn members(
        &mut self,
        group: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ConnectionId>, Error> {
        if !(1..=PAGE).contains(&limit) {
            return Err(Error::Invalid(format!("limit is 1 to {PAGE}")));
        }
        let members = self.members_of(group).into_iter();
        let rest = members.filter(|id| after.is_none_or(|after| id.as_str() > after));
        Ok(rest.take(limit as usize).collect())
    }

    pub(super) fn count(&mut self, group: &str) -> u32 {
        u32::try_from(self.members_of(group).len()).unwrap_or(u32::MAX)
    }

    pub(super) fn time_left(&mut self) -> u32 {
        DEADLINE
    }

    pub(super) fn invocation(&mut self) -> Invocation {
        Invocation {
            request_id: format!("request-{:04}", self.events),
            api: "api".into(),
            stage: "stage".into(),
            message_id: self.message_id.clone(),
            requested_at: FIRST + self.events,
        }
    }

    pub(super) fn is_datagram(&mut self) -> bool {
        self.is_datagram
    }

    pub(super) fn principal(&mut self) -> Option<String> {
        self.identity_of_event().principal.clone()
    }

    pub(super) fn authorizer(&mut self) -> Vec<(String, Value)> {
        self.identity_of_event()
            .values
            .clone()
            .into_iter()
            .collect()
    }

    pub(super) fn renew(
        &mut self,
        expires_at: u64,
        values: Option<&[(String, Value)]>,
    ) -> Result<(), Error> {
        let (now, is_message) = (FIRST + self.events, self.message_id.is_some());
        let connection = self.connection(&self.current.clone())?;
        if !is_message || connection.identity.principal.is_none() {
            return Err(Error::Denied);
        }
        if expires_at >= TIMES_END {
            let why = "the time until which it holds is not below 2^53";
            return Err(Error::Invalid(why.into()));
        }
        let values = match values {
            Some(values) => connection.identity.checked(values)?,
            None => connection.identity.values.clone(),
        };
        if expires_at <= now {
            let why = "the time until which it holds has passed; it is in milliseconds since 1970-01-01 UTC";
            return Err(Error::Invalid(why.into()));
        }
        if connection.closing.is_some() {
            return Err(Error::Gone);
        }
        connection.identity.values = values;
        connection.identity.expires_at = Some(expires_at);
        Ok(())
    }

    fn identity_of_event(&self) -> &Identity {
        &self.expect(&self.current).identity
    }

    pub(super) fn variables(&mut self) -> Fields {
        self.variables.clone().into_iter().collect()
    }
}

pub(super) fn check_length(message: &Message) -> Result<(), Error> {
    if message.as_bytes().len() > MESSAGE {
        return Err(Error::TooLarge);
    }
    Ok(())
}
