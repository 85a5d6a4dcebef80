//! In the old process: starts the new one, hands it the sockets, and waits until it serves.

use std::env;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::time::{sleep, timeout};

use super::channel::{Received, receive, send};
use super::{END, FAILED, READY, Sockets, VARIABLE};

/// How long a process may take to end that has closed its end of the pair.
const LAST_MOMENTS: Duration = Duration::from_millis(500);

/// How long a process may take to clean up that was asked to end before it served.
const CLEANING_UP: Duration = Duration::from_secs(2);

/// Starts this program again, as it was started, and gives the id of the new process once that serves.
///
/// The program is looked up anew: an upgrade has put another file in its place. On an error, and when `given_up` gives
/// one first, the new process is ended, and nothing has changed for this one.
pub(crate) async fn hand_over(
    sockets: &Sockets,
    (file, content): (&str, &[u8]),
    given_up: impl Future<Output = anyhow::Error>,
) -> Result<u32> {
    let mut words = env::args_os();
    let program = words
        .next()
        .context("this process knows no name of its own")?;
    let mut told = memfd_create(file, MemfdFlags::CLOEXEC).map(File::from)?;
    told.write_all(content)?;
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
    let served = tokio::select! {
        biased;
        why = given_up => Err(why),
        served = serves(&mut successor, &channel, sockets, (file, told.as_fd())) => served,
    };
    if let Err(error) = served {
        successor.end().await;
        return Err(error);
    }
    successor.serves = true;
    Ok(successor.child.id())
}

/// Passes on a reload that the old process was asked for.
pub(crate) fn ask_to_reload(process: u32) -> io::Result<()> {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    let process = process.ok_or(io::ErrorKind::NotFound)?;
    Ok(kill_process(process, Signal::HUP)?)
}

/// Hands the sockets over, and waits until the new process serves.
async fn serves(
    successor: &mut Successor,
    channel: &UnixDatagram,
    sockets: &Sockets,
    file: (&str, BorrowedFd<'_>),
) -> Result<()> {
    // It may be gone already: what it said before is the reason then.
    let sent = send_all(channel, sockets, file).await;
    let answer = channel
        .async_io(Interest::READABLE, || receive(channel.as_fd()))
        .await
        .unwrap_or(Received {
            text: String::new(),
            socket: None,
        });
    if answer.text == READY {
        return Ok(());
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

async fn send_all(
    channel: &UnixDatagram,
    sockets: &Sockets,
    (name, file): (&str, BorrowedFd<'_>),
) -> io::Result<()> {
    channel
        .async_io(Interest::WRITABLE, || {
            send(channel.as_fd(), name, Some(file))
        })
        .await?;
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
    /// Asks it to end, so that it takes away what it has begun, and kills it if it does not.
    async fn end(&mut self) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(id) = id
            && self.child.try_wait().is_ok_and(|status| status.is_none())
        {
            // An error means that it has ended.
            let _ = kill_process(id, Signal::TERM);
            let _ = timeout(CLEANING_UP, self.ended()).await;
        }
    }

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
