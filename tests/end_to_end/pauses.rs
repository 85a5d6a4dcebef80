//! Pauses of the process, as by a snapshot or a move of the machine: clients that sent in time meanwhile stay.

use std::time::Duration;

use lockgate_tests::{Frame, Gateway, Opcode, RawClient};
use tokio::{task::JoinSet, time::interval};

use crate::probe_with;

const CLIENTS: usize = 300;
const AT_ONCE: usize = 50;

/// The pause, which is longer than each limit of these tests.
const PAUSE: Duration = Duration::from_secs(5);

async fn serve(limits: &str) -> (Gateway, Vec<RawClient>) {
    let stage = format!("limits = {{ {limits} }}");
    let gateway = probe_with(&stage, "limits = { waiting = 1000 }").await;
    let mut clients = Vec::new();
    while clients.len() < CLIENTS {
        let opening: JoinSet<_> = (0..AT_ONCE)
            .map(|_| {
                let request = gateway.ws("/s");
                async move { request.open_raw().await }
            })
            .collect();
        clients.extend(opening.join_all().await);
    }
    (gateway, clients)
}

/// Has each client do something, all at once.
async fn each<F>(clients: Vec<RawClient>, act: impl Fn(RawClient) -> F) -> Vec<RawClient>
where
    F: Future<Output = RawClient> + Send + 'static,
{
    let acting: JoinSet<_> = clients.into_iter().map(act).collect();
    acting.join_all().await
}

/// Pauses the gateway, and has each client send this within the pause.
async fn send_in_a_pause(
    gateway: &Gateway,
    clients: Vec<RawClient>,
    frame: &Frame,
) -> Vec<RawClient> {
    gateway.pause();
    let mut over = interval(PAUSE);
    over.tick().await;
    let sent = each(clients, |mut client| {
        let frame = frame.clone();
        async move {
            client.send(&frame).await;
            client
        }
    });
    let clients = sent.await;
    over.tick().await;
    gateway.resume();
    clients
}

/// Checks that each client has this answer next.
async fn all_have(clients: Vec<RawClient>, answer: &'static str) {
    each(clients, |mut client| async move {
        client.expect(answer).await;
        client
    })
    .await;
}

#[tokio::test]
async fn clients_that_answer_pings_in_a_pause_stay() {
    let (gateway, clients) = serve("ping_interval_s = 2, pong_timeout_s = 4").await;
    let clients = each(clients, |mut client| async move {
        client.send(&Frame::text("[]")).await;
        while client.frame().await.expect("a ping").opcode != Opcode::PING {}
        client
    })
    .await;
    let pong = Frame::new(Opcode::PONG, "");
    let clients = send_in_a_pause(&gateway, clients, &pong).await;
    let clients = each(clients, |mut client| async move {
        client.send(&Frame::text("[]")).await;
        client
    });
    all_have(clients.await, "[]").await;
}

#[tokio::test]
async fn clients_that_end_their_messages_in_a_pause_are_answered() {
    let (gateway, clients) = serve("message_timeout_s = 4, ping_interval_s = 0").await;
    let clients = each(clients, |mut client| async move {
        client.send(&Frame::text("[").unfinished()).await;
        client.send(&Frame::new(Opcode::PING, "")).await;
        assert_eq!(client.frame().await.expect("a pong").opcode, Opcode::PONG);
        client
    })
    .await;
    let rest = Frame::new(Opcode::CONTINUATION, "]");
    let clients = send_in_a_pause(&gateway, clients, &rest).await;
    all_have(clients, "[]").await;
}

#[tokio::test]
async fn clients_that_send_in_a_pause_are_not_idle() {
    let (gateway, clients) = serve("idle_timeout_s = 4, ping_interval_s = 0").await;
    let message = Frame::text("[]");
    let clients = each(clients, |mut client| async move {
        client.send(&Frame::text("[]")).await;
        client.expect("[]").await;
        client
    })
    .await;
    let clients = send_in_a_pause(&gateway, clients, &message).await;
    all_have(clients, "[]").await;
}
