//! The trail of what operators do: each change runs to its end, and leaves a line in the log.

use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use tokio_util::task::TaskTracker;

use super::access::Caller;
use super::plugins::refused;
use crate::access_log::Text;

/// What a handler has done, in words. A handler puts it into its answer.
#[derive(Clone, Debug)]
pub(super) struct Done(pub(super) String);

/// Lets a change run to its end even if its caller goes, and logs who made it and what came of it.
pub(super) async fn audit(
    State(tasks): State<TaskTracker>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let changing = tasks.spawn(async move {
        let path = Text::from(request.uri().path()).as_str();
        let action = format!("{} {path}", request.method());
        let response = next.run(request).await;
        let done = response.extensions().get::<Done>().map(|done| done.0.as_str());
        let status = response.status().as_u16();
        let done = done.map(|done| Text::from(done).as_str());
        tracing::info!(target: "audit", by = %caller, action, status, done, "an operator has asked for a change");
        response
    });
    changing.await.unwrap_or_else(|_| {
        refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "a bug of the gateway ended this request; its log says more",
        )
    })
}
