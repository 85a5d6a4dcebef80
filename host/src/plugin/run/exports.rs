//! The exports of a plugin, one for each kind of event.

use std::future::Future;

use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};

use super::bindings::exports::lockgate::plugin::{authorizer, handler as wit};
use super::bindings::lockgate::plugin::context;
use super::instance::HostState;
use super::pool::Line;
use crate::auth::{Identity, Value};
use crate::connections::{Closing, Message};
use crate::invocation::{Acceptance, Authorize, Denial, Event, Handshake, Invocation};

/// Where a component has its exports.
#[derive(Clone)]
pub(crate) struct ExportIndices {
    handler: Option<wit::GuestIndices>,
    authorizer: Option<authorizer::GuestIndices>,
}

/// The exports of one instance.
pub(crate) struct Exports {
    handler: Option<wit::Guest>,
    authorizer: Option<authorizer::Guest>,
}

/// An event whose handler is an export.
pub(crate) trait Export: Event {
    /// The line in which its call waits while all instances are busy.
    const LINE: Line = Line::Bounded;

    /// Whether a handshake waits for the answer.
    const IS_HANDSHAKE: bool = false;

    /// Calls the export. The outer error is a trap, the inner one the handler's own failure.
    fn call(
        self,
        exports: &Exports,
        store: &mut Store<HostState>,
        invocation: &Invocation,
    ) -> impl Future<Output = wasmtime::Result<Result<Self::Answer, String>>> + Send;
}

impl ExportIndices {
    pub(crate) fn of<T>(component: &InstancePre<T>) -> Self {
        Self {
            handler: wit::GuestIndices::new(component).ok(),
            authorizer: authorizer::GuestIndices::new(component).ok(),
        }
    }

    /// The exports of an instance. Fails when the type of one is not the contract's.
    pub(crate) fn load(
        &self,
        store: &mut Store<HostState>,
        instance: &Instance,
    ) -> wasmtime::Result<Exports> {
        let (handler, authorizer) = (self.handler.as_ref(), self.authorizer.as_ref());
        Ok(Exports {
            handler: handler
                .map(|handler| handler.load(&mut *store, instance))
                .transpose()?,
            authorizer: authorizer
                .map(|authorizer| authorizer.load(&mut *store, instance))
                .transpose()?,
        })
    }
}

impl Exports {
    fn handler(&self) -> wasmtime::Result<&wit::Guest> {
        // A load checks that a component exports what its plugin is called for.
        let handler = self.handler.as_ref();
        handler.ok_or_else(|| wasmtime::format_err!("the component exports no handler"))
    }

    fn authorizer(&self) -> wasmtime::Result<&authorizer::Guest> {
        let authorizer = self.authorizer.as_ref();
        authorizer.ok_or_else(|| wasmtime::format_err!("the component exports no authorizer"))
    }
}

fn event(invocation: &Invocation) -> wit::Event<'_> {
    wit::Event {
        connection_id: invocation.connection.id.as_str(),
        route_key: &invocation.route_key,
    }
}

impl Export for Handshake {
    const IS_HANDSHAKE: bool = true;

    async fn call(
        self,
        exports: &Exports,
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
            certificate_subject: self.certificate_subject(),
        };
        let answer = exports
            .handler()?
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
        exports: &Exports,
        store: &mut Store<HostState>,
        invocation: &Invocation,
    ) -> wasmtime::Result<Result<Self::Answer, String>> {
        let message = match &self {
            Self::Text(text) => wit::MessageParam::Text(text),
            Self::Binary(bytes) => wit::MessageParam::Binary(bytes),
        };
        let answer = exports
            .handler()?
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
        exports: &Exports,
        store: &mut Store<HostState>,
        invocation: &Invocation,
    ) -> wasmtime::Result<Result<Self::Answer, String>> {
        let closing = wit::Closing {
            code: self.code,
            reason: &self.reason,
        };
        exports
            .handler()?
            .call_on_disconnect(store, event(invocation), closing)
            .await?;
        Ok(Ok(()))
    }
}

impl Export for Authorize {
    const IS_HANDSHAKE: bool = true;

    async fn call(
        self,
        exports: &Exports,
        store: &mut Store<HostState>,
        invocation: &Invocation,
    ) -> wasmtime::Result<Result<Self::Answer, String>> {
        let Self(handshake) = self;
        let query = borrow(&handshake.query);
        let headers = borrow(&handshake.headers);
        let subprotocols: Vec<_> = handshake.subprotocols.iter().map(String::as_str).collect();
        let request = authorizer::Handshake {
            query: &query,
            headers: &headers,
            subprotocols: &subprotocols,
            source_ip: &handshake.source_ip,
            domain_name: &handshake.domain_name,
            path: &handshake.path,
            http_version: handshake.http_version,
            secure: handshake.secure,
            certificate_subject: handshake.certificate_subject(),
        };
        let id = invocation.connection.id.as_str();
        let answer = exports.authorizer()?.call_authorize(store, id, request);
        Ok(match answer.await? {
            Ok(said) => identity(said).map(Ok),
            Err(authorizer::Refusal { status, message }) => Ok(Err(Denial { status, message })),
        })
    }
}

fn identity(said: authorizer::Identity) -> Result<Identity, String> {
    let values = said.values.into_iter();
    let values = values.map(|(name, value)| (name.into(), value.into()));
    let scopes = said.scopes.into_iter().map(Into::into).collect();
    let principal = said.principal.map(Into::into);
    let identity = Identity::new(principal, values.collect(), scopes, said.expires_at);
    identity.map_err(|error| error.to_string())
}

impl From<context::Value> for Value {
    fn from(value: context::Value) -> Self {
        match value {
            context::Value::Text(text) => Self::Text(text.into()),
            context::Value::Number(number) => Self::Number(number),
            context::Value::Flag(flag) => Self::Flag(flag),
        }
    }
}

fn borrow(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}
