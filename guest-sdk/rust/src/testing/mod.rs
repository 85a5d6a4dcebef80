//! A gateway for the tests of a [`Handler`] or an [`Authorizer`]: it runs the plugin where `cargo test` runs, without a component, a socket
//! or a configuration.
//!
//! ```
//! use lockgate_plugin::testing::Gateway;
//! use lockgate_plugin::{Event, Handler, Message, Result, connections};
//!
//! struct Relay;
//!
//! impl Handler for Relay {
//!     fn message(_: Event, message: Message) -> Result<Option<Message>> {
//!         let (to, text) = message.as_text().and_then(|line| line.split_once(' ')).ok_or("to whom?")?;
//!         connections::send(to, text)?;
//!         Ok(Some("sent".into()))
//!     }
//! }
//!
//! let mut gateway = Gateway::<Relay>::new();
//! let ada = gateway.connect().unwrap();
//! let bob = gateway.connect().unwrap();
//!
//! let answer = gateway.message(&ada, format!("{bob} hello"));
//! assert_eq!(answer, Ok(Some("sent".into())));
//! assert_eq!(gateway.received(&bob), ["hello".into()]);
//!
//! gateway.disconnect(&bob);
//! assert!(gateway.message(&ada, format!("{bob} hello")).is_err());
//! ```
//!
//! It answers as the gateway does under the defaults of its configuration: calls in [`connect`](Handler::connect) take
//! effect when the client is let in, a connection leaves its groups when it ends, arguments that can never be right are
//! [`Error::Invalid`], and the limits of attributes, groups, messages and sends are the default ones. [`Gateway::fail`]
//! makes it refuse sends that it would take.
//!
//! It has its bounds: it runs no two events at once, knows no routes but the ones that you name, interrupts no handler
//! that takes too long, and drops no answer, since the configuration says which routes are two-way.

mod answer;
pub(crate) mod calls;
mod state;

use std::marker::PhantomData;

use crate::context::Value;
use crate::{
    Authorizer, Closing, ConnectionId, Error, Event, Fields, Handler, Handshake, Identity, Message,
    Refusal, Result,
};

pub use state::Call;
use state::GatewayState;

/// A gateway that has the plugin `P`: the handler behind every route, the authorizer, or both.
#[derive(Debug)]
pub struct Gateway<P> {
    state: GatewayState,
    plugin: PhantomData<P>,
}

impl<P> Gateway<P> {
    /// A gateway with the API `api` and its stage `stage`, which has no variables.
    pub fn new() -> Self {
        Self {
            state: GatewayState::default(),
            plugin: PhantomData,
        }
    }

    /// Gives the stage a variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.state.set_variable(name, value);
        self
    }

    /// Makes the clients that connect from now on this principal, with these values of the authorizer.
    ///
    /// ```
    /// # use lockgate_plugin::Handler;
    /// # use lockgate_plugin::context::Value;
    /// # use lockgate_plugin::testing::Gateway;
    /// # struct Quiet;
    /// # impl Handler for Quiet {}
    /// let mut gateway = Gateway::<Quiet>::new();
    /// gateway.identify("ada", [("seats", Value::Number(3.0))]);
    /// let ada = gateway.connect().unwrap();
    /// ```
    pub fn identify<'a>(
        &mut self,
        principal: &str,
        values: impl IntoIterator<Item = (&'a str, Value)>,
    ) {
        let values = values.into_iter();
        self.state.identify(state::Identity {
            principal: Some(principal.to_owned()),
            values: values
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            expires_at: None,
        });
    }

    /// Runs the plugin for one event that is no message.
    fn run<T>(&mut self, id: &str, route_key: &str, handle: impl FnOnce(Event) -> T) -> T {
        self.state.begin(id, route_key, false);
        self.handle(id, route_key, handle)
    }

    fn handle<T>(&mut self, id: &str, route_key: &str, handle: impl FnOnce(Event) -> T) -> T {
        let event = Event {
            connection_id: id.to_owned(),
            route_key: route_key.to_owned(),
        };
        calls::answered_by(&mut self.state, || handle(event))
    }
}

impl<A: Authorizer> Gateway<A> {
    /// Asks the authorizer about a client with this request. Fails when it refuses the client; and with 500 and the cause, as the
    /// gateway does, when its answer is no identity. Nobody is connected by it.
    ///
    /// ```
    /// # use lockgate_plugin::testing::{Gateway, handshake};
    /// # use lockgate_plugin::{Authorizer, ConnectionId, Handshake, Identity, Refusal, Result};
    /// # struct Door;
    /// # impl Authorizer for Door {
    /// #     fn authorize(_: ConnectionId, _: Handshake) -> Result<Identity, Refusal> {
    /// #         Ok(Identity::new("ada"))
    /// #     }
    /// # }
    /// let request = Handshake {
    ///     query: vec![("ticket".into(), "swordfish".into())],
    ///     ..handshake()
    /// };
    /// assert_eq!(Gateway::<Door>::new().authorize(request), Ok(Identity::new("ada")));
    /// ```
    pub fn authorize(&mut self, handshake: Handshake) -> Result<Identity, Refusal> {
        // The gateway knows nothing of the client yet.
        let before = self.state.identify(state::Identity::default());
        let id = self.state.open(&handshake);
        let answer = self.run(&id, "$connect", |event| {
            A::authorize(event.connection_id, handshake)
        });
        self.state.turn_away(&id);
        self.state.identify(before);
        answer::identity(answer)
    }
}

impl<H: Handler> Gateway<H> {
    /// Gives the stage `datagrams = true`, and makes the clients that connect from now on speak WebTransport and take them.
    /// Without it, [`connections::send_datagram`](crate::connections::send_datagram) is [`Denied`](Error::Denied).
    ///
    /// ```
    /// # use lockgate_plugin::{Handler, Event, Message, Result, connections};
    /// # use lockgate_plugin::testing::Gateway;
    /// # struct Echo;
    /// # impl Handler for Echo {
    /// #     fn message(event: Event, message: Message) -> Result<Option<Message>> {
    /// #         connections::send_datagram(&event.connection_id, message.as_bytes())?;
    /// #         Ok(None)
    /// #     }
    /// # }
    /// let mut gateway = Gateway::<Echo>::new();
    /// gateway.take_datagrams();
    /// let ada = gateway.connect().unwrap();
    /// assert_eq!(gateway.datagram(&ada, b"position"), Ok(None));
    /// assert_eq!(gateway.received_datagrams(&ada), [b"position"]);
    /// ```
    pub fn take_datagrams(&mut self) {
        self.state.take_datagrams();
    }

    /// Connects a client, as [`handshake`] makes its request.
    pub fn connect(&mut self) -> Result<ConnectionId, Refusal> {
        self.connect_with(handshake())
    }

    /// Connects a client with this request, and returns the id of its connection. Fails when the handler refuses it; and
    /// with 502 and the cause, as the gateway does, when the handler's answer cannot be sent.
    ///
    /// ```
    /// # use lockgate_plugin::testing::{Gateway, handshake};
    /// # use lockgate_plugin::{Handler, Handshake};
    /// # struct Quiet;
    /// # impl Handler for Quiet {}
    /// let mut gateway = Gateway::<Quiet>::new();
    /// let request = Handshake {
    ///     query: vec![("name".into(), "ada".into())],
    ///     ..handshake()
    /// };
    /// let ada = gateway.connect_with(request).unwrap();
    /// ```
    pub fn connect_with(&mut self, handshake: Handshake) -> Result<ConnectionId, Refusal> {
        let id = self.state.open(&handshake);
        let offered = handshake.subprotocols.clone();
        let answer = self.run(&id, "$connect", |event| H::connect(event, handshake));
        match answer::checked(answer, &offered) {
            Ok(acceptance) => {
                self.state.let_in(&id, acceptance.subprotocol);
                Ok(id)
            }
            Err(refusal) => {
                self.state.turn_away(&id);
                Err(refusal)
            }
        }
    }

    /// Sends a message from a client to the route `$default`, and returns the handler's answer.
    ///
    /// The limit of a message is the gateway's: a client that sends more is closed with 1009, and a longer answer is a
    /// failure.
    ///
    /// # Panics
    ///
    /// When there is no such connection, or not any more.
    #[track_caller]
    pub fn message(&mut self, id: &str, message: impl Into<Message>) -> Result<Option<Message>> {
        self.message_on("$default", id, message)
    }

    /// As [`message`](Self::message), to the route with this key.
    ///
    /// # Panics
    ///
    /// When there is no such connection, or not any more.
    #[track_caller]
    pub fn message_on(
        &mut self,
        route_key: &str,
        id: &str,
        message: impl Into<Message>,
    ) -> Result<Option<Message>> {
        self.deliver(route_key, id, message.into(), false)
    }

    /// Sends a datagram from a client to the route `$default`: a binary message, for which
    /// [`context::is_datagram`](crate::context::is_datagram) is true. Returns the handler's answer.
    ///
    /// # Panics
    ///
    /// When there is no such connection, or not any more; and when it takes no datagrams ([`Self::take_datagrams`]).
    #[track_caller]
    pub fn datagram(&mut self, id: &str, payload: &[u8]) -> Result<Option<Message>> {
        self.datagram_on("$default", id, payload)
    }

    /// As [`datagram`](Self::datagram), to the route with this key.
    ///
    /// # Panics
    ///
    /// When there is no such connection, or not any more; and when it takes no datagrams ([`Self::take_datagrams`]).
    #[track_caller]
    pub fn datagram_on(
        &mut self,
        route_key: &str,
        id: &str,
        payload: &[u8],
    ) -> Result<Option<Message>> {
        self.state.expect_datagrams(id);
        self.deliver(route_key, id, payload.into(), true)
    }

    #[track_caller]
    fn deliver(
        &mut self,
        route_key: &str,
        id: &str,
        message: Message,
        is_datagram: bool,
    ) -> Result<Option<Message>> {
        self.state.expect_open(id);
        if state::check_length(&message).is_err() {
            let reason = "message too big".to_owned();
            self.disconnect_with(id, Closing { code: 1009, reason });
            return Err(
                "the client's message is over limits.message_kib: it was closed with 1009".into(),
            );
        }
        self.state.begin(id, route_key, is_datagram);
        let answer = self.handle(id, route_key, |event| H::message(event, message))?;
        if answer
            .as_ref()
            .is_some_and(|answer| state::check_length(answer).is_err())
        {
            return Err("the handler's reply is over limits.message_kib and is not sent".into());
        }
        Ok(answer)
    }

    /// Ends a connection: with the code of the handler's close, or by its client with 1000.
    ///
    /// # Panics
    ///
    /// When there is no such connection, or not any more.
    #[track_caller]
    pub fn disconnect(&mut self, id: &str) {
        let closing = self.closing(id).unwrap_or_else(|| Closing {
            code: 1000,
            reason: String::new(),
        });
        self.disconnect_with(id, closing);
    }

    /// Ends a connection with this code and reason; 1006 is the code of a client that was lost without a close frame.
    ///
    /// # Panics
    ///
    /// When there is no such connection, or not any more.
    #[track_caller]
    pub fn disconnect_with(&mut self, id: &str, closing: Closing) {
        self.state.expect_open(id);
        self.state.end(id);
        self.run(id, "$disconnect", |event| H::disconnect(event, closing));
    }

    /// Returns the messages that the handler has sent and published to a client since the last such call, in order. Answers
    /// to the client's own messages are not among them.
    ///
    /// # Panics
    ///
    /// When there has never been such a connection.
    #[track_caller]
    pub fn received(&mut self, id: &str) -> Vec<Message> {
        std::mem::take(&mut self.state.expect_mut(id).received)
    }

    /// Returns the datagrams that the handler has sent to a client since the last such call, in order.
    ///
    /// # Panics
    ///
    /// When there has never been such a connection.
    #[track_caller]
    pub fn received_datagrams(&mut self, id: &str) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.state.expect_mut(id).datagrams)
    }

    /// Returns the handler's calls since the last such call, in order: sends, publishes and closes, also those that failed.
    pub fn calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.state.calls)
    }

    /// Returns the code and reason with which the handler has closed a connection, if it has; 1013 when a publish found no
    /// room there.
    ///
    /// # Panics
    ///
    /// When there has never been such a connection.
    #[track_caller]
    pub fn closing(&self, id: &str) -> Option<Closing> {
        self.state.expect(id).closing.clone()
    }

    /// Makes every further message to this connection fail with this error; `None` ends that.
    ///
    /// A send returns the error. A publish continues as the gateway's does: a [`Busy`](Error::Busy) member is closed with
    /// 1013 and, like a [`Gone`](Error::Gone) one, not counted; any other error is the publish's own.
    ///
    /// # Panics
    ///
    /// When there has never been such a connection.
    #[track_caller]
    pub fn fail(&mut self, id: &str, error: impl Into<Option<Error>>) {
        self.state.expect_mut(id).fails = error.into();
    }

    /// Returns the members of a group, ordered by id.
    pub fn members(&self, group: &str) -> Vec<ConnectionId> {
        self.state.members_of(group)
    }

    /// Returns until when holds what let a client in, in milliseconds since 1970-01-01 UTC; `None` until a handler renews it with
    /// [`context::renew`](crate::context::renew), as a message of any route may here.
    ///
    /// # Panics
    ///
    /// When there has never been such a connection.
    #[track_caller]
    pub fn expires_at(&self, id: &str) -> Option<u64> {
        self.state.expect(id).identity.expires_at
    }

    /// Returns the attributes of a connection, ordered by name; after its end, its last ones.
    ///
    /// # Panics
    ///
    /// When there has never been such a connection.
    #[track_caller]
    pub fn attributes(&self, id: &str) -> Fields {
        self.state.expect(id).attributes()
    }
}

impl<P> Default for Gateway<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the request of a plain client.
pub fn handshake() -> Handshake {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Handshake {
        query: Vec::new(),
        headers: vec![
            header("host", "gateway.example"),
            header("user-agent", "test"),
        ],
        subprotocols: Vec::new(),
        source_ip: "203.0.113.7".to_owned(),
        domain_name: "gateway.example".to_owned(),
        path: "/stage".to_owned(),
        http_version: "1.1".to_owned(),
        secure: true,
        certificate_subject: None,
    }
}

#[cfg(test)]
mod tests;
