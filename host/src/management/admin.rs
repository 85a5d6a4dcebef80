//! The connections of the management listener: as many at once as operators need, each with a time limit for what it
//! sends.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::select;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Peer;
use super::{Purpose, accept};
use crate::handover::Listening;
use crate::net::{BoxedStream, Stream};

/// Limit of connections at once. Others wait.
pub(super) const MAX_CONNECTIONS: usize = 64;

/// Time limit for a TLS handshake, and for the head of a request, from there or from the last answer: idle connections
/// end.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Cancelled when the listener ends, as where its tokens have changed: an answer without an end ends then.
#[derive(Clone)]
pub(super) struct Ending(pub(super) CancellationToken);

/// A TLS handshake, as the listener of the gateway's clients does it.
pub(crate) type TlsHandshake = Arc<dyn Fn(Stream) -> Handshaking + Send + Sync>;

type Handshaking = Pin<Box<dyn Future<Output = io::Result<BoxedStream>> + Send>>;

/// Limit of connections at once from one address beyond this machine, so that one leaves room for others. One more is
/// closed.
const MAX_OF_ONE: u32 = 16;

/// Counts of open connections by address.
#[derive(Clone, Default)]
struct OpenCounts(Arc<Mutex<HashMap<IpAddr, u32>>>);

/// The place of a connection among those of its address, which is free once this is dropped.
struct Place(OpenCounts, Option<IpAddr>);

impl OpenCounts {
    /// Takes a place; none if the address has as many as it may. This machine, which shares an address, has no limit.
    fn take(&self, peer: Peer) -> Option<Place> {
        let block = peer.block().filter(|block| !block.is_loopback());
        if let Some(block) = block {
            let mut counts = self.lock();
            let count = counts.entry(block).or_default();
            if *count >= MAX_OF_ONE {
                return None;
            }
            *count += 1;
        }
        Some(Place(self.clone(), block))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self(counts, Some(block)) = self else {
            return;
        };
        let mut counts = counts.lock();
        if let Some(count) = counts.get_mut(block) {
            *count -= 1;
            if *count == 0 {
                counts.remove(block);
            }
        }
    }
}

/// Accepts and answers until `stop`; requests under way are answered after it.
pub(super) async fn serve(
    listening: Arc<Listening>,
    tls: Option<TlsHandshake>,
    router: Router,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let open = OpenCounts::default();
    let accepting = async {
        // It is never closed.
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            let (stream, address) = accept(&listening.socket, Purpose::Management).await;
            let peer = Peer::of(&stream, address);
            let Some(place) = open.take(peer) else {
                let client = peer.client();
                tracing::warn!(
                    client,
                    "management: closed a connection, since its address has {MAX_OF_ONE} open"
                );
                continue;
            };
            let answering = secure(stream, peer, tls.clone());
            let stop = stop.clone();
            let about = (Extension(peer), Extension(Ending(stop.clone())));
            let router = router.clone().layer(about);
            tasks.spawn(async move {
                if let Some(stream) = answering.await {
                    answer(stream, router, stop).await;
                }
                drop((permit, place));
            });
        }
    };
    stop.clone().run_until_cancelled(accepting).await;
}

/// Does the TLS handshake, if there is TLS.
async fn secure(stream: Stream, peer: Peer, tls: Option<TlsHandshake>) -> Option<BoxedStream> {
    let Some(tls) = tls else {
        return Some(Box::new(stream));
    };
    match timeout(HEAD_TIMEOUT, tls(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(
                client = peer.client(),
                "management: the TLS handshake failed: {error}"
            );
            None
        }
        Err(_) => {
            tracing::debug!(
                client = peer.client(),
                "management: the TLS handshake took too long"
            );
            None
        }
    }
}

async fn answer(stream: BoxedStream, router: Router, stop: CancellationToken) {
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn peer(ip: &str) -> Peer {
        Peer::Address(SocketAddr::new(ip.parse().expect("an address"), 1))
    }

    #[test]
    fn one_address_beyond_this_machine_leaves_room_for_others() {
        let open = OpenCounts::default();
        let mut places: Vec<_> = (0..MAX_OF_ONE)
            .map(|_| open.take(peer("192.0.2.1")).expect("there is room"))
            .collect();
        assert!(open.take(peer("192.0.2.1")).is_none());
        assert!(open.take(peer("192.0.2.2")).is_some());
        places.pop();
        assert!(open.take(peer("192.0.2.1")).is_some());
        drop(places);
        assert!(open.lock().is_empty());
        let local: Vec<_> = (0..2 * MAX_OF_ONE)
            .map(|_| open.take(peer("127.0.0.1")))
            .collect();
        assert!(local.iter().all(Option::is_some));
    }
}
