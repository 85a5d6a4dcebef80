//! Posts by the connections API, on kept HTTP/1.1 connections, until they are on the client's socket.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Bench, US};
use crate::measure::{Repeat, repeat};
use crate::raw::Raw;
use crate::report::{Row, Target};
use crate::server::Server;
use crate::sigv4::Signer;

/// Callers at the same time, each with a client of its own.
const AT_A_TIME: usize = 16;

const ID: &str = "AKIDBENCH";
const SECRET: &str = "a-secret-of-the-bench";
const TOKEN: &str = "a-token-of-the-bench";

/// The message of every post.
const BODY: &[u8] = b"{\"action\":\"echo\",\"id\":\"000000000042\",\"text\":\"xxxxxxxxxxxxxx\"}";

/// The proof of a request.
#[derive(Clone, Copy)]
enum Proof {
    Token,
    Signature,
}

/// A caller, and the client that it posts to; none of the bare server.
struct Caller {
    socket: TcpStream,
    request: Vec<u8>,
    client: Option<Raw>,
}

pub(crate) async fn calls(bench: &Bench) -> Result<Vec<Row>> {
    let text = bench.lockgate.preamble()
        + &format!(
            r#"
[access_keys.bench]
id = "{ID}"
secret = "{SECRET}"
token = "{TOKEN}"
allow = ["load/load:POST"]

# No route fits: the error frame tells a client its id.
[apis.load.stages.load]
connections_api = true
limits = {{ ping_interval_s = 0 }}
"#
        );
    let gateway = bench.lockgate.serve_text(&text).await?;
    let bare = Server::bare().await?;
    let mut rows = Vec::new();
    // 20,000 and 8,000 a second on one core.
    for (name, proof, most) in [
        ("token", Proof::Token, 50.0),
        ("signed", Proof::Signature, 125.0),
    ] {
        let mut row = Row {
            target: Some(Target::AtMost(most)),
            ..Row::new(
                format!("post by the connections API, {name}, {} B", BODY.len()),
                US,
                "hyper, without a client",
            )
        };
        for _ in 0..bench.rounds {
            let callers = callers(&gateway, proof).await?;
            row.lockgate
                .push(repeat(&gateway, callers, bench.pace).await?);
            let callers = bare_callers(&bare).await?;
            row.reference
                .push(repeat(&bare, callers, bench.pace).await?);
        }
        rows.push(row);
    }
    Ok(rows)
}

async fn callers(gateway: &Server, proof: Proof) -> Result<Vec<Caller>> {
    let mut callers = Vec::new();
    for _ in 0..AT_A_TIME {
        let mut client = Raw::open(gateway.plain, "/load").await?;
        let frame: serde_json::Value = serde_json::from_str(&client.ask("?").await?)?;
        let id = frame
            .get("connectionId")
            .and_then(serde_json::Value::as_str);
        let path = format!("/load/@connections/{}", id.context("an error frame")?);
        let proof = match proof {
            Proof::Token => vec![("authorization".to_owned(), format!("Bearer {TOKEN}"))],
            // It counts for five minutes.
            Proof::Signature => Signer::new(ID, SECRET).sign("POST", &path, "localhost", BODY),
        };
        callers.push(Caller {
            socket: connect(gateway.plain).await?,
            request: request(&path, &proof),
            client: Some(client),
        });
    }
    Ok(callers)
}

async fn bare_callers(bare: &Server) -> Result<Vec<Caller>> {
    let address = bare.http.context("the bare server speaks HTTP")?;
    let mut callers = Vec::new();
    for _ in 0..AT_A_TIME {
        callers.push(Caller {
            socket: connect(address).await?,
            request: request("/load/@connections/AAAAAAAAAAAAAAAA", &[]),
            client: None,
        });
    }
    Ok(callers)
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn request(path: &str, proof: &[(String, String)]) -> Vec<u8> {
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in proof {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", BODY.len());
    [head.as_bytes(), BODY].concat()
}

impl Repeat for Caller {
    /// Posts, and waits until the client has the message.
    async fn once(&mut self) -> Result<()> {
        self.socket.write_all(&self.request).await?;
        let mut answer = Vec::new();
        // The body is empty.
        while !answer.ends_with(b"\r\n\r\n") {
            let read = self.socket.read_buf(&mut answer).await?;
            ensure!(read > 0, "closed in place of an answer");
        }
        let text = String::from_utf8_lossy(&answer);
        ensure!(text.starts_with("HTTP/1.1 200 "), "{text}");
        if let Some(client) = &mut self.client {
            let message = client.text().await?;
            ensure!(message.as_bytes() == BODY, "{message}");
        }
        Ok(())
    }
}
