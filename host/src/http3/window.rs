//! The send window of a connection, which its streams share: what they have written and the client has not acknowledged,
//! or what the client has room for.
//!
//! quinn gives what becomes free to the stream that asks first, and wakes the one that was refused last first: of three busy
//! streams one would get nothing. So streams that wait for the window stand in a line, and the first of them writes alone;
//! those that write little stand before the others.
//! One that the client takes nothing of waits beside it, and keeps nobody waiting.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quinn::{SendStream, StreamId};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::code::Code;
use crate::net::LAST_WRITES;

/// Bytes that a stream writes before the next one of the line does.
const TURN: usize = 8 << 10;

/// Bytes that go ahead of those who write more: an answer, a close, the message of a quiet session.
const SMALL: usize = 1 << 10;

/// Time for which a stream that the client takes nothing of is not looked at more closely: each look costs a packet.
const CLOSED: Duration = Duration::from_millis(100);

/// Interval of looking whether the first of the line uses its turn.
const LOOK: Duration = Duration::from_millis(100);

/// Interval at which the control stream asks again, whose wake-up another stream may have taken.
const ASK: Duration = Duration::from_millis(20);

/// Ready once the client has acknowledged all of a stream, or takes no more of it.
pub(super) type Arriving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The line of a connection's streams that wait for its send window.
#[derive(Debug)]
pub(super) struct Line {
    /// Streams in the line: most connections never have one.
    length: AtomicUsize,
    /// Turns that streams of the line have had.
    turns: AtomicUsize,
    state: Mutex<LineState>,
    /// Notified when the line begins.
    begun: Notify,
}

#[derive(Debug)]
struct LineState {
    /// Shows whether the window is full: quinn judges that before it looks at what is to be written.
    control: SendStream,
    waiting: VecDeque<Waiting>,
    /// The time of the next look at the first of the line.
    look_at: Instant,
}

#[derive(Debug)]
struct Waiting {
    stream: StreamId,
    waker: Waker,
    is_small: bool,
    /// It has asked since the last look.
    has_asked: bool,
}

/// The sending half of a stream, which waits in the line while the window is full.
#[derive(Debug)]
pub(super) struct Sending {
    send: SendStream,
    line: Arc<Line>,
    /// Until then the client is taken to have no room for this stream.
    closed_until: Option<Instant>,
}

impl Line {
    pub(super) fn new(control: SendStream) -> Arc<Self> {
        Arc::new(Self {
            length: AtomicUsize::new(0),
            turns: AtomicUsize::new(0),
            state: Mutex::new(LineState {
                control,
                waiting: VecDeque::new(),
                look_at: Instant::now(),
            }),
            begun: Notify::new(),
        })
    }

    pub(super) fn stream(self: &Arc<Self>, send: SendStream) -> Sending {
        Sending {
            send,
            line: Arc::clone(self),
            closed_until: None,
        }
    }

    /// Writes to the control stream, whatever waits in the line.
    pub(super) async fn write_control(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let write = poll_fn(|context| {
                let control = Pin::new(&mut self.lock().control).poll_write(context, bytes);
                control.map_err(io::Error::from)
            });
            if let Ok(written) = timeout(ASK, write).await {
                bytes = bytes.get(written?..).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Has the next of the line write when the first one does not use its turn: its session may do other things before it
    /// writes again. Never ends; may be dropped and called again.
    pub(super) async fn tend(&self) -> Infallible {
        loop {
            while self.is_empty() {
                self.begun.notified().await;
            }
            let look_at = self.lock().look_at;
            sleep_until(look_at).await;
            let mut state = self.lock();
            let idle = state.waiting.front().filter(|first| !first.has_asked);
            if let Some(stream) = idle.map(|first| first.stream)
                && !state.is_full(&mut Context::from_waker(Waker::noop()))
            {
                self.leave(&mut state, stream);
            }
            if let Some(first) = state.waiting.front_mut() {
                first.has_asked = false;
            }
            state.look_at = Instant::now() + LOOK;
        }
    }

    fn is_empty(&self) -> bool {
        self.length.load(Ordering::Acquire) == 0
    }

    /// Whether a stream is the first of the line, which it enters if it is not there.
    fn is_first(&self, stream: StreamId, context: &Context<'_>, is_small: bool) -> bool {
        let mut state = self.lock();
        let place = state.place(stream);
        let place = place.unwrap_or_else(|| self.enter(&mut state, stream, context, is_small));
        if let Some(waiting) = state.waiting.get_mut(place) {
            waiting.waker.clone_from(context.waker());
            waiting.has_asked = true;
        }
        place == 0
    }

    /// Has a stream that could not write wait in the line. False if it cannot write because the client has no room for it.
    fn waits_for_window(
        &self,
        stream: StreamId,
        context: &mut Context<'_>,
        is_small: bool,
    ) -> bool {
        let mut state = self.lock();
        let is_full = state.is_full(context);
        match state.place(stream) {
            Some(_) if !is_full => self.leave(&mut state, stream),
            None if is_full => drop(self.enter(&mut state, stream, context, is_small)),
            Some(_) | None => {}
        }
        is_full
    }

    /// Puts a stream at the end of the line, or of those that write little, and gives its place there. The first one keeps its
    /// place: it may have asked for the window.
    fn enter(
        &self,
        state: &mut LineState,
        stream: StreamId,
        context: &Context<'_>,
        is_small: bool,
    ) -> usize {
        let length = state.waiting.len();
        if length == 0 {
            state.look_at = Instant::now() + LOOK;
            self.begun.notify_one();
        }
        let mut later = state.waiting.iter().skip(1);
        let larger = later.position(|waiting| is_small && !waiting.is_small);
        let place = larger.map_or(length, |place| place + 1);
        let waiting = Waiting {
            stream,
            waker: context.waker().clone(),
            is_small,
            has_asked: true,
        };
        state.waiting.insert(place, waiting);
        self.length.store(length + 1, Ordering::Release);
        place
    }

    /// Takes a stream out of the line. If it was the first, the next one is woken.
    fn leave(&self, state: &mut LineState, stream: StreamId) {
        let Some(place) = state.place(stream) else {
            return;
        };
        state.waiting.remove(place);
        self.length.store(state.waiting.len(), Ordering::Release);
        if place == 0
            && let Some(first) = state.waiting.front_mut()
        {
            first.has_asked = false;
            first.waker.wake_by_ref();
            state.look_at = Instant::now() + LOOK;
        }
    }

    fn lock(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LineState {
    fn place(&self, stream: StreamId) -> Option<usize> {
        let mut waiting = self.waiting.iter();
        waiting.position(|waiting| waiting.stream == stream)
    }

    /// Whether the window is full. If it is, the task is woken when it is not; if not, an empty frame leaves on the control
    /// stream.
    fn is_full(&mut self, context: &mut Context<'_>) -> bool {
        Pin::new(&mut self.control)
            .poll_write(context, &[])
            .is_pending()
    }
}

impl Sending {
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (stream, mut next, is_small) = (self.send.id(), bytes, bytes.len() <= SMALL);
        let others_wait = !self.line.is_empty();
        if others_wait {
            if !self.line.is_first(stream, context, is_small) {
                return Poll::Pending;
            }
            next = bytes.get(..TURN).unwrap_or(bytes);
        }
        match Pin::new(&mut self.send).poll_write(context, next) {
            Poll::Ready(written) => {
                if others_wait {
                    self.line.turns.fetch_add(1, Ordering::Relaxed);
                    self.line.leave(&mut self.line.lock(), stream);
                }
                Poll::Ready(written.map_err(io::Error::from))
            }
            Poll::Pending => {
                let is_closed = |until: Instant| Instant::now() < until;
                let closed = !others_wait && self.closed_until.is_some_and(is_closed);
                if !closed {
                    let waits = self.line.waits_for_window(stream, context, is_small);
                    self.closed_until = (!waits).then(|| Instant::now() + CLOSED);
                }
                Poll::Pending
            }
        }
    }

    pub(super) fn id(&self) -> StreamId {
        self.send.id()
    }

    /// Ends the stream in order. Ready once the client has acknowledged all of it, or takes no more of it.
    pub(super) fn finish(&mut self) -> Arriving {
        // An error means that the client has stopped reading, or has gone.
        let _ = self.send.finish();
        let stopped = self.stopped();
        Box::pin(stopped)
    }

    /// Waits until the client takes no more of the stream, or has acknowledged all of one that has ended.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let stopped = self.send.stopped();
        async move {
            let _ = stopped.await;
        }
    }

    /// Ends the stream at once. Without effect on one that has ended.
    pub(super) fn reset(&mut self, code: Code) {
        let _ = self.send.reset(code.into());
    }

    pub(super) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|context| self.poll_write(context, bytes)).await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// As [`Self::write_all`], as long as the client takes something within each `limit`: of this stream, or of those before
    /// it in the line. Fails after [`LAST_WRITES`] in any case.
    pub(super) async fn write_while_taken(
        &mut self,
        mut bytes: &[u8],
        limit: Duration,
    ) -> io::Result<()> {
        let last = Instant::now() + LAST_WRITES;
        let mut turns = self.line.turns.load(Ordering::Relaxed);
        while !bytes.is_empty() {
            let write = poll_fn(|context| self.poll_write(context, bytes));
            if let Ok(written) = timeout_at(last.min(Instant::now() + limit), write).await {
                bytes = bytes.get(written?..).unwrap_or_default();
                continue;
            }
            let before = std::mem::replace(&mut turns, self.line.turns.load(Ordering::Relaxed));
            if turns == before || Instant::now() >= last {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.line.leave(&mut self.line.lock(), self.send.id());
        }
    }
}
