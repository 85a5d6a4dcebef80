//! The trace of one connection: its messages as they come and go, for as long as somebody looks.
//!
//! A connection that nobody looks at pays a load of a flag for each message. One that somebody looks at waits for nobody:
//! a reader that is too slow misses events, and is told how many.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::connection::Connection;
use super::id::RequestId;
use super::message::MessageKind;
use super::outbox::Closing;
use crate::clock::now_ms;

/// Events that wait for a reader. It misses the oldest of more.
const MAX_EVENTS: usize = 256;

/// The readers of a connection's trace.
#[derive(Default)]
pub(super) struct Trace {
    /// Whether there is a reader. Changed under the lock.
    is_on: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
enum State {
    #[default]
    Off,
    On(broadcast::Sender<TraceEvent>),
    /// The connection has ended.
    Ended,
}

/// One event of a traced connection.
#[derive(Clone, Debug)]
pub(crate) struct TraceEvent {
    /// Milliseconds since the Unix epoch.
    pub(crate) at: u64,
    pub(crate) step: TraceStep,
}

#[derive(Clone, Debug)]
pub(crate) enum TraceStep {
    /// A message of the client has been handled.
    Handled {
        request_id: RequestId,
        /// None if no route takes it.
        route: Option<Arc<str>>,
        bytes: usize,
        took: Duration,
        /// Bytes of the answer, if the client gets one.
        answer: Option<usize>,
        /// Why it failed.
        error: Option<Cow<'static, str>>,
    },
    /// A message of others for the client was queued.
    Queued { kind: MessageKind, bytes: usize },
    /// It was not, since the queue is full.
    NoRoom { bytes: usize },
    /// The connection ends: the last event.
    Ended(Closing),
}

/// What a reader gets.
pub(crate) enum Traced {
    Event(TraceEvent),
    /// So many events were missed.
    Missed(u64),
}

/// A reader of a connection's trace. The connection writes no more once the last one is dropped.
pub(crate) struct TraceReader {
    connection: Arc<Connection>,
    events: broadcast::Receiver<TraceEvent>,
}

impl Trace {
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Gives an event to the readers.
    pub(super) fn note(&self, step: TraceStep) {
        if let State::On(readers) = &*self.lock() {
            let at = now_ms();
            // Without a reader nobody misses it.
            let _ = readers.send(TraceEvent { at, step });
        }
    }

    /// Ends the trace: readers get what waits for them, and then the end.
    pub(super) fn end(&self) {
        *self.lock() = State::Ended;
        self.is_on.store(false, Ordering::Relaxed);
    }

    /// None if the connection has ended.
    fn read(&self) -> Option<broadcast::Receiver<TraceEvent>> {
        let mut state = self.lock();
        let events = match &*state {
            State::Ended => return None,
            State::On(readers) => readers.subscribe(),
            State::Off => {
                let (readers, events) = broadcast::channel(MAX_EVENTS);
                *state = State::On(readers);
                events
            }
        };
        self.is_on.store(true, Ordering::Relaxed);
        Some(events)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

impl TraceReader {
    pub(super) fn new(connection: Arc<Connection>) -> Option<Self> {
        let events = connection.trace.read()?;
        Some(Self { connection, events })
    }

    /// The next event; none at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Traced> {
        match self.events.recv().await {
            Ok(event) => Some(Traced::Event(event)),
            Err(RecvError::Lagged(missed)) => Some(Traced::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

impl Drop for TraceReader {
    fn drop(&mut self) {
        let trace = &self.connection.trace;
        let mut state = trace.lock();
        // This reader still counts.
        let is_last = match &*state {
            State::On(readers) => readers.receiver_count() <= 1,
            State::Off | State::Ended => false,
        };
        if is_last {
            *state = State::Off;
            trace.is_on.store(false, Ordering::Relaxed);
        }
    }
}
