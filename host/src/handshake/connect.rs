//! The decision on a client: its origin, the `$connect` handler, and the answer that admits it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING, UPGRADE,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::head::{Head, MAX_HEADERS, Opening};
use super::origin::{self, Destination};
use super::refusal::Refusal;
use crate::clock::now_ms;
use crate::connections::{Connection, RequestId};
use crate::invocation::{Acceptance, Called, Handshake, Invocation, InvokeError};
use crate::route;
use crate::session;
use crate::stage::{CurrentStage, Stage};

/// Judges a client by one snapshot of its stage: the newest. If a reload empties it meanwhile, loads the newest again.
pub(super) async fn admit(
    current: &CurrentStage,
    connection: &Arc<Connection>,
    head: &Head,
    destination: &Destination,
    request_id: RequestId,
) -> Result<Acceptance, Refusal> {
    let mut stage = current.load_full();
    loop {
        if let Some(origin) = &head.origin
            && !origin::allowed(&stage.origins, origin.as_bytes(), destination)
        {
            let (api, stage) = (&stage.scope.api, &stage.scope.stage);
            let key = format!("apis.{api}.stages.{stage}.origins");
            return Err(Refusal::ForeignOrigin(key));
        }
        if let Some(acceptance) = connect(&stage, connection, head, destination, request_id).await?
        {
            return Ok(acceptance);
        }
        let newest = current.load_full();
        if Arc::ptr_eq(&stage, &newest) {
            return Err(Refusal::Failed(InvokeError::Removed));
        }
        stage = newest;
    }
}

/// Calls the `$connect` handler; without one every client is admitted. None if a reload has emptied the snapshot's
/// integration.
async fn connect(
    stage: &Arc<Stage>,
    connection: &Arc<Connection>,
    head: &Head,
    destination: &Destination,
    request_id: RequestId,
) -> Result<Option<Acceptance>, Refusal> {
    let Some(route) = &stage.routes.connect else {
        return Ok(Some(Acceptance::default()));
    };
    let handshake = Handshake {
        query: form_urlencoded::parse(head.query.as_bytes())
            .into_owned()
            .collect(),
        headers: head.headers.clone(),
        subprotocols: head.subprotocols.clone(),
        source_ip: connection.client.source_ip.to_string(),
        domain_name: connection.client.domain_name.clone().into(),
        path: head.path.clone(),
        http_version: head.http_version,
        secure: destination.secure,
        // No listener asks clients for certificates.
        certificate_subject: None,
    };
    let invocation = Arc::new(Invocation {
        request_id,
        scope: Arc::clone(&stage.scope),
        connection: Arc::clone(connection),
        route_key: route::CONNECT.into(),
        requested_at: now_ms(),
    });
    let called = route.integration.invoke(&invocation, handshake);
    let Called::Ended(answer) = called.await else {
        return Ok(None);
    };
    let answer = answer.map_err(|error| {
        session::log_failure(&invocation, route, &error);
        Refusal::Failed(error)
    })?;
    let checked = match answer {
        Ok(acceptance) => check_acceptance(acceptance, &head.subprotocols),
        Err(refusal) => Err(match StatusCode::from_u16(refusal.status) {
            Ok(status) if (300..=599).contains(&refusal.status) => Refusal::Denied {
                status,
                message: refusal.message,
            },
            _ => Refusal::BadAnswer(format!(
                "a handler refuses with a status from 300 to 599, and it answered {}",
                refusal.status
            )),
        }),
    };
    checked.map(Some).inspect_err(|refusal| {
        if let Refusal::BadAnswer(_) = refusal {
            tracing::warn!(client = %connection.client.source_ip, connection = %connection.id, stage = %stage.scope, route = route::CONNECT,
                %request_id, plugin = route.integration.name(), "{refusal}");
        }
    })
}

/// Checks a handler's acceptance: a subprotocol that the client offers, and headers that are not the gateway's own.
fn check_acceptance(acceptance: Acceptance, offered: &[String]) -> Result<Acceptance, Refusal> {
    if let Some(chosen) = &acceptance.subprotocol
        && !offered.contains(chosen)
    {
        return Err(Refusal::BadAnswer(format!(
            "the subprotocol {chosen:?}, which the client does not offer"
        )));
    }
    let count = acceptance.headers.len();
    if count > MAX_HEADERS {
        return Err(Refusal::BadAnswer(format!(
            "{count} headers, and it may set {MAX_HEADERS}"
        )));
    }
    for (name, value) in &acceptance.headers {
        let valid = name
            .parse::<HeaderName>()
            .ok()
            .filter(|name| !is_reserved(name));
        if valid.is_none() || HeaderValue::from_str(value).is_err() {
            return Err(Refusal::BadAnswer(format!(
                "the header {name:?}, which it may not set or which is malformed"
            )));
        }
    }
    Ok(acceptance)
}

fn is_reserved(name: &HeaderName) -> bool {
    [CONNECTION, UPGRADE, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name)
        || name.as_str().starts_with("sec-websocket-")
}

/// Makes the answer that admits: 101, or 200 on HTTP/2.
pub(super) fn accept(
    opening: &Opening,
    acceptance: Acceptance,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    for (name, value) in acceptance.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            headers.append(name, value);
        }
    }
    if let Some(subprotocol) = acceptance.subprotocol {
        let value = HeaderValue::from_str(&subprotocol);
        let value = value.map_err(|_| Refusal::Malformed("a subprotocol is not a token"))?;
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    if let Opening::Upgrade { key } = opening {
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
        headers.insert(
            SEC_WEBSOCKET_ACCEPT,
            accept.expect("base64 is a header's value"),
        );
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    }
    Ok(response)
}
