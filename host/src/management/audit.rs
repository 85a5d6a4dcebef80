//! The trail of what operators do: each change runs to its end, and leaves a line in the log and in the audit file.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::access::Caller;
use super::plugins::refused;
use super::trail::{self, Entry};
use crate::access_log::{self, Text};

/// Time limit for the disk of the audit file.
const FILE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a handler has done, in words. A handler puts it into its answer.
#[derive(Clone, Debug)]
pub(super) struct Done(pub(super) String);

/// Where the trail is written, beside the log.
#[derive(Clone)]
pub(super) struct Audit {
    pub(super) file: Option<Arc<Path>>,
    /// Changes run here, so that they end although their callers go.
    pub(super) tasks: TaskTracker,
}

/// A change as the trail shows it.
struct Change {
    caller: Caller,
    action: String,
    status: StatusCode,
    done: Option<String>,
}

/// Lets a change run to its end even if its caller goes, and writes who made it and what came of it: into the audit file
/// before it is answered. Without a file that can be written there is no change.
pub(super) async fn audit(
    State(audit): State<Audit>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let Audit { file, tasks } = audit;
    let changing = tasks.spawn(async move {
        let path = Text::from(request.uri().path()).as_str();
        let action = format!("{} {path}", request.method());
        if let Some(file) = &file {
            let file = Arc::clone(file);
            if let Err(error) = on_disk(move || trail::check(&file)).await {
                tracing::error!(target: "audit", by = %caller, action, "nothing was changed, since the audit file cannot be written: {error}");
                let why = "nothing was changed: the file of management.audit cannot be written; the log says why";
                return refused(StatusCode::SERVICE_UNAVAILABLE, why);
            }
        }
        let response = next.run(request).await;
        let done = response.extensions().get::<Done>();
        let change = Change {
            caller,
            action,
            status: response.status(),
            done: done.map(|done| Text::from(done.0.as_str()).as_str().to_owned()),
        };
        if change.write(file).await {
            return response;
        }
        let why = format!(
            "the answer was {}, and its line is not in the file of management.audit; the log has it",
            change.status
        );
        refused(StatusCode::INTERNAL_SERVER_ERROR, &why)
    });
    changing.await.unwrap_or_else(|_| {
        refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "a bug of the gateway ended this request; its log says more",
        )
    })
}

impl Change {
    /// Writes the lines. False if the one of the audit file could not be written.
    async fn write(&self, file: Option<Arc<Path>>) -> bool {
        let written = match file {
            Some(file) => Some(self.append(file).await),
            None => None,
        };
        let digest = written.as_ref().and_then(|written| written.as_ref().ok());
        let (status, done) = (self.status.as_u16(), self.done.as_deref());
        tracing::info!(target: "audit", by = %self.caller, action = self.action, status, done, digest, "an operator has asked for a change");
        let Some(Err(error)) = written else {
            return true;
        };
        tracing::error!(target: "audit", "the line of a change is missing in the audit file: {error}");
        false
    }

    async fn append(&self, file: Arc<Path>) -> io::Result<String> {
        let (at, by, from) = (
            access_log::timestamp(),
            self.caller.name(),
            self.caller.from(),
        );
        let (action, status, done) = (self.action.clone(), self.status.as_u16(), self.done.clone());
        on_disk(move || {
            let entry = Entry {
                at,
                by: by.as_deref(),
                from: &from,
                action: &action,
                status,
                done: done.as_deref(),
            };
            trail::append(&file, &entry)
        })
        .await
    }
}

/// Does something with a disk, which may hang.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match timeout(FILE_TIMEOUT, spawn_blocking(work)).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(io::Error::other("the disk takes more than 10 s")),
    }
}
