//! The admin API's handlers for plugins and reloads.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::audit::Done;
use super::change::Change;
use super::control::{Control, NoReload, PluginError};
use crate::plugin::{NoChange, PluginInfo};

/// `POST …/rollback`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    /// The version to go back to: by default the last one with other code.
    version: Option<u64>,
}

/// `POST …/rollout`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollout {
    /// Percent of the connections.
    share: u32,
}

pub(super) async fn reload(State(control): State<Control>) -> Response {
    match control.reload().await {
        Ok(changes) => {
            let answer = json!({ "changed": changes, "notes": control.notes() });
            (Extension(done(&changes)), Json(answer)).into_response()
        }
        Err(why) => {
            let status = match why {
                NoReload::Upgrading(_) => StatusCode::CONFLICT,
                NoReload::Stopping => StatusCode::SERVICE_UNAVAILABLE,
                NoReload::Refused(_) | NoReload::Unjudged(_) => StatusCode::UNPROCESSABLE_ENTITY,
            };
            refused(status, &format!("{why:#}"))
        }
    }
}

pub(super) async fn list(State(control): State<Control>) -> Json<Vec<PluginInfo>> {
    Json(control.plugins())
}

pub(super) async fn history(State(control): State<Control>, Path(name): Path<String>) -> Response {
    match control.history(&name) {
        Ok(versions) => Json(versions).into_response(),
        Err(why) => unchanged(&why),
    }
}

pub(super) async fn roll_back(
    State(control): State<Control>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    match read::<Rollback>(&body) {
        Ok(asked) => answer(control.roll_back(&name, asked.version).await),
        Err(why) => refused(StatusCode::BAD_REQUEST, &why),
    }
}

pub(super) async fn roll_out(
    State(control): State<Control>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    match read::<Rollout>(&body) {
        Ok(asked) => answer(control.roll_out(&name, asked.share).await),
        Err(why) => refused(StatusCode::BAD_REQUEST, &why),
    }
}

pub(super) async fn promote(State(control): State<Control>, Path(name): Path<String>) -> Response {
    answer(control.promote(&name).await)
}

pub(super) async fn abort(State(control): State<Control>, Path(name): Path<String>) -> Response {
    answer(control.abort(&name).await)
}

/// Reads what is asked; nothing is as good as nothing in braces.
/// The reason of a refusal whose body is of another form.
const UNREADABLE: &str = "the body is not what is asked for";

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| format!("{UNREADABLE}: {error}"))
}

fn answer(done: Result<Change, PluginError>) -> Response {
    match done {
        Ok(change) => changed(&[change]),
        Err(why) => unchanged(&why),
    }
}

fn changed(changes: &[Change]) -> Response {
    (
        Extension(done(changes)),
        Json(json!({ "changed": changes })),
    )
        .into_response()
}

fn done(changes: &[Change]) -> Done {
    let changes: Vec<_> = changes.iter().map(Change::to_string).collect();
    Done(match changes.is_empty() {
        true => "nothing has changed".to_owned(),
        false => changes.join("; "),
    })
}

fn unchanged(why: &PluginError) -> Response {
    let status = match why {
        PluginError::Unknown { .. } => StatusCode::NOT_FOUND,
        PluginError::NoChange(_, why) => match why {
            NoChange::Upgrading(_)
            | NoChange::Removed
            | NoChange::NoVersion(_)
            | NoChange::NotCompiled(_)
            | NoChange::NoEarlier
            | NoChange::Untrusted { .. }
            | NoChange::BelowNewest { .. }
            | NoChange::NotBuilt(_)
            | NoChange::NoShare
            | NoChange::NoCandidate(_)
            | NoChange::NoRollout => StatusCode::CONFLICT,
        },
    };
    refused(status, &why.to_string())
}

/// Makes a refusal in the form that every page uses.
pub(super) fn refused(status: StatusCode, error: &str) -> Response {
    // What stands in the body instead may be a message's text, which no log shows.
    let logged = match error.starts_with(UNREADABLE) {
        true => UNREADABLE,
        false => error,
    };
    let done = Extension(Done(format!("refused: {logged}")));
    (status, done, Json(json!({ "error": error }))).into_response()
}
