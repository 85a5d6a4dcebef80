//! In the new process: takes the sockets, and tells the old one how it went.

use std::env;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::channel::{receive, send};
use super::{END, FAILED, READY, Sockets, VARIABLE};

/// How long the old process may take to send the next socket.
const PATIENCE: Duration = Duration::from_secs(10);

/// The process that this one is to take over from. If it is told nothing, this one has failed.
pub(crate) struct Predecessor(OwnedFd);

impl Predecessor {
    /// The one that has started this process, if one has, and the sockets that it gives.
    pub(crate) fn find() -> Result<(Option<Self>, Sockets)> {
        if env::var_os(VARIABLE).is_none() {
            return Ok((None, Sockets::default()));
        }
        let channel = io::stdin().as_fd().try_clone_to_owned()?;
        let sockets = take_sockets(&channel).with_context(|| {
            format!(
                "{VARIABLE} is set, and no running gateway sends its sockets over standard input; unset it"
            )
        })?;
        Ok((Some(Self(channel)), Sockets::given(sockets)?))
    }

    /// This process serves: the old one is to go. Fails when it is gone already.
    pub(crate) fn succeeded(self) -> io::Result<()> {
        send(self.0.as_fd(), READY, None)
    }

    /// This process does not serve: the old one is to go on. It hears of our end, if not of the reason.
    pub(crate) fn goes_on(self, error: &str) -> io::Result<()> {
        send(self.0.as_fd(), &format!("{FAILED}{error}"), None)
    }
}

fn take_sockets(channel: &OwnedFd) -> Result<Vec<(String, OwnedFd)>> {
    set_socket_timeout(channel, Timeout::Recv, Some(PATIENCE))?;
    let mut sockets = Vec::new();
    loop {
        let received = receive(channel.as_fd())?;
        match received.socket {
            Some(socket) => sockets.push((received.text, socket)),
            None if received.text == END => return Ok(sockets),
            None => bail!("it has ended"),
        }
    }
}
