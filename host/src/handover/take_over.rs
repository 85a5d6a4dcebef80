//! The new process's part: takes the sockets, and tells the old one the outcome.

use std::env;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::channel::{receive, send};
use super::{END, FAILED, READY, Sockets, VARIABLE};

/// Time limit for the old process to send the next socket.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The process that this one takes over from. If it gets no answer, this process has failed.
pub(crate) struct Predecessor(OwnedFd);

impl Predecessor {
    /// Finds the process that started this one for a takeover, if one did, with the sockets that it gives.
    pub(crate) fn find() -> Result<(Option<Self>, Sockets)> {
        if env::var_os(VARIABLE).is_none() {
            return Ok((None, Sockets::default()));
        }
        let channel = io::stdin().as_fd().try_clone_to_owned()?;
        let sockets = take_sockets(&channel).with_context(|| {
            format!(
                "{VARIABLE} is set, and no running gateway sends its sockets over standard input; for a start without one, unset it"
            )
        })?;
        // It has made both ends.
        let by = socket_peercred(&channel).ok();
        let by = by.and_then(|by| u32::try_from(by.pid.as_raw_nonzero().get()).ok());
        Ok((Some(Self(channel)), Sockets::given(sockets, by)?))
    }

    /// Tells the old process that this one serves, so that it stops. Fails if it is gone already.
    pub(crate) fn report_success(&self) -> io::Result<()> {
        send(self.0.as_fd(), READY, None)
    }

    /// Waits until the old process has read that, and closes its end. A process that has given up before keeps its end open
    /// until this one has ended.
    pub(crate) async fn until_it_lets_go(self) -> io::Result<()> {
        let channel = std::os::unix::net::UnixDatagram::from(self.0);
        channel.set_nonblocking(true)?;
        let channel = UnixDatagram::from_std(channel)?;
        // It says nothing any more: what comes is the end.
        let end = || receive(channel.as_fd());
        channel.async_io(Interest::READABLE, end).await?;
        Ok(())
    }

    /// Tells the old process why this one does not serve, so that it continues. If the message fails, it still sees
    /// this end close.
    pub(crate) fn report_failure(self, error: &str) -> io::Result<()> {
        send(self.0.as_fd(), &format!("{FAILED}{error}"), None)
    }
}

fn take_sockets(channel: &OwnedFd) -> Result<Vec<(String, OwnedFd)>> {
    set_socket_timeout(channel, Timeout::Recv, Some(TIMEOUT))?;
    let mut sockets = Vec::new();
    loop {
        let received = receive(channel.as_fd()).map_err(|error| {
            let why = anyhow!("nothing has come for {} s", TIMEOUT.as_secs());
            if error.kind() == ErrorKind::WouldBlock {
                why
            } else {
                error.into()
            }
        })?;
        match received.socket {
            Some(socket) => sockets.push((received.text, socket)),
            None if received.text == END => return Ok(sockets),
            None => bail!("it has ended"),
        }
    }
}
