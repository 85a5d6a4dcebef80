//! The life of one open connection, from its 101 to its `$disconnect`.
//!
//! One task reads its messages and writes its outbox. Messages are handled one at a time, in order; while a
//! handler works what is queued is written, pings are answered, and one message is read ahead.

mod clock;
mod end;
mod meter;
mod wire;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use self::clock::{Clock, Due};
use self::end::{End, Farewell};
use self::wire::{ReadError, Received, Wire};
use crate::connections::{Closing, Connection, Message, RequestId, Taken, now_ms};
use crate::plugin::{Invocation, InvokeError};
use crate::route;
use crate::stage::{CurrentStage, Route, Stage};

/// How long a client may take to answer our close frame, and then to end its half of the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves a connection that has had its 101, until it has ended and its `$disconnect` handler has run.
pub(crate) async fn serve<S>(
    current: Arc<CurrentStage>,
    connection: Arc<Connection>,
    socket: S,
    early: Bytes,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stage = current.load_full();
    let registration = stage.scope.connections.register(Arc::clone(&connection));
    let mut session = Session {
        wire: Wire::new(socket, early, &stage.limits),
        clock: Clock::start(&stage.limits),
        stage,
        current,
        connection,
        next: None,
        closing: None,
    };
    tracing::debug!(connection = %session.connection.id, stage = %session.stage.scope, "connected");
    let end = caught(session.run()).await.unwrap_or(End::Panicked);
    // Gone for everyone, before the client or its `$disconnect` handler is told.
    drop(registration);
    session.close(&end).await;
    let Session {
        wire,
        current,
        connection,
        ..
    } = session;
    drop(wire);
    disconnect(&current.load_full(), connection, &end).await;
}

/// The `$connect` handler let a client in that went before it had its 101: its `$disconnect` runs all the same.
pub(crate) async fn never_opened(current: &CurrentStage, connection: Arc<Connection>) {
    disconnect(
        &current.load_full(),
        connection,
        &End::Client(ReadError::Gone),
    )
    .await;
}

/// Runs a future; none if it panics. The panic's message is in the log by then.
async fn caught<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let poll = |context: &mut Context<'_>| {
        // What the future held is dropped with it, and the session is told its end.
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    };
    poll_fn(poll).await
}

struct Session<S> {
    wire: Wire<S>,
    clock: Clock,
    /// The snapshot that the present message is handled by.
    stage: Arc<Stage>,
    current: Arc<CurrentStage>,
    connection: Arc<Connection>,
    /// A message that came while another was handled.
    next: Option<Message>,
    /// Someone asked for the connection to be closed; it is, once all is written.
    closing: Option<Closing>,
}

enum Event {
    Message(Message),
    End(End),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn run(&mut self) -> End {
        loop {
            let event = match self.next.take() {
                Some(message) if self.closing.is_none() => Event::Message(message),
                _ => poll_fn(|context| self.poll_event(context, true)).await,
            };
            match event {
                Event::Message(message) => {
                    if let Err(end) = self.handle(message).await {
                        return end;
                    }
                }
                Event::End(end) => return end,
            }
        }
    }

    /// Moves everything that can move: outbox to socket, pings, deadlines, and what the client sent if
    /// `reading`. Frames that are ready together leave in one write: it flushes when there is nothing to read.
    fn poll_event(&mut self, context: &mut Context<'_>, reading: bool) -> Poll<Event> {
        loop {
            match self.wire.take(&self.connection.outbox) {
                Taken::Frames => self.sent(),
                Taken::Close(closing) => self.closing = Some(closing),
                Taken::Cut => return Poll::Ready(Event::End(End::Cut)),
                Taken::Nothing => {}
            }
            let reads = reading && self.closing.is_none() && self.wire.room() > 0;
            if reads && let Poll::Ready(event) = self.poll_message(context) {
                return Poll::Ready(event);
            }
            // Full of posts, or by now of pongs.
            let full = self.wire.room() == 0;
            if self.poll_write(context).is_err() {
                return Poll::Ready(Event::End(End::Client(ReadError::Gone)));
            }
            // What was written has made room to read, or to take more from the outbox.
            if full && self.wire.room() > 0 {
                continue;
            }
            if self.wire.waiting() == 0
                && let Some(closing) = self.closing.take()
            {
                return Poll::Ready(Event::End(End::Closed(closing)));
            }
            match self.clock.poll_due(context, &self.stage.limits, !reads) {
                Poll::Ready(Due::Ping) => {
                    self.wire.ping();
                    continue;
                }
                Poll::Ready(Due::End(end)) => return Poll::Ready(Event::End(end)),
                Poll::Pending => {}
            }
            // With a full buffer the socket wakes us, and the outbox has to wait.
            let outbox = &self.connection.outbox;
            let busy = full || self.closing.is_some();
            let woken = if busy {
                outbox.poll_cut(context)
            } else {
                outbox.poll_wait(context)
            };
            if woken.is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let read = self.poll_frames(context);
        self.clock
            .unfinished(self.wire.message_since(), &self.stage.limits);
        read
    }

    fn poll_frames(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        while let Poll::Ready(read) = self.wire.poll_read(context) {
            if std::mem::take(&mut self.wire.heard) {
                self.clock.heard();
            }
            match read {
                Ok(Received::Message(message)) => return Poll::Ready(Event::Message(message)),
                Ok(Received::Control) if self.wire.room() > 0 => {}
                Ok(Received::Control) => break, // pongs have filled the buffer
                Err(error) => return Poll::Ready(Event::End(End::Client(error))),
            }
        }
        Poll::Pending
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> std::io::Result<()> {
        let mut progress = false;
        let flushed = self.wire.poll_flush(context, &mut progress);
        if progress || flushed.is_ready() {
            self.clock.flowing();
        }
        match flushed {
            Poll::Ready(result) => result,
            Poll::Pending => {
                self.clock.stalled(&self.stage.limits);
                Ok(())
            }
        }
    }

    /// Calls the route's handler and answers the client. An end that came meanwhile counts afterwards.
    async fn handle(&mut self, message: Message) -> Result<(), End> {
        let requested_at = self.arrived();
        let stage = Arc::clone(&self.stage);
        let request_id = RequestId::next();
        let Some(route) = stage.routes.select(&message) else {
            self.send(&error_frame("Forbidden", &self.connection, request_id));
            return Ok(());
        };
        let invocation = Arc::new(Invocation {
            request_id,
            scope: Arc::clone(&stage.scope),
            connection: Arc::clone(&self.connection),
            route_key: Arc::clone(&route.key),
            requested_at,
        });
        let mut end = None;
        let answer = {
            let mut call = pin!(route.plugin.invoke(Arc::clone(&invocation), message));
            poll_fn(|context| {
                if let Poll::Ready(answer) = call.as_mut().poll(context) {
                    return Poll::Ready(answer);
                }
                while end.is_none()
                    && let Poll::Ready(event) = self.poll_event(context, self.next.is_none())
                {
                    match event {
                        Event::Message(message) => self.next = Some(message),
                        Event::End(ended) => end = Some(ended),
                    }
                }
                Poll::Pending
            })
            .await
        };
        match answer {
            Ok(Some(reply)) if route.two_way => self.reply(&reply, &stage, &invocation),
            Ok(_) => {}
            Err(error) => {
                log_failure(&invocation, route, &error);
                self.send(&error_frame(
                    client_text(&error),
                    &self.connection,
                    request_id,
                ));
            }
        }
        end.map_or(Ok(()), Err)
    }

    /// A message has come: the newest snapshot of the stage handles it. Gives the time.
    fn arrived(&mut self) -> u64 {
        if !Arc::ptr_eq(&self.stage, &self.current.load()) {
            self.stage = self.current.load_full();
            self.wire.set_limits(&self.stage.limits);
        }
        self.clock.message(&self.stage.limits);
        self.connection.touch()
    }

    fn sent(&mut self) {
        self.clock.message(&self.stage.limits);
        self.connection.touch();
    }

    fn reply(&mut self, reply: &Message, stage: &Stage, invocation: &Invocation) {
        if reply.len() <= stage.limits.message_bytes {
            return self.send(reply);
        }
        tracing::warn!(connection = %self.connection.id, stage = %stage.scope, route = &*invocation.route_key,
            request_id = %invocation.request_id, bytes = reply.len(), limit = stage.limits.message_bytes,
            "the handler's reply is over limits.message_kib and was not sent");
        self.send(&error_frame(
            "Internal server error",
            &self.connection,
            invocation.request_id,
        ));
    }

    /// Queues a frame behind the posts that the handler made to this connection before it answered.
    fn send(&mut self, message: &Message) {
        self.wire.take_all(&self.connection.outbox);
        self.wire.send(message);
    }

    /// Tells the client, as far as it still can be told, and ends the connection.
    async fn close(&mut self, end: &End) {
        match end.farewell() {
            Farewell::Nothing => return,
            Farewell::Bare => self.wire.close(None),
            Farewell::Frame(closing) => self.wire.close(Some(&closing)),
        }
        let limit = match end {
            End::Stalled => CLOSE_TIMEOUT,
            End::Client(_)
            | End::Closed(_)
            | End::Idle
            | End::Expired
            | End::Unanswered
            | End::Unfinished
            | End::Panicked
            | End::Cut => self.stage.limits.stall_timeout,
        };
        let wire = &mut self.wire;
        let mut progress = false;
        let flushed = timeout(
            limit,
            poll_fn(|context| wire.poll_flush(context, &mut progress)),
        )
        .await;
        if !matches!(flushed, Ok(Ok(()))) {
            return;
        }
        if end.awaits_close() {
            let answered = poll_fn(|context| {
                loop {
                    match wire.poll_read(context) {
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
            let _ = poll_fn(|context| wire.poll_shutdown(context)).await;
            poll_fn(|context| wire.poll_discard(context)).await;
        };
        let _ = timeout(CLOSE_TIMEOUT, ended).await;
    }
}

/// Runs the `$disconnect` handler. Its result is ignored.
async fn disconnect(stage: &Stage, connection: Arc<Connection>, end: &End) {
    let closing = end.closing();
    tracing::debug!(connection = %connection.id, stage = %stage.scope, code = closing.code,
        reason = closing.reason, end = ?end, "disconnected");
    let Some(route) = &stage.routes.disconnect else {
        return;
    };
    let invocation = Arc::new(Invocation {
        request_id: RequestId::next(),
        scope: Arc::clone(&stage.scope),
        connection,
        route_key: route::DISCONNECT.into(),
        requested_at: now_ms(),
    });
    if let Err(error) = route.plugin.invoke(Arc::clone(&invocation), closing).await {
        log_failure(&invocation, route, &error);
    }
}

/// Writes why an invocation failed to the log, where operators and plugin authors look.
pub(crate) fn log_failure(invocation: &Invocation, route: &Route, error: &InvokeError) {
    let plugin = &*route.plugin.name;
    let (connection, stage) = (invocation.connection.id, &invocation.scope);
    let (route, request_id) = (&*invocation.route_key, invocation.request_id);
    match error {
        InvokeError::Host(_) => {
            tracing::error!(%connection, %stage, route, %request_id, plugin, "{error}")
        }
        InvokeError::Busy(_)
        | InvokeError::Deadline(_)
        | InvokeError::Failed(_)
        | InvokeError::Trapped(_) => {
            tracing::warn!(%connection, %stage, route, %request_id, plugin, "{error}");
        }
    }
}

/// What a client may know of a failure (aws-websocket §2.4).
fn client_text(error: &InvokeError) -> &'static str {
    match error {
        InvokeError::Busy(_) => "Too Many Requests",
        InvokeError::Deadline(_) => "Endpoint request timed out",
        InvokeError::Failed(_) | InvokeError::Trapped(_) | InvokeError::Host(_) => {
            "Internal server error"
        }
    }
}

/// API Gateway's error frame, to the byte: no space after the second and third colon.
fn error_frame(message: &str, connection: &Connection, request_id: RequestId) -> Message {
    let id = connection.id;
    Message::Text(format!(
        r#"{{"message": "{message}", "connectionId":"{id}", "requestId":"{request_id}"}}"#
    ))
}
