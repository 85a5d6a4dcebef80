//! The health listener: whether the process lives and whether it wants clients; its metrics, if it is told to. Everyone who
//! can connect may ask, so that it does little and is bounded.

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

use super::{Control, METRICS};
use crate::handover::{Acceptor, Listening};
use crate::net::Stream;

/// Connections at once: more than probes and scrapers have, and few enough to cost nothing. Others wait.
const CONNECTIONS: usize = 256;

/// From accept to the last byte of the answer; there is one request to a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of the longest head: the least that hyper takes.
const HEAD: usize = 8 << 10;

/// How long it waits when there are no files left to accept with.
const REST: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(super) struct Health {
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

impl Health {
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
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return; // It is never closed.
            };
            match socket.accept().await {
                Ok((stream, _)) => {
                    let answered = self.clone().answer(stream);
                    tasks.spawn(async move {
                        // Whoever is too slow, or writes nonsense, has no answer.
                        let _ = timeout(PATIENCE, answered).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!("health: cannot accept: {error}");
                    sleep(REST).await;
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
            .max_buf_size(HEAD)
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
                let kind = HeaderValue::from_static(METRICS);
                page.headers_mut().insert(CONTENT_TYPE, kind);
                page
            }
            _ => text(StatusCode::NOT_FOUND, "no such page\n"),
        }
    }
}
