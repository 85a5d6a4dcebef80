//! The sockets that systemd has bound for this process (`LISTEN_FDS`).

use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};

use anyhow::{Context as _, Result, ensure};
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{SocketType, getsockname};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::Sockets;

impl Sockets {
    /// With these descriptors of this process, which are to be sockets that listen. A listener of the configuration finds
    /// its own by its address.
    pub(crate) fn activated(descriptors: impl Iterator<Item = (RawFd, String)>) -> Result<Self> {
        let sockets = Self::default();
        for (descriptor, name) in descriptors {
            let activated = take(descriptor).with_context(|| {
                format!(
                    "LISTEN_FDS: the descriptor {descriptor} ({name}) cannot be listened on; write ListenStream= with \
                     an IP address and port, and Accept=no, in the socket unit"
                )
            })?;
            sockets.lock().activated.push(activated);
        }
        Ok(sockets)
    }
}

fn take(descriptor: RawFd) -> Result<(SocketAddr, OwnedFd)> {
    // Only the process itself can say that the number is a descriptor of its own, and so it asks for a copy.
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    let socket = pidfd_getfd(own, descriptor, PidfdGetfdFlags::empty())?;
    let is_stream = socket_type(&socket)? == SocketType::STREAM;
    ensure!(
        is_stream && socket_acceptconn(&socket)?,
        "it is no stream socket that listens"
    );
    let address = SocketAddr::try_from(getsockname(&socket)?).context("it has no IP address")?;
    Ok((address, socket))
}
