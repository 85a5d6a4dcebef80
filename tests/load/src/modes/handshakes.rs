//! Clients that connect and leave: TLS, upgrade and `$connect` handler; the same with a token; the same over QUIC.

use std::sync::Arc;

use anyhow::Result;
use quinn::Endpoint;
use tokio_rustls::TlsConnector;

use super::{Bench, US};
use crate::client::{self, Scheme};
use crate::http3;
use crate::measure::{Pace, Repeat, Round, repeat};
use crate::report::{Row, Target};
use crate::server::{Server, Setup};
use crate::tls::{self, HTTP1};
use crate::token::{AUDIENCE, ISSUER, SigningKey};

/// Clients that connect at the same time.
const AT_A_TIME: usize = 16;

const ROUTES: &[&str] = &["$connect"];

/// The limits of the ratios: to the bare server, to no authorizer, to TCP.
const MOST: f64 = 1.25;
const MOST_WITH_TOKEN: f64 = 1.2;
const MOST_OVER_QUIC: f64 = 2.6;

pub(crate) async fn handshakes(bench: &Bench) -> Result<Vec<Row>> {
    let gateway = Arc::new(bench.gateway(&bench.echo, ROUTES).await?);
    let mut guarded = [
        Guarded::new(bench, &SigningKey::rs256()?, Some(MOST_WITH_TOKEN)).await?,
        // Its signature alone costs more than a fifth of the handshake.
        Guarded::new(bench, &SigningKey::es256()?, None).await?,
    ];
    let bare = Arc::new(Server::bare().await?);
    let mut plain = Row {
        target: Some(Target::Ratio(MOST)),
        ..Row::new(
            "handshake: TLS, upgrade, $connect handler".to_owned(),
            US,
            "bare",
        )
    };
    for _ in 0..bench.rounds {
        let without = by_tcp(&gateway, "", bench.pace).await?;
        plain.lockgate.push(without.clone());
        plain.reference.push(by_tcp(&bare, "", bench.pace).await?);
        for guarded in &mut guarded {
            let with = by_tcp(&guarded.gateway, &guarded.headers, bench.pace).await?;
            guarded.row.lockgate.push(with);
            guarded.row.reference.push(without.clone());
        }
    }
    let with_token = guarded.into_iter().map(|guarded| guarded.row);
    let mut rows = vec![plain];
    rows.extend(with_token);
    rows.push(over_quic(bench).await?);
    Ok(rows)
}

/// A gateway that lets in who has a token.
struct Guarded {
    gateway: Arc<Server>,
    headers: String,
    row: Row,
}

impl Guarded {
    async fn new(bench: &Bench, key: &SigningKey, most: Option<f64>) -> Result<Self> {
        let tables = authorizer(key)?;
        let gateway = bench.gateway_with(&bench.echo, ROUTES, &tables).await?;
        let name = format!("handshake with a token ({})", key.algorithm().name());
        Ok(Self {
            gateway: Arc::new(gateway),
            headers: format!("Authorization: Bearer {}\r\n", key.token()?),
            row: Row {
                target: most.map(Target::Ratio),
                ..Row::new(name, US, "without")
            },
        })
    }
}

/// An authorizer that takes the tokens of this key, and its place in the API.
fn authorizer(key: &SigningKey) -> Result<String> {
    Ok(format!(
        r#"
[apis.load]
authorizer = "users"

[authorizers.users.jwt]
issuer = "{ISSUER}"
audience = ["{AUDIENCE}"]
algorithms = ["{}"]
public_keys = ["""
{}"""]
"#,
        key.algorithm().name(),
        key.public_pem()?
    ))
}

/// QUIC handshakes, and a WebSocket over HTTP/3, beside wss of the same gateway.
async fn over_quic(bench: &Bench) -> Result<Row> {
    let setup = Setup {
        component: &bench.echo,
        isolation: "reused",
        routes: ROUTES,
        quic: true,
    };
    let gateway = Arc::new(bench.lockgate.serve(&setup).await?);
    let mut row = Row {
        target: Some(Target::Ratio(MOST_OVER_QUIC)),
        ..Row::new(
            "handshake: QUIC, CONNECT, $connect handler".to_owned(),
            US,
            "wss",
        )
    };
    for _ in 0..bench.rounds {
        row.lockgate.push(by_quic(&gateway, bench.pace).await?);
        row.reference.push(by_tcp(&gateway, "", bench.pace).await?);
    }
    Ok(row)
}

async fn by_tcp(server: &Arc<Server>, headers: &str, pace: Pace) -> Result<Round> {
    let visitor = || Visitor {
        server: Arc::clone(server),
        tls: tls::connector(HTTP1),
        headers: headers.to_owned(),
    };
    let visitors = (0..AT_A_TIME).map(|_| visitor()).collect();
    repeat(server, visitors, pace).await
}

async fn by_quic(server: &Arc<Server>, pace: Pace) -> Result<Round> {
    let visitor = || {
        anyhow::Ok(QuicVisitor {
            server: Arc::clone(server),
            endpoint: http3::endpoint()?,
        })
    };
    let visitors = (0..AT_A_TIME)
        .map(|_| visitor())
        .collect::<Result<Vec<_>>>();
    repeat(server, visitors?, pace).await
}

/// A client that connects and leaves.
struct Visitor {
    server: Arc<Server>,
    tls: TlsConnector,
    headers: String,
}

impl Repeat for Visitor {
    async fn once(&mut self) -> Result<()> {
        let opened = client::open(&self.server, Scheme::Wss, &self.tls, &self.headers).await;
        drop(opened?);
        Ok(())
    }
}

/// The same over QUIC.
struct QuicVisitor {
    server: Arc<Server>,
    endpoint: Endpoint,
}

impl Repeat for QuicVisitor {
    async fn once(&mut self) -> Result<()> {
        drop(http3::open(&self.endpoint, self.server.secure, Scheme::H3).await?);
        Ok(())
    }
}
