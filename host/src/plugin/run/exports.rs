//! The exports of a handler, one for each kind of event.

use std::future::Future;

use wasmtime::Store;

use super::bindings::exports::lockgate::plugin::handler as wit;
use super::instance::HostState;
use super::pool::Line;
use crate::connections::{Closing, Message};
use crate::invocation::{Acceptance, Denial, Event, Handshake, Invocation};

/// An event whose handler is an export.
pub(crate) trait Export: Event {
    /// The line in which its call waits while all instances are busy.
    const LINE: Line = Line::Bounded;

    /// Calls the export. The outer error is a trap, the inner one the handler's own failure.
    fn call(
        self,
        handler: &wit::Guest,
        store: &mut Store<HostState>,
        invocation: &Invocation,
    ) -> impl Future<Output = wasmtime::Result<Result<Self::Answer, String>>> + Send;
}

fn event(invocation: &Invocation) -> wit::Event<'_> {
    wit::Event {
        connection_id: invocation.connection.id.as_str(),
        route_key: &invocation.route_key,
    }
}

impl Export for Handshake {
    async fn call(
        self,
        handler: &wit::Guest,
        store: &mut Store<HostState>,
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
            domain_name: &self.domain_name,
            path: &self.path,
            http_version: self.http_version,
            secure: self.secure,
            certificate_subject: self.certificate_subject.as_deref(),
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
            Err(wit::Refusal { status, message }) => Err(Denial { status, message }),
        }))
    }
}

impl Export for Message {
    async fn call(
        self,
        handler: &wit::Guest,
        store: &mut Store<HostState>,
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

impl Export for Closing {
    /// No `$disconnect` is dropped: each connection has one, so the number that wait is bounded.
    const LINE: Line = Line::Unbounded;

    async fn call(
        self,
        handler: &wit::Guest,
        store: &mut Store<HostState>,
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
