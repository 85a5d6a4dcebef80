//! In the old process: starts the new one, hands it the sockets, and waits until it serves.

use std::env;
use std::io;
use std::os::fd::AsFd as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::time::{sleep, timeout};

use super::channel::{Received, receive, send};
use super::{END, FAILED, READY, Sockets, VARIABLE};

/// How long a process may take to end that has closed its end of the pair.
const LAST_MOMENTS: Duration = Duration::from_millis(500);

/// Starts this program again, as it was started, and gives the id of the new process once that serves.
///
/// The program is looked up anew: an upgrade has put another file in its place. On an error, and when this is dropped
/// before it is over, the new process is ended, and nothing has changed for this one.
pub(crate) async fn hand_over(sockets: &Sockets) -> Result<u32> {
    let mut words = env::args_os();
    let program = words
        .next()
        .context("this process knows no name of its own")?;
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // It keeps messages apart as datagrams do, and tells of the other's end as they do not.
    let ours = std::os::unix::net::UnixDatagram::from(ours);
    ours.set_nonblocking(true)?;
    let channel = UnixDatagram::from_std(ours)?;
    let child = Command::new(&program)
        .args(words)
        .env(VARIABLE, "1")
        .stdin(Stdio::from(theirs))
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut successor = Successor {
        child,
        serves: false,
    };
    // It may be gone already: what it said before is the reason then.
    let sent = send_all(&channel, sockets).await;
    let answer = channel
        .async_io(Interest::READABLE, || receive(channel.as_fd()))
        .await
        .unwrap_or(Received {
            text: String::new(),
            socket: None,
        });
    if answer.text == READY {
        successor.serves = true;
        return Ok(successor.child.id());
    }
    if let Some(why) = answer.text.strip_prefix(FAILED) {
        bail!("the new process cannot serve: {why}");
    }
    let Ok(status) = timeout(LAST_MOMENTS, successor.ended()).await else {
        bail!("the new process closed its standard input before it served");
    };
    let status = status?;
    sent.with_context(|| format!("the new process ended before it served ({status})"))?;
    bail!("the new process ended before it served ({status}); its log says why");
}

async fn send_all(channel: &UnixDatagram, sockets: &Sockets) -> io::Result<()> {
    for (name, socket) in sockets.open() {
        channel
            .async_io(Interest::WRITABLE, || {
                send(channel.as_fd(), &name, Some(socket.as_fd()))
            })
            .await?;
    }
    channel
        .async_io(Interest::WRITABLE, || send(channel.as_fd(), END, None))
        .await
}

/// A process that is ended with this value, unless it serves.
struct Successor {
    child: Child,
    serves: bool,
}

impl Successor {
    /// How it ended.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.serves {
            // An error means that it has ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
