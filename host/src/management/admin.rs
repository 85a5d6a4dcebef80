//! The connections of the management listener: as many at once as operators need, each with a time limit for what it
//! sends.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::select;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Purpose, accept};
use crate::handover::Listening;
use crate::net::Stream;

/// Limit of connections at once. Others wait.
pub(super) const MAX_CONNECTIONS: usize = 64;

/// Time limit for the head of a request, from accept or from the last answer: idle connections end.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts and answers until `stop`; requests under way are answered after it.
pub(super) async fn serve(
    listening: Arc<Listening>,
    router: Router,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accepting = async {
        // It is never closed.
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            let stream = accept(&listening.socket, Purpose::Management).await;
            let answering = answer(stream, router.clone(), stop.clone());
            tasks.spawn(async move {
                answering.await;
                drop(permit);
            });
        }
    };
    stop.clone().run_until_cancelled(accepting).await;
}

async fn answer(stream: Stream, router: Router, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // A client that leaves or sends no HTTP gets no answer.
    select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
