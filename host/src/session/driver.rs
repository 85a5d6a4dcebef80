//! The driver moves the socket, the outbox and the deadlines of one connection together: all the work of a session
//! beside handling messages.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::deadlines::{Deadlines, Due, expired, going_away};
use super::end::{End, Farewell};
use crate::clock::now_ms;
use crate::config::StageLimits;
use crate::connections::{Closing, Connection, Message, Taken, has_posted_enough};
use crate::counters::StageCounters;
use crate::net::{LAST_WRITES, Written, let_arrive};
use crate::transport::{ReadError, Received, Transport};

/// The time that a client has to answer our close frame, and then to end its half of the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Messages that a session handles before it lets others run, and the time it may take for more than one. A thread
/// with many busy sessions gets back to each of them soon: a neighbour may wait 20 ms at the 99th percentile.
const TURN_MESSAGES: u32 = 32;
const TURN_TIME: Duration = Duration::from_millis(1);

pub(super) struct Driver<T> {
    transport: T,
    deadlines: Deadlines,
    pub(super) connection: Arc<Connection>,
    /// A message that came while another was handled.
    ahead: Option<Incoming>,
    /// The close that was asked for; it follows once all is written.
    closing: Option<Closing>,
    /// Whether the client has taken something since its last message was read.
    taking: bool,
    turn: Turn,
    pub(super) traffic: Traffic,
    counters: Arc<StageCounters>,
    /// Whether the client has not taken all that was written.
    is_behind: bool,
    /// Bytes that the socket has taken.
    written: i64,
    /// Answers that wait in the outbox, and their bytes: they are counted with their route.
    answers_waiting: [u64; 2],
    /// The limit by which the connection was told to end, in good order.
    pub(super) leaves_by: Option<&'static str>,
}

/// The messages of a connection so far, and the bytes of their payloads.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub(super) messages_in: u64,
    pub(super) messages_out: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// The work of a session since it last let others run.
#[derive(Default)]
struct Turn {
    messages: u32,
    /// The end of its first message.
    since: Option<Instant>,
    /// The end of its last message: the next begins then, and no clock is read for that.
    last: Option<Instant>,
}

/// A message of the client.
pub(super) struct Incoming {
    pub(super) message: Message,
    /// It came as a datagram: others may have been lost.
    pub(super) is_datagram: bool,
}

/// An event that the session acts on.
pub(super) enum Input {
    Message(Incoming),
    /// A deadline may have passed. It is judged when the session polls again, by the limits that it gives then.
    Due,
    End(End),
}

impl<T: Transport> Driver<T> {
    pub(super) fn new(
        connection: Arc<Connection>,
        mut transport: T,
        limits: &StageLimits,
        counters: Arc<StageCounters>,
    ) -> Self {
        transport.set_limits(limits);
        Self {
            transport,
            deadlines: Deadlines::start(limits),
            counters,
            is_behind: false,
            written: 0,
            answers_waiting: [0; 2],
            connection,
            ahead: None,
            closing: None,
            taking: false,
            turn: Turn::default(),
            traffic: Traffic::default(),
            leaves_by: None,
        }
    }

    /// Takes the limits of a new snapshot.
    pub(super) fn set_limits(&mut self, before: &StageLimits, limits: &StageLimits) {
        self.transport.set_limits(limits);
        self.deadlines.take_limits(before, limits);
    }

    /// Takes the time at which what let the client in expires, in milliseconds since the Unix epoch.
    pub(super) fn set_expiry(&mut self, expires_at: Option<u64>, limits: &StageLimits) {
        self.deadlines.take_expiry(expires_at, limits);
    }

    /// Keeps a message that came while another is handled. There is room for one.
    pub(super) fn read_ahead(&mut self, message: Incoming) {
        self.ahead = Some(message);
    }

    pub(super) fn is_ahead(&self) -> bool {
        self.ahead.is_some()
    }

    /// Notes a message that has come. Gives the time of its last byte.
    pub(super) fn note_received(&mut self, limits: &StageLimits) -> u64 {
        self.deadlines.note_message(limits);
        self.connection.set_last_active(self.transport.heard_at());
        self.transport.heard_at()
    }

    /// Counts a message that has been handled. When the session has had its turn, writes the buffer and lets others
    /// run, however many messages its client has sent. Its turn ends early when it has woken another session and
    /// posted several messages: the other's outbox fills meanwhile.
    pub(super) async fn end_message(&mut self, limits: &StageLimits) {
        let turn = &mut self.turn;
        turn.messages += 1;
        let over = has_posted_enough()
            || turn.messages >= TURN_MESSAGES
            || turn
                .since
                .zip(turn.last)
                .is_some_and(|(since, last)| last - since >= TURN_TIME);
        if over {
            self.turn = Turn::default();
            // An error comes again at the next write, which handles it.
            poll_fn(|context| Poll::Ready(self.poll_write(context, limits).ok())).await;
            yield_now().await;
        }
    }

    /// The beginning of a call, for its time.
    pub(super) fn begin_call(&self) -> Instant {
        self.turn.last.unwrap_or_else(Instant::now)
    }

    /// Gives the time of a call that has ended.
    pub(super) fn end_call(&mut self, begun: Instant) -> Duration {
        let now = Instant::now();
        self.turn.since.get_or_insert(now);
        self.turn.last = Some(now);
        now - begun
    }

    /// Notes messages that go out, with the bytes of their payloads.
    fn note_sent(&mut self, messages: u64, bytes: u64, limits: &StageLimits) {
        self.count_taken(messages, bytes);
        self.deadlines.note_message(limits);
        self.connection.set_last_active(now_ms());
    }

    /// Queues a message behind the posts that the handler made to this connection before it answered.
    pub(super) fn send(&mut self, message: Message) {
        let outbox = &self.connection.outbox;
        let taken = self.transport.take(outbox);
        if let Taken::Messages(messages, bytes) = taken {
            self.count_taken(messages, bytes);
        }
        let outbox = &self.connection.outbox;
        if outbox.is_empty() {
            self.traffic.messages_out += 1;
            self.traffic.bytes_out += message.len() as u64;
            self.transport.send(&message);
        } else {
            let [messages, bytes] = &mut self.answers_waiting;
            *messages += 1;
            *bytes += message.len() as u64;
            outbox.push_own(message.into());
        }
    }

    /// Counts messages that were taken from the outbox: answers, or what others have posted.
    fn count_taken(&mut self, messages: u64, bytes: u64) {
        self.traffic.messages_out += messages;
        self.traffic.bytes_out += bytes;
        let [answers, answer_bytes] = &mut self.answers_waiting;
        let (own, own_bytes) = (messages.min(*answers), bytes.min(*answer_bytes));
        *answers -= own;
        *answer_bytes -= own_bytes;
        if messages > own {
            self.counters.note_posted(messages - own, bytes - own_bytes);
        }
    }

    /// Counts the connection among those behind, or no longer.
    pub(super) fn set_behind(&mut self, is_behind: bool) {
        if self.is_behind != is_behind {
            self.is_behind = is_behind;
            let change = if is_behind { 1 } else { -1 };
            self.counters.behind.fetch_add(change, Ordering::Relaxed);
        }
    }

    /// Moves all that can move: outbox to socket, pings, deadlines, and, if `reading`, the client's messages, those
    /// read ahead first. Frames that are ready together leave in one write, because it flushes only when there is
    /// nothing to read.
    pub(super) fn poll_event(
        &mut self,
        context: &mut Context<'_>,
        limits: &StageLimits,
        reading: bool,
    ) -> Poll<Input> {
        loop {
            match self.transport.take(&self.connection.outbox) {
                Taken::Messages(messages, bytes) => self.note_sent(messages, bytes, limits),
                Taken::Close(closing) => self.closing = Some(closing),
                Taken::Cut(why) => return Poll::Ready(Input::End(End::Cut(why))),
                Taken::Nothing => {}
            }
            let reads = reading && self.closing.is_none() && self.may_read(limits);
            if reads && let Poll::Ready(event) = self.poll_message(context, limits) {
                return Poll::Ready(event);
            }
            // Posts have filled it, or pongs since.
            let full = self.transport.is_full();
            if self.poll_write(context, limits).is_err() {
                return Poll::Ready(Input::End(End::Client(ReadError::Gone)));
            }
            // The write has made room to read, or to take more from the outbox.
            if full && !self.transport.is_full() {
                continue;
            }
            if self.transport.waiting() == 0
                && let Some(closing) = self.closing.take()
            {
                return Poll::Ready(Input::End(End::Closed(closing)));
            }
            // Bounds a close that anyone asked for: a client that reads slowly keeps no connection open for ever.
            if self.closing.is_some() || full && self.connection.outbox.closing().is_some() {
                self.deadlines.start_leaving(limits);
            }
            // A ping waits behind all that is unwritten. A client with a large backlog has not seen it yet: such a
            // client is found dead by the stall timeout.
            let (taken, transport) = (self.written, &self.transport);
            let written = || {
                let own = || Written {
                    all: taken,
                    arrived: taken - transport.unacknowledged() as i64,
                };
                let Written { all, arrived } = transport.link().unwrap_or_else(own);
                let all = all + transport.waiting() as i64;
                Written { all, arrived }
            };
            let paused = !reads || full;
            let due = self.deadlines.poll_due(context, limits, paused, written);
            match due {
                Poll::Ready(Due::Judgement) => return Poll::Ready(Input::Due),
                Poll::Ready(Due::Ping) => {
                    self.transport.ping();
                    continue;
                }
                Poll::Ready(Due::Leave(why)) => {
                    self.leaves_by = Some(why);
                    self.connection.close(going_away());
                    continue;
                }
                Poll::Ready(Due::Expired) => {
                    // The handler under way may have renewed it.
                    let identity = self.connection.identity();
                    let expires_at = identity.and_then(|identity| identity.expires_at);
                    if expires_at.is_none_or(|expires_at| now_ms() < expires_at) {
                        self.set_expiry(expires_at, limits);
                        continue;
                    }
                    self.deadlines.start_leaving(limits);
                    self.leaves_by = Some("what let the client in has expired");
                    self.connection.close(expired());
                    continue;
                }
                Poll::Ready(Due::Left) => {
                    let closing = self.connection.outbox.closing();
                    let closing = closing.unwrap_or_else(going_away);
                    return Poll::Ready(Input::End(End::Closed(closing)));
                }
                Poll::Ready(Due::End(end)) => return Poll::Ready(Input::End(end)),
                Poll::Pending => {}
            }
            // With a full buffer the socket wakes the session, and the outbox has to wait.
            let (outbox, waiting) = (&self.connection.outbox, self.transport.waiting());
            let busy = full || self.closing.is_some();
            let woken = if busy {
                let since = self.deadlines.stalled_since().unwrap_or_else(Instant::now);
                outbox.poll_cut(context, waiting, since)
            } else {
                outbox.poll_wait(context, waiting)
            };
            if woken.is_pending() {
                self.turn = Turn::default();
                return Poll::Pending;
            }
        }
    }

    /// Whether the next message of the client may be read. Not while it takes nothing of its backlog. A client with a
    /// constant backlog that it takes is read once each time that it takes some, unless its own answers have made the
    /// backlog larger than its outbox allows.
    fn may_read(&self, limits: &StageLimits) -> bool {
        !self.transport.is_full()
            || self.taking
                && self.connection.outbox.held(self.transport.waiting()) <= limits.outbox_bytes
    }

    fn poll_message(&mut self, context: &mut Context<'_>, limits: &StageLimits) -> Poll<Input> {
        if let Some(message) = self.ahead.take() {
            self.taking = false;
            return Poll::Ready(Input::Message(message));
        }
        let read = self.poll_frames(context);
        self.deadlines
            .note_unfinished(self.transport.message_since(), limits);
        let is_binary = matches!(
            &read,
            Poll::Ready(Input::Message(Incoming {
                message: Message::Binary(_),
                ..
            }))
        );
        if is_binary && !limits.compat.takes_binary() {
            return Poll::Ready(Input::End(End::Client(ReadError::Binary)));
        }
        read
    }

    fn poll_frames(&mut self, context: &mut Context<'_>) -> Poll<Input> {
        let read = self.poll_frame(context);
        // Part of a message is a sign of life too: a client cannot answer a ping in the middle of a frame.
        if self.transport.heard() {
            self.deadlines.note_heard();
        }
        read
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Input> {
        while let Poll::Ready(read) = self.transport.poll_read(context) {
            match read {
                Ok(Received::Message(message)) => return self.received(message, false),
                Ok(Received::Datagram(bytes)) => {
                    return self.received(Message::Binary(bytes), true);
                }
                Ok(Received::Control) if !self.transport.is_full() => {}
                Ok(Received::Control) => break, // pongs have filled the buffer
                Err(error) => return Poll::Ready(Input::End(End::Client(error))),
            }
        }
        Poll::Pending
    }

    fn received(&mut self, message: Message, is_datagram: bool) -> Poll<Input> {
        self.traffic.messages_in += 1;
        self.traffic.bytes_in += message.len() as u64;
        self.taking = false;
        Poll::Ready(Input::Message(Incoming {
            message,
            is_datagram,
        }))
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        limits: &StageLimits,
    ) -> std::io::Result<()> {
        let (mut progress, before) = (false, self.transport.waiting());
        let flushed = self.transport.poll_flush(context, &mut progress);
        self.written += (before - self.transport.waiting()) as i64;
        if progress || flushed.is_ready() {
            self.taking = true;
            self.deadlines.note_progress();
        }
        self.set_behind(flushed.is_pending());
        match flushed {
            Poll::Ready(result) => result,
            Poll::Pending => {
                self.deadlines.note_stalled(limits);
                Ok(())
            }
        }
    }

    /// The end of a client that has gone, from the input that is still unread: a close frame may lie there.
    pub(super) async fn last_word(&mut self, found: End) -> End {
        if found != End::Client(ReadError::Gone) {
            return found;
        }
        let read = poll_fn(|context| {
            loop {
                match ready!(self.transport.poll_read(context)) {
                    Ok(_) => {}
                    Err(end @ ReadError::Closed(_)) => return Poll::Ready(End::Client(end)),
                    Err(_) => return Poll::Ready(End::Client(ReadError::Gone)),
                }
            }
        });
        timeout(CLOSE_TIMEOUT, read).await.unwrap_or(found)
    }

    /// Tells the client the end, if it can still be told, and closes the connection. Waits for nothing more once
    /// `over` is cancelled.
    pub(super) async fn close(
        &mut self,
        end: &End,
        limits: &StageLimits,
        over: &CancellationToken,
    ) {
        tokio::select! {
            biased;
            () = self.say_goodbye(end, limits) => {}
            () = over.cancelled() => {}
        }
    }

    async fn say_goodbye(&mut self, end: &End, limits: &StageLimits) {
        match end.farewell() {
            Farewell::Nothing => return,
            Farewell::Bare => self.transport.close(None),
            Farewell::Frame(closing) => self.transport.close(Some(&closing)),
        }
        if !end.awaits_close() {
            self.transport.drop_input();
        }
        let limit = match end {
            End::Stalled => CLOSE_TIMEOUT,
            End::Client(_)
            | End::Closed(_)
            | End::Unanswered
            | End::Unfinished
            | End::Panicked
            | End::Cut(_) => limits.stall_timeout,
        };
        let transport = &mut self.transport;
        let last = Instant::now() + LAST_WRITES;
        let told = async {
            write_all(transport, limit).await?;
            poll_fn(|context| transport.poll_close(context)).await
        };
        if !matches!(timeout_at(last, told).await, Ok(Ok(()))) {
            if !transport.give_up_messages() {
                return;
            }
            let told = poll_fn(|context| transport.poll_close(context));
            if !matches!(timeout(CLOSE_TIMEOUT, told).await, Ok(Ok(()))) {
                return;
            }
        }
        let last = last.max(Instant::now() + CLOSE_TIMEOUT);
        if end.awaits_close() {
            let _ = timeout_at(last, answered(transport)).await;
        }
        // Our FIN first, then the client's: whatever it sends to a closed socket, or has sent unread, would reset the
        // connection, and the client could lose its last messages. They may all be on their way still: over QUIC the
        // end of the stream waits for them.
        let last = last.max(Instant::now() + CLOSE_TIMEOUT);
        let ended = poll_fn(|context| transport.poll_shutdown(context));
        if timeout_at(last, ended).await.is_ok() {
            let_arrive(transport, CLOSE_TIMEOUT, limit, last).await;
        }
    }
}

/// Waits for the answer to our close: as long as the client sends, since it has not read the close. There may be a proxy
/// before it that ends the connection to it with our FIN, and its next byte would then make the proxy's kernel drop the rest.
async fn answered<T: Transport>(transport: &mut T) {
    transport.heard();
    loop {
        let read = poll_fn(|context| transport.poll_read(context));
        match timeout(CLOSE_TIMEOUT, read).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return,
            Err(_) if transport.heard() => {}
            Err(_) => return,
        }
    }
}

/// Writes the whole buffer, as long as the client takes something of it within each `limit`.
async fn write_all<T: Transport>(transport: &mut T, limit: Duration) -> std::io::Result<()> {
    loop {
        let step = poll_fn(|context| {
            let mut progress = false;
            match transport.poll_flush(context, &mut progress) {
                Poll::Ready(written) => Poll::Ready(Some(written)),
                Poll::Pending if progress => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        if let Some(written) = timeout(limit, step).await? {
            return written;
        }
    }
}
