//! The outbox of a connection holds the messages that wait to be written to it, bounded in bytes and in number.
//! Anyone fills it; the connection's own session empties it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::message::Payload;

/// Why a post was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PostError {
    #[error("the connection is gone")]
    Gone,
    #[error("the connection reads too slowly, its queue is full")]
    Busy,
    #[error("the message is over the limit")]
    TooLarge,
}

/// Messages that an empty queue keeps room for: a burst leaves no memory behind.
const KEPT_MESSAGES: usize = 16;

/// A close code with its reason (RFC 6455 §7.4, §5.5.1: at most 123 bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    pub(crate) code: u16,
    pub(crate) reason: String,
    pub(crate) by: Closer,
}

/// Who has closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Closer {
    /// The client: it closed, or is gone.
    Client,
    /// The handler of a plugin.
    Handler,
    /// An operator or a backend, through the management or the connections API.
    Operator,
    /// The gateway: a limit, a fault of the client's, a stop.
    Gateway,
}

impl Closer {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Handler => "handler",
            Self::Operator => "operator",
            Self::Gateway => "gateway",
        }
    }
}

/// Bytes of the longest reason of a close frame.
const MAX_REASON: usize = 123;

/// Why no close frame may have a code or a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CloseError {
    #[error("no endpoint may send the close code {0}")]
    Code(u16),
    #[error("a reason has at most {MAX_REASON} bytes")]
    Reason,
}

impl Closing {
    /// A close by an operator or a handler, with a code that an endpoint may send (RFC 6455 §7.4, and the codes
    /// registered with IANA since), and a reason that fits into a frame.
    pub(crate) fn checked(code: u16, reason: String, by: Closer) -> Result<Self, CloseError> {
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(CloseError::Code(code));
        }
        if reason.len() > MAX_REASON {
            return Err(CloseError::Reason);
        }
        Ok(Self { code, reason, by })
    }

    /// A close by the gateway.
    pub(crate) fn new(code: u16, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            by: Closer::Gateway,
        }
    }

    /// The same close by another.
    pub(crate) fn by(self, by: Closer) -> Self {
        Self { by, ..self }
    }
}

/// The bounds of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutboxLimits {
    /// Bytes of all messages that are queued, or taken and not written yet, with [`OVERHEAD`] for each.
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
}

/// Bytes that a queued message counts beside its payload. No transport adds more to one, so the bound holds for the
/// messages that the session has taken too.
const OVERHEAD: usize = 10;

/// How many times `messages` may be queued for a client that is not slow, but takes its messages as fast as its
/// network and the gateway let it. The bound in bytes stays the same.
const FAST_FACTOR: usize = 4;

/// The time after which a client that takes nothing of its backlog is slow.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// The length of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueLength {
    /// Messages that the session has not taken yet.
    pub(crate) messages: usize,
    /// Bytes of these, and of those that it has taken and not written, with the overhead of each.
    pub(crate) bytes: usize,
}

/// The result of a session's look into the outbox.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Nothing,
    /// So many messages were given to the session, with so many bytes; there may be more.
    Messages(u64, u64),
    /// The connection is to be closed, and all earlier messages have been taken.
    Close(Closing),
    /// The connection is to end now, written or not.
    Cut(Closing),
}

#[derive(Debug)]
pub(crate) struct Outbox {
    contents: Mutex<Contents>,
    /// Whether something may be pending for the session. Changed under the lock. A session that handles message after
    /// message reads this, and takes no lock to find nothing.
    pending: AtomicBool,
}

#[derive(Debug, Default)]
struct Contents {
    queue: VecDeque<Payload>,
    /// Bytes of the queue, with the overheads.
    queued: usize,
    /// Bytes that the session had taken and not written at its last look.
    unwritten: usize,
    /// The most bytes that waited at once.
    peak: usize,
    /// The close that was asked for: nothing is queued once it is set.
    closing: Option<Closing>,
    /// Whether the connection ends now: the queue and the close are not written any more.
    cut: bool,
    session: SessionState,
}

/// The state of the session.
#[derive(Debug, Default)]
enum SessionState {
    /// It runs, or has been woken to run.
    #[default]
    Running,
    /// It waits for something to take.
    Waiting(Waker),
    /// It waits for its client, which has taken nothing since this instant. Only a close or a cut wakes it.
    Full(Waker, Instant),
}

impl SessionState {
    /// The waker of a session that waits for messages. The session counts as running from now on.
    fn wake(&mut self) -> Option<Waker> {
        match std::mem::take(self) {
            Self::Waiting(waker) => {
                WOKE_OTHERS.set(true);
                Some(waker)
            }
            Self::Full(waker, since) => {
                *self = Self::Full(waker, since);
                None
            }
            Self::Running => None,
        }
    }

    /// The waker of a session that waits for anything. The session counts as running from now on.
    fn wake_to_end(&mut self) -> Option<Waker> {
        match std::mem::take(self) {
            Self::Waiting(waker) | Self::Full(waker, _) => {
                WOKE_OTHERS.set(true);
                Some(waker)
            }
            Self::Running => None,
        }
    }
}

thread_local! {
    /// Whether this thread has woken a session since [`has_posted_enough`] was last true.
    static WOKE_OTHERS: Cell<bool> = const { Cell::new(false) };
    /// Messages that this thread has queued since then. One of many bytes counts as several.
    static POSTS: Cell<usize> = const { Cell::new(0) };
}

/// Posts of one turn: so few that no outbox fills meanwhile, and so many that those to one client leave in one write.
const TURN_POSTS: usize = 8;

/// Bytes of a message that count as another post.
const POST_BYTES: usize = 1 << 10;

/// Whether this thread has woken a session, and has posted as much as it may before that session runs.
pub(crate) fn has_posted_enough() -> bool {
    let enough = POSTS.get() >= TURN_POSTS && WOKE_OTHERS.take();
    if enough {
        POSTS.set(0);
    }
    enough
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            contents: Mutex::default(),
            pending: AtomicBool::new(false),
        }
    }

    /// Queues a message without waiting.
    pub(crate) fn push(&self, payload: Payload, limits: OutboxLimits) -> Result<(), PostError> {
        let waker = {
            let mut contents = self.lock();
            if contents.closing.is_some() {
                return Err(PostError::Gone);
            }
            let messages = match &contents.session {
                SessionState::Full(_, since) if since.elapsed() >= SLOW_AFTER => limits.messages,
                SessionState::Running | SessionState::Waiting(_) | SessionState::Full(..) => {
                    limits.messages.saturating_mul(FAST_FACTOR)
                }
            };
            let held = contents.queued + contents.unwritten;
            // An empty outbox takes any message within the message limit.
            if contents.queue.len() >= messages
                || (held + counted_bytes(&payload) > limits.bytes && held > 0)
            {
                return Err(PostError::Busy);
            }
            let posts = 1 + payload.bytes.len() / POST_BYTES;
            contents.enqueue(payload);
            self.pending.store(true, Ordering::Release);
            POSTS.set(POSTS.get().saturating_add(posts));
            contents.session.wake()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Asks the session to close the connection once the queue is written. False when it is closing already.
    pub(crate) fn close(&self, closing: Closing) -> bool {
        let waker = {
            let mut contents = self.lock();
            if contents.closing.is_some() {
                return false;
            }
            contents.closing = Some(closing);
            self.pending.store(true, Ordering::Release);
            contents.session.wake_to_end()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// The close that the session was asked for.
    pub(crate) fn closing(&self) -> Option<Closing> {
        self.lock().closing.clone()
    }

    /// Ends the connection now, with an unwritten queue; the client gets no close frame.
    pub(crate) fn cut(&self, closing: Closing) {
        let waker = {
            let mut contents = self.lock();
            contents.closing = Some(closing);
            contents.cut = true;
            self.pending.store(true, Ordering::Release);
            contents.session.wake_to_end()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Refuses all messages from now on and drops the queue: the connection has ended.
    pub(crate) fn end(&self) {
        let mut contents = self.lock();
        contents
            .closing
            .get_or_insert_with(|| Closing::new(1006, ""));
        contents.queue = VecDeque::new();
        contents.queued = 0;
    }

    /// Queues a message of the session itself behind all others, whatever the limits.
    pub(crate) fn push_own(&self, payload: Payload) {
        let mut contents = self.lock();
        contents.enqueue(payload);
        self.pending.store(true, Ordering::Release);
    }

    /// Bytes that wait for the client: those of the queue, and the `unwritten` ones that the session holds.
    pub(crate) fn held(&self, unwritten: usize) -> usize {
        self.lock().queued + unwritten
    }

    /// The most bytes that have waited for the client at once.
    pub(crate) fn peak(&self) -> usize {
        self.lock().peak
    }

    /// The messages that wait for the client.
    pub(super) fn queue(&self) -> QueueLength {
        let contents = self.lock();
        QueueLength {
            messages: contents.queue.len(),
            bytes: contents.queued + contents.unwritten,
        }
    }

    /// Whether the session has taken all that was queued.
    pub(crate) fn is_empty(&self) -> bool {
        !self.pending.load(Ordering::Acquire) || self.lock().queue.is_empty()
    }

    /// Passes queued messages to `write` until `enough` bytes wait for the client; the last message may exceed that.
    /// `write` gives the bytes that it made of a message; `unwritten` bytes wait already.
    ///
    /// The session counts as running until its next [`Outbox::poll_wait`], and is not woken.
    pub(crate) fn take(
        &self,
        mut unwritten: usize,
        enough: usize,
        mut write: impl FnMut(&Payload) -> usize,
    ) -> Taken {
        if !self.pending.load(Ordering::Acquire) {
            return Taken::Nothing;
        }
        let mut contents = self.lock();
        contents.session = SessionState::Running;
        contents.unwritten = unwritten;
        if contents.cut || contents.queue.is_empty() {
            let closing = contents.closing.clone();
            self.pending.store(closing.is_some(), Ordering::Release);
            let taken = if contents.cut {
                Taken::Cut
            } else {
                Taken::Close
            };
            return closing.map_or(Taken::Nothing, taken);
        }
        let (mut messages, mut bytes) = (0, 0);
        while unwritten < enough
            && let Some(payload) = contents.queue.pop_front()
        {
            contents.queued -= counted_bytes(&payload);
            messages += 1;
            bytes += payload.bytes.len() as u64;
            unwritten += write(&payload);
        }
        contents.unwritten = unwritten;
        if contents.queue.is_empty() && contents.queue.capacity() > KEPT_MESSAGES {
            contents.queue = VecDeque::new();
        }
        Taken::Messages(messages, bytes)
    }

    /// Ready when there is something to take. `unwritten` bytes of earlier messages wait to be written.
    pub(crate) fn poll_wait(&self, context: &Context<'_>, unwritten: usize) -> Poll<()> {
        let mut contents = self.lock();
        if !contents.queue.is_empty() || contents.closing.is_some() {
            return Poll::Ready(());
        }
        let session = SessionState::Waiting(context.waker().clone());
        self.wait(&mut contents, session, unwritten)
    }

    /// Ready when the connection is to be cut. For a session whose buffer is full, and whose client has taken nothing
    /// `since` then.
    pub(crate) fn poll_cut(
        &self,
        context: &Context<'_>,
        unwritten: usize,
        since: Instant,
    ) -> Poll<()> {
        let mut contents = self.lock();
        if contents.cut {
            return Poll::Ready(());
        }
        let session = SessionState::Full(context.waker().clone(), since);
        self.wait(&mut contents, session, unwritten)
    }

    fn wait(&self, contents: &mut Contents, session: SessionState, unwritten: usize) -> Poll<()> {
        contents.unwritten = unwritten;
        contents.session = session;
        self.pending.store(true, Ordering::Release); // the next `take` finds the waker, and takes it back
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn enqueue(&mut self, payload: Payload) {
        self.queued += counted_bytes(&payload);
        self.peak = self.peak.max(self.queued + self.unwritten);
        self.queue.push_back(payload);
    }
}

fn counted_bytes(payload: &Payload) -> usize {
    payload.bytes.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::super::message::Message;
    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits {
        bytes: 3 * OVERHEAD,
        messages: 3,
    };

    fn text(text: &str) -> Payload {
        Message::Text(text.into()).into()
    }

    /// Takes messages until `enough` bytes wait, as a session whose transport writes exactly the overhead.
    fn take(outbox: &Outbox, out: &mut Vec<u8>, unwritten: usize, enough: usize) -> Taken {
        outbox.take(unwritten, enough, |payload| {
            out.extend_from_slice(&payload.bytes);
            counted_bytes(payload)
        })
    }

    #[test]
    fn outbox_takes_what_fits_and_is_busy_then() {
        let outbox = Outbox::new();
        let exact = text(&"x".repeat(2 * OVERHEAD));
        assert_eq!(outbox.push(exact, LIMITS), Ok(()));
        assert_eq!(outbox.push(text(""), LIMITS), Err(PostError::Busy));
        let mut out = Vec::new();
        assert!(matches!(take(&outbox, &mut out, 0, 1), Taken::Messages(..)));
        // Messages that were taken count until they are written.
        assert_eq!(outbox.push(text(""), LIMITS), Err(PostError::Busy));
        assert_eq!(take(&outbox, &mut out, 0, 1), Taken::Nothing);
        for _ in 0..LIMITS.bytes / OVERHEAD {
            assert_eq!(outbox.push(text(""), LIMITS), Ok(()));
        }
        assert_eq!(outbox.push(text(""), LIMITS), Err(PostError::Busy));
    }

    #[test]
    fn thread_has_posted_enough_after_several_messages_or_a_large_one() {
        let limits = OutboxLimits {
            bytes: 1 << 20,
            messages: 100,
        };
        let context = Context::from_waker(Waker::noop());
        has_posted_enough(); // what another test of this thread has left
        for (message, count) in [
            ("x".to_owned(), TURN_POSTS),
            ("x".repeat(TURN_POSTS * POST_BYTES), 1),
        ] {
            let outbox = Outbox::new();
            for _ in 1..count {
                assert_eq!(outbox.push(text(&message), limits), Ok(()));
                assert!(!has_posted_enough());
            }
            assert!(!has_posted_enough(), "nobody is woken");
            take(&outbox, &mut Vec::new(), 0, 1 << 20);
            assert!(outbox.poll_wait(&context, 0).is_pending());
            assert_eq!(outbox.push(text(&message), limits), Ok(()));
            assert!(has_posted_enough());
            assert!(!has_posted_enough());
        }
    }

    #[test]
    fn slow_client_has_a_narrower_bound_of_messages() {
        let limits = OutboxLimits {
            bytes: 1_000,
            messages: 3,
        };
        let context = Context::from_waker(Waker::noop());
        let (outbox, mut out) = (Outbox::new(), Vec::new());
        for _ in 0..FAST_FACTOR * limits.messages {
            assert_eq!(outbox.push(text(""), limits), Ok(()));
        }
        assert_eq!(outbox.push(text(""), limits), Err(PostError::Busy));
        assert!(matches!(
            take(&outbox, &mut out, 0, 1_000),
            Taken::Messages(..)
        ));
        let (now, written) = (Instant::now(), 0);
        assert!(outbox.poll_cut(&context, written, now).is_pending());
        for _ in 0..FAST_FACTOR * limits.messages {
            assert_eq!(outbox.push(text(""), limits), Ok(()));
        }
        assert!(matches!(
            take(&outbox, &mut out, written, 1_000),
            Taken::Messages(..)
        ));
        assert!(
            outbox
                .poll_cut(&context, written, now - SLOW_AFTER)
                .is_pending()
        );
        for _ in 0..limits.messages {
            assert_eq!(outbox.push(text(""), limits), Ok(()));
        }
        assert_eq!(outbox.push(text(""), limits), Err(PostError::Busy));
    }

    #[test]
    fn close_comes_after_all_queued_messages() {
        let outbox = Outbox::new();
        outbox.push(text("a"), LIMITS).expect("there is room");
        assert!(outbox.close(Closing::new(1000, "bye")));
        assert!(!outbox.close(Closing::new(1001, "again")));
        assert_eq!(outbox.push(text("b"), LIMITS), Err(PostError::Gone));
        let mut out = Vec::new();
        assert!(matches!(
            take(&outbox, &mut out, 0, 100),
            Taken::Messages(..)
        ));
        assert_eq!(&out[..], b"a");
        assert_eq!(
            take(&outbox, &mut out, 0, 100),
            Taken::Close(Closing::new(1000, "bye"))
        );
    }

    #[test]
    fn post_wakes_only_a_session_that_waits() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let context = Context::from_waker(&waker);
        let outbox = Outbox::new();
        assert!(outbox.poll_wait(&context, 0).is_pending());
        outbox.push(text("a"), LIMITS).expect("there is room");
        outbox.push(text("b"), LIMITS).expect("there is room");
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(outbox.poll_wait(&context, 0).is_ready());
    }
}
