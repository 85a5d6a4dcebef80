//! The admin API: what the plugins are, and how they change.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::Desk;
use crate::plugin::{Plugin, PluginInfo, Upgrading};

/// `POST …/rollback`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    /// By default the last version that had other code.
    version: Option<u64>,
}

/// `POST …/rollout`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollout {
    /// Percent of the connections.
    share: u32,
}

pub(super) async fn reload(State(desk): State<Desk>) -> Response {
    let (request, answer) = oneshot::channel();
    if desk.reloads.send(request).await.is_err() {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping");
    }
    match answer.await {
        Ok(Ok(changed)) => Json(json!({ "changed": changed })).into_response(),
        Ok(Err(reason)) => {
            let status = match reason.is::<Upgrading>() {
                true => StatusCode::CONFLICT,
                false => StatusCode::UNPROCESSABLE_ENTITY,
            };
            refused(status, &format!("{reason:#}"))
        }
        Err(_) => refused(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping"),
    }
}

pub(super) async fn list(State(desk): State<Desk>) -> Json<Vec<PluginInfo>> {
    let plugins = desk.metrics.plugins.all();
    Json(
        plugins
            .values()
            .filter_map(|plugin| plugin.info())
            .collect(),
    )
}

pub(super) async fn history(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    match find(&desk, &name) {
        Ok(plugin) => Json(plugin.history()).into_response(),
        Err(refusal) => *refusal,
    }
}

pub(super) async fn roll_back(
    State(desk): State<Desk>,
    Path(name): Path<String>,
    Json(asked): Json<Rollback>,
) -> Response {
    change(&desk, &name, async |plugin| {
        plugin.roll_back(asked.version).await
    })
    .await
}

pub(super) async fn roll_out(
    State(desk): State<Desk>,
    Path(name): Path<String>,
    Json(asked): Json<Rollout>,
) -> Response {
    change(&desk, &name, async |plugin| {
        plugin.roll_out(asked.share).await
    })
    .await
}

pub(super) async fn promote(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    change(&desk, &name, async |plugin| plugin.promote().await).await
}

pub(super) async fn abort(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    change(&desk, &name, async |plugin| plugin.abort().await).await
}

async fn change(
    desk: &Desk,
    name: &str,
    change: impl AsyncFnOnce(Arc<Plugin>) -> Result<String, String>,
) -> Response {
    let plugin = match find(desk, name) {
        Ok(plugin) => plugin,
        Err(refusal) => return *refusal,
    };
    match change(plugin).await {
        Ok(said) => Json(json!({ "changed": [format!("plugin {name}: {said}")] })).into_response(),
        Err(reason) => refused(StatusCode::CONFLICT, &format!("plugin {name}: {reason}")),
    }
}

fn find(desk: &Desk, name: &str) -> Result<Arc<Plugin>, Box<Response>> {
    let plugins = desk.metrics.plugins.all();
    plugins.get(name).map(Arc::clone).ok_or_else(|| {
        let known: Vec<_> = plugins.keys().map(String::as_str).collect();
        let error = format!(
            "no plugin is called {name:?}; there are: {}",
            known.join(", ")
        );
        Box::new(refused(StatusCode::NOT_FOUND, &error))
    })
}

/// A refusal as all pages write it.
pub(super) fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}
