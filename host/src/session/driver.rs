//! One connection's socket, outbox and deadlines, moved on together: all that a session does beside handling
//! messages.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::deadlines::{Deadlines, Due, LAST_WRITES, going_away};
use super::end::{End, Farewell};
use crate::config::StageLimits;
use crate::connections::{Closing, Connection, Message, Taken, now_ms, woke_others};
use crate::transport::{ReadError, Received, Transport};

/// How long a client may take to answer our close frame, and then to end its half of the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Messages that a session handles before it lets others run, and how long it may take for more than one. A thread with
/// many busy sessions comes round to each of them soon: 20 ms is what a neighbour may wait at the 99th percentile.
const MESSAGES: u32 = 32;
const TURN: Duration = Duration::from_millis(1);

pub(super) struct Driver<T> {
    transport: T,
    deadlines: Deadlines,
    pub(super) connection: Arc<Connection>,
    /// A message that came while another was handled.
    ahead: Option<Message>,
    /// Someone asked for the connection to be closed; it is, once all is written.
    closing: Option<Closing>,
    /// The client has taken something since its last message was read.
    taking: bool,
    turn: Turn,
}

/// What a session has done since it last gave way to others.
#[derive(Default)]
struct Turn {
    messages: u32,
    /// When its second message came: a session that handles one at a time pays for no clock.
    since: Option<Instant>,
}

/// What a session has to act on.
pub(super) enum Input {
    Message(Message),
    End(End),
}

impl<T: Transport> Driver<T> {
    pub(super) fn new(connection: Arc<Connection>, mut transport: T, limits: &StageLimits) -> Self {
        transport.set_limits(limits);
        Self {
            transport,
            deadlines: Deadlines::start(limits),
            connection,
            ahead: None,
            closing: None,
            taking: false,
            turn: Turn::default(),
        }
    }

    /// The limits may have changed with the stage.
    pub(super) fn set_limits(&mut self, limits: &StageLimits) {
        self.transport.set_limits(limits);
    }

    /// Keeps a message that came while another is handled. There is room for one.
    pub(super) fn read_ahead(&mut self, message: Message) {
        self.ahead = Some(message);
    }

    pub(super) fn is_ahead(&self) -> bool {
        self.ahead.is_some()
    }

    /// A message has come. Gives the time, which is that of its last byte.
    pub(super) fn received(&mut self, limits: &StageLimits) -> u64 {
        self.deadlines.message(limits);
        self.connection.active(self.transport.heard_at());
        self.transport.heard_at()
    }

    /// A message has been handled. Once the session has had its turn, writes what waits and lets others run, however many
    /// messages its client has sent: those whom its posts have woken at once.
    pub(super) async fn handled(&mut self, limits: &StageLimits) {
        let turn = &mut self.turn;
        turn.messages += 1;
        let over = woke_others()
            || turn.messages >= MESSAGES
            || turn.messages > 1 && turn.since.get_or_insert_with(Instant::now).elapsed() >= TURN;
        if over {
            self.turn = Turn::default();
            // What has failed fails again where it is looked at.
            poll_fn(|context| Poll::Ready(self.poll_write(context, limits).ok())).await;
            yield_now().await;
        }
    }

    /// Messages go out.
    fn sent(&mut self, limits: &StageLimits) {
        self.deadlines.message(limits);
        self.connection.active(now_ms());
    }

    /// Queues a message behind the posts that the handler made to this connection before it answered.
    pub(super) fn send(&mut self, message: Message) {
        let outbox = &self.connection.outbox;
        self.transport.take(outbox);
        if outbox.is_empty() {
            self.transport.send(&message);
        } else {
            outbox.push_own(message.into());
        }
    }

    /// Moves everything that can move: outbox to socket, pings, deadlines, and what the client sent if
    /// `reading`, first what was read ahead. Frames that are ready together leave in one write: it flushes when there is nothing to read.
    pub(super) fn poll_event(
        &mut self,
        context: &mut Context<'_>,
        limits: &StageLimits,
        reading: bool,
    ) -> Poll<Input> {
        loop {
            match self.transport.take(&self.connection.outbox) {
                Taken::Messages => self.sent(limits),
                Taken::Close(closing) => self.closing = Some(closing),
                Taken::Cut(why) => return Poll::Ready(Input::End(End::Cut(why))),
                Taken::Nothing => {}
            }
            let reads = reading && self.closing.is_none() && self.takes_answers(limits);
            if reads && let Poll::Ready(event) = self.poll_message(context, limits) {
                return Poll::Ready(event);
            }
            // Full of posts, or by now of pongs.
            let full = self.transport.is_full();
            if self.poll_write(context, limits).is_err() {
                return Poll::Ready(Input::End(End::Client(ReadError::Gone)));
            }
            // What was written has made room to read, or to take more from the outbox.
            if full && !self.transport.is_full() {
                continue;
            }
            if self.transport.waiting() == 0
                && let Some(closing) = self.closing.take()
            {
                return Poll::Ready(Input::End(End::Closed(closing)));
            }
            // Whoever asked for the close: a client that takes it slowly keeps nothing open for ever.
            if self.closing.is_some() || full && self.connection.outbox.closing().is_some() {
                self.deadlines.leave(limits);
            }
            // A ping waits behind all that is owed: a client that is owed much has not seen it yet, and is found dead by
            // taking nothing.
            match self.deadlines.poll_due(context, limits, !reads || full) {
                Poll::Ready(Due::Ping) => {
                    self.transport.ping();
                    continue;
                }
                Poll::Ready(Due::Leave(why)) => {
                    tracing::debug!(connection = %self.connection.id, "closing: {why}");
                    self.connection.close(going_away());
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
            // With a full buffer the socket wakes us, and the outbox has to wait.
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

    /// Whether the client may be asked for its next message. One that takes nothing of what waits may not; one that is
    /// always owed some and takes it has its turn for each time that it does, unless its own answers have made more
    /// wait than its outbox takes.
    fn takes_answers(&self, limits: &StageLimits) -> bool {
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
            .unfinished(self.transport.message_since(), limits);
        read
    }

    fn poll_frames(&mut self, context: &mut Context<'_>) -> Poll<Input> {
        while let Poll::Ready(read) = self.transport.poll_read(context) {
            if self.transport.heard() {
                self.deadlines.heard();
            }
            match read {
                Ok(Received::Message(message)) => {
                    self.taking = false;
                    return Poll::Ready(Input::Message(message));
                }
                Ok(Received::Control) if !self.transport.is_full() => {}
                Ok(Received::Control) => break, // pongs have filled the buffer
                Err(error) => return Poll::Ready(Input::End(End::Client(error))),
            }
        }
        Poll::Pending
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        limits: &StageLimits,
    ) -> std::io::Result<()> {
        let mut progress = false;
        let flushed = self.transport.poll_flush(context, &mut progress);
        if progress || flushed.is_ready() {
            self.taking = true;
            self.deadlines.flowing();
        }
        match flushed {
            Poll::Ready(result) => result,
            Poll::Pending => {
                self.deadlines.stalled(limits);
                Ok(())
            }
        }
    }

    /// The end of a client that has gone, as it was found: a close frame may lie behind what was not read any more.
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

    /// Tells the client, as far as it still can be told, and ends the connection. Once `over` is cancelled it waits for
    /// nothing more.
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
            self.transport.forget();
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
        if !matches!(
            timeout(LAST_WRITES, written(transport, limit)).await,
            Ok(Ok(()))
        ) {
            return;
        }
        if end.awaits_close() {
            let answered = poll_fn(|context| {
                loop {
                    match transport.poll_read(context) {
                        Poll::Ready(Ok(_)) => {}
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            });
            let _ = timeout(CLOSE_TIMEOUT, answered).await;
        }
        // Our FIN first, then the client's: closing on unread data would reset the connection, and the client
        // could lose what it was sent last.
        let ended = async {
            let _ = poll_fn(|context| transport.poll_shutdown(context)).await;
            poll_fn(|context| transport.poll_discard(context)).await;
        };
        let _ = timeout(CLOSE_TIMEOUT, ended).await;
    }
}

/// Writes all that waits, to a client that takes something of it within each `limit`.
async fn written<T: Transport>(transport: &mut T, limit: Duration) -> std::io::Result<()> {
    loop {
        let some = poll_fn(|context| {
            let mut progress = false;
            match transport.poll_flush(context, &mut progress) {
                Poll::Ready(written) => Poll::Ready(Some(written)),
                Poll::Pending if progress => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        if let Some(written) = timeout(limit, some).await? {
            return written;
        }
    }
}
