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
use super::trail::{self, Entry, Room};
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
    /// None as long as it is not made.
    status: Option<StatusCode>,
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
        // A method may be as long as a head.
        let action = format!("{} {}", request.method(), request.uri().path());
        let mut change = Change {
            caller,
            action: Text::from(action.as_str()).as_str().to_owned(),
            status: None,
            done: None,
        };
        let room = match &file {
            Some(file) => Some(change.make_room(Arc::clone(file)).await),
            None => None,
        };
        if let Some(Err(error)) = &room {
            let (by, action) = (caller, &change.action);
            tracing::error!(target: "audit", %by, action, "nothing was changed, since the audit file cannot be written: {error}");
            let why = "nothing was changed: the file of management.audit cannot be written; the log says why";
            return refused(StatusCode::SERVICE_UNAVAILABLE, why);
        }
        let response = next.run(request).await;
        let done = response.extensions().get::<Done>();
        change.done = done.map(|done| Text::from(done.0.as_str()).as_str().to_owned());
        change.status = Some(response.status());
        if change.write(file).await {
            return response;
        }
        let why = format!(
            "the answer was {}, and its line is not in the file of management.audit; the log has it",
            response.status()
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
        let status = self.status.map(|status| status.as_u16());
        let done = self.done.as_deref();
        tracing::info!(target: "audit", by = %self.caller, action = self.action, status, done, digest, "an operator has asked for a change");
        let Some(Err(error)) = written else {
            return true;
        };
        tracing::error!(target: "audit", "the line of a change is missing in the audit file: {error}");
        false
    }

    async fn make_room(&self, file: Arc<Path>) -> io::Result<Room> {
        self.in_file(move |entry| trail::make_room(&file, entry))
            .await
    }

    async fn append(&self, file: Arc<Path>) -> io::Result<String> {
        self.in_file(move |entry| trail::append(&file, entry)).await
    }

    async fn in_file<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Entry<'_>) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (at, by, from) = (
            access_log::timestamp(),
            self.caller.name(),
            self.caller.from(),
        );
        let status = self.status.map(|status| status.as_u16());
        let (action, done) = (self.action.clone(), self.done.clone());
        on_disk(move || {
            let entry = Entry {
                at,
                by: by.as_deref(),
                from: &from,
                action: &action,
                status,
                done: done.as_deref(),
            };
            work(&entry)
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
