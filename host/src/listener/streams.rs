//! The streams of a connection with many requests, by HTTP/2 or HTTP/3: each is a request being answered, and then its
//! WebSocket. What the connection is for is judged with each.

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::ext::Protocol;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::tls::ShownCertificate;
use super::{FAREWELL, ListenerContext};
use crate::handshake::{self, NotAdmitted, Peer, Upgrade};

/// Limit of WebSockets on one connection; closed ones whose handlers are at work count. The RFCs want at least 100 (RFC 9113
/// §6.5.2, RFC 9114 §6.1).
pub(super) const MAX_STREAMS: u32 = 100;

/// Limit of bidirectional streams that a client has open by QUIC: a WebTransport session has a second one, for its
/// messages. quinn tells a client of streams that have ended once they are more than an eighth of the limit; beside that
/// eighth there is room for the streams of all sessions, and for requests that get their 429.
pub(super) const MAX_QUIC_STREAMS: u32 = 256;

/// The limit of a QUIC connection that has few requests, and the number of requests from which they are many: fewer have
/// room beside an eighth. quinn makes a table of the limit from the start, and most clients need two streams: the rest of
/// it would cost each 8 KiB.
pub(super) const FEW_QUIC_STREAMS: u32 = MAX_STREAMS;
const MANY: usize = MAX_STREAMS as usize / 4;

pub(super) struct Streams {
    /// The certificate that the client was shown. It may use the connection for all hosts of that, and for no other.
    shown: Option<ShownCertificate>,
    /// Cancelled once what the client has shown holds no more.
    distrusted: CancellationToken,
    /// Cancelled once no request is on its way any more.
    over: CancellationToken,
    /// Holds a token for each request while it is answered, then for its WebSocket.
    open: TaskTracker,
    /// Holds the same for those that have come since [`Self::unused`] looked last, and for streams that may become one.
    recent: Mutex<TaskTracker>,
    /// Requests so far that have kept the connection open.
    kept: AtomicU64,
    first: CancellationToken,
    /// Holds a token for each stream of QUIC until its answer has arrived.
    unread: TaskTracker,
}

impl Streams {
    pub(super) fn new(shown: Option<ShownCertificate>) -> Self {
        Self {
            shown,
            distrusted: CancellationToken::new(),
            over: CancellationToken::new(),
            open: closed(),
            recent: Mutex::new(closed()),
            unread: closed(),
            kept: AtomicU64::new(0),
            first: CancellationToken::new(),
        }
    }

    /// Counts a request that has come, for as long as the tokens live. One that comes too late is refused, and must not
    /// keep the connection open.
    pub(super) fn begin(&self) -> [TaskTrackerToken; 2] {
        self.first.cancel();
        match self.over.is_cancelled() {
            true => [self.recent(), self.recent()],
            false => [self.open.token(), self.recent()],
        }
    }

    /// Counts a stream that has come, until its answer has arrived: until then the connection is not over. It may be no
    /// request, but the messages of a session.
    pub(super) fn accept(&self) -> [TaskTrackerToken; 2] {
        self.first.cancel();
        [self.unread.token(), self.recent()]
    }

    /// Whether so many have come that the connection needs the whole limit of streams. Their heads may come later.
    pub(super) fn are_many(&self) -> bool {
        self.open.len() + self.unread.len() >= MANY
    }

    fn recent(&self) -> TaskTrackerToken {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.token()
    }

    /// Takes those that have come since the last call.
    fn take_recent(&self) -> TaskTracker {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut recent, closed())
    }

    /// Whether a request has come.
    pub(super) fn have_begun(&self) -> bool {
        self.first.is_cancelled()
    }

    /// Waits until the connection has had no WebSocket for the time of a handshake: refused requests, and those that do
    /// not come to their end, must not keep it open, even if there is always one. So it waits for those that have come
    /// by now, and not for later ones.
    pub(super) async fn unused(&self, deadline: Instant, context: &ListenerContext) {
        sleep_until(deadline).await;
        let mut before = 0;
        loop {
            let kept = self.kept.load(Ordering::Relaxed);
            self.take_recent().wait().await;
            if kept == before && self.kept.load(Ordering::Relaxed) == before {
                return;
            }
            before = kept;
            sleep(**context.handshake_timeout.load()).await;
        }
    }

    /// Waits until the connection is to take no more requests. A client accepted before an upgrade has its first one
    /// answered.
    pub(super) async fn leaving(&self, context: &ListenerContext) {
        tokio::select! {
            ((), ()) = async { tokio::join!(context.stop.cancelled(), self.first.cancelled()) } => {}
            () = context.handshakes.stopping.cancelled() => {}
            () = self.distrusted.cancelled() => {}
        }
    }

    /// Lets the requests come that are on their way when the connection is to take no more, and refuses later ones: a client
    /// may pass over a `GOAWAY`, and would keep what the listener was for as long as it likes.
    pub(super) async fn take_the_last(&self, context: &ListenerContext) -> Infallible {
        sleep(**context.handshake_timeout.load()).await;
        self.end();
        pending().await
    }

    /// Refuses all requests from now on.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    /// Waits until no stream is left, and no answer that has not arrived.
    pub(super) async fn ended(&self) {
        loop {
            self.open.wait().await;
            self.unread.wait().await;
            if self.open.is_empty() {
                return;
            }
        }
    }

    /// Whether no stream is left.
    pub(super) fn are_over(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether a request has kept the connection open.
    pub(super) fn have_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed) > 0
    }

    /// Waits until no stream is left and the clients have had a moment for the last bytes. They may take neither those
    /// nor the `GOAWAY`.
    pub(super) async fn ended_and_read(&self) {
        loop {
            self.ended().await;
            sleep(FAREWELL).await;
            if self.open.is_empty() {
                return;
            }
        }
    }

    /// Refuses a request for which the connection is not there. One of a client that is trusted no more ends the
    /// connection, once its WebSockets have ended.
    pub(super) fn refuse<B>(
        &self,
        request: &Request<B>,
        peer: &Peer,
        context: &ListenerContext,
    ) -> Option<Response<Full<Bytes>>> {
        let shown = self.shown.as_ref();
        let allows = |host: Authority| shown.is_none_or(|shown| shown.allows(host.host()));
        let handshakes = &context.handshakes;
        if !peer.is_trusted() {
            self.distrusted.cancel();
            return Some(handshake::distrusted(handshakes, peer, request));
        }
        if self.over.is_cancelled() {
            return Some(handshake::late(handshakes, peer, request));
        }
        if host(request).is_some_and(|host| !allows(host)) {
            return Some(handshake::misdirected(handshakes, peer, request));
        }
        // One that opens nothing may have the place of a session's messages.
        let most = match request.extensions().get::<Protocol>() {
            Some(_) => MAX_STREAMS,
            None => 2 * MAX_STREAMS,
        };
        let is_one_more = self.open.len() > most as usize;
        let reason = NotAdmitted::TooManyStreams;
        is_one_more.then(|| handshake::refuse(handshakes, peer, request, reason))
    }

    /// Answers a request that may open a WebSocket, or is for a page. `peer` has its token.
    pub(super) async fn answer(
        &self,
        parts: Parts,
        upgrade: Upgrade,
        peer: Peer,
        context: &ListenerContext,
    ) -> Response<Full<Bytes>> {
        let response = match &context.pages {
            Some(pages) if !handshake::wants_websocket(&parts) => pages.answer(&parts).await,
            Some(_) | None => {
                handshake::answer_with(&context.handshakes, peer, parts, upgrade).await
            }
        };
        if response.status() == StatusCode::OK {
            self.keep();
        }
        response
    }

    /// Notes a request that keeps the connection open: one that opens a WebSocket, or has a page or a valid key.
    pub(super) fn keep(&self) {
        self.kept.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tracks tokens alone, so that it is over once there is none.
fn closed() -> TaskTracker {
    let tracker = TaskTracker::new();
    tracker.close();
    tracker
}

/// Gives the host that a request names.
fn host<B>(request: &Request<B>) -> Option<Authority> {
    let named = request.uri().authority().cloned();
    named.or_else(|| request.headers().get(HOST)?.to_str().ok()?.parse().ok())
}
