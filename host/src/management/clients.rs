//! The admin API's handlers for open connections and groups: list, show, send, close.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::yield_now;

use super::admin::Ending;
use super::audit::Done;
use super::control::{Control, MAX_TRACES};
use super::plugins::{read, refused};
use super::selection::{Selected, Selection, SelectionError, parse_id};
use super::shown::{
    self, ConnectionPage, GroupPage, ListedConnection, ListedGroup, ShownConnection,
};
use crate::clock::now_ms;
use crate::connections::{
    Closer, Closing, ConnectionId, Description, Gone, GroupInfo, MAX_PAGE, Message, Payload,
    PostError, Published, TraceReader, Walk,
};
use crate::stage::Stage;
use crate::words::count_of;

/// Entries of a page for which no limit is written.
const DEFAULT_PAGE: usize = 100;

/// Connections that a request compares with its conditions at most: some tens of milliseconds of work, between which
/// others run. A page may so have few entries and a `next`.
const MAX_COMPARED: usize = 50_000;

/// `POST /connections/send`: the message is one of `text` and `binary`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Send {
    connections: Selection,
    text: Option<String>,
    /// In base64 (RFC 4648 §4).
    binary: Option<String>,
}

/// `POST /connections/close`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Close {
    connections: Selection,
    code: u16,
    #[serde(default)]
    reason: String,
}

/// The parameters of a list.
struct List {
    selection: Selection,
    /// The stage of the last entry of the page before, and the entry.
    after: Option<(String, String)>,
    limit: usize,
}

pub(super) async fn list(State(control): State<Control>, RawQuery(query): RawQuery) -> Response {
    match list_page(&control, query.as_deref()).await {
        Ok(page) => Json(page).into_response(),
        Err(why) => why.into_response(),
    }
}

async fn list_page(control: &Control, query: Option<&str>) -> Result<ConnectionPage, Refused> {
    let List {
        selection,
        after,
        limit,
    } = List::parse(query)?;
    let mut page = ConnectionPage::default();
    let mut left = MAX_COMPARED;
    for (name, stage) in selection.stages(&control.stages())? {
        let mut after_id = None;
        if let Some((last_stage, last)) = &after {
            if name < *last_stage {
                continue;
            }
            if name == *last_stage {
                after_id = Some(parse_id(last)?);
            }
        }
        let mut walk = {
            let directory = &stage.load().scope.directory;
            directory.walk(selection.filter()?, after_id)
        };
        fill(&mut page, &name, &mut walk, limit, &mut left).await;
        if page.next.is_some() {
            break;
        }
    }
    Ok(page)
}

/// Adds the connections of a walk, until the page has as many as its limit, or no more may be compared.
async fn fill(
    page: &mut ConnectionPage,
    stage: &str,
    walk: &mut Walk,
    limit: usize,
    left: &mut usize,
) {
    while let Some(chunk) = walk.next_chunk() {
        for description in chunk.describe() {
            let listed = ListedConnection::new(stage, &description);
            page.connections.push(listed);
            if page.connections.len() == limit {
                page.next = Some(format!("{stage}/{}", description.id));
                return;
            }
        }
        *left = left.saturating_sub(chunk.looked_at);
        if *left == 0 {
            page.next = walk.after().map(|id| format!("{stage}/{id}"));
            return;
        }
        yield_now().await;
    }
}

pub(super) async fn show(State(control): State<Control>, Path(id): Path<String>) -> Response {
    match shown(&control, &id) {
        Ok(shown) => Json(shown).into_response(),
        Err(why) => why.into_response(),
    }
}

fn shown(control: &Control, id: &str) -> Result<ShownConnection, Refused> {
    let id = parse_id(id)?;
    let (stage, description) = find(control, id)?;
    Ok(ShownConnection::new(&stage, description))
}

/// Answers with a line of JSON for each event, until the connection ends, the caller goes, or the listener ends: the caller
/// may not be known to the next one.
pub(super) async fn trace(
    State(control): State<Control>,
    Extension(Ending(ending)): Extension<Ending>,
    Path(id): Path<String>,
) -> Response {
    match traced(&control, &id) {
        Ok((reader, permit)) => {
            let first = json!({ "event": "begin", "at": now_ms() });
            let first = stream::once(ready(trace_line(&first)));
            let events = stream::unfold((reader, permit), |(mut reader, permit)| async move {
                let line = trace_line(&shown::traced(reader.next().await?));
                Some((line, (reader, permit)))
            });
            let events = events.take_until(ending.cancelled_owned());
            let body = Body::from_stream(first.chain(events));
            ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
        }
        Err(why) => why.into_response(),
    }
}

fn traced(control: &Control, id: &str) -> Result<(TraceReader, OwnedSemaphorePermit), Refused> {
    let id = parse_id(id)?;
    let (stage, _) = find(control, id)?;
    let permit = control.begin_trace().ok_or_else(|| {
        let why = format!("{MAX_TRACES} traces are open, and there are no more at once: end one");
        Refused(StatusCode::TOO_MANY_REQUESTS, why)
    })?;
    let reader = stage.scope.directory.trace(id);
    tracing::debug!(connection = %id, stage = %stage.scope, "a trace begins");
    Ok((reader.map_err(|Gone| Refused::gone(id))?, permit))
}

fn trace_line(event: &Value) -> Result<Bytes, Infallible> {
    Ok(format!("{event}\n").into())
}

pub(super) async fn send(State(control): State<Control>, body: Bytes) -> Response {
    match sent(&control, &body).await {
        Ok((receivers, Published { queued, closed })) => {
            let done = format!(
                "sent to {receivers}: {}, {closed} closed without room",
                count_of(queued, "connection")
            );
            let answer = json!({ "queued": queued, "closed": closed });
            (Extension(Done(done)), Json(answer)).into_response()
        }
        Err(why) => why.into_response(),
    }
}

async fn sent(control: &Control, body: &[u8]) -> Result<(String, Published), Refused> {
    let asked: Send = read(body).map_err(Refused::bad)?;
    let message = match (asked.text, asked.binary) {
        (Some(text), None) => Message::Text(text),
        (None, Some(binary)) => {
            let bytes = STANDARD.decode(binary);
            Message::Binary(bytes.map_err(|error| Refused::bad(format!("binary: {error}")))?)
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(Refused::bad(
                "write the message as text, or as binary in base64",
            ));
        }
    };
    let selected = asked.connections.select(&control.stages())?;
    let receivers = asked.connections.to_string();
    let published = match selected {
        Selected::One(id) => {
            let (stage, _) = find(control, id)?;
            let view = stage.scope.directory.view(&stage.scope.limits, None);
            let bytes = message.len();
            let queued = view.send(id, message);
            queued.map_err(|error| Refused::post(error, id, bytes, &stage))?;
            Published {
                queued: 1,
                closed: 0,
            }
        }
        Selected::Many(stage, filter) => {
            let stage = stage.load_full();
            let limits = &stage.scope.limits;
            if message.len() > limits.message_bytes {
                return Err(Refused::too_large(message.len(), &stage));
            }
            let payload = Payload::from(message);
            let mut walk = stage.scope.directory.walk(filter, None);
            let mut published = Published::default();
            while let Some(chunk) = walk.next_chunk() {
                published += chunk.send(&payload, limits);
                yield_now().await;
            }
            published
        }
    };
    Ok((receivers, published))
}

pub(super) async fn close(State(control): State<Control>, body: Bytes) -> Response {
    match closed(&control, &body).await {
        Ok((connections, closed)) => {
            let done = Done(format!(
                "closed {connections}: {}",
                count_of(closed, "connection")
            ));
            (Extension(done), Json(json!({ "closed": closed }))).into_response()
        }
        Err(why) => why.into_response(),
    }
}

async fn closed(control: &Control, body: &[u8]) -> Result<(String, usize), Refused> {
    let asked: Close = read(body).map_err(Refused::bad)?;
    let closing = Closing::checked(asked.code, asked.reason, Closer::Operator)
        .map_err(|error| Refused::bad(error.to_string()))?;
    let selected = asked.connections.select(&control.stages())?;
    let connections = asked.connections.to_string();
    let closed = match selected {
        Selected::One(id) => {
            let (stage, _) = find(control, id)?;
            let closed = stage.scope.directory.close(id, closing);
            closed.map_err(|Gone| Refused::gone(id))?;
            1
        }
        Selected::Many(stage, filter) => {
            let mut walk = stage.load().scope.directory.walk(filter, None);
            let mut closed = 0;
            while let Some(chunk) = walk.next_chunk() {
                closed += chunk.close(&closing);
                yield_now().await;
            }
            closed
        }
    };
    Ok((connections, closed))
}

pub(super) async fn groups(State(control): State<Control>, RawQuery(query): RawQuery) -> Response {
    match group_page(&control, query.as_deref()) {
        Ok(page) => Json(page).into_response(),
        Err(why) => why.into_response(),
    }
}

fn group_page(control: &Control, query: Option<&str>) -> Result<GroupPage, Refused> {
    let List {
        selection,
        after,
        limit,
    } = List::parse(query)?;
    if selection.filter()?.is_set() {
        return Err(Refused::bad("groups are listed by stage alone"));
    }
    let mut groups = Vec::new();
    for (stage, current) in selection.stages(&control.stages())? {
        let mut after_name = None;
        if let Some((last_stage, last)) = &after {
            if stage < *last_stage {
                continue;
            }
            after_name = (stage == *last_stage).then_some(&**last);
        }
        let directory = &current.load().scope.directory;
        let found = directory.list_groups(after_name, limit - groups.len());
        groups.extend(
            found
                .into_iter()
                .map(|GroupInfo { name, members }| ListedGroup {
                    name: name.into(),
                    stage: stage.clone(),
                    members,
                }),
        );
        if groups.len() == limit {
            break;
        }
    }
    let last = groups.last().filter(|_| groups.len() == limit);
    let next = last.map(|last| format!("{}/{}", last.stage, last.name));
    Ok(GroupPage { groups, next })
}

/// Finds an open connection among those of all stages.
fn find(control: &Control, id: ConnectionId) -> Result<(Arc<Stage>, Description), Refused> {
    let stages = control.stages().all();
    let found = stages.values().find_map(|stage| {
        let stage = stage.load_full();
        let description = stage.scope.directory.describe(id).ok()?;
        Some((stage, description))
    });
    found.ok_or_else(|| Refused::gone(id))
}

impl List {
    fn parse(query: Option<&str>) -> Result<Self, Refused> {
        let mut list = Self {
            selection: Selection::default(),
            after: None,
            limit: DEFAULT_PAGE,
        };
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let value = value.into_owned();
            match &*name {
                "stage" => list.selection.stage = Some(value),
                "principal" => list.selection.principal = Some(value),
                "group" => list.selection.group = Some(value),
                "attribute" => list.selection.attribute = Some(value),
                "after" => {
                    let mut parts = value.splitn(3, '/');
                    let (Some(api), Some(stage), Some(last)) =
                        (parts.next(), parts.next(), parts.next())
                    else {
                        return Err(Refused::bad(
                            "after: take it from the page before, where it is next",
                        ));
                    };
                    list.after = Some((format!("{api}/{stage}"), last.to_owned()));
                }
                "limit" => {
                    let limit = value.parse().ok();
                    let limit = limit.filter(|limit| (1..=MAX_PAGE).contains(limit));
                    list.limit =
                        limit.ok_or_else(|| Refused::bad(format!("limit is 1 to {MAX_PAGE}")))?;
                }
                other => {
                    return Err(Refused::bad(format!(
                        "there is no parameter {other:?}; a list has stage, principal, group, attribute, after, limit"
                    )));
                }
            }
        }
        Ok(list)
    }
}

/// A refusal: the status, and the reason with its remedy.
struct Refused(StatusCode, String);

impl Refused {
    fn bad(why: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, why.into())
    }

    fn gone(id: ConnectionId) -> Self {
        let why = format!("no open connection has the id {id}: it has ended, or was never there");
        Self(StatusCode::GONE, why)
    }

    fn too_large(bytes: usize, stage: &Stage) -> Self {
        let (limit, scope) = (stage.scope.limits.message_bytes, &stage.scope);
        let why = format!(
            "the message has {bytes} bytes, and limits.message_kib of the stage {scope} allows {limit}: send less, or raise it"
        );
        Self(StatusCode::PAYLOAD_TOO_LARGE, why)
    }

    fn post(error: PostError, id: ConnectionId, bytes: usize, stage: &Stage) -> Self {
        match error {
            PostError::Gone => Self::gone(id),
            PostError::TooLarge => Self::too_large(bytes, stage),
            PostError::Busy => {
                let why = format!(
                    "the queue of {id} is full, since its client reads too slowly: send again later, or close it"
                );
                Self(StatusCode::TOO_MANY_REQUESTS, why)
            }
        }
    }

    fn into_response(self) -> Response {
        refused(self.0, &self.1)
    }
}

impl From<SelectionError> for Refused {
    fn from(error: SelectionError) -> Self {
        let status = match error {
            SelectionError::UnknownStage { .. } => StatusCode::NOT_FOUND,
            SelectionError::MalformedId(_)
            | SelectionError::MalformedAttribute(_)
            | SelectionError::IdAndMore
            | SelectionError::Nothing
            | SelectionError::AllAndMore
            | SelectionError::WhichStage(_) => StatusCode::BAD_REQUEST,
        };
        Self(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::connections::{Carrier, Client, Connection, Directory, Filter};

    #[tokio::test]
    async fn page_ends_when_its_limit_is_reached_or_enough_was_compared() {
        let directory = Arc::new(Directory::default());
        let open: Vec<_> = (0..1_000)
            .map(|_| {
                let client = Client {
                    source_ip: Ipv4Addr::LOCALHOST.into(),
                    domain_name: "localhost".into(),
                    over_quic: false,
                    carrier: Carrier::Http1,
                    user_agent: None,
                };
                directory.register(Arc::new(Connection::new(client)))
            })
            .collect();
        let fill_from = async |filter: Filter, after: Option<&str>, limit, mut left| {
            let after = after.and_then(|after| ConnectionId::parse(after.rsplit('/').next()?));
            let mut page = ConnectionPage::default();
            let mut walk = directory.walk(filter, after);
            fill(&mut page, "a/s", &mut walk, limit, &mut left).await;
            page
        };
        let attribute = Some(("name".into(), "value".into()));
        let nobody = || Filter {
            attribute: attribute.clone(),
            ..Filter::default()
        };
        // Nobody has the attribute: each page ends with the number of those compared.
        let (mut pages, mut after) = (0, None);
        loop {
            let page = fill_from(nobody(), after.as_deref(), 10, 300).await;
            assert_eq!(page.connections.len(), 0);
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!((3..=1_000 / 128 + 1).contains(&pages), "{pages}");
        // All of them, in pages.
        let (mut found, mut after) = (std::collections::HashSet::new(), None);
        loop {
            let page = fill_from(Filter::default(), after.as_deref(), 7, MAX_COMPARED).await;
            assert!(page.connections.len() <= 7);
            for listed in page.connections {
                assert!(found.insert(listed.id), "listed twice");
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found.len(), open.len());
    }
}
