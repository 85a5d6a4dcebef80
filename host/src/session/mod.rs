//! The life of one open connection, from its 101 to its `$disconnect`.
//!
//! One task reads its messages and writes its outbox. Messages are handled one at a time, in order. While a handler
//! works, the session writes its outbox, answers pings, and reads one message ahead.

mod deadlines;
mod driver;
mod end;
mod error_frame;
mod observe;
mod renewal;
#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use self::driver::{Driver, Incoming, Input, Traffic};
use self::end::End;
use self::error_frame::{client_text, error_frame};
use crate::clock::now_ms;
use crate::config::{Renews, StageLimits};
use crate::connections::{Connection, Message, Registration, RequestId};
use crate::invocation::{Called, Invocation, InvokeError};
use crate::route;
use crate::stage::{CurrentStage, Route, Scopes, Stage};
use crate::transport::{ReadError, Transport};

/// Serves a registered connection that has had its 101, until it has ended and its `$disconnect` handler has run.
///
/// Built eagerly: the future would store its arguments twice, once as arguments and once in the session.
pub(crate) fn serve<T: Transport>(
    current: Arc<CurrentStage>,
    registration: Registration,
    transport: T,
) -> impl Future<Output = ()> + Send {
    let stage = current.load_full();
    let connection = Arc::clone(&registration.connection);
    let scopes = stage.routes.granted_to(&connection);
    let expires_at = stage.expiry_of(&connection);
    let place = registration.principal_place();
    let counters = Arc::clone(&stage.scope.counters);
    let mut driver = Driver::new(connection, transport, &stage.limits, counters);
    driver.set_expiry(expires_at, &stage.limits);
    let mut session = Box::new(Session {
        driver,
        registration: Some(registration),
        scopes,
        stage,
        current,
        invocation: None,
    });
    async move {
        let counters = Arc::clone(&session.stage.scope.counters);
        let carrier = session.driver.connection.client.carrier;
        counters.open(carrier).fetch_add(1, Ordering::Relaxed);
        let end = session.run().await;
        session.driver.set_behind(false);
        counters.open(carrier).fetch_sub(1, Ordering::Relaxed);
        let connection = Arc::clone(&session.driver.connection);
        let current = Arc::clone(&session.current);
        let (driver, request_id) = (&session.driver, next_request_id(&session.stage));
        let (leaves_by, traffic, scope) = (driver.leaves_by, driver.traffic, &session.stage.scope);
        observe::ended(&end, leaves_by, scope, &connection, traffic, request_id);
        drop(session);
        disconnect(&current, connection, &end, request_id).await;
        drop(place);
    }
}

/// Runs `$disconnect` for a client that its `$connect` handler let in, and that went before its 101.
pub(crate) async fn never_opened(current: &CurrentStage, connection: Arc<Connection>) {
    let stage = current.load_full();
    let (end, request_id) = (End::Client(ReadError::Gone), next_request_id(&stage));
    let scope = Arc::clone(&stage.scope);
    let traffic = Traffic::default();
    observe::ended(&end, None, &scope, &connection, traffic, request_id);
    disconnect(current, connection, &end, request_id).await;
}

/// Runs a future; none if it panics. The log has the message of the panic by then.
///
/// Takes the future pinned: taken by value it would be stored twice, as an argument and pinned.
async fn catch_panic<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let poll = |context: &mut Context<'_>| {
        // The broken state is dropped with the future, and the session ends.
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    };
    poll_fn(poll).await
}

/// Runs a call for a message, and meanwhile everything else of the connection. An end that comes meanwhile is noted.
///
/// Takes the call pinned, as [`catch_panic`] does.
async fn alongside<T, C: Transport>(
    driver: &mut Driver<C>,
    limits: &StageLimits,
    end: &mut Option<End>,
    mut call: Pin<&mut impl Future<Output = T>>,
) -> T {
    poll_fn(|context| {
        if let Poll::Ready(called) = call.as_mut().poll(context) {
            return Poll::Ready(called);
        }
        while end.is_none()
            && let Poll::Ready(event) = driver.poll_event(context, limits, !driver.is_ahead())
        {
            match event {
                Input::Message(message) => driver.read_ahead(message),
                // The message has brought the newest snapshot.
                Input::Due => {}
                Input::End(ended) => *end = Some(ended),
            }
        }
        Poll::Pending
    })
    .await
}

struct Session<T> {
    driver: Driver<T>,
    /// None once the connection ends.
    registration: Option<Registration>,
    /// The snapshot that handles the current message.
    stage: Arc<Stage>,
    current: Arc<CurrentStage>,
    /// What the client may do, by the snapshot and the client's identity.
    scopes: Scopes,
    /// The last message's invocation. The next message reuses the allocation if its `Arc` is unique.
    invocation: Option<Arc<Invocation>>,
}

impl<T: Transport> Session<T> {
    /// Runs the session from its first message to its close frame.
    async fn run(&mut self) -> End {
        let end = catch_panic(pin!(self.handle_messages()))
            .await
            .unwrap_or(End::Panicked);
        let end = catch_panic(pin!(self.driver.last_word(end)))
            .await
            .unwrap_or(End::Panicked);
        if end == End::Panicked {
            let connection = &self.driver.connection;
            tracing::error!(client = %connection.client.source_ip, connection = %connection.id, principal = connection.principal(),
                stage = %self.stage.scope, "a bug of the gateway has ended this connection and no other");
        }
        observe::ending(&self.driver.connection, &end);
        // Gone from the directory before the client or its `$disconnect` handler is told.
        drop(self.registration.take());
        // A session that panicked may panic once more: `$disconnect` runs all the same.
        let over = &self.stage.scope.directory.closes_over;
        let _ = catch_panic(pin!(self.driver.close(&end, &self.stage.limits, over))).await;
        end
    }

    async fn handle_messages(&mut self) -> End {
        loop {
            let Self { driver, stage, .. } = self;
            match poll_fn(|context| driver.poll_event(context, &stage.limits, true)).await {
                Input::Message(message) => {
                    if let Err(end) = self.handle(message).await {
                        return end;
                    }
                    self.driver.end_message(&self.stage.limits).await;
                }
                Input::Due => self.take_newest(),
                Input::End(end) => return end,
            }
        }
    }

    /// Calls the route's handler and answers the client. An end that comes meanwhile takes effect afterwards.
    async fn handle(&mut self, incoming: Incoming) -> Result<(), End> {
        let Incoming {
            mut message,
            is_datagram,
        } = incoming;
        if self.is_over_plan() {
            self.begin_message();
            let request_id = next_request_id(&self.stage);
            let why = (429, "over its usage plan", "Too Many Requests");
            turn_away(
                &mut self.driver,
                &self.stage,
                request_id,
                message.len(),
                why,
            );
            return Ok(());
        }
        let mut end = None;
        let bytes = message.len();
        let (driver, compat, route, invocation, begun, before, answer) = loop {
            let requested_at = self.begin_message();
            let compat = self.stage.limits.compat;
            let request_id = next_request_id(&self.stage);
            let Self {
                driver,
                stage,
                current,
                invocation,
                scopes,
                ..
            } = &mut *self;
            driver.connection.note_request(request_id);
            let route = stage.routes.select(&message);
            let may = |route: &&Route| scopes.contain(route.scopes);
            let Some(route) = route.filter(may) else {
                let why = match route {
                    Some(_) => "a scope is missing",
                    None => "no route for it",
                };
                turn_away(driver, stage, request_id, bytes, (403, why, "Forbidden"));
                return end.map_or(Ok(()), Err);
            };
            let arrival = (requested_at, is_datagram);
            let invocation = next_invocation(invocation, driver, stage, route, request_id, arrival);
            let mut begun = driver.begin_call();
            let before = match route.renews {
                Some(_) => driver.connection.identity(),
                None => None,
            };
            if let Some(Renews::Token(place)) = &route.renews {
                // Boxed, as it is rare: every session has the room of the largest.
                let mut renewal = Box::pin(renewal::by_token(
                    stage,
                    &invocation.connection,
                    place,
                    &message,
                ));
                let limits = &stage.limits;
                let renewed = alongside(driver, limits, &mut end, renewal.as_mut()).await;
                driver.end_call(begun);
                if let Err(denial) = renewed {
                    renewal::note_denial(&invocation, route, &denial);
                    let (status, why) = (denial.status().as_u16(), denial.to_string());
                    let why = (status, &*why, renewal::client_text(&denial));
                    turn_away(driver, stage, request_id, bytes, why);
                    return end.map_or(Ok(()), Err);
                }
                begun = driver.begin_call();
            }
            let called = {
                let call = pin!(route.integration.invoke(&invocation, message));
                alongside(driver, &stage.limits, &mut end, call).await
            };
            match called {
                Called::Ended(answer) => {
                    break (driver, compat, route, invocation, begun, before, answer);
                }
                Called::Retired(_) if Arc::ptr_eq(stage, &current.load()) => {
                    let removed = Err(InvokeError::Removed);
                    break (driver, compat, route, invocation, begun, before, removed);
                }
                // A reload came before the call began: the newest snapshot has the versions that serve.
                Called::Retired(again) => message = again,
            }
        };
        let took = driver.end_call(begun);
        observe::handled(&invocation, route, bytes, took, &answer);
        match answer {
            Ok(Some(reply)) if route.two_way => {
                if reply.len() <= invocation.scope.limits.message_bytes {
                    route.counters.note_answer(reply.len());
                }
                self.reply(reply, &invocation);
            }
            Ok(Some(_)) => log_dropped(&invocation, route),
            Ok(None) if route.two_way && compat.replies_always() => {
                route.counters.note_answer(0);
                driver.send(Message::Text(String::new()));
            }
            Ok(None) => {}
            Err(error) => {
                note_failure(&invocation, route, &error);
                let text = client_text(&error);
                driver.send(error_frame(text, &driver.connection, invocation.request_id));
            }
        }
        if before.is_some() && renewal::has_renewed(&invocation, before.as_ref()) {
            self.take_identity();
        }
        end.map_or(Ok(()), Err)
    }

    /// Counts the message; true if the client's usage plan has no room for it.
    fn is_over_plan(&self) -> bool {
        let allowance = self.driver.connection.allowance();
        allowance.is_some_and(|allowance| allowance.take_message(now_ms()).is_err())
    }

    /// Takes the newest snapshot of the stage for a message that has come. Gives the time of its last byte.
    fn begin_message(&mut self) -> u64 {
        self.take_newest();
        self.driver.note_received(&self.stage.limits)
    }

    fn take_newest(&mut self) {
        if !Arc::ptr_eq(&self.stage, &self.current.load()) {
            let before = std::mem::replace(&mut self.stage, self.current.load_full());
            self.driver.set_limits(&before.limits, &self.stage.limits);
            self.take_identity();
        }
    }

    /// Takes what the client may do, and until when.
    fn take_identity(&mut self) {
        let connection = &self.driver.connection;
        self.scopes = self.stage.routes.granted_to(connection);
        let expires_at = self.stage.expiry_of(connection);
        self.driver.set_expiry(expires_at, &self.stage.limits);
    }

    fn reply(&mut self, reply: Message, invocation: &Invocation) {
        let (driver, stage) = (&mut self.driver, &self.stage);
        if reply.len() <= stage.limits.message_bytes {
            return driver.send(reply);
        }
        let connection = &driver.connection;
        let (trace_id, span_id) = invocation.trace_ids();
        tracing::warn!(client = %connection.client.source_ip, connection = %connection.id, principal = connection.principal(),
            stage = %stage.scope, route = &*invocation.route_key, request_id = %invocation.request_id, trace_id, span_id, bytes = reply.len(), limit = stage.limits.message_bytes,
            "the handler's reply is over limits.message_kib of the stage and was not sent; answer with less, or raise it");
        driver.send(error_frame(
            "Internal server error",
            &driver.connection,
            invocation.request_id,
        ));
    }
}

/// Answers a message that no handler gets: with a status and a reason for operators, and a text for the client.
fn turn_away<T: Transport>(
    driver: &mut Driver<T>,
    stage: &Stage,
    request_id: RequestId,
    bytes: usize,
    (status, why, text): (u16, &str, &'static str),
) {
    let connection = &driver.connection;
    observe::turned_away(stage, connection, request_id, bytes, (status, why));
    driver.send(error_frame(text, connection, request_id));
}

fn next_request_id(stage: &Stage) -> RequestId {
    RequestId::next().padded(stage.limits.compat.pads_ids())
}

/// The invocation of a message. It leaves the values of the last one untouched where they are the same: most of them
/// are shared by all connections, and a write would make other threads wait.
fn next_invocation<T>(
    last: &mut Option<Arc<Invocation>>,
    driver: &Driver<T>,
    stage: &Stage,
    route: &Route,
    request_id: RequestId,
    (requested_at, is_datagram): (u64, bool),
) -> Arc<Invocation> {
    if let Some(invocation) = last
        && let Some(unshared) = Arc::get_mut(invocation)
        && Arc::ptr_eq(&unshared.scope, &stage.scope)
    {
        unshared.request_id = request_id;
        unshared.requested_at = requested_at;
        unshared.is_datagram = is_datagram;
        if !Arc::ptr_eq(&unshared.route_key, &route.key) {
            unshared.route_key = Arc::clone(&route.key);
        }
        return Arc::clone(invocation);
    }
    let invocation = Arc::new(Invocation {
        request_id,
        scope: Arc::clone(&stage.scope),
        connection: Arc::clone(&driver.connection),
        route_key: Arc::clone(&route.key),
        requested_at,
        is_datagram,
    });
    *last = Some(Arc::clone(&invocation));
    invocation
}

/// Runs the `$disconnect` handler. Its result is ignored.
async fn disconnect(
    current: &CurrentStage,
    connection: Arc<Connection>,
    end: &End,
    request_id: RequestId,
) {
    let mut stage = current.load_full();
    let mut closing = end.closing();
    loop {
        let Some(route) = &stage.routes.disconnect else {
            return;
        };
        let invocation = Arc::new(Invocation {
            request_id,
            scope: Arc::clone(&stage.scope),
            connection: Arc::clone(&connection),
            route_key: route::DISCONNECT.into(),
            requested_at: now_ms(),
            is_datagram: false,
        });
        let begun = Instant::now();
        let called = route.integration.invoke(&invocation, closing).await;
        let took = begun.elapsed();
        if !route.integration.is_mock() {
            stage.scope.counters.latency.observe(took);
        }
        if let Called::Ended(answer) = &called {
            observe::disconnected(&invocation, route, took, answer.as_ref().copied());
        }
        let newest = match called {
            Called::Ended(Ok(())) => return,
            Called::Ended(Err(error)) => return note_failure(&invocation, route, &error),
            Called::Retired(again) => {
                closing = again;
                current.load_full()
            }
        };
        if Arc::ptr_eq(&stage, &newest) {
            return note_failure(&invocation, route, &InvokeError::Removed);
        }
        stage = newest;
    }
}

/// Warns once a route that it is one-way and drops an answer: its author may wonder where the answer is.
fn log_dropped(invocation: &Invocation, route: &Route) {
    if route.drop_logged.load(Ordering::Relaxed) || route.drop_logged.swap(true, Ordering::Relaxed)
    {
        return;
    }
    let (connection, stage) = (invocation.connection.id, &invocation.scope);
    let (plugin, request_id) = (route.integration.name(), invocation.request_id);
    let (api, key) = (&*invocation.scope.api, &*invocation.route_key);
    tracing::warn!(%connection, %stage, route = key, %request_id, plugin,
        "the handler returned an answer, and this one-way route drops it, from now on without a word: \
         set apis.{api}.routes.{key:?}.two_way = true, or send with connections.send");
}

/// Counts a failed invocation, and logs why it failed, for operators and plugin authors.
pub(crate) fn note_failure(invocation: &Invocation, route: &Route, error: &InvokeError) {
    let errors = match error {
        InvokeError::Failed(_) => &route.counters.integration_errors,
        InvokeError::Busy(_)
        | InvokeError::Deadline(_)
        | InvokeError::Removed
        | InvokeError::GivenUp
        | InvokeError::Trapped(_)
        | InvokeError::Host(_) => &route.counters.execution_errors,
    };
    errors.add(invocation.request_id);
    if let InvokeError::Busy(_) = error {
        let throttled = &invocation.scope.counters.throttled;
        throttled.fetch_add(1, Ordering::Relaxed);
    }
    let plugin = route.integration.name();
    let client = invocation.connection.client.source_ip;
    let principal = invocation.connection.principal();
    let (connection, stage) = (invocation.connection.id, &invocation.scope);
    let (route, request_id) = (&*invocation.route_key, invocation.request_id);
    let (trace_id, span_id) = invocation.trace_ids();
    match error {
        InvokeError::Host(_) => {
            tracing::error!(%client, %connection, principal, %stage, route, %request_id, trace_id, span_id, plugin, "{error}")
        }
        InvokeError::Busy(_)
        | InvokeError::Deadline(_)
        | InvokeError::Failed(_)
        | InvokeError::Removed
        | InvokeError::GivenUp
        | InvokeError::Trapped(_) => {
            tracing::warn!(%client, %connection, principal, %stage, route, %request_id, trace_id, span_id, plugin, "{error}");
        }
    }
}
