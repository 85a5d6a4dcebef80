//! The management listener: liveness, readiness, metrics and the admin API. The health listener: the first two, for
//! other machines too.

mod access;
mod admin;
mod audit;
mod change;
mod clients;
pub(crate) mod connections;
mod control;
mod guard;
mod health;
mod note;
mod openapi;
mod plugins;
mod record;
mod selection;
mod shown;
mod trail;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, Address, Health};
use crate::handover::{Acceptor, Listening, Sockets};
use crate::net::Stream;
use crate::telemetry::MetricsFormat;

use access::{Access, Tokens};
pub(crate) use admin::TlsHandshake;
use audit::Audit;
pub(crate) use change::Change;
pub(crate) use control::{Control, NoReload, NoUpgrade, Reload, Upgrade};
pub(crate) use guard::CONFIGURATION;
pub(crate) use note::{
    FoundNote, NOTE_TIMEOUT, Note, find_note, find_second_note, note_socket_name,
    second_note_socket_name, serve_note,
};
pub(crate) use trail::verify as verify_audit;

/// A listener as configured: its address, its TLS and its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ManagementSpec {
    pub(crate) address: Address,
    pub(crate) tls: Option<config::CertificateFiles>,
    pages: PageSet,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PageSet {
    All {
        tokens: Tokens,
        audit: Option<Arc<Path>>,
    },
    Health {
        metrics: bool,
    },
}

/// The purpose of a listener that is not for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Management,
    Health,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Management => "management",
            Self::Health => "health",
        })
    }
}

/// A bound socket of management or health.
pub(crate) struct Management {
    pub(crate) spec: ManagementSpec,
    pub(crate) address: Address,
    listening: Arc<Listening>,
}

impl ManagementSpec {
    pub(crate) fn management(management: config::Management) -> Self {
        Self {
            address: management.address,
            tls: management.tls,
            pages: PageSet::All {
                tokens: Tokens::new(&management.tokens),
                audit: management.audit.map(Into::into),
            },
        }
    }

    pub(crate) fn health(health: Health) -> Self {
        let (address, metrics) = (health.address, health.metrics);
        Self {
            address,
            tls: None,
            pages: PageSet::Health { metrics },
        }
    }

    pub(crate) fn purpose(&self) -> Purpose {
        match self.pages {
            PageSet::All { .. } => Purpose::Management,
            PageSet::Health { .. } => Purpose::Health,
        }
    }

    /// Connections at once, for which the gateway keeps files back.
    pub(crate) fn max_connections(&self) -> usize {
        match self.pages {
            PageSet::All { .. } => admin::MAX_CONNECTIONS,
            PageSet::Health { .. } => health::MAX_CONNECTIONS,
        }
    }

    /// Makes the audit file, if there is none. Fails if it cannot be written.
    pub(crate) fn check_audit(&self) -> io::Result<()> {
        match &self.pages {
            PageSet::All {
                audit: Some(file), ..
            } => trail::open(file).map(drop),
            PageSet::All { audit: None, .. } | PageSet::Health { .. } => Ok(()),
        }
    }

    /// The key of its address in the configuration.
    pub(crate) fn key(&self) -> &'static str {
        match self.pages {
            PageSet::All { .. } => "management.address",
            PageSet::Health { .. } => "health.address",
        }
    }
}

/// What the sockets of management and health are for. One purpose for both: a socket may come to show the other's pages.
const PURPOSE: &str = "management";

impl Management {
    /// Reports that the address cannot be bound.
    pub(crate) fn check(spec: &ManagementSpec, sockets: &Sockets) -> io::Result<()> {
        sockets.check(PURPOSE, &spec.address)
    }

    pub(crate) fn bind(spec: ManagementSpec, sockets: &Sockets) -> io::Result<Self> {
        let listening = sockets.listen(PURPOSE, &spec.address)?;
        Self::on(Arc::new(listening), spec)
    }

    /// Takes a socket that is open already.
    pub(crate) fn on(listening: Arc<Listening>, spec: ManagementSpec) -> io::Result<Self> {
        Ok(Self {
            address: listening.socket.address(&spec.address)?,
            spec,
            listening,
        })
    }

    pub(crate) fn socket(&self) -> Weak<Listening> {
        Arc::downgrade(&self.listening)
    }

    /// Serves until `stop`: longer than the client listeners, so that `/readyz` can say no meanwhile. The management
    /// listener has TLS if `tls` is given.
    pub(crate) fn serve(
        self,
        control: Control,
        tls: Option<TlsHandshake>,
        stop: CancellationToken,
        tasks: &TaskTracker,
    ) {
        let (tokens, file) = match self.spec.pages {
            PageSet::Health { metrics } => {
                let health = health::HealthServer::new(control, metrics);
                return health.serve(self.listening, stop, tasks);
            }
            PageSet::All { tokens, audit } => (tokens, audit),
        };
        let audit = Audit {
            file,
            tasks: tasks.clone(),
        };
        let access = Arc::new(Access::new(tokens));
        let messages = Router::new()
            .route("/connections/send", post(clients::send))
            .route_layer(from_fn_with_state(
                guard::MAX_MESSAGE_BODY,
                guard::whole_body,
            ));
        let admin = Router::new()
            .route("/reload", post(plugins::reload))
            .route("/plugins/{name}/rollback", post(plugins::roll_back))
            .route("/plugins/{name}/rollout", post(plugins::roll_out))
            .route("/plugins/{name}/promote", post(plugins::promote))
            .route("/plugins/{name}/abort", post(plugins::abort))
            .route("/upgrade", post(upgrade))
            .route("/connections/close", post(clients::close))
            .route_layer(from_fn_with_state(guard::MAX_BODY, guard::whole_body))
            .merge(messages)
            .route_layer(from_fn_with_state(audit, audit::audit))
            .route_layer(from_fn(guard::json_only))
            .route("/connections", get(clients::list))
            .route("/connections/{id}", get(clients::show))
            .route("/connections/{id}/trace", get(clients::trace))
            .route("/groups", get(clients::groups))
            .route("/metrics", get(metrics_page))
            .route("/openapi.json", get(openapi::document))
            .route("/plugins", get(plugins::list))
            .route("/plugins/{name}/history", get(plugins::history))
            .route_layer(from_fn_with_state(control.clone(), guard::same_file))
            .route_layer(from_fn(guard::no_web_page))
            .route_layer(from_fn(record::record))
            .route_layer(from_fn_with_state(Arc::clone(&access), access::identify));
        let connections = Router::new()
            .fallback(connections::answer_operator)
            .layer(from_fn_with_state(control.clone(), guard::same_file))
            .layer(from_fn(guard::no_web_page))
            .layer(from_fn_with_state(
                (access, control.clone()),
                access::identify_or_key,
            ));
        let router = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .merge(admin)
            .merge(connections)
            .with_state(control);
        // The socket closes once nothing accepts, even while requests are still answered.
        let answering = tasks.clone();
        tasks.spawn(admin::serve(self.listening, tls, router, stop, answering));
    }
}

/// Pause after a failed accept, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts the next connection, however long that takes.
async fn accept(socket: &Acceptor, purpose: Purpose) -> (Stream, SocketAddr) {
    loop {
        match socket.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!("{purpose}: cannot accept: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn ready(State(control): State<Control>) -> (StatusCode, &'static str) {
    health::ready(&control)
}

async fn metrics_page(State(control): State<Control>, headers: HeaderMap) -> Response {
    let format = metrics_format(&headers);
    let page = control.metrics(format);
    ([(CONTENT_TYPE, format.content_type())], page).into_response()
}

/// The format of the metrics page that a request asks for.
fn metrics_format(headers: &HeaderMap) -> MetricsFormat {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    MetricsFormat::accepted(accept)
}

async fn upgrade(State(control): State<Control>) -> (StatusCode, String) {
    let why = match control.upgrade().await {
        Ok(id) => return (StatusCode::OK, format!("process {id} serves\n")),
        Err(why) => why,
    };
    let status = match &why {
        NoUpgrade::UnderWay
        | NoUpgrade::Replaced
        | NoUpgrade::Dev
        | NoUpgrade::Reloading { .. }
        | NoUpgrade::TooSlow { .. }
        | NoUpgrade::Withdrawn(_)
        | NoUpgrade::NotServing(_) => StatusCode::CONFLICT,
        NoUpgrade::AskedToStop | NoUpgrade::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        NoUpgrade::Fault(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, format!("{why}\n"))
}
