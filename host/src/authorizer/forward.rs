//! An HTTP endpoint that decides, asked as nginx (`auth_request`), Traefik (ForwardAuth) and oauth2-proxy know it: it gets
//! the client's headers and where the request was for, and answers 2xx to let the client in.

use std::error::Error as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use tokio::time::timeout;

use super::{Answer, Denial, Request};
use crate::auth::{Identity, IdentityError, Value};
use crate::config::{self, Fault};
use crate::net::watch::Stamp;
use crate::net::{Asker, Authorities, distrust_remedy, shown};
use crate::permits::Share;

/// Bytes of an answer's body that are passed on: a page that says why, and where to log in.
const MAX_BODY: usize = 16 << 10;

/// The headers of a refusal that the client gets.
const PASSED_ON: [HeaderName; 5] = [
    CONTENT_ENCODING,
    CONTENT_TYPE,
    LOCATION,
    SET_COOKIE,
    WWW_AUTHENTICATE,
];

/// Headers of the client that the endpoint does not get: they are about the client's own connection, or say what the
/// gateway knows better.
const KEPT_BACK: [&str; 10] = [
    "host",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "content-length",
    "forwarded",
    "x-real-ip",
    "accept-encoding",
];
const KEPT_BACK_FAMILIES: [&str; 4] = ["sec-websocket-", "x-forwarded-", "x-original-", "proxy-"];

pub(super) struct ForwardAuthorizer {
    config: config::Forward,
    /// Of its URL what may be shown.
    place: String,
    /// The key of its authorities in the configuration.
    ca: String,
    http: Asker,
    /// The authority's file as it was read.
    stamp: Option<Stamp>,
}

impl ForwardAuthorizer {
    /// Makes the client of the endpoint, whose table stands at `key` in the configuration.
    pub(super) fn new(config: &config::Forward, key: &str) -> Result<Self, Fault> {
        let authorities = config.ca.as_deref().map(Authorities::read).transpose();
        let authorities = authorities.map_err(|unread| Fault {
            key: format!("{key}.ca"),
            message: unread.message,
            remedy: unread.remedy.to_owned(),
            is_passing: unread.is_passing,
        })?;
        let client = || {
            let http = Client::builder()
                // An answer that leads elsewhere is the client's to follow.
                .redirect(Policy::none())
                // What clients present goes to the configured place, whatever the environment says.
                .no_proxy()
                .http1_only()
                .user_agent(concat!("lockgate/", env!("CARGO_PKG_VERSION")));
            match &authorities {
                Some(authorities) => http.tls_backend_preconfigured(authorities.tls(&["http/1.1"])),
                None => http,
            }
        };
        let http = Asker::new(client).map_err(|error| Fault {
            key: key.to_owned(),
            message: format!("no client can be made for it: {}", chain(&error)),
            remedy: "correct url and ca".into(),
            is_passing: false,
        })?;
        Ok(Self {
            stamp: config.ca.as_deref().and_then(Stamp::of),
            config: config.clone(),
            place: shown(config.url.reveal()),
            ca: format!("{key}.ca"),
            http,
        })
    }

    /// Whether the authority's file is as it was read.
    pub(super) fn is_current(&self) -> bool {
        self.stamp == self.config.ca.as_deref().and_then(Stamp::of)
    }

    /// Asks the endpoint, with a place in `waiting`.
    pub(super) async fn authorize(
        &self,
        request: &Request<'_>,
        waiting: &Share,
    ) -> Result<Arc<Identity>, Denial> {
        let _place = waiting.take().ok_or_else(Denial::too_many_wait)?;
        let asked = timeout(self.config.timeout, self.ask(request)).await;
        asked.unwrap_or_else(|_| {
            let limit = self.config.timeout.as_millis();
            Err(Denial::Failed(format!(
                "{} did not answer within {limit} ms, which is its timeout_ms",
                self.place
            )))
        })
    }

    async fn ask(&self, request: &Request<'_>) -> Result<Arc<Identity>, Denial> {
        let failed = |error: &reqwest::Error| {
            let remedy = distrust_remedy(error, &self.ca);
            Denial::Failed(format!(
                "{} cannot be asked: {}{remedy}",
                self.place,
                chain(error)
            ))
        };
        let asked = self.http.get(self.config.url.reveal());
        let asked = asked.headers(headers(request)).build();
        let asked = self.http.ask(asked.map_err(|error| failed(&error))?).await;
        let response = asked.map_err(|error| failed(&error))?;
        let status = response.status();
        if status.is_success() {
            return self.identity(response.headers()).map(Arc::new);
        }
        if !status.is_redirection() && !status.is_client_error() {
            return Err(Denial::Failed(format!("{} answered {status}", self.place)));
        }
        let answer = answer(status, response).await;
        answer
            .map(|answer| Err(Denial::Answer(Box::new(answer))))
            .unwrap_or_else(|error| Err(failed(&error)))
    }

    /// The identity that the headers of a 2xx tell. The one with the principal must be there: without it, the client would
    /// come in as nobody.
    fn identity(&self, headers: &HeaderMap) -> Result<Identity, Denial> {
        let failed = |text: String| Denial::Failed(format!("{}: {text}", self.place));
        let text = |name: &str| -> Result<Option<Box<str>>, Denial> {
            let Some(value) = headers.get(name) else {
                return Ok(None);
            };
            let text = str::from_utf8(value.as_bytes()).map_err(|_| {
                failed(format!(
                    "its answer has a header {name} that is no UTF-8; let the endpoint send it as UTF-8"
                ))
            })?;
            Ok((!text.is_empty()).then(|| text.into()))
        };
        let principal = match self.config.principal.as_deref() {
            None => None,
            Some(name) => Some(text(name)?.ok_or_else(|| {
                failed(format!(
                    "its answer lets the client in and has no header {name}, or an empty one; let the endpoint send it, \
                     or correct the authorizer's forward.principal"
                ))
            })?),
        };
        let mut values = Vec::new();
        for (name, header) in &self.config.values {
            if let Some(text) = text(header)? {
                values.push((name.as_str().into(), Value::Text(text)));
            }
        }
        let identity = Identity::new(principal, values, Vec::new(), None);
        identity.map_err(|error| {
            let header = self.config.principal.as_deref().unwrap_or_default();
            let is_name = matches!(
                error,
                IdentityError::Unprintable | IdentityError::LongPrincipal(_)
            );
            let remedy = match is_name {
                true => format!("; let the endpoint send a name as its header {header}"),
                false => String::new(),
            };
            failed(format!("{error}{remedy}"))
        })
    }
}

/// The headers that the endpoint gets: the client's own, and where its request was for.
fn headers(request: &Request<'_>) -> HeaderMap {
    let handshake = request.handshake;
    let mut headers = HeaderMap::new();
    let mut host = None;
    for (name, value) in &handshake.headers {
        if name == "host" {
            host = Some(value.as_str());
        }
        if let (false, Ok(name), Ok(value)) = (
            is_kept_back(name),
            HeaderName::try_from(name.as_str()),
            HeaderValue::from_str(value),
        ) {
            headers.append(name, value);
        }
    }
    // Its span comes below the handshake's, and not beside it.
    let connection = &request.invocation.connection;
    if let Some(span) = connection.span.as_deref()
        && let Ok(value) = HeaderValue::from_str(&span.traceparent())
    {
        headers.insert("traceparent", value);
    }
    let uri = match request.query {
        "" => handshake.path.clone(),
        query => format!("{}?{query}", handshake.path),
    };
    let proto = if handshake.secure { "https" } else { "http" };
    for (name, value) in [
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", proto),
        ("x-forwarded-host", host.unwrap_or(&handshake.domain_name)),
        ("x-forwarded-uri", &uri),
        ("x-forwarded-for", &handshake.source_ip),
        // As oauth2-proxy has nginx send it.
        ("x-real-ip", &handshake.source_ip),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    headers
}

/// Whether the endpoint does not get a header. CGI, WSGI, PHP and their like read `X_Forwarded_For` as they read
/// `X-Forwarded-For`, and some any other sign as well: all are judged as if they were `-`.
fn is_kept_back(name: &str) -> bool {
    let is_sign = |letter: char| !letter.is_ascii_alphanumeric();
    let name = name.to_ascii_lowercase().replace(is_sign, "-");
    let mut families = KEPT_BACK_FAMILIES.iter();
    KEPT_BACK.contains(&&*name) || families.any(|family| name.starts_with(family))
}

/// The endpoint's refusal, for the client. A body beyond its bound is left out.
async fn answer(status: StatusCode, mut response: Response) -> reqwest::Result<Answer> {
    let mut headers = HeaderMap::new();
    for name in PASSED_ON {
        for value in response.headers().get_all(&name) {
            headers.append(&name, value.clone());
        }
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_BODY {
            body.clear();
            break;
        }
        body.extend_from_slice(&chunk);
    }
    if body.is_empty() {
        headers.remove(CONTENT_TYPE);
        headers.remove(CONTENT_ENCODING);
    }
    Ok(Answer {
        status,
        headers,
        body: Bytes::from(body),
    })
}

/// An error with its causes, and without the address: the caller has it.
fn chain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "it took too long"
    } else {
        "no answer"
    }
    .to_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
