//! The decision on a client: its origin, its authorizer, the `$connect` handler, and the answer that admits it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING, UPGRADE,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;

use super::head::{Head, MAX_HEADERS, Opening};
use super::origin::{self, Destination};
use super::refusal::Refusal;
use super::spans::{Step, StepPlace};
use super::token_offer::TokenOffer;
use crate::auth::{ClientCertificate, Identity};
use crate::authorizer::{Authorizer, Denial, Request};
use crate::clock::now_ms;
use crate::config::Compat;
use crate::connections::{Connection, RequestId};
use crate::invocation::{Acceptance, Called, Handshake, Invocation, InvokeError};
use crate::permits::Permits;
use crate::route;
use crate::session;
use crate::stage::{CurrentStage, Stage};

/// The draft of WebTransport that a session speaks.
const WT_DRAFT: HeaderName = HeaderName::from_static("sec-webtransport-http3-draft");

/// The subprotocol of a session, as a structured string.
const WT_PROTOCOL: HeaderName = HeaderName::from_static("wt-protocol");

/// A client's request with everything that its decision takes.
pub(super) struct Candidate<'a> {
    pub(super) connection: &'a Arc<Connection>,
    pub(super) head: &'a Head,
    pub(super) destination: &'a Destination,
    pub(super) request_id: RequestId,
    pub(super) certificate: &'a Option<Arc<ClientCertificate>>,
    /// Who the client is, if no authorizer is to be asked.
    pub(super) identity: Option<&'a Arc<Identity>>,
    /// The room for those that wait for their authorizers.
    pub(super) waiting: &'a Arc<Permits>,
    /// Cancelled once a stop has no time for its decision.
    pub(super) overdue: &'a CancellationToken,
}

/// Judges a client by one snapshot of its stage: the newest. If a reload empties it meanwhile, loads the newest again.
pub(super) async fn admit(
    current: &CurrentStage,
    candidate: &Candidate<'_>,
) -> Result<Acceptance, Refusal> {
    let mut stage = current.load_full();
    // Who has let the client on: a newer snapshot with the same authorizers need not ask them again.
    let mut authorized_by = AuthorizedBy::default();
    loop {
        candidate.check_origin(&stage)?;
        let invocation = candidate.invocation(&stage);
        let mut handshake = candidate.handshake();
        let takes_token = stage.authorizer.as_ref();
        let takes_token = takes_token.is_some_and(|authorizer| authorizer.takes_offered_token());
        let offer = match takes_token {
            true => TokenOffer::take(&candidate.head.opening, &mut handshake),
            false => None,
        };
        let asked = Asked {
            invocation: &invocation,
            handshake: &handshake,
            offer: offer.as_ref(),
        };
        if let Some(mut acceptance) = candidate.decide(&stage, &asked, &mut authorized_by).await? {
            if let Some(offer) = offer {
                acceptance.subprotocol.get_or_insert(offer.subprotocol);
            }
            return Ok(acceptance);
        }
        let newest = current.load_full();
        if Arc::ptr_eq(&stage, &newest) {
            return Err(Refusal::Failed(InvokeError::Removed));
        }
        stage = newest;
    }
}

/// The authorizers that have let a client on: that of the stage, and that of its API key.
#[derive(Default)]
struct AuthorizedBy([Option<Arc<Authorizer>>; 2]);

impl AuthorizedBy {
    fn of(stage: &Stage) -> Self {
        Self([stage.authorizer.clone(), stage.api_key.clone()])
    }

    fn is(&self, other: &Self) -> bool {
        let places = |by: &Self| by.0.each_ref().map(|one| one.as_ref().map(Arc::as_ptr));
        places(self) == places(other)
    }
}

/// What authorizer and handler are asked about.
struct Asked<'a> {
    invocation: &'a Arc<Invocation>,
    /// Without the token that the client offers as a subprotocol.
    handshake: &'a Handshake,
    offer: Option<&'a TokenOffer>,
}

impl Candidate<'_> {
    fn handshake(&self) -> Handshake {
        let (head, client) = (self.head, &self.connection.client);
        Handshake {
            query: form_urlencoded::parse(head.query.as_bytes())
                .into_owned()
                .collect(),
            headers: head.headers.clone(),
            subprotocols: head.subprotocols.clone(),
            source_ip: client.source_ip.to_string(),
            domain_name: client.domain_name.clone().into(),
            path: head.path.clone(),
            http_version: head.http_version,
            secure: self.destination.secure,
            certificate: self.certificate.clone(),
        }
    }

    fn invocation(&self, stage: &Stage) -> Arc<Invocation> {
        Arc::new(Invocation {
            request_id: self.request_id,
            scope: Arc::clone(&stage.scope),
            connection: Arc::clone(self.connection),
            route_key: route::CONNECT.into(),
            requested_at: now_ms(),
            is_datagram: false,
        })
    }

    fn check_origin(&self, stage: &Stage) -> Result<(), Refusal> {
        if let Some(origin) = &self.head.origin
            && !origin::allowed(&stage.origins, origin.as_bytes(), self.destination)
        {
            let (api, stage) = (&stage.scope.api, &stage.scope.stage);
            let key = format!("apis.{api}.stages.{stage}.origins");
            return Err(Refusal::ForeignOrigin(key));
        }
        Ok(())
    }

    /// Asks the authorizers, then the `$connect` handler. None if a reload has emptied what the snapshot has in their place.
    async fn decide(
        &self,
        stage: &Stage,
        asked: &Asked<'_>,
        authorized_by: &mut AuthorizedBy,
    ) -> Result<Option<Acceptance>, Refusal> {
        // An authorizer has nothing to finish, as a handler may have.
        let authorizing = self.authorize(stage, asked, authorized_by);
        let authorized = self.overdue.run_until_cancelled(authorizing).await;
        match authorized.ok_or(Refusal::Stopping)? {
            Ok(()) => {
                self.check_principal(stage)?;
                connect(stage, asked.invocation, asked.handshake).await
            }
            Err(Denial::Replaced) => Ok(None),
            Err(denial) => Err(Refusal::Unauthorized(denial)),
        }
    }

    /// Refuses a client whose principal has as many connections as it may, before its `$connect`. Others that connect meanwhile
    /// may take the last place: [`crate::connections::Directory::admit`] judges again.
    fn check_principal(&self, stage: &Stage) -> Result<(), Refusal> {
        let scope = &stage.scope;
        let (Some(limit), Some(principal)) = (scope.limits.principal, self.connection.principal())
        else {
            return Ok(());
        };
        let checked = scope.directory.check_principal(&principal, limit);
        checked.map_err(Refusal::TooManyOfPrincipal)
    }

    /// Asks the stage's authorizers, unless they have been asked, and notes who the client is. As in API Gateway, a client
    /// shows its API key once it may connect otherwise: nobody else uses up its plan.
    async fn authorize(
        &self,
        stage: &Stage,
        asked: &Asked<'_>,
        authorized_by: &mut AuthorizedBy,
    ) -> Result<(), Denial> {
        if let Some(identity) = self.identity {
            self.connection.set_identity(Some(Arc::clone(identity)));
            return self.check_scopes(stage);
        }
        let now = AuthorizedBy::of(stage);
        if authorized_by.is(&now) {
            return self.check_scopes(stage);
        }
        let identity = match &stage.authorizer {
            Some(authorizer) => {
                let asking = self.ask((authorizer, StepPlace::Authorizer), stage, asked, None);
                Some(asking.await?)
            }
            None => None,
        };
        self.connection.set_identity(identity.clone());
        self.check_scopes(stage)?;
        if let Some(authorizer) = &stage.api_key {
            let before = identity.as_deref();
            let asking = self.ask((authorizer, StepPlace::ApiKey), stage, asked, before);
            let identity = asking.await?;
            self.connection.set_identity(Some(identity));
        }
        *authorized_by = now;
        Ok(())
    }

    fn check_scopes(&self, stage: &Stage) -> Result<(), Denial> {
        let route = stage.routes.connect.as_ref();
        let granted = stage.routes.granted_to(self.connection);
        if route.is_some_and(|route| !granted.contain(route.scopes)) {
            return Err(Denial::Forbidden("a scope is missing".into()));
        }
        Ok(())
    }

    /// Asks one authorizer about a client, of whom another may have said who it is.
    async fn ask(
        &self,
        (authorizer, place): (&Authorizer, StepPlace),
        stage: &Stage,
        asked: &Asked<'_>,
        identity: Option<&Identity>,
    ) -> Result<Arc<Identity>, Denial> {
        let request = Request {
            invocation: asked.invocation,
            handshake: asked.handshake,
            offered_token: asked.offer.map(|offer| &*offer.token),
            query: &self.head.query,
            identity,
            waiting: self.waiting,
        };
        let step = Step::begin(self.connection, place);
        let answer = authorizer.authorize(&request).await;
        if let Some(step) = step {
            let fault = answer.as_ref().err().filter(|denial| denial.is_fault());
            let fault = fault.map(ToString::to_string);
            let error = fault.as_deref().map(|fault| ("authorizer", fault));
            let name = format!("authorize {}", authorizer.name());
            step.end(&name, ("lockgate.authorizer", authorizer.name()), error);
        }
        answer.inspect_err(|denial| {
            if denial.is_fault() {
                let (trace_id, span_id) = asked.invocation.trace_ids();
                tracing::warn!(client = %self.connection.client.source_ip, connection = %self.connection.id, stage = %stage.scope,
                    route = route::CONNECT, request_id = %self.request_id, trace_id, span_id, authorizer = authorizer.name(), "{denial}");
            }
        })
    }
}

/// Calls the `$connect` handler; without one every client is admitted. None if a reload has emptied the snapshot's
/// integration.
async fn connect(
    stage: &Stage,
    invocation: &Arc<Invocation>,
    handshake: &Handshake,
) -> Result<Option<Acceptance>, Refusal> {
    let Some(route) = &stage.routes.connect else {
        return Ok(Some(Acceptance::default()));
    };
    let begun = Instant::now();
    let step = Step::begin(&invocation.connection, StepPlace::Connect);
    let called = route.integration.invoke(invocation, handshake.clone());
    let Called::Ended(answer) = called.await else {
        return Ok(None);
    };
    if let Some(step) = step {
        let error = answer.as_ref().err();
        let error = error.map(|error| (error.kind(), error.to_string()));
        let error = error.as_ref().map(|(kind, text)| (*kind, text.as_str()));
        if !route.integration.is_mock() {
            let latency = &stage.scope.counters.latency;
            latency.note_traced(begun.elapsed(), step.trace());
        }
        let plugin = ("lockgate.plugin", route.integration.name());
        step.end(route::CONNECT, plugin, error);
    }
    if !route.integration.is_mock() {
        stage.scope.counters.latency.observe(begun.elapsed());
    }
    route.counters.calls.fetch_add(1, Ordering::Relaxed);
    let answer = answer.map_err(|error| {
        session::note_failure(invocation, route, &error);
        Refusal::Failed(error)
    })?;
    let checked = match answer {
        Ok(acceptance) => {
            check_acceptance(acceptance, &handshake.subprotocols, stage.limits.compat)
        }
        Err(refusal) => {
            let errors = &route.counters.integration_errors;
            errors.add(invocation.request_id);
            let is_error = refusal.status == 500 && refusal.message.is_none();
            Err(match StatusCode::from_u16(refusal.status) {
                Ok(_) if is_error && stage.limits.compat.fails_by_error() => Refusal::BadAnswer(
                    "an error of its own, which is a refusal with 500 and no text".into(),
                ),
                Ok(status) if (300..=599).contains(&refusal.status) => Refusal::Denied {
                    status,
                    message: refusal.message,
                },
                _ => Refusal::BadAnswer(format!(
                    "a handler refuses with a status from 300 to 599, and it answered {}",
                    refusal.status
                )),
            })
        }
    };
    checked.map(Some).inspect_err(|refusal| {
        if let Refusal::BadAnswer(_) = refusal {
            let connection = &invocation.connection;
            let (trace_id, span_id) = invocation.trace_ids();
            tracing::warn!(client = %connection.client.source_ip, connection = %connection.id, principal = connection.principal(),
                stage = %stage.scope, route = route::CONNECT, request_id = %invocation.request_id, trace_id, span_id,
                plugin = route.integration.name(), "{refusal}");
        }
    })
}

/// Checks a handler's acceptance: a subprotocol that the client offers, and headers that are not the gateway's own.
fn check_acceptance(
    mut acceptance: Acceptance,
    offered: &[String],
    compat: Compat,
) -> Result<Acceptance, Refusal> {
    if let Some(chosen) = &acceptance.subprotocol {
        if !offered.contains(chosen) && !compat.passes_any_subprotocol() {
            return Err(Refusal::BadAnswer(format!(
                "the subprotocol {chosen:?}, which the client does not offer"
            )));
        }
        if HeaderValue::from_str(chosen).is_err() {
            return Err(Refusal::BadAnswer(format!(
                "the subprotocol {chosen:?}, which no header can carry"
            )));
        }
    }
    if !compat.passes_headers() {
        acceptance.headers.clear();
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
    [
        CONNECTION,
        UPGRADE,
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
        WT_DRAFT,
        WT_PROTOCOL,
    ]
    .contains(name)
        || name.as_str().starts_with("sec-websocket-")
}

/// Makes the answer that admits: 101, or 200 on HTTP/2 and HTTP/3.
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
    let is_session = *opening == Opening::WebTransport;
    if is_session {
        headers.insert(WT_DRAFT, HeaderValue::from_static("draft02"));
    }
    if let Some(subprotocol) = acceptance.subprotocol {
        let (name, value) = match is_session {
            true => (WT_PROTOCOL, format!("\"{subprotocol}\"")),
            false => (SEC_WEBSOCKET_PROTOCOL, subprotocol),
        };
        let value = HeaderValue::from_str(&value);
        let value = value.map_err(|_| Refusal::Malformed("a subprotocol is not a token"))?;
        headers.insert(name, value);
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
