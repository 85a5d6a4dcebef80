//! Sessions over sockets in memory, some of which break.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use lockgate_tests::{Frame, Guest, RawClient};
use serde_json::{Value, json};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
};
use tokio::task::coop::unconstrained;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::config::{Compat, Config, Origins, StageLimits};
use crate::connections::{Carrier, Client, ConnectionLimits, OutboxLimits, Payload};
use crate::integration::Integration;
use crate::invocation::Scope;
use crate::net::Acknowledged;
use crate::plugin::{Cause, Plugin, Plugins, Ready};
use crate::route::Selection;
use crate::stage::Routes;
use crate::transport::websocket::WebSocket;

/// A socket with a bug that can be switched on.
struct Buggy {
    socket: DuplexStream,
    bug: Arc<Bug>,
}

#[derive(Default)]
struct Bug {
    in_read: AtomicBool,
    in_write: AtomicBool,
}

impl Acknowledged for Buggy {}

impl AsyncRead for Buggy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        assert!(!self.bug.in_read.load(Ordering::Relaxed), "the bug in read");
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Buggy {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        assert!(
            !self.bug.in_write.load(Ordering::Relaxed),
            "the bug in write"
        );
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// A stage with a plugin behind every route.
fn stage(plugin: &Arc<Plugin>) -> Arc<CurrentStage> {
    let limits = StageLimits::default();
    let route = |key: &str| {
        Some(Route {
            key: key.into(),
            counters: Arc::default(),
            integration: Integration::Plugin(plugin.handle()),
            two_way: true,
            logged_one_in: 0,
            scopes: Scopes::default(),
            renews: None,
            drop_logged: Arc::default(),
        })
    };
    let stage = Stage {
        scope: Arc::new(Scope {
            api: "a".into(),
            stage: "s".into(),
            variables: BTreeMap::new(),
            renewing: Vec::new(),
            limits: ConnectionLimits {
                outbox: OutboxLimits {
                    bytes: limits.outbox_bytes,
                    messages: limits.outbox_messages,
                },
                datagrams: limits.datagrams,
                message_bytes: limits.message_bytes,
                attributes_bytes: limits.attributes_bytes,
                groups: limits.groups,
                early_posts: true,
                principal: None,
            },
            directory: Arc::default(),
            counters: Arc::default(),
        }),
        origins: Origins::default(),
        authorizer: None,
        api_key: None,
        connections_api: false,
        limits,
        logged_one_in: 0,
        routes: Routes {
            selection: Selection::parse("$request.body.action").unwrap(),
            connect: None,
            disconnect: route(route::DISCONNECT),
            default: route(route::DEFAULT),
            custom: HashMap::new(),
            scopes: Vec::new(),
        },
        connect_rate: None,
    };
    Arc::new(CurrentStage::from_pointee(stage))
}

async fn probe(plugins: &Plugins) -> Arc<Plugin> {
    let component = Guest::Probe.path();
    let text = format!(
        "listeners = [{{ address = \"127.0.0.1:0\" }}]\napis.a.stages.s = {{}}\n\
         [plugins.probe]\ncomponent = {component:?}\ngrants = [\"connections\", \"groups\"]\n"
    );
    let config = Config::parse(&text, Path::new("gateway.toml")).unwrap();
    match plugins
        .prepare(config.plugins.first().unwrap(), Cause::Check)
        .await
    {
        Ok(Ready::New(plugin)) => plugin,
        Ok(Ready::Changed(_) | Ready::Read(_) | Ready::Same) => panic!("it was there already"),
        Err(fault) => panic!("{fault:?}"),
    }
}

fn connection() -> Arc<Connection> {
    Arc::new(Connection::new(Client {
        source_ip: Ipv4Addr::LOCALHOST.into(),
        domain_name: "localhost".into(),
        user_agent: None,
        over_quic: false,
        carrier: Carrier::Http1,
    }))
}

/// Begins a session, and gives its client.
fn open(tasks: &TaskTracker, current: &Arc<CurrentStage>, bug: &Arc<Bug>) -> RawClient {
    let (near, far) = duplex(64 << 10);
    let socket = Buggy {
        socket: near,
        bug: Arc::clone(bug),
    };
    let websocket = WebSocket::new(socket, &[], &current.load().limits);
    let directory = &current.load().scope.directory;
    let registration = directory.register(connection());
    tasks.spawn(serve(Arc::clone(current), registration, websocket));
    RawClient::new(Box::new(far), Vec::new())
}

/// Has the probe take a step, and gives the result.
async fn step(client: &mut RawClient, step: Value) -> Value {
    client.send(&Frame::text(&json!([step]).to_string())).await;
    let answer = client.data().await.expect("an answer");
    let answers: Value = serde_json::from_slice(&answer.payload).unwrap();
    answers[0].clone()
}

async fn id(client: &mut RawClient) -> Value {
    step(client, json!({"do": "event"})).await["connection"].clone()
}

/// Two connections of a thousand break, each in its own way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panic_ends_one_connection() {
    const CONNECTIONS: usize = 1_000;
    let plugins = Plugins::start(None).unwrap();
    let current = stage(&probe(&plugins).await);
    let tasks = TaskTracker::new();
    let sound = Arc::new(Bug::default());
    let mut others = Vec::new();
    for _ in 0..CONNECTIONS - 3 {
        others.push(open(&tasks, &current, &sound));
    }
    let mut observer = open(&tasks, &current, &sound);
    let joined = step(&mut observer, json!({"do": "join", "group": "observers"})).await;
    assert_eq!(joined, "ok");
    for other in &mut others {
        id(other).await;
    }
    let registered = || current.load().scope.directory.list().len();

    // One breaks as it reads, and its client can still be told; the other cannot even be written to.
    for in_write in [false, true] {
        let bug = Arc::new(Bug::default());
        let mut broken = open(&tasks, &current, &bug);
        let broken_id = id(&mut broken).await;
        assert_eq!(registered(), CONNECTIONS - 1);
        bug.in_write.store(in_write, Ordering::Relaxed);
        bug.in_read.store(true, Ordering::Relaxed);
        broken.send(&Frame::text("[]")).await;
        if !in_write {
            assert_eq!(broken.expect_close(1011).await, "internal error");
        }
        let ended = observer.data().await.expect("word of the end");
        let ended: Value = serde_json::from_slice(&ended.payload).unwrap();
        assert_eq!(ended["ended"], broken_id);
        assert_eq!(ended["code"], 1011);
        assert_eq!(registered(), CONNECTIONS - 2);
    }

    for other in &mut others {
        id(other).await;
    }
    id(&mut observer).await;
}

/// A client that has sent thousands of messages, and one that asks once, on one thread.
#[tokio::test]
async fn pipelining_client_leaves_others_their_turn() {
    const MESSAGES: usize = 8_000;
    let plugins = Plugins::start(None).unwrap();
    let current = stage(&probe(&plugins).await);
    let (tasks, sound) = (TaskTracker::new(), Arc::new(Bug::default()));
    let mut flooder = open(&tasks, &current, &sound);
    let mut other = open(&tasks, &current, &sound);
    for client in [&mut flooder, &mut other] {
        id(client).await;
    }
    let message = Frame::text("[]").bytes();
    flooder.send_bytes(&message.repeat(MESSAGES)).await;
    other.send_bytes(&message).await;
    other.expect("[]").await;
    // The answers that have come by now: no other task runs meanwhile.
    let mut before = 0;
    loop {
        let mut answer = pin!(flooder.frame());
        let come = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
        let Poll::Ready(Some(answer)) = come else {
            break;
        };
        assert_eq!(answer.payload, b"[]");
        before += 1;
    }
    assert!(before < 500, "{before} answers before the other's one");
    for _ in before..MESSAGES {
        flooder.expect("[]").await;
    }
}

/// The driver of a connection over this socket.
fn driver(near: DuplexStream, limits: &StageLimits) -> Driver<WebSocket<DuplexStream>> {
    let websocket = WebSocket::new(near, &[], limits);
    Driver::new(connection(), websocket, limits, Arc::default())
}

/// A client with a backlog larger than the buffer, which takes some of it each time.
#[tokio::test]
async fn client_with_a_steady_backlog_is_heard() {
    let limits = StageLimits::default();
    let (near, mut far) = duplex(16 << 10);
    let mut driver = driver(near, &limits);
    far.write_all(&Frame::text("enough").bytes()).await.unwrap();
    let outbox = OutboxLimits {
        bytes: limits.outbox_bytes,
        messages: limits.outbox_messages,
    };
    let post = Payload::from(Message::Binary(vec![7; 2_000]));
    for _ in 0..100 {
        while driver.connection.outbox.push(post.clone(), outbox).is_ok() {}
        let event = unconstrained(poll_fn(|context| {
            Poll::Ready(driver.poll_event(context, &limits, true))
        }));
        match event.await {
            Poll::Ready(Input::Message(incoming)) => {
                assert_eq!(incoming.message, Message::Text("enough".into()));
                return;
            }
            Poll::Ready(Input::End(end)) => panic!("{end:?}"),
            Poll::Ready(Input::Due) => {}
            Poll::Pending => {
                far.read_exact(&mut [0; 10 << 10]).await.unwrap();
            }
        }
    }
    panic!("the client was never heard");
}

/// A pong is not overdue while its ping waits behind the backlog.
#[tokio::test]
async fn client_with_a_steady_backlog_is_not_taken_for_dead() {
    let limits = StageLimits {
        ping_interval: Some(Duration::from_millis(50)),
        pong_timeout: Duration::from_millis(50),
        ..StageLimits::default()
    };
    let (near, mut far) = duplex(16 << 10);
    let mut driver = driver(near, &limits);
    let outbox = OutboxLimits {
        bytes: limits.outbox_bytes,
        messages: limits.outbox_messages,
    };
    let post = Payload::from(Message::Binary(vec![7; 2_000]));
    for _ in 0..100 {
        while driver.connection.outbox.push(post.clone(), outbox).is_ok() {}
        let event = unconstrained(poll_fn(|context| {
            let event = driver.poll_event(context, &limits, true);
            Poll::Ready(matches!(event, Poll::Ready(Input::End(_))))
        }));
        assert!(!event.await, "it ended");
        far.read_exact(&mut [0; 10 << 10]).await.unwrap();
        // The test needs the pace of the client: half a second in all.
        sleep(Duration::from_millis(5)).await;
    }
}

/// A client that reads its backlog for longer than the stall timeout.
#[tokio::test]
async fn slow_client_has_all_of_its_last_answer_and_the_close_frame() {
    let limits = StageLimits {
        stall_timeout: Duration::from_millis(500),
        ..StageLimits::default()
    };
    let (near, far) = duplex(16 << 10);
    let mut driver = driver(near, &limits);
    let answer = Message::Binary(vec![7; 1 << 20]);
    driver.send(answer);
    let (end, over) = (
        End::Client(ReadError::Closed(None)),
        CancellationToken::new(),
    );
    let closing = driver.close(&end, &limits, &over);
    let reading = async move {
        let (mut far, mut read) = (far, 0);
        let mut piece = vec![0; 64 << 10];
        loop {
            // The test needs the pace of the client: all of it takes longer than the stall timeout.
            sleep(Duration::from_millis(50)).await;
            match far.read_exact(&mut piece).await {
                Ok(bytes) => read += bytes,
                // The close frame and the end come behind the last whole piece.
                Err(_) => return read,
            }
        }
    };
    let ((), read) = tokio::join!(closing, reading);
    assert_eq!(read, 1 << 20);
}

/// A client that says nothing, in a stage without pings: a reload may have set an idle timeout.
#[tokio::test(start_paused = true)]
async fn silent_connection_asks_for_the_newest_limits_each_minute() {
    let limits = StageLimits {
        ping_interval: None,
        ..StageLimits::default()
    };
    let (near, _far) = duplex(1 << 10);
    let mut driver = driver(near, &limits);
    for _ in 0..3 {
        let began = tokio::time::Instant::now();
        let event = poll_fn(|context| driver.poll_event(context, &limits, true)).await;
        assert!(matches!(event, Input::Due));
        assert!(began.elapsed() <= Duration::from_secs(61));
    }
}

/// The age at which a client that says nothing is told to leave.
async fn age_at_the_end(compat: Compat) -> Duration {
    let limits = StageLimits {
        compat,
        max_age: Some(Duration::from_secs(7_200)),
        ping_interval: None,
        ..StageLimits::default()
    };
    let (near, _far) = duplex(1 << 10);
    let mut driver = driver(near, &limits);
    let began = tokio::time::Instant::now();
    loop {
        let event = poll_fn(|context| driver.poll_event(context, &limits, true)).await;
        match event {
            Input::Due => {}
            Input::End(End::Closed(closing)) => {
                assert_eq!((closing.code, &*closing.reason), (1001, "Going away"));
                return began.elapsed();
            }
            Input::End(end) => panic!("{end:?}"),
            Input::Message(_) => panic!("a message"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn age_is_exact_where_api_gateways_limits_hold_and_spread_elsewhere() {
    let second = Duration::from_secs(1);
    for _ in 0..8 {
        let age = age_at_the_end(Compat::Aws).await;
        assert!(age >= 7_200 * second && age < 7_201 * second, "{age:?}");
    }
    let mut ages = Vec::new();
    for _ in 0..8 {
        ages.push(age_at_the_end(Compat::Lockgate).await);
    }
    assert!(
        ages.iter().max() > ages.iter().min().map(|age| *age + second).as_ref(),
        "{ages:?}"
    );
}
