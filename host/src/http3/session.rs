//! A WebTransport session (draft-ietf-webtrans-http3, drafts 02 to 12): its own stream, and the client's stream for
//! messages.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use quinn::RecvStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::capsule::{self, Capsules, SessionClose};
use super::code::Code;
use super::datagram::{self, DatagramSender};
use super::stream::Stream;
use super::window::{Arriving, Sending};
use crate::counters::DatagramCounters;

/// Datagrams of a client that wait for their session: what comes while a handler works for a few milliseconds. A packet
/// has at most 1,472 bytes, so that a session holds 47 KB of them.
const WAITING_DATAGRAMS: usize = 32;

/// Reads without a close after which others run: a client may send capsules without a meaning for ever.
const IDLE_READS: u32 = 16;

/// The sessions of a connection, by the number of their stream.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// None while the session's request is being decided.
    open: Mutex<HashMap<u64, Option<Inlet>>>,
    /// Changes with each of them: streams wait for theirs.
    changed: watch::Sender<()>,
    /// The client takes datagrams.
    takes_datagrams: AtomicBool,
}

/// The way of what comes for a session.
#[derive(Debug)]
struct Inlet {
    streams: mpsc::Sender<MessageStream>,
    /// None until the session says whether it takes them.
    datagrams: Option<DatagramInlet>,
}

#[derive(Debug)]
struct DatagramInlet {
    /// None while its stage takes none.
    sender: Option<mpsc::Sender<Vec<u8>>>,
    counters: Arc<DatagramCounters>,
}

/// A session's request that is being decided, for streams that have come with it.
pub(crate) struct Deciding {
    id: u64,
    sessions: Arc<Sessions>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Option<Inlet>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the client takes datagrams.
    pub(super) fn take_datagrams(&self) -> bool {
        self.takes_datagrams.load(Ordering::Relaxed)
    }

    /// Notes that the client takes datagrams.
    pub(super) fn allow_datagrams(&self) {
        self.takes_datagrams.store(true, Ordering::Relaxed);
    }

    /// Gives a datagram to its session. One without a session is dropped; one for which there is no room, or which its
    /// stage does not take, is dropped and counted. An error ends the connection.
    pub(super) fn give_datagram(&self, datagram: Bytes) -> Result<(), Code> {
        let (session, payload) = datagram::read(datagram).ok_or(Code::Datagram)?;
        let open = self.lock();
        let inlet = open.get(&session).and_then(Option::as_ref);
        let Some(DatagramInlet { sender, counters }) =
            inlet.and_then(|inlet| inlet.datagrams.as_ref())
        else {
            return Ok(());
        };
        let place = sender.as_ref().and_then(|sender| sender.try_reserve().ok());
        match place {
            // A copy: the datagram is a part of its packet, and would keep that while it waits.
            Some(place) => place.send(payload.to_vec()),
            None => drop(counters.incoming_dropped.fetch_add(1, Ordering::Relaxed)),
        }
        Ok(())
    }

    /// Gives a stream to its session, and waits for that: the stream may come before the session's answer, and before
    /// its request, for which it waits no longer than the limit. One that the session has no use for is reset when it is
    /// dropped: a session has one stream for messages.
    pub(super) async fn give(&self, session: u64, stream: MessageStream, limit: Duration) {
        let mut changed = self.changed.subscribe();
        let request_due = Instant::now() + limit;
        let mut is_decided = false;
        let sender = loop {
            match self.lock().get(&session) {
                Some(Some(inlet)) => break inlet.streams.clone(),
                Some(None) => is_decided = true,
                // It was refused.
                None if is_decided => return,
                None => {}
            }
            let change = changed.changed();
            let changed = match is_decided {
                true => Ok(change.await),
                false => timeout_at(request_due, change).await,
            };
            if !matches!(changed, Ok(Ok(()))) {
                return;
            }
        };
        let _ = sender.try_send(stream);
    }
}

impl Deciding {
    pub(super) fn begin(id: u64, sessions: Arc<Sessions>) -> Self {
        sessions.lock().insert(id, None);
        sessions.changed.send_replace(());
        Self { id, sessions }
    }
}

impl Drop for Deciding {
    fn drop(&mut self) {
        let mut open = self.sessions.lock();
        if let Some(None) = open.get(&self.id) {
            open.remove(&self.id);
        }
        drop(open);
        self.sessions.changed.send_replace(());
    }
}

/// An open session. Dropped without a close, it is reset.
pub(crate) struct Session {
    id: u64,
    own: Stream,
    /// It was reset or broke its form: quinn then tells of an end in order, if it is asked again.
    is_cut: bool,
    capsules: Capsules,
    sessions: Arc<Sessions>,
    streams: mpsc::Receiver<MessageStream>,
    /// None while its stage takes none.
    datagrams: Option<mpsc::Receiver<Vec<u8>>>,
    /// Bytes of the close that are not written.
    closing: Vec<u8>,
}

impl Session {
    pub(super) fn open(id: u64, own: Stream, sessions: Arc<Sessions>) -> Self {
        let (sender, streams) = mpsc::channel(1);
        let inlet = Inlet {
            streams: sender,
            datagrams: None,
        };
        sessions.lock().insert(id, Some(inlet));
        sessions.changed.send_replace(());
        Self {
            id,
            own,
            is_cut: false,
            capsules: Capsules::default(),
            sessions,
            streams,
            datagrams: None,
            closing: Vec::new(),
        }
    }

    /// Takes datagrams from now on, or none. Those that are dropped are counted there.
    pub(crate) fn take_datagrams(&mut self, takes: bool, counters: &Arc<DatagramCounters>) {
        let mut open = self.sessions.lock();
        let Some(Some(inlet)) = open.get_mut(&self.id) else {
            return;
        };
        if inlet.datagrams.is_some() && self.datagrams.is_some() == takes {
            return;
        }
        let (sender, receiver) = takes.then(|| mpsc::channel(WAITING_DATAGRAMS)).unzip();
        self.datagrams = receiver;
        inlet.datagrams = Some(DatagramInlet {
            sender,
            counters: Arc::clone(counters),
        });
    }

    /// Waits for a datagram.
    pub(crate) fn poll_datagram(&mut self, context: &mut Context<'_>) -> Poll<Vec<u8>> {
        let Some(datagrams) = &mut self.datagrams else {
            return Poll::Pending;
        };
        match ready!(datagrams.poll_recv(context)) {
            Some(datagram) => Poll::Ready(datagram),
            None => Poll::Pending,
        }
    }

    /// What sends datagrams to the client.
    pub(crate) fn datagram_sender(&self) -> DatagramSender {
        let (quic, sessions) = (self.own.quic().clone(), Arc::clone(&self.sessions));
        DatagramSender::new(self.id, quic, sessions)
    }

    /// Waits for the client's first bidirectional stream.
    pub(crate) fn poll_stream(&mut self, context: &mut Context<'_>) -> Poll<Option<MessageStream>> {
        let stream = ready!(self.streams.poll_recv(context));
        // Further ones are reset.
        self.streams.close();
        Poll::Ready(stream)
    }

    /// Waits for the client's close. One in order has no code (RFC draft §6: it counts as 0); an error is a cut, which it
    /// stays.
    pub(crate) fn poll_closed(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<SessionClose>> {
        if self.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let closed = ready!(self.poll_capsules(context));
        self.is_cut = closed.is_err();
        Poll::Ready(closed)
    }

    fn poll_capsules(&mut self, context: &mut Context<'_>) -> Poll<io::Result<SessionClose>> {
        for _ in 0..IDLE_READS {
            let mut bytes = [0; 256];
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.own).poll_read(context, &mut buffer))?;
            let close = match buffer.filled() {
                // A capsule that is cut off counts as malformed (RFC 9297 §3.3).
                [] if !self.capsules.is_whole() => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                [] => Some(SessionClose {
                    code: 0,
                    reason: String::new(),
                }),
                bytes => self
                    .capsules
                    .read(bytes)
                    .map_err(|_| io::ErrorKind::InvalidData)?,
            };
            if let Some(close) = close {
                return Poll::Ready(Ok(close));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Has [`Self::poll_close`] tell the client of the end.
    pub(crate) fn close(&mut self, close: &SessionClose) {
        capsule::put_close(&mut self.closing, close);
    }

    /// Writes the close, if there is one, and ends the session's stream behind it at once (draft-ietf-webtrans-http3,
    /// "Session Termination").
    pub(crate) fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.closing.is_empty() {
            let written = ready!(Pin::new(&mut self.own).poll_write(context, &self.closing))?;
            self.closing.drain(..written.min(self.closing.len()));
        }
        // Its arrival is waited for with the shutdown.
        let _ = Pin::new(&mut self.own).poll_shutdown(context);
        Poll::Ready(Ok(()))
    }

    /// Ends the session's stream in order, and waits until that has arrived.
    pub(crate) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.own).poll_shutdown(context)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.id);
    }
}

/// The client's stream for messages, both ways.
#[derive(Debug)]
pub(crate) struct MessageStream {
    send: Sending,
    receive: RecvStream,
}

impl MessageStream {
    pub(super) fn new(send: Sending, receive: RecvStream) -> Self {
        Self { send, receive }
    }

    /// Ends our half, and waits until the client has acknowledged all of it: the close of the session must not overtake
    /// its last messages.
    pub(crate) fn finish(&mut self) -> Arriving {
        self.send.finish()
    }
}

impl AsyncRead for MessageStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), context, buffer)
    }
}

impl AsyncWrite for MessageStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.send.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        drop(self.send.finish());
        Poll::Ready(Ok(()))
    }
}

impl Drop for MessageStream {
    fn drop(&mut self) {
        // Without effect if it has ended in order.
        self.send.reset(Code::SessionGone);
        let _ = self.receive.stop(Code::SessionGone.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_datagrams_are_bounded_and_keep_nothing_of_what_they_came_in() {
        let (sessions, counters) = (Sessions::default(), Arc::new(DatagramCounters::default()));
        let ((streams, _), (datagrams, mut taken)) =
            (mpsc::channel(1), mpsc::channel(WAITING_DATAGRAMS));
        let inlet = Inlet {
            streams,
            datagrams: Some(DatagramInlet {
                sender: Some(datagrams),
                counters: Arc::clone(&counters),
            }),
        };
        sessions.lock().insert(8, Some(inlet));
        let received: Arc<[u8]> = Arc::from(*b"\x02hi and much else");
        for _ in 0..=WAITING_DATAGRAMS {
            let datagram = Bytes::from_owner(Arc::clone(&received)).slice(..3);
            assert_eq!(sessions.give_datagram(datagram), Ok(()));
        }
        assert_eq!(Arc::strong_count(&received), 1);
        assert_eq!(counters.incoming_dropped.load(Ordering::Relaxed), 1);
        for _ in 0..WAITING_DATAGRAMS {
            assert_eq!(taken.try_recv().as_deref(), Ok(&b"hi"[..]));
        }
        assert!(taken.try_recv().is_err());
    }
}
