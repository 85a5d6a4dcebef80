//! `lockgate health`: asks a running gateway whether it wants clients, as a container's health check does.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::time::timeout;

use super::whom::Whom;
use crate::config;
use crate::management::{Found, find};

/// How long the answer may take altogether: less than any orchestrator waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes of the longest answer that is read.
const LONGEST: usize = 4 << 10;

/// Fails with the reason unless the gateway answers in time that it is ready.
pub(super) fn health(gateway: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let address = match Whom::named(gateway)? {
        Whom::Management(address) => address,
        Whom::File(file) => of_file(&file)?,
    };
    let address = from_here(address);
    let answer = ask(address, deadline).with_context(|| format!("no health from {address}"))?;
    let (head, said) = answer.split_once("\r\n\r\n").unwrap_or_default();
    match (head.split(' ').nth(1), said.trim()) {
        (Some("200"), "ready") => super::print("ready"),
        (Some("503"), "stopping") => bail!("the gateway at {address} is stopping"),
        _ => bail!(
            "what answers at {address} is not the health or management listener of a gateway; name the configuration \
             that runs, or its address"
        ),
    }
}

/// Where the gateway that runs this file is asked: it says so itself, or else the file does.
fn of_file(file: &Path) -> Result<SocketAddr> {
    let address = match find_in_time(file) {
        Some(Found::Note(note)) => note.health.or(note.management).map(|text| text.parse()),
        // Whoever else says that they run it could say anything.
        Some(Found::Strangers { .. }) | None => config::health_address(file)?.map(Ok),
    };
    let address: SocketAddr = address.with_context(|| {
        format!(
            "{}: there is neither a health nor a management listener to ask; add health = \"127.0.0.1:9091\"",
            file.display()
        )
    })??;
    if address.port() == 0 {
        bail!(
            "{}: the address to ask has port 0, and no gateway says that it runs this file; is the gateway running?",
            file.display()
        );
    }
    Ok(address)
}

#[tokio::main(flavor = "current_thread")]
async fn find_in_time(file: &Path) -> Option<Found> {
    timeout(PATIENCE / 3, find(file)).await.ok()?
}

/// What listens on all addresses is asked at this machine's own.
fn from_here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// Gives the answer to one request, as it came.
fn ask(address: SocketAddr, deadline: Instant) -> Result<String> {
    let late = || anyhow!("no answer within {} s", PATIENCE.as_secs());
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left).ok_or_else(late)
    };
    let failed = |error: io::Error| {
        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            late()
        } else {
            anyhow!("{error}; is the gateway running?")
        }
    };
    let mut stream = TcpStream::connect_timeout(&address, left()?).map_err(failed)?;
    stream.set_write_timeout(Some(left()?))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let (mut answer, mut part) = (Vec::new(), [0; 512]);
    while answer.len() < LONGEST {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut part).map_err(failed)? {
            0 => break,
            read => answer.extend_from_slice(part.get(..read).unwrap_or_default()),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
