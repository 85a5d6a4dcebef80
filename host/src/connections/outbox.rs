//! What waits to be written to one connection: bounded in bytes and in messages, filled by anyone, emptied
//! by the connection's own session.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::frame::Frame;

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

/// Room for this many frames is kept when the queue is empty: a burst leaves no memory behind.
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxLimits {
    /// Bytes on the wire.
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
}

/// What the session finds when it looks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Nothing,
    /// Frames were moved into the buffer; there may be more.
    Frames,
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
    queue: VecDeque<Frame>,
    bytes: usize,
    /// Once this is set nothing is queued any more.
    closing: Option<Closing>,
    /// Nor is what was queued, or the close, written any more.
    cut: bool,
    /// The session's waker while it waits here; none while it runs, so that a post to a running session
    /// wakes no one.
    waker: Option<Waker>,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            news: AtomicBool::new(false),
        }
    }

    /// Queues a frame, and never waits.
    pub(crate) fn push(&self, frame: Frame, limits: OutboxLimits) -> Result<(), PostError> {
        let waker = {
            let mut state = self.lock();
            if state.closing.is_some() {
                return Err(PostError::Gone);
            }
            let bytes = state.bytes + frame.len();
            // An empty outbox takes any message that is within the message limit.
            if state.queue.len() >= limits.messages
                || (bytes > limits.bytes && !state.queue.is_empty())
            {
                return Err(PostError::Busy);
            }
            state.bytes = bytes;
            state.queue.push_back(frame);
            self.news.store(true, Ordering::Release);
            state.waker.take()
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
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Ends the connection now, whatever is queued; the client will not be told why.
    pub(crate) fn cut(&self, why: Closing) {
        let waker = {
            let mut state = self.lock();
            state.closing = Some(why);
            state.cut = true;
            self.news.store(true, Ordering::Release);
            state.waker.take()
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
        state.bytes = 0;
    }

    /// Moves queued frames to the end of `out` until `room` bytes are filled; the last frame may be over.
    ///
    /// The session runs from here to its next [`Outbox::poll_wait`], and is not woken.
    pub(crate) fn take(&self, out: &mut Vec<u8>, room: usize) -> Taken {
        if !self.news.load(Ordering::Acquire) {
            return Taken::Nothing;
        }
        let mut state = self.lock();
        state.waker = None;
        if state.cut || state.queue.is_empty() {
            let closing = state.closing.clone();
            self.news.store(closing.is_some(), Ordering::Release);
            let taken = if state.cut { Taken::Cut } else { Taken::Close };
            return closing.map_or(Taken::Nothing, taken);
        }
        let full = out.len().saturating_add(room);
        while out.len() < full
            && let Some(frame) = state.queue.pop_front()
        {
            state.bytes -= frame.len();
            out.extend_from_slice(frame.as_ref());
        }
        if state.queue.is_empty() && state.queue.capacity() > KEPT_MESSAGES {
            state.queue = VecDeque::new();
        }
        Taken::Frames
    }

    /// Ready when there is something to take.
    pub(crate) fn poll_wait(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.queue.is_empty() || state.closing.is_some() {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        self.news.store(true, Ordering::Release); // the waker, to be taken back
        Poll::Pending
    }

    /// Ready when the connection is to be cut; for a session that has no room for more frames.
    pub(crate) fn poll_cut(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.cut {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        self.news.store(true, Ordering::Release);
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Message;
    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits {
        bytes: 10,
        messages: 3,
    };

    fn frame(text: &str) -> Frame {
        Frame::encode(&Message::Text(text.into()))
    }

    #[test]
    fn takes_what_fits_and_is_busy_then() {
        let outbox = Outbox::new();
        assert_eq!(outbox.push(frame("12345678"), LIMITS), Ok(())); // exactly ten bytes
        assert_eq!(outbox.push(frame(""), LIMITS), Err(PostError::Busy));
        let mut out = Vec::new();
        assert_eq!(outbox.take(&mut out, 1), Taken::Frames);
        for _ in 0..LIMITS.messages {
            assert_eq!(outbox.push(frame(""), LIMITS), Ok(()));
        }
        assert_eq!(outbox.push(frame(""), LIMITS), Err(PostError::Busy));
    }

    #[test]
    fn closes_after_what_was_queued() {
        let outbox = Outbox::new();
        outbox.push(frame("a"), LIMITS).expect("there is room");
        assert!(outbox.close(Closing::new(1000, "bye")));
        assert!(!outbox.close(Closing::new(1001, "again")));
        assert_eq!(outbox.push(frame("b"), LIMITS), Err(PostError::Gone));
        let mut out = Vec::new();
        assert_eq!(outbox.take(&mut out, 100), Taken::Frames);
        assert_eq!(&out[..], b"\x81\x01a");
        assert_eq!(
            outbox.take(&mut out, 100),
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
        assert!(outbox.poll_wait(&context).is_pending());
        outbox.push(frame("a"), LIMITS).expect("there is room");
        outbox.push(frame("b"), LIMITS).expect("there is room");
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(outbox.poll_wait(&context).is_ready());
    }
}
