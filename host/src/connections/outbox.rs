//! What waits to be written to one connection: bounded in bytes and in messages, filled by anyone, emptied
//! by the connection's own session.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

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

/// Room for this many messages is kept when the queue is empty: a burst leaves no memory behind.
const KEPT_MESSAGES: usize = 16;

/// A close code with its reason (RFC 6455 §7.4, §5.5.1: at most 123 bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    pub(crate) code: u16,
    pub(crate) reason: String,
}

impl Closing {
    pub(crate) fn new(code: u16, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

/// How much an outbox takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutboxLimits {
    /// Bytes of all that is queued or taken and not written yet, with [`OVERHEAD`] for each message.
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
}

/// Bytes that a queued message counts beside its payload. No transport writes more around one, so that what the session
/// has taken is within the bound too.
const OVERHEAD: usize = 10;

/// How many times `messages` may be queued for a client that is not slow: it takes what it is sent as fast as its network
/// and the gateway let it. Bytes are bounded all the same.
const NOT_SLOW: usize = 4;

/// A client that has taken nothing of what waits for it for so long is slow.
const SLOW: Duration = Duration::from_secs(1);

/// What the session finds when it looks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Nothing,
    /// Messages were given to the session; there may be more.
    Messages,
    /// The connection is to be closed, and all that was queued before has been taken.
    Close(Closing),
    /// The connection is to end now, written or not.
    Cut(Closing),
}

#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// There may be something in the state for the session. Changed under its lock; a session that handles message
    /// after message looks here, and takes no lock to find nothing.
    news: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Payload>,
    /// Bytes that the queue counts.
    queued: usize,
    /// Bytes that the session has taken and not written, when it last looked.
    unwritten: usize,
    /// Once this is set nothing is queued any more.
    closing: Option<Closing>,
    /// Nor is what was queued, or the close, written any more.
    cut: bool,
    session: Session,
}

/// What the session is doing.
#[derive(Debug, Default)]
enum Session {
    /// It runs, or has been woken to.
    #[default]
    Running,
    /// It waits for something to take.
    Waiting(Waker),
    /// It waits for its client to take what it has, which has taken nothing since then; a close or a cut wakes it.
    Full(Waker, Instant),
}

impl Session {
    /// The waker of a session that waits for something to take, which runs from now on.
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

    /// The waker of a session that waits for anything, which runs from now on.
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
    /// This thread has woken a session since somebody last asked.
    static WOKE_OTHERS: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread has woken a session since this was last asked. Such a session should have its turn before the
/// one that woke it goes on: its outbox fills meanwhile.
pub(crate) fn woke_others() -> bool {
    WOKE_OTHERS.take()
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            news: AtomicBool::new(false),
        }
    }

    /// Queues a message, and never waits.
    pub(crate) fn push(&self, payload: Payload, limits: OutboxLimits) -> Result<(), PostError> {
        let waker = {
            let mut state = self.lock();
            if state.closing.is_some() {
                return Err(PostError::Gone);
            }
            let messages = match &state.session {
                Session::Full(_, since) if since.elapsed() >= SLOW => limits.messages,
                Session::Running | Session::Waiting(_) | Session::Full(..) => {
                    limits.messages.saturating_mul(NOT_SLOW)
                }
            };
            let held = state.queued + state.unwritten;
            // An empty outbox takes any message that is within the message limit.
            if state.queue.len() >= messages
                || (held + counted(&payload) > limits.bytes && held > 0)
            {
                return Err(PostError::Busy);
            }
            state.enqueue(payload);
            self.news.store(true, Ordering::Release);
            state.session.wake()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Asks the session to close the connection once the queue is written. False when it is closing already.
    pub(crate) fn close(&self, closing: Closing) -> bool {
        let waker = {
            let mut state = self.lock();
            if state.closing.is_some() {
                return false;
            }
            state.closing = Some(closing);
            self.news.store(true, Ordering::Release);
            state.session.wake_to_end()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// What the session was asked to close the connection with.
    pub(crate) fn closing(&self) -> Option<Closing> {
        self.lock().closing.clone()
    }

    /// Ends the connection now, whatever is queued; the client will not be told why.
    pub(crate) fn cut(&self, why: Closing) {
        let waker = {
            let mut state = self.lock();
            state.closing = Some(why);
            state.cut = true;
            self.news.store(true, Ordering::Release);
            state.session.wake_to_end()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Refuses everything from now on and forgets what is queued: the connection has ended.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.closing.get_or_insert_with(|| Closing::new(1006, ""));
        state.queue = VecDeque::new();
        state.queued = 0;
    }

    /// Queues a message of the session's own behind all that was queued before, whatever the limits say.
    pub(crate) fn push_own(&self, payload: Payload) {
        let mut state = self.lock();
        state.enqueue(payload);
        self.news.store(true, Ordering::Release);
    }

    /// Bytes that wait for the client, of which the session has `unwritten`.
    pub(crate) fn held(&self, unwritten: usize) -> usize {
        self.lock().queued + unwritten
    }

    /// Whether the session has taken all that was queued.
    pub(crate) fn is_empty(&self) -> bool {
        !self.news.load(Ordering::Acquire) || self.lock().queue.is_empty()
    }

    /// Has the session `write` what is queued, which gives the bytes that it made of each message, until `enough` bytes
    /// wait for the client; the last message may be over. `unwritten` bytes of them wait already.
    ///
    /// The session runs from here to its next [`Outbox::poll_wait`], and is not woken.
    pub(crate) fn take(
        &self,
        mut unwritten: usize,
        enough: usize,
        mut write: impl FnMut(&Payload) -> usize,
    ) -> Taken {
        if !self.news.load(Ordering::Acquire) {
            return Taken::Nothing;
        }
        let mut state = self.lock();
        state.session = Session::Running;
        state.unwritten = unwritten;
        if state.cut || state.queue.is_empty() {
            let closing = state.closing.clone();
            self.news.store(closing.is_some(), Ordering::Release);
            let taken = if state.cut { Taken::Cut } else { Taken::Close };
            return closing.map_or(Taken::Nothing, taken);
        }
        while unwritten < enough
            && let Some(payload) = state.queue.pop_front()
        {
            state.queued -= counted(&payload);
            unwritten += write(&payload);
        }
        state.unwritten = unwritten;
        if state.queue.is_empty() && state.queue.capacity() > KEPT_MESSAGES {
            state.queue = VecDeque::new();
        }
        Taken::Messages
    }

    /// Ready when there is something to take. `unwritten` bytes of what was taken wait to be written.
    pub(crate) fn poll_wait(&self, context: &Context<'_>, unwritten: usize) -> Poll<()> {
        let mut state = self.lock();
        if !state.queue.is_empty() || state.closing.is_some() {
            return Poll::Ready(());
        }
        let session = Session::Waiting(context.waker().clone());
        self.wait(&mut state, session, unwritten)
    }

    /// Ready when the connection is to be cut; for a session that has no room for more, whose client has taken
    /// nothing `since` then.
    pub(crate) fn poll_cut(
        &self,
        context: &Context<'_>,
        unwritten: usize,
        since: Instant,
    ) -> Poll<()> {
        let mut state = self.lock();
        if state.cut {
            return Poll::Ready(());
        }
        let session = Session::Full(context.waker().clone(), since);
        self.wait(&mut state, session, unwritten)
    }

    fn wait(&self, state: &mut State, session: Session, unwritten: usize) -> Poll<()> {
        state.unwritten = unwritten;
        state.session = session;
        self.news.store(true, Ordering::Release); // the waker, to be taken back
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enqueue(&mut self, payload: Payload) {
        self.queued += counted(&payload);
        self.queue.push_back(payload);
    }
}

fn counted(payload: &Payload) -> usize {
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

    /// Takes messages until `enough` bytes wait, as a session whose transport puts as much around them as is counted.
    fn take(outbox: &Outbox, out: &mut Vec<u8>, unwritten: usize, enough: usize) -> Taken {
        outbox.take(unwritten, enough, |payload| {
            out.extend_from_slice(&payload.bytes);
            counted(payload)
        })
    }

    #[test]
    fn takes_what_fits_and_is_busy_then() {
        let outbox = Outbox::new();
        let exact = text(&"x".repeat(2 * OVERHEAD));
        assert_eq!(outbox.push(exact, LIMITS), Ok(()));
        assert_eq!(outbox.push(text(""), LIMITS), Err(PostError::Busy));
        let mut out = Vec::new();
        assert_eq!(take(&outbox, &mut out, 0, 1), Taken::Messages);
        // What was taken counts until it is written.
        assert_eq!(outbox.push(text(""), LIMITS), Err(PostError::Busy));
        assert_eq!(take(&outbox, &mut out, 0, 1), Taken::Nothing);
        for _ in 0..LIMITS.bytes / OVERHEAD {
            assert_eq!(outbox.push(text(""), LIMITS), Ok(()));
        }
        assert_eq!(outbox.push(text(""), LIMITS), Err(PostError::Busy));
    }

    #[test]
    fn messages_are_bounded_more_narrowly_while_the_client_takes_nothing() {
        let limits = OutboxLimits {
            bytes: 1_000,
            messages: 3,
        };
        let context = Context::from_waker(Waker::noop());
        let (outbox, mut out) = (Outbox::new(), Vec::new());
        for _ in 0..NOT_SLOW * limits.messages {
            assert_eq!(outbox.push(text(""), limits), Ok(()));
        }
        assert_eq!(outbox.push(text(""), limits), Err(PostError::Busy));
        assert_eq!(take(&outbox, &mut out, 0, 1_000), Taken::Messages);
        let (now, written) = (Instant::now(), 0);
        assert!(outbox.poll_cut(&context, written, now).is_pending());
        for _ in 0..NOT_SLOW * limits.messages {
            assert_eq!(outbox.push(text(""), limits), Ok(()));
        }
        assert_eq!(take(&outbox, &mut out, written, 1_000), Taken::Messages);
        assert!(outbox.poll_cut(&context, written, now - SLOW).is_pending());
        for _ in 0..limits.messages {
            assert_eq!(outbox.push(text(""), limits), Ok(()));
        }
        assert_eq!(outbox.push(text(""), limits), Err(PostError::Busy));
    }

    #[test]
    fn closes_after_what_was_queued() {
        let outbox = Outbox::new();
        outbox.push(text("a"), LIMITS).expect("there is room");
        assert!(outbox.close(Closing::new(1000, "bye")));
        assert!(!outbox.close(Closing::new(1001, "again")));
        assert_eq!(outbox.push(text("b"), LIMITS), Err(PostError::Gone));
        let mut out = Vec::new();
        assert_eq!(take(&outbox, &mut out, 0, 100), Taken::Messages);
        assert_eq!(&out[..], b"a");
        assert_eq!(
            take(&outbox, &mut out, 0, 100),
            Taken::Close(Closing::new(1000, "bye"))
        );
    }

    #[test]
    fn a_post_wakes_only_a_waiting_session() {
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
