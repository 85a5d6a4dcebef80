//! Echoes: to the client itself, or by a post to another connection.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::{Bench, US};
use crate::client::{self, Client, Scheme, Socket};
use crate::frame::{MIN_BYTES, Template};
use crate::measure::{self, Round};
use crate::report::{Row, Target};
use crate::server::{Server, Setup};

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) scheme: Scheme,
    pub(super) connections: usize,
    pub(super) window: u64,
    pub(super) bytes: usize,
    /// Route keys beside `$default`: with some, each message is searched for its key.
    pub(super) routes: &'static [&'static str],
    pub(super) target: Option<Target>,
}

/// The routes of a chat, that of the messages among them.
pub(super) const FIVE: &[&str] = &["join", "leave", "publish", "echo", "who"];

/// The usual case, from which the others differ.
pub(super) const USUAL: Case = Case {
    scheme: Scheme::Ws,
    connections: 64,
    window: 1,
    bytes: MIN_BYTES,
    routes: &[],
    target: None,
};

pub(crate) async fn echo(bench: &Bench) -> Result<Vec<Row>> {
    let wishes = &bench.wishes;
    let asked = wishes.connections.is_some()
        || wishes.window.is_some()
        || wishes.bytes.is_some()
        || wishes.scheme.is_some();
    let cases = if asked {
        vec![Case {
            scheme: wishes.scheme.unwrap_or(USUAL.scheme),
            window: wishes.window.unwrap_or(USUAL.window),
            bytes: wishes.bytes.unwrap_or(USUAL.bytes),
            ..USUAL
        }]
    } else {
        cases()
    };
    let mut rows = Vec::new();
    for case in cases {
        rows.push(echo_by(bench, &bench.echo, "echo", case, "reused").await);
    }
    Ok(rows)
}

fn cases() -> Vec<Case> {
    let with_routes = |window| Case {
        window,
        routes: FIVE,
        ..USUAL
    };
    let mut cases = vec![with_routes(1), with_routes(16)];
    for (connections, window, bytes, most) in [
        (64, 1, MIN_BYTES, 1.25),
        (64, 16, MIN_BYTES, 2.5),
        (1_000, 8, MIN_BYTES, 2.0),
        (64, 4, 16 << 10, 1.3),
    ] {
        for scheme in [Scheme::Ws, Scheme::Wss] {
            cases.push(Case {
                scheme,
                connections,
                window,
                bytes,
                routes: &[],
                target: Some(Target::Ratio(most)),
            });
        }
    }
    cases.push(Case {
        scheme: Scheme::H2,
        ..USUAL
    });
    cases
}

pub(crate) async fn per_message(bench: &Bench) -> Result<Vec<Row>> {
    let case = Case {
        target: Some(Target::Ratio(5.0)),
        ..USUAL
    };
    let name = "per-message isolation";
    Ok(vec![
        echo_by(bench, &bench.echo, name, case, "per-message").await,
    ])
}

/// The row of a component that echoes, in one case; if it fails, the others are still measured.
pub(super) async fn echo_by(
    bench: &Bench,
    component: &Path,
    name: &str,
    case: Case,
    isolation: &'static str,
) -> Row {
    let case = Case {
        connections: bench.clients(case.connections, 8),
        ..case
    };
    let routes = match case.routes.len() {
        0 => String::new(),
        count => format!(" by one of {count} routes"),
    };
    let what = format!(
        "{name}{routes}, {}, {} connections, window {}, {}",
        case.scheme,
        case.connections,
        case.window,
        size(case.bytes)
    );
    match rounds(bench, component, case, isolation).await {
        Ok((lockgate, reference)) => Row {
            lockgate,
            reference,
            target: case.target,
            ..Row::new(what, US, "bare")
        },
        Err(error) => Row::failed(what, &error),
    }
}

/// The rounds of the gateway and of the bare server.
async fn rounds(
    bench: &Bench,
    component: &Path,
    case: Case,
    isolation: &'static str,
) -> Result<(Vec<Round>, Vec<Round>)> {
    let template = Arc::new(Template::new("echo", None, case.bytes).over(case.scheme));
    let connect = async |server| {
        let clients = client::connect(server, case.scheme, case.connections, &template).await?;
        anyhow::Ok(alone(clients))
    };
    let setup = Setup {
        component,
        isolation,
        routes: case.routes,
        quic: case.scheme.is_quic(),
    };
    let gateway = bench.lockgate.serve(&setup).await?;
    let mut ours = connect(&gateway).await?;
    // The bare server has HTTP/1.1 alone.
    let mut bare = None;
    if matches!(case.scheme, Scheme::Ws | Scheme::Wss) {
        let server = Server::bare().await?;
        let clients = connect(&server).await?;
        bare = Some((server, clients));
    }
    let (mut lockgate, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        lockgate.push(measure::exchange(&gateway, &mut ours, case.window, bench.pace).await?);
        if let Some((bare, theirs)) = &mut bare {
            reference.push(measure::exchange(bare, theirs, case.window, bench.pace).await?);
        }
    }
    Ok((lockgate, reference))
}

/// A handler that posts each message to another connection. The bare server has no posts: its echo of the same messages
/// is the reference.
pub(crate) async fn post(bench: &Bench) -> Result<Vec<Row>> {
    let count = bench.clients(64, 4);
    let echo = Arc::new(Template::new("echo", None, MIN_BYTES));
    let gateway = bench.gateway(&bench.load, &["who", "post"]).await?;
    let senders = client::connect(&gateway, Scheme::Ws, count, &echo).await?;
    let receivers = client::connect(&gateway, Scheme::Ws, count, &echo).await?;
    let who = Template::new("who", None, MIN_BYTES);
    let mut ours = Vec::new();
    for (sender, mut receiver) in senders.into_iter().zip(receivers) {
        let id = String::from_utf8(receiver.ask(&who).await?)?;
        let post = Arc::new(Template::new("post", Some(&id), MIN_BYTES));
        // One client that writes to one connection and reads from the other.
        let pair = tokio::io::join(receiver.into_socket(), sender.into_socket());
        ours.push(vec![Client::new(Box::new(pair) as Box<dyn Socket>, &post)]);
    }
    let bare = Server::bare().await?;
    let mut theirs = alone(client::connect(&bare, Scheme::Ws, count, &echo).await?);
    let mut rows = Vec::new();
    for window in [1, 8] {
        let what = format!(
            "post to another connection, ws, {count} pairs, window {window}, {}",
            size(MIN_BYTES)
        );
        let mut row = Row::new(what, US, "bare echo");
        for _ in 0..bench.rounds {
            let posted = measure::exchange(&gateway, &mut ours, window, bench.pace).await?;
            let echoed = measure::exchange(&bare, &mut theirs, window, bench.pace).await?;
            row.lockgate.push(posted);
            row.reference.push(echoed);
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Groups of one client each.
pub(super) fn alone(clients: Vec<Client>) -> Vec<Vec<Client>> {
    clients.into_iter().map(|client| vec![client]).collect()
}

pub(super) fn size(bytes: usize) -> String {
    if bytes.is_multiple_of(1024) {
        format!("{} KiB", bytes / 1024)
    } else {
        format!("{bytes} B")
    }
}
