//! The old process's part: starts the new one, hands it the sockets, and waits until it serves.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use super::channel::{ReceivedMessage, receive, send};
use super::{END, FAILED, READY, Sockets, VARIABLE};

/// Time limit for a process to end once it has closed its end of the pair.
const LAST_MOMENTS: Duration = Duration::from_millis(500);

/// Time limit for a process to clean up if it is asked to end before it serves.
pub(crate) const CLEAN_UP: Duration = Duration::from_secs(2);

/// Interval of looking for the end of a process, or for its word.
const POLL: Duration = Duration::from_millis(10);

/// The error of a new process that does not serve, by no fault of this one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotServing(String);

/// Starts this program again with the same arguments, and gives the id of the new process once that serves.
///
/// The program is looked up again, since an upgrade puts another file in its place. On an error, or when `given_up`
/// gives one first, nothing has changed for this process, and a task of `endings` ends the new one: the caller may have
/// to stop at once.
pub(crate) async fn hand_over(
    sockets: &Sockets,
    (file, content): (&str, &[u8]),
    given_up: impl Future<Output = anyhow::Error>,
    endings: &TaskTracker,
) -> Result<u32> {
    let mut arguments = env::args_os();
    let program = arguments
        .next()
        .context("this process knows no name of its own")?;
    let mut handed_file = memfd_create(file, MemfdFlags::CLOEXEC).map(File::from)?;
    handed_file.write_all(content)?;
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SEQPACKET keeps messages apart as datagrams do, and unlike them tells when the other end closes.
    let ours = std::os::unix::net::UnixDatagram::from(ours);
    ours.set_nonblocking(true)?;
    let channel = UnixDatagram::from_std(ours)?;
    let arguments: Vec<_> = arguments.collect();
    let child = Command::new(&program)
        .args(&arguments)
        .env(VARIABLE, "1")
        .stdin(Stdio::from(theirs))
        .spawn();
    let child = child
        .map_err(|error| NotServing(format!("cannot start {}: {error}", program.display())))?;
    let mut successor = Successor {
        child,
        validate_command: validate_command(&program, &arguments),
        serves: false,
    };
    let served = tokio::select! {
        biased;
        served = serves(&mut successor, &channel, sockets, (file, handed_file.as_fd())) => served,
        // This process may have been paused: it looks once more.
        why = given_up => match says_ready(&channel) {
            true => Ok(()),
            false => Err(why),
        },
    };
    if let Err(error) = served {
        endings.spawn(successor.end(channel));
        return Err(error);
    }
    successor.serves = true;
    Ok(successor.child.id())
}

/// The command that validates the configuration of this command line, for the log.
fn validate_command(program: &OsStr, arguments: &[OsString]) -> String {
    let arguments = arguments.iter().map(|word| match word.to_str() {
        Some("run") => "validate".into(),
        _ => word.to_string_lossy(),
    });
    let arguments: Vec<_> = std::iter::once(program.to_string_lossy())
        .chain(arguments)
        .collect();
    arguments.join(" ")
}

/// Passes a reload request of the old process on to the new one.
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
    let sockets = sockets.to_hand_over(successor.child.id());
    match send_all(channel, &sockets, file).await {
        // The process is gone: its last message has the reason.
        Err(error) if [BrokenPipe, ConnectionReset].contains(&error.kind()) => {}
        sent => {
            sent.context("the sockets cannot be handed over")?;
            tracing::debug!(
                process = successor.child.id(),
                "upgrading: the new process has the sockets"
            );
        }
    }
    let answer = channel
        .async_io(Interest::READABLE, || receive(channel.as_fd()))
        .await
        .unwrap_or(ReceivedMessage {
            text: String::new(),
            socket: None,
        });
    if answer.text == READY {
        return Ok(());
    }
    let why = match answer.text.strip_prefix(FAILED) {
        Some(why) => format!("the new process cannot serve: {why}"),
        None => match timeout(LAST_MOMENTS, successor.ended()).await {
            Ok(status) => format!(
                "the new process ended before it served ({}), and did not say why; its output is in the log, and `{}` shows the mistakes",
                status?, successor.validate_command
            ),
            Err(_) => "the new process closed its standard input before it served".into(),
        },
    };
    Err(NotServing(why).into())
}

/// Whether the new process has said that it serves.
fn says_ready(channel: &UnixDatagram) -> bool {
    receive(channel.as_fd()).is_ok_and(|message| message.text == READY)
}

async fn send_all(
    channel: &UnixDatagram,
    sockets: &[(String, Arc<OwnedFd>)],
    (name, file): (&str, BorrowedFd<'_>),
) -> io::Result<()> {
    channel
        .async_io(Interest::WRITABLE, || {
            send(channel.as_fd(), name, Some(file))
        })
        .await?;
    for (name, socket) in sockets {
        channel
            .async_io(Interest::WRITABLE, || {
                send(channel.as_fd(), name, Some(socket.as_fd()))
            })
            .await?;
    }
    channel
        .async_io(Interest::WRITABLE, || send(channel.as_fd(), END, None))
        .await
}

/// The new process, which is killed with this value unless it serves.
struct Successor {
    child: Child,
    /// The command that checks the program without a gateway waiting for it.
    validate_command: String,
    serves: bool,
}

impl Successor {
    /// Asks the process to end, so that it cleans up, and kills it if it does not end in time. One that has begun to
    /// serve meanwhile says so, and has its whole drain. While `channel` is open, it leaves the files of sockets alone.
    async fn end(mut self, channel: UnixDatagram) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(id) = id
            && self.runs()
        {
            // An error means that it has ended.
            let _ = kill_process(id, Signal::TERM);
        }
        let asked = Instant::now();
        while self.runs() && !self.serves && asked.elapsed() < CLEAN_UP {
            sleep(POLL).await;
            self.serves = says_ready(&channel);
        }
        if self.serves {
            tracing::info!("the process that was given up has begun to serve: it drains, and ends");
            // An error means that it has ended.
            let _ = self.ended().await;
        }
    }

    fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until the process has ended.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(POLL).await;
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
