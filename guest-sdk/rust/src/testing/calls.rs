//! The functions of `wit/` for a handler outside a gateway: the test's gateway answers them.

use std::cell::RefCell;

use super::state::GatewayState;

thread_local! {
    /// The gateway that answers while a handler runs on this thread.
    static GATEWAY: RefCell<Option<GatewayState>> = const { RefCell::new(None) };
}

/// Runs a function whose calls `state` answers, and puts the state back even after a panic.
pub(super) fn answered_by<T>(state: &mut GatewayState, run: impl FnOnce() -> T) -> T {
    struct Back<'a> {
        state: &'a mut GatewayState,
        before: Option<GatewayState>,
    }
    impl Drop for Back<'_> {
        fn drop(&mut self) {
            if let Some(state) = GATEWAY.replace(self.before.take()) {
                *self.state = state;
            }
        }
    }
    let before = GATEWAY.replace(Some(std::mem::take(state)));
    let _back = Back { state, before };
    run()
}

fn ask<T>(function: &str, call: impl FnOnce(&mut GatewayState) -> T) -> T {
    GATEWAY.with_borrow_mut(|gateway| {
        #[expect(clippy::panic, reason = "there is nobody to answer")]
        let Some(state) = gateway else {
            panic!(
                "lockgate_plugin::{function} was called where no gateway is: \
                 in a test, run the handler by lockgate_plugin::testing::Gateway"
            )
        };
        call(state)
    })
}

pub(crate) mod connections {
    use super::ask;
    use crate::connections::ConnectionInfo;
    use crate::{Error, Fields, Message};

    pub(crate) fn send(to: &str, message: &Message) -> Result<(), Error> {
        ask("connections::send", |gateway| gateway.send(to, message))
    }

    pub(crate) fn send_datagram(to: &str, payload: &[u8]) -> Result<(), Error> {
        ask("connections::send_datagram", |gateway| {
            gateway.send_datagram(to, payload)
        })
    }

    pub(crate) fn close(id: &str, code: u16, reason: &str) -> Result<(), Error> {
        ask("connections::close", |gateway| {
            gateway.close(id, code, reason)
        })
    }

    pub(crate) fn info(id: &str) -> Result<ConnectionInfo, Error> {
        ask("connections::info", |gateway| gateway.info(id))
    }

    pub(crate) fn attribute(id: &str, name: &str) -> Result<Option<String>, Error> {
        ask("connections::attribute", |gateway| {
            gateway.attribute(id, name)
        })
    }

    pub(crate) fn attributes(id: &str) -> Result<Fields, Error> {
        ask("connections::attributes", |gateway| gateway.attributes(id))
    }

    pub(crate) fn set_attribute(id: &str, name: &str, value: Option<&str>) -> Result<(), Error> {
        let function = match value {
            Some(_) => "connections::set_attribute",
            None => "connections::remove_attribute",
        };
        ask(function, |gateway| gateway.set_attribute(id, name, value))
    }
}

pub(crate) mod groups {
    use super::ask;
    use crate::{ConnectionId, Error, Message};

    pub(crate) fn join(group: &str, id: &str) -> Result<(), Error> {
        ask("groups::join", |gateway| gateway.join(group, id))
    }

    pub(crate) fn leave(group: &str, id: &str) -> Result<(), Error> {
        ask("groups::leave", |gateway| gateway.leave(group, id))
    }

    pub(crate) fn publish(
        group: &str,
        message: &Message,
        except: Option<&str>,
    ) -> Result<u32, Error> {
        let function = match except {
            None => "groups::publish",
            Some(_) => "groups::publish_except",
        };
        ask(function, |gateway| gateway.publish(group, message, except))
    }

    pub(crate) fn members(
        group: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ConnectionId>, Error> {
        ask("groups::members", |gateway| {
            gateway.members(group, after, limit)
        })
    }

    pub(crate) fn count(group: &str) -> Result<u32, Error> {
        ask("groups::count", |gateway| Ok(gateway.count(group)))
    }
}

pub(crate) mod context {
    use super::ask;
    use crate::context::{Invocation, Value};
    use crate::{Error, Fields};

    pub(crate) fn current() -> Invocation {
        ask("context::current", |gateway| gateway.invocation())
    }

    pub(crate) fn time_left() -> u32 {
        ask("context::time_left", |gateway| gateway.time_left())
    }

    pub(crate) fn is_datagram() -> bool {
        ask("context::is_datagram", |gateway| gateway.is_datagram())
    }

    pub(crate) fn principal() -> Option<String> {
        ask("context::principal", |gateway| gateway.principal())
    }

    pub(crate) fn authorizer() -> Vec<(String, Value)> {
        ask("context::authorizer", |gateway| gateway.authorizer())
    }

    pub(crate) fn renew(expires_at: u64, values: Option<&[(String, Value)]>) -> Result<(), Error> {
        let function = match values {
            None => "context::renew",
            Some(_) => "context::renew_with",
        };
        ask(function, |gateway| gateway.renew(expires_at, values))
    }

    pub(crate) fn variables() -> Fields {
        ask("context::variables", |gateway| gateway.variables())
    }
}
