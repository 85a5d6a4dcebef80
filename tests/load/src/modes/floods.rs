//! Floods of clients, against the gateway and against the bare server: their cost and their end.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Bench;
use crate::measure::{Cpu, rss};
use crate::raw::{Ended, FIN, PING, Raw, TEXT, declared, frame};
use crate::report::Table;
use crate::server::Server;

#[derive(Clone, Copy, Debug)]
enum Flood {
    UnreadPings,
    EmptyFragments,
    DeclaredLengths,
    DrippedHeads,
    StalledReaders,
}

impl Flood {
    const ALL: [Self; 5] = [
        Self::UnreadPings,
        Self::EmptyFragments,
        Self::DeclaredLengths,
        Self::DrippedHeads,
        Self::StalledReaders,
    ];

    /// The number of clients, in a full run and in a short one.
    fn clients(self, short: bool) -> usize {
        let (full, few) = match self {
            Self::UnreadPings => (1, 1),
            Self::EmptyFragments => (1, 1),
            Self::DeclaredLengths | Self::DrippedHeads => (1_000, 8),
            Self::StalledReaders => (100, 4),
        };
        if short { few } else { full }
    }

    fn label(self, clients: usize) -> String {
        match self {
            Self::UnreadPings => "60 MB of pings, and no pong is read".to_owned(),
            Self::EmptyFragments => "2,000,000 empty fragments of one message".to_owned(),
            Self::DeclaredLengths => {
                format!("{clients} clients declare 2⁶³−1 bytes and send 1,000")
            }
            Self::DrippedHeads => format!("{clients} heads of a byte each 100 ms"),
            Self::StalledReaders => {
                format!("{clients} clients have 16 KiB echoed over and over, and read nothing")
            }
        }
    }
}

/// The bytes that a client sends at a time.
const PIECE: usize = 64 << 10;

/// The longest flood: longer than the gateway's default deadlines for its parts.
const LONGEST: Duration = Duration::from_secs(15);

/// The interval between two readings of the memory.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) async fn floods(bench: &Bench) -> Result<Table> {
    let mut table = Table::new(
        "Floods",
        ["flood", "server", "memory", "CPU", "how it ended"],
    );
    let longest = if bench.short {
        bench.pace.length
    } else {
        LONGEST
    };
    for flood in Flood::ALL {
        let clients = flood.clients(bench.short);
        for server in [
            bench.gateway(&bench.echo, &[]).await?,
            Server::bare().await?,
        ] {
            let line = measure(&server, flood, clients, longest).await?;
            let label = flood.label(clients);
            let cells = [label, server.name.trim_start_matches("the ").to_owned()];
            table.lines.push(cells.into_iter().chain(line).collect());
        }
    }
    Ok(table)
}

/// Memory, CPU and the end of one flood of one server.
async fn measure(
    server: &Server,
    flood: Flood,
    clients: usize,
    longest: Duration,
) -> Result<[String; 3]> {
    // Memory that a server keeps after its first connection is not the flood's.
    Raw::open(server.plain, "/load").await?.ask("warm").await?;
    let mut flooding = JoinSet::new();
    let mut waiting = Vec::new();
    for _ in 0..clients {
        if let Flood::DrippedHeads = flood {
            waiting.push(None);
        } else {
            let buffer = matches!(flood, Flood::UnreadPings | Flood::StalledReaders);
            let buffer = buffer.then_some(4_096);
            let client = Raw::open_with_buffer(server.plain, "/load", buffer).await?;
            waiting.push(Some(client));
        }
    }
    let (before, before_kib, began) = (Cpu::of(server)?, rss(server.pid())?, Instant::now());
    let address = server.plain;
    for client in waiting {
        flooding.spawn(async move {
            match client {
                Some(client) => pour(client, flood, longest).await,
                None => drip(TcpStream::connect(address).await?, longest).await,
            }
        });
    }
    let (mut most, mut ends) = (before_kib, Vec::new());
    while !flooding.is_empty() {
        tokio::select! {
            ended = flooding.join_next() => ends.extend(ended.transpose()?.transpose()?),
            () = tokio::time::sleep(LOOK) => most = most.max(rss(server.pid())?),
        }
    }
    let cpu_ms = Cpu::of(server)?.since(&before) / 1_000.0;
    let grown = most.saturating_sub(before_kib) as f64 / 1_024.0;
    Ok([
        format!("{grown:+.1} MiB"),
        format!("{cpu_ms:.0} ms"),
        ends_text(&ends, began.elapsed(), longest),
    ])
}

/// The end of most clients, and the time of the last one.
fn ends_text(ends: &[Ended], took: Duration, longest: Duration) -> String {
    let mut counts: Vec<(Ended, usize)> = Vec::new();
    for end in ends {
        match counts.iter_mut().find(|(known, _)| known == end) {
            Some((_, count)) => *count += 1,
            None => counts.push((*end, 1)),
        }
    }
    let ways = counts.into_iter().map(|(end, count)| {
        let way = match end {
            Ended::Close(code) => format!("closed with {code}"),
            Ended::Silently => "cut without a word".to_owned(),
            Ended::StillOpen => "not ended at all".to_owned(),
        };
        if count == ends.len() {
            way
        } else {
            format!("{count} {way}")
        }
    });
    let ways: Vec<_> = ways.collect();
    let (ways, longest) = (ways.join(", "), longest.as_secs_f64());
    if ends.contains(&Ended::StillOpen) {
        format!("{ways} within {longest:.0} s")
    } else {
        format!("{ways} after {:.1} s", took.as_secs_f64())
    }
}

/// Sends the flood until all is sent, the server closes, or the time is over.
async fn pour(mut client: Raw, flood: Flood, longest: Duration) -> Result<Ended> {
    let (first, repeated, all) = match flood {
        Flood::UnreadPings => (Vec::new(), frame(FIN | PING, &[7; 125]), 60_000_000),
        Flood::EmptyFragments => (frame(TEXT, b""), frame(0, b""), 2_000_000 * 6),
        Flood::DeclaredLengths => {
            let mut bytes = declared(FIN | TEXT, i64::MAX as u64);
            bytes.extend_from_slice(&[b'x'; 1_000]);
            (bytes, Vec::new(), 0)
        }
        Flood::StalledReaders => (Vec::new(), frame(FIN | TEXT, &[b'x'; 16 << 10]), usize::MAX),
        Flood::DrippedHeads => (Vec::new(), Vec::new(), 0),
    };
    let deadline = Instant::now() + longest;
    let pouring = async {
        client.socket.write_all(&first).await?;
        let piece = repeated.repeat(PIECE / repeated.len().max(1));
        let mut sent = 0;
        while sent < all && !piece.is_empty() {
            client.socket.write_all(&piece).await?;
            sent += piece.len();
        }
        std::io::Result::Ok(())
    };
    // An error means that the server has closed.
    let _ = tokio::time::timeout(longest, pouring).await;
    let left = deadline.saturating_duration_since(Instant::now());
    Ok(client.ended(left.max(LOOK)).await)
}

/// Sends a head byte by byte.
async fn drip(mut socket: TcpStream, longest: Duration) -> Result<Ended> {
    const HEAD: &[u8] = b"GET /load HTTP/1.1\r\nHost: localhost\r\nX: ";
    let (mut reader, mut writer) = socket.split();
    let dripping = async {
        let bytes = HEAD.iter().chain(std::iter::repeat(&b'x'));
        for byte in bytes {
            if writer.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let ended = async {
        tokio::select! {
            () = dripping => {}
            _ = reader.read_to_end(&mut answer) => {}
        }
    };
    let ended = tokio::time::timeout(longest, ended).await;
    Ok(ended.map_or(Ended::StillOpen, |()| Ended::Silently))
}
