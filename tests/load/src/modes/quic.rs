//! Echoes over QUIC beside the same over TCP, and the memory of an idle QUIC connection.

use std::sync::Arc;

use anyhow::Result;

use super::echo::{Case, USUAL, alone, size};
use super::idle::idle_row;
use super::{Bench, US};
use crate::client::{self, Scheme};
use crate::frame::{MIN_BYTES, Template};
use crate::measure;
use crate::report::{Row, Target};
use crate::server::{Server, Setup};

/// The limit of the memory of an idle connection, in KiB.
const MOST_IDLE_KIB: f64 = 55.0;

pub(crate) async fn quic(bench: &Bench) -> Result<Vec<Row>> {
    let count = bench.clients(USUAL.connections, 8);
    let gateway = serve(bench).await?;
    let mut rows = Vec::new();
    for (bytes, most) in [(MIN_BYTES, 1.5), (4 << 10, 2.0)] {
        for (scheme, name) in [
            (Scheme::H3, "WebSocket on HTTP/3"),
            (Scheme::Wt, "WebTransport"),
        ] {
            let case = Case {
                scheme,
                connections: count,
                bytes,
                target: Some(Target::Ratio(most)),
                ..USUAL
            };
            let what = format!(
                "echo by {name}, {count} QUIC connections, window {}, {}",
                case.window,
                size(bytes)
            );
            rows.push(match beside_wss(bench, &gateway, case, &what).await {
                Ok(row) => row,
                Err(error) => Row::failed(what, &error),
            });
        }
    }
    let count = bench.clients(2_000, 32);
    for scheme in [Scheme::H3, Scheme::Wt] {
        let target = Target::AtMost(MOST_IDLE_KIB);
        rows.push(idle_row(bench, scheme, count, target).await?);
    }
    Ok(rows)
}

pub(super) async fn serve(bench: &Bench) -> Result<Server> {
    let setup = Setup {
        component: &bench.echo,
        isolation: "reused",
        routes: &[],
        quic: true,
    };
    bench.lockgate.serve(&setup).await
}

/// The rounds of a case, and in turn those of the same messages by wss.
async fn beside_wss(bench: &Bench, gateway: &Server, case: Case, what: &str) -> Result<Row> {
    let connect = async |scheme| {
        let template = Arc::new(Template::new("echo", None, case.bytes).over(scheme));
        let clients = client::connect(gateway, scheme, case.connections, &template).await?;
        anyhow::Ok(alone(clients))
    };
    let mut ours = connect(case.scheme).await?;
    let mut theirs = connect(Scheme::Wss).await?;
    let mut row = Row {
        target: case.target,
        ..Row::new(what.to_owned(), US, "wss")
    };
    for _ in 0..bench.rounds {
        let by_quic = measure::exchange(gateway, &mut ours, case.window, bench.pace).await?;
        let by_tcp = measure::exchange(gateway, &mut theirs, case.window, bench.pace).await?;
        row.lockgate.push(by_quic);
        row.reference.push(by_tcp);
    }
    Ok(row)
}
