//! The renewal of what lets a client in, by a message: its token, which the stage's authorizer judges, or its handler.

use std::sync::Arc;

use crate::auth::Identity;
use crate::authorizer::Denial;
use crate::connections::{Connection, Message};
use crate::invocation::Invocation;
use crate::route::Selection;
use crate::stage::{Route, Stage};

/// Renews what lets the client in by the token that the message has at this place. The whole identity is the new token's, of the
/// same principal; what the gateway says of the client's API key stays.
pub(super) async fn by_token(
    stage: &Stage,
    connection: &Connection,
    place: &Selection,
    message: &Message,
) -> Result<(), Denial> {
    let authorizer = stage.authorizer.as_ref();
    let authorizer =
        authorizer.ok_or_else(|| Denial::Forbidden("the stage has no authorizer".into()))?;
    let text = message.json_text();
    let token = text.and_then(|text| place.evaluate(text));
    let token = token.filter(|token| !token.is_empty());
    let token = token.ok_or(Denial::Unauthorized("the message has no token"))?;
    let mut identity = authorizer.judge_token(&token).await?;
    if let Some(keys) = &stage.api_key
        && let Some(before) = connection.identity()
    {
        identity = Arc::new(keys.keep_key(&identity, &before)?);
    }
    let renewed = connection.renew(identity);
    renewed.map_err(|error| Denial::Forbidden(error.to_string()))
}

/// The text of an error frame for a client that is not renewed, in the words of API Gateway (docs/api-gateway.md).
pub(super) fn client_text(denial: &Denial) -> &'static str {
    match denial.status().as_u16() {
        401 => "Unauthorized",
        403 => "Forbidden",
        429 => "Too Many Requests",
        _ => "Internal server error",
    }
}

/// Counts and logs that a message has not renewed what lets its client in, for operators: never what the client has presented.
pub(super) fn note_denial(invocation: &Invocation, route: &Route, denial: &Denial) {
    let connection = &invocation.connection;
    let (client, principal) = (connection.client.source_ip, connection.principal());
    let (id, stage) = (connection.id, &invocation.scope);
    let (errors, request_id) = (&route.counters.execution_errors, invocation.request_id);
    let (why, route) = ("what lets the client in is not renewed", &*route.key);
    if denial.is_fault() {
        errors.add(request_id);
        tracing::warn!(%client, connection = %id, principal, %stage, route, %request_id, "{why}: {denial}");
    } else {
        tracing::debug!(%client, connection = %id, principal, %stage, route, %request_id, "{why}: {denial}");
    }
}

/// Whether a message has renewed what lets its client in, which was this before. Logs it.
pub(super) fn has_renewed(invocation: &Invocation, before: Option<&Arc<Identity>>) -> bool {
    let connection = &invocation.connection;
    let now = connection.identity();
    let (Some(before), Some(now)) = (before, now) else {
        return false;
    };
    if Arc::ptr_eq(before, &now) {
        return false;
    }
    let (client, principal) = (connection.client.source_ip, now.principal.as_deref());
    let (id, stage) = (connection.id, &invocation.scope);
    let (route, request_id) = (&*invocation.route_key, invocation.request_id);
    let expires_at = now.expires_at;
    tracing::debug!(%client, connection = %id, principal, %stage, route, %request_id, expires_at, "what lets the client in is renewed");
    true
}
