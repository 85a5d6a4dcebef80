//! The health listener: liveness, readiness, and metrics if configured. Everyone who can connect may ask, so it does
//! little and is bounded.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Control, Purpose, accept, metrics_format};
use crate::handover::{Acceptor, Listening};
use crate::net::Stream;

/// Limit of connections at once: more than probes and scrapers need, few enough to cost nothing. One more ends the
/// oldest: a probe is answered as soon as it has asked, so those that stay are silent.
pub(super) const MAX_CONNECTIONS: usize = 256;

/// Time limit from accept to the last byte of the answer. Each connection has one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit for the head of the request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest head in bytes: the least that hyper takes.
const MAX_HEAD_BYTES: usize = 8 << 10;

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
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            let (stream, _) = accept(socket, Purpose::Health).await;
            open.retain(|answering| !answering.is_finished());
            if open.len() == MAX_CONNECTIONS
                && let Some(oldest) = open.pop_front()
            {
                oldest.abort();
            }
            // A client that is too slow, or sends no HTTP, gets no answer.
            let answering = timeout(TIMEOUT, self.clone().answer(stream));
            open.push_back(tasks.spawn(answering).abort_handle());
        }
    }

    async fn answer(self, stream: Stream) {
        let answer = |request: Request<Incoming>| {
            let page = self.page(request.method(), request.uri().path(), request.headers());
            async move { Ok::<_, Infallible>(page) }
        };
        let served = http1::Builder::new()
            .keep_alive(false)
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        let _ = served.await;
    }

    fn page(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
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
                let format = metrics_format(headers);
                let mut page = Response::new(Full::from(self.control.metrics(format)));
                let kind = HeaderValue::from_static(format.content_type());
                page.headers_mut().insert(CONTENT_TYPE, kind);
                page
            }
            _ => text(StatusCode::NOT_FOUND, "no such page\n"),
        }
    }
}
