//! Connections and groups as the admin API shows them.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::auth;
use crate::connections::{Description, MessageKind, TraceEvent, TraceStep, Traced};
use crate::stage::Stage;

/// A page of connections.
#[derive(Default, Serialize)]
pub(super) struct ConnectionPage {
    pub(super) connections: Vec<ListedConnection>,
    /// The `after` of the next page. None on the last one.
    pub(super) next: Option<String>,
}

/// A connection in a list.
#[derive(Serialize)]
pub(super) struct ListedConnection {
    pub(super) id: String,
    /// `API/STAGE`.
    pub(super) stage: String,
    /// Who the client is, as its authorizer says.
    pub(super) principal: Option<String>,
    pub(super) source_ip: String,
    /// The version of HTTP, and the protocol of the messages.
    pub(super) http: &'static str,
    pub(super) protocol: &'static str,
    /// Milliseconds since the Unix epoch.
    pub(super) connected_at: u64,
    /// The time of the last message in either direction, in milliseconds since the Unix epoch.
    pub(super) last_active_at: u64,
    /// Messages that wait for the client, and bytes of all that is unwritten.
    pub(super) queued_messages: usize,
    pub(super) queued_bytes: usize,
}

/// All that is known of a connection.
#[derive(Serialize)]
pub(super) struct ShownConnection {
    #[serde(flatten)]
    pub(super) listed: ListedConnection,
    pub(super) domain_name: String,
    pub(super) user_agent: Option<String>,
    pub(super) subprotocol: Option<String>,
    /// What else the authorizer says of the client.
    pub(super) authorizer: Map<String, Value>,
    pub(super) scopes: Vec<String>,
    /// When what has let the client in expires, in milliseconds since the Unix epoch.
    pub(super) expires_at: Option<u64>,
    pub(super) groups: Vec<String>,
    pub(super) attributes: Map<String, Value>,
    /// The requests that handled its last messages, newest first: the log has them.
    pub(super) last_request_ids: Vec<String>,
    /// The close that waits until the queue is written.
    pub(super) closing: Option<ShownClosing>,
    pub(super) limits: ShownLimits,
    /// The plugins that handle its events, each with the number of the version that serves it.
    pub(super) plugins: Map<String, Value>,
}

#[derive(Serialize)]
pub(super) struct ShownClosing {
    pub(super) code: u16,
    pub(super) reason: String,
}

/// The limits of its stage.
#[derive(Serialize)]
pub(super) struct ShownLimits {
    pub(super) message_bytes: usize,
    pub(super) outbox_bytes: usize,
    pub(super) outbox_messages: usize,
    pub(super) attributes_bytes: usize,
    pub(super) groups: usize,
    pub(super) idle_timeout_s: Option<u64>,
    pub(super) max_age_s: Option<u64>,
}

/// A page of groups.
#[derive(Serialize)]
pub(super) struct GroupPage {
    pub(super) groups: Vec<ListedGroup>,
    /// The `after` of the next page. None on the last one.
    pub(super) next: Option<String>,
}

#[derive(Serialize)]
pub(super) struct ListedGroup {
    pub(super) name: String,
    /// `API/STAGE`.
    pub(super) stage: String,
    pub(super) members: usize,
}

impl ListedConnection {
    pub(super) fn new(stage: &str, description: &Description) -> Self {
        Self {
            id: description.id.to_string(),
            stage: stage.to_owned(),
            principal: description
                .identity
                .as_ref()
                .and_then(|identity| identity.principal.as_deref().map(str::to_owned)),
            source_ip: description.client.source_ip.to_string(),
            http: description.client.carrier.http(),
            protocol: description.client.carrier.protocol(),
            connected_at: description.connected_at,
            last_active_at: description.last_active_at,
            queued_messages: description.queue.messages,
            queued_bytes: description.queue.bytes,
        }
    }
}

impl ShownConnection {
    pub(super) fn new(stage: &Stage, description: Description) -> Self {
        let limits = &stage.limits;
        let identity = description.identity.clone().unwrap_or_default();
        let plugins = stage.routes.versions_for(description.id);
        Self {
            listed: ListedConnection::new(&stage.scope.to_string(), &description),
            domain_name: description.client.domain_name.into(),
            user_agent: description.client.user_agent.map(String::from),
            subprotocol: description.subprotocol,
            authorizer: identity
                .values
                .iter()
                .map(|(name, value)| (name.to_string(), json_value(value)))
                .collect(),
            scopes: identity.scopes.iter().map(ToString::to_string).collect(),
            expires_at: identity.expires_at,
            groups: description.groups,
            attributes: description
                .attributes
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect(),
            last_request_ids: description
                .last_requests
                .iter()
                .map(ToString::to_string)
                .collect(),
            closing: description.closing.map(|closing| ShownClosing {
                code: closing.code,
                reason: closing.reason,
            }),
            limits: ShownLimits {
                message_bytes: limits.message_bytes,
                outbox_bytes: limits.outbox_bytes,
                outbox_messages: limits.outbox_messages,
                attributes_bytes: limits.attributes_bytes,
                groups: limits.groups,
                idle_timeout_s: limits.idle_timeout.map(|limit| limit.as_secs()),
                max_age_s: limits.max_age.map(|limit| limit.as_secs()),
            },
            plugins: plugins
                .into_iter()
                .map(|(name, version)| (name.to_owned(), version.into()))
                .collect(),
        }
    }
}

/// An event of a trace.
pub(super) fn traced(traced: Traced) -> Value {
    let TraceEvent { at, step } = match traced {
        Traced::Event(event) => event,
        Traced::Missed(events) => return json!({ "event": "missed", "events": events }),
    };
    match step {
        TraceStep::Handled {
            request_id,
            route,
            bytes,
            took,
            answer,
            error,
        } => json!({
            "event": "handled",
            "at": at,
            "request_id": request_id.to_string(),
            "route": route.as_deref(),
            "bytes": bytes,
            "took_ms": took.as_secs_f64() * 1_000.0,
            "answer_bytes": answer,
            "error": error,
        }),
        TraceStep::Queued { kind, bytes } => json!({
            "event": "queued",
            "at": at,
            "kind": match kind {
                MessageKind::Text => "text",
                MessageKind::Binary => "binary",
            },
            "bytes": bytes,
        }),
        TraceStep::NoRoom { bytes } => json!({ "event": "no-room", "at": at, "bytes": bytes }),
        TraceStep::Ended(closing) => json!({
            "event": "ended",
            "at": at,
            "code": closing.code,
            "reason": closing.reason,
            "by": closing.by,
        }),
    }
}

fn json_value(value: &auth::Value) -> Value {
    match value {
        auth::Value::Text(text) => Value::from(&**text),
        // A whole number is shown as one, without `.0`.
        auth::Value::Number(number) => {
            let shown = number.to_string().parse().map(Value::Number);
            shown.unwrap_or_else(|_| Value::from(*number))
        }
        auth::Value::Flag(flag) => Value::from(*flag),
    }
}
