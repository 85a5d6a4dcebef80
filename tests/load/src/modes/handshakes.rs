//! TLS, the upgrade and the `$connect` handler: clients that connect and leave.

use std::sync::Arc;

use anyhow::Result;
use tokio_rustls::TlsConnector;

use super::{Bench, US};
use crate::client::{self, Scheme};
use crate::measure::{Repeat, repeat};
use crate::report::{Row, Target};
use crate::server::Server;
use crate::tls::{self, HTTP1};

/// Clients that connect at the same time.
const AT_A_TIME: usize = 16;

pub(crate) async fn handshakes(bench: &Bench) -> Result<Vec<Row>> {
    let gateway = Arc::new(bench.gateway(&bench.echo, &["$connect"]).await?);
    let bare = Arc::new(Server::bare().await?);
    let mut row = Row {
        target: Some(Target::Ratio(1.25)),
        ..Row::new(
            "handshake: TLS, upgrade, $connect handler".to_owned(),
            US,
            "bare",
        )
    };
    for _ in 0..bench.rounds {
        row.lockgate
            .push(repeat(&gateway, Visitor::all(&gateway), bench.pace).await?);
        row.reference
            .push(repeat(&bare, Visitor::all(&bare), bench.pace).await?);
    }
    Ok(vec![row])
}

/// A client that connects and leaves.
struct Visitor {
    server: Arc<Server>,
    tls: TlsConnector,
}

impl Visitor {
    fn all(server: &Arc<Server>) -> Vec<Self> {
        let visitor = || Self {
            server: Arc::clone(server),
            tls: tls::connector(HTTP1),
        };
        (0..AT_A_TIME).map(|_| visitor()).collect()
    }
}

impl Repeat for Visitor {
    async fn once(&mut self) -> Result<()> {
        drop(client::open(&self.server, Scheme::Wss, &self.tls).await?);
        Ok(())
    }
}
