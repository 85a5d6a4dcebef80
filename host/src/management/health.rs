//! The health listener: liveness, readiness, and metrics if configured. Everyone who can connect may ask, so it does
//! little and is bounded.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Control, METRICS_TYPE};
use crate::handover::{Acceptor, Listening};
use crate::net::Stream;

/// Limit of connections at once: more than probes and scrapers need, few enough to cost nothing. Others wait.
pub(super) const MAX_CONNECTIONS: usize = 256;

/// Time limit from accept to the last byte of the answer. Each connection has one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest head in bytes: the least that hyper takes.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// Pause after a failed accept, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(super) struct HealthServer {
    control: Control,
    /// Whether the metrics are shown.
    metrics: bool,
}

/// Whether new clients should be sent here.
pub(super) fn ready(control: &Control) -> (StatusCode, &'static str) {
    match control.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}

impl HealthServer {
    pub(super) fn new(control: Control, metrics: bool) -> Self {
        Self { control, metrics }
    }

    pub(super) fn serve(
        self,
        listening: Arc<Listening>,
        stop: CancellationToken,
        tasks: &TaskTracker,
    ) {
        let answering = tasks.clone();
        tasks.spawn(async move {
            let accepting = self.accept(&listening.socket, answering);
            stop.run_until_cancelled(accepting).await;
        });
    }

    async fn accept(self, socket: &Acceptor, tasks: TaskTracker) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return; // It is never closed.
            };
            match socket.accept().await {
                Ok((stream, _)) => {
                    let answered = self.clone().answer(stream);
                    tasks.spawn(async move {
                        // A client that is too slow, or sends no HTTP, gets no answer.
                        let _ = timeout(TIMEOUT, answered).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!("health: cannot accept: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn answer(self, stream: Stream) {
        let answer = |request: Request<Incoming>| {
            let page = self.page(request.method(), request.uri().path());
            async move { Ok::<_, Infallible>(page) }
        };
        let served = http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        let _ = served.await;
    }

    fn page(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let text = |status, text: &'static str| {
            let mut page = Response::new(Full::from(text));
            *page.status_mut() = status;
            page
        };
        if method != Method::GET && method != Method::HEAD {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            refused.headers_mut().insert(ALLOW, allowed);
            return refused;
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => {
                let (status, said) = ready(&self.control);
                text(status, said)
            }
            "/metrics" if self.metrics => {
                let mut page = Response::new(Full::from(self.control.metrics()));
                let kind = HeaderValue::from_static(METRICS_TYPE);
                page.headers_mut().insert(CONTENT_TYPE, kind);
                page
            }
            _ => text(StatusCode::NOT_FOUND, "no such page\n"),
        }
    }
}
