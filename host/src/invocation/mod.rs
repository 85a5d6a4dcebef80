//! The vocabulary of an invocation: the types by which sessions, integrations and plugins speak about one event.

mod answer;
mod error;
mod event;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tracing::field::{DisplayValue, display};

pub(crate) use answer::{Acceptance, Called, Denial};
pub(crate) use error::{Busy, Cut, InvokeError};
pub(crate) use event::{Authorize, Event, Handshake};

use crate::access_log::StageName;
use crate::connections::{Connection, ConnectionLimits, Directory, MessageId, RequestId, View};
use crate::counters::StageCounters;
use crate::otlp;
use crate::route;
use crate::trace_context::{SpanContext, SpanId, TraceId};

/// The stage that an event belongs to.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) api: Box<str>,
    pub(crate) stage: Box<str>,
    pub(crate) variables: BTreeMap<String, String>,
    /// The keys of the routes whose handlers may renew what let their clients in. Few routes are among them, and no message
    /// looks: only a handler that renews.
    pub(crate) renewing: Vec<Box<str>>,
    pub(crate) limits: ConnectionLimits,
    pub(crate) directory: Arc<Directory>,
    pub(crate) counters: Arc<StageCounters>,
}

impl Scope {
    pub(crate) fn name(&self) -> StageName<'_> {
        StageName {
            api: &self.api,
            stage: &self.stage,
        }
    }
}

/// The API's name and the stage's, as logs show them.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

/// The context of one event on its way to an integration.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) request_id: RequestId,
    pub(crate) scope: Arc<Scope>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) route_key: Arc<str>,
    /// Milliseconds since the Unix epoch.
    pub(crate) requested_at: u64,
    /// Whether the message came as a datagram.
    pub(crate) is_datagram: bool,
}

impl Invocation {
    /// The id of the message; none for the events `$connect` and `$disconnect`.
    pub(crate) fn message_id(&self) -> Option<MessageId> {
        let is_message = !matches!(&*self.route_key, route::CONNECT | route::DISCONNECT);
        is_message.then(|| self.request_id.into())
    }

    /// The span that the event belongs to, if it is recorded: of `$connect`, the handshake's.
    pub(crate) fn span(&self) -> Option<SpanContext> {
        match &*self.route_key {
            route::CONNECT => self.connection.span.as_deref().copied(),
            _ => otlp::span_of(self.request_id),
        }
    }

    /// The ids of trace and span, for its lines in the log.
    pub(crate) fn trace_ids(
        &self,
    ) -> (Option<DisplayValue<TraceId>>, Option<DisplayValue<SpanId>>) {
        let span = self.span();
        (
            span.map(|span| display(span.trace)),
            span.map(|span| display(span.span)),
        )
    }

    /// The directory of the stage. It finds the event's own connection even before it is let in and after its end.
    pub(crate) fn directory(&self) -> View<'_> {
        let scope = &self.scope;
        scope.directory.view(&scope.limits, Some(&self.connection))
    }
}
