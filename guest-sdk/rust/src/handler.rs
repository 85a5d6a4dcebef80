//! The trait that a plugin implements, the values that it takes and returns, and the macro that exports it.

use std::io::{Write as _, stdout};
use std::marker::PhantomData;

use crate::bindings::exports::lockgate::plugin::handler as contract;
use crate::{Acceptance, Closing, Event, Handshake, Message, Refusal, Result};

/// The functions of a plugin, one for each kind of event of a connection. Each has a default, so a plugin
/// implements only those that it needs.
///
/// The events of one connection come one after the other: its connect first, then its messages in the
/// order in which they arrived, then its disconnect.
///
/// # Why there is no `self`
///
/// The gateway decides which instance of the component gets an event. With `isolation = "per-message"`
/// it is a new one each time. With `isolation = "reused"` it is any idle one, which may have served other
/// connections, and which may be thrown away after the event. A `&mut self` would look like a place for a
/// connection's state, and would not be one. A connection's state goes into its
/// [attributes](crate::connections::attribute). A `static` is right for a cache that may be lost and that
/// every client may share.
///
/// # Panics
///
/// A panic ends the invocation as a [`Failure`](crate::Failure) would, with the panic's message in the
/// log, and the instance is thrown away. The same happens to a handler that runs past its deadline or
/// over its memory.
pub trait Handler {
    /// Lets a new client in or refuses it: the route `$connect`. The client waits for the answer.
    ///
    /// The connection does not exist for anyone else yet. The handler may already set its attributes, add it to
    /// groups and send to it. All of that takes effect when the client is let in, and is forgotten when it is
    /// refused.
    ///
    /// The default lets every client in.
    ///
    /// ```
    /// use lockgate_plugin::{Acceptance, Event, Handler, Handshake, Refusal};
    ///
    /// struct Members;
    ///
    /// impl Handler for Members {
    ///     fn connect(_: Event, handshake: Handshake) -> Result<Acceptance, Refusal> {
    ///         match handshake.query_parameter("ticket") {
    ///             Some("let me in") => Ok(Acceptance::new()),
    ///             Some(_) => Err(Refusal::new(403).message("not your ticket")),
    ///             None => Err(Refusal::new(401)),
    ///         }
    ///     }
    /// }
    /// ```
    fn connect(event: Event, handshake: Handshake) -> Result<Acceptance, Refusal> {
        let _ = (event, handshake);
        Ok(Acceptance::new())
    }

    /// Handles one message: the route `$default`, or a route with a key of your own.
    ///
    /// A two-way route sends the returned message to the client, a one-way route drops it; `None` sends nothing.
    /// A failure sends the client an error frame on either kind of route.
    ///
    /// The default drops the message.
    fn message(event: Event, message: Message) -> Result<Option<Message>> {
        let _ = (event, message);
        Ok(None)
    }

    /// Handles the end of a connection: the route `$disconnect`. It is called once for each client that was let
    /// in.
    ///
    /// The connection is gone for everyone and has left its groups; here its attributes and its info can still
    /// be read.
    ///
    /// The default does nothing.
    fn disconnect(event: Event, closing: Closing) {
        let _ = (event, closing);
    }
}

impl Handshake {
    /// The value of a parameter of the query string, the first if there are several.
    pub fn query_parameter(&self, name: &str) -> Option<&str> {
        let (_, value) = self.query.iter().find(|(key, _)| key == name)?;
        Some(value)
    }

    /// The value of a header, the first if there are several. The case of `name` does not matter.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value)
    }
}

impl Acceptance {
    /// Lets the client in, without a subprotocol and without headers of its own.
    pub fn new() -> Self {
        Self {
            subprotocol: None,
            headers: Vec::new(),
        }
    }

    /// Chooses one of the subprotocols that the client offered.
    #[must_use]
    pub fn subprotocol(mut self, subprotocol: impl Into<String>) -> Self {
        self.subprotocol = Some(subprotocol.into());
        self
    }

    /// Adds a header to the `101` response.
    ///
    /// `Connection`, `Upgrade`, `Content-Length`, `Transfer-Encoding` and every `Sec-WebSocket-*` are the
    /// gateway's own.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

impl Default for Acceptance {
    fn default() -> Self {
        Self::new()
    }
}

/// Exports a [`Handler`] as the plugin of this crate, for the gateway to call. Once in a crate.
///
/// ```
/// struct Quiet;
///
/// impl lockgate_plugin::Handler for Quiet {}
///
/// lockgate_plugin::export!(Quiet);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export {
    ($handler:ty) => {
        const _: () = {
            type Exported = $crate::Exported<$handler>;
            $crate::bindings::export! { Exported with_types_in $crate::bindings }
        };
    };
}

/// A [`Handler`] as the contract's exported functions.
#[doc(hidden)]
pub struct Exported<H>(PhantomData<H>);

impl<H: Handler> contract::Guest for Exported<H> {
    fn on_connect(event: Event, request: Handshake) -> Result<Acceptance, contract::Refusal> {
        let _flush = OutputFlush::at_end();
        H::connect(event, request).map_err(|refusal| {
            let (status, message) = refusal.told();
            contract::Refusal { status, message }
        })
    }

    fn on_message(event: Event, message: Message) -> Result<Option<Message>, String> {
        let _flush = OutputFlush::at_end();
        H::message(event, message).map_err(String::from)
    }

    fn on_disconnect(event: Event, closing: Closing) {
        let _flush = OutputFlush::at_end();
        H::disconnect(event, closing);
    }
}

/// Flushes standard output when the event ends: text without a newline would be logged with another client's event, or
/// never.
pub(crate) struct OutputFlush;

impl OutputFlush {
    pub(crate) fn at_end() -> Self {
        // A panic in a component runs no drop, since it ends the instance at once.
        #[cfg(target_family = "wasm")]
        {
            static HOOKED: std::sync::Once = std::sync::Once::new();
            HOOKED.call_once(|| {
                let report = std::panic::take_hook();
                std::panic::set_hook(Box::new(move |panic| {
                    let _ = stdout().flush();
                    report(panic);
                }));
            });
        }
        Self
    }
}

impl Drop for OutputFlush {
    fn drop(&mut self) {
        let _ = stdout().flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn handshake() -> Handshake {
        Handshake {
            query: vec![
                ("room".to_owned(), "lobby".to_owned()),
                ("room".to_owned(), "attic".to_owned()),
            ],
            headers: vec![("origin".to_owned(), "https://example.com".to_owned())],
            subprotocols: Vec::new(),
            source_ip: "203.0.113.7".to_owned(),
            domain_name: "gateway.example".to_owned(),
            path: "/stage".to_owned(),
            http_version: "1.1".to_owned(),
            secure: true,
            certificate_subject: None,
        }
    }

    #[test]
    fn first_value_of_a_name_is_found() {
        assert_eq!(handshake().query_parameter("room"), Some("lobby"));
        assert_eq!(handshake().query_parameter("Room"), None);
        assert_eq!(handshake().header("Origin"), Some("https://example.com"));
        assert_eq!(handshake().header("cookie"), None);
    }

    #[test]
    fn error_refuses_with_500_and_tells_the_client_nothing() {
        let refusal = Refusal::from(Error::Gone);
        assert_eq!(refusal.status, 500);
        assert_eq!(refusal.message, None);
        assert_eq!(refusal.cause.as_deref(), Some("the connection is gone"));
    }

    #[test]
    fn default_handler_accepts_and_answers_nothing() {
        struct Quiet;
        impl Handler for Quiet {}

        let event = Event {
            connection_id: "id".to_owned(),
            route_key: "$connect".to_owned(),
        };
        assert_eq!(
            Quiet::connect(event.clone(), handshake()),
            Ok(Acceptance::new())
        );
        assert_eq!(Quiet::message(event, "hi".into()), Ok(None));
    }
}
