//! The three kinds of event a handler is called for, each with its answer.

use std::future::Future;

use wasmtime::Store;

use super::bindings::exports::lockgate::plugin::handler as wit;
use super::instance::State;
use super::pool::Line;
use crate::connections::{Closing, Message};
use crate::plugin::Invocation;

/// What the client asked for when it connected.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    pub(crate) query: Vec<(String, String)>,
    /// Names in lower case, values that are not UTF-8 left out.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) source_ip: String,
}

/// The handler lets the client in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acceptance {
    pub(crate) subprotocol: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

/// The handler turns the client away. Not checked yet.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: Option<String>,
}

/// An event that a handler can be called for.
pub(crate) trait Event: Send + 'static {
    type Answer: Send + 'static;

    /// Where it waits when all instances are busy.
    const LINE: Line = Line::Bounded;

    /// Calls the export. The outer error is a trap, the inner one the handler's own failure.
    fn call(
        self,
        handler: &wit::Guest,
        store: &mut Store<State>,
        invocation: &Invocation,
    ) -> impl Future<Output = wasmtime::Result<Result<Self::Answer, String>>> + Send;
}

fn event(invocation: &Invocation) -> wit::Event<'_> {
    wit::Event {
        connection_id: invocation.connection.id.as_str(),
        route_key: &invocation.route_key,
    }
}

impl Event for Handshake {
    type Answer = Result<Acceptance, Refusal>;

    async fn call(
        self,
        handler: &wit::Guest,
        store: &mut Store<State>,
        invocation: &Invocation,
    ) -> wasmtime::Result<Result<Self::Answer, String>> {
        let query = borrow(&self.query);
        let headers = borrow(&self.headers);
        let subprotocols: Vec<_> = self.subprotocols.iter().map(String::as_str).collect();
        let request = wit::Handshake {
            query: &query,
            headers: &headers,
            subprotocols: &subprotocols,
            source_ip: &self.source_ip,
        };
        let answer = handler
            .call_on_connect(store, event(invocation), request)
            .await?;
        Ok(Ok(match answer {
            Ok(wit::Acceptance {
                subprotocol,
                headers,
            }) => Ok(Acceptance {
                subprotocol,
                headers,
            }),
            Err(wit::Refusal { status, message }) => Err(Refusal { status, message }),
        }))
    }
}

impl Event for Message {
    type Answer = Option<Self>;

    async fn call(
        self,
        handler: &wit::Guest,
        store: &mut Store<State>,
        invocation: &Invocation,
    ) -> wasmtime::Result<Result<Self::Answer, String>> {
        let message = match &self {
            Self::Text(text) => wit::MessageParam::Text(text),
            Self::Binary(bytes) => wit::MessageParam::Binary(bytes),
        };
        let answer = handler
            .call_on_message(store, event(invocation), message)
            .await?;
        Ok(answer.map(|reply| {
            reply.map(|message| match message {
                wit::MessageResult::Text(text) => Self::Text(text),
                wit::MessageResult::Binary(bytes) => Self::Binary(bytes),
            })
        }))
    }
}

impl Event for Closing {
    type Answer = ();

    /// Each connection has one, and none is dropped: no more wait than there are connections.
    const LINE: Line = Line::Everyone;

    async fn call(
        self,
        handler: &wit::Guest,
        store: &mut Store<State>,
        invocation: &Invocation,
    ) -> wasmtime::Result<Result<Self::Answer, String>> {
        let closing = wit::Closing {
            code: self.code,
            reason: &self.reason,
        };
        handler
            .call_on_disconnect(store, event(invocation), closing)
            .await?;
        Ok(Ok(()))
    }
}

fn borrow(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}
