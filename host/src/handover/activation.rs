//! The sockets that systemd has bound for this process (`LISTEN_FDS`).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::net::sockopt::{ipv6_v6only, socket_acceptconn, socket_type};
use rustix::net::{SocketType, getsockname};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::Sockets;

impl Sockets {
    /// With the sockets that systemd has bound for this process, if it has. A listener of the configuration finds its own
    /// by its address.
    pub(crate) fn activated(
        told: io::Result<impl Iterator<Item = (RawFd, String)>>,
    ) -> Result<Self> {
        let descriptors = told.map_err(|error| {
            anyhow!(
                "LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES: they do not tell which sockets this process has: {error}; unset \
                 them, or leave them to systemd"
            )
        })?;
        let sockets = Self::default();
        for (descriptor, name) in descriptors {
            let activated = take(descriptor)
                .with_context(|| format!("LISTEN_FDS: the descriptor {descriptor} ({name})"))?;
            sockets.lock().activated.push(activated);
        }
        Ok(sockets)
    }
}

fn take(descriptor: RawFd) -> Result<(SocketAddr, OwnedFd)> {
    // Only the process itself can say that the number is a descriptor of its own, and so it asks for a copy.
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    let socket = pidfd_getfd(own, descriptor, PidfdGetfdFlags::empty())?;
    let address = listening(&socket).context(
        "cannot be listened on; write ListenStream= with an IP address and port, and Accept=no, in the socket unit",
    )?;
    // Of any other address both would come to the same.
    let takes_ipv4 = address.is_ipv6() && address.ip().is_unspecified() && !ipv6_v6only(&socket)?;
    ensure!(
        !takes_ipv4,
        "takes IPv4 too, and a listener on {address} takes IPv6 only; in the socket unit write BindIPv6Only=ipv6-only with \
         ListenStream={address}, and for IPv4 ListenStream=0.0.0.0:{port}",
        port = address.port()
    );
    Ok((address, socket))
}

fn listening(socket: &OwnedFd) -> Result<SocketAddr> {
    let is_stream = socket_type(socket)? == SocketType::STREAM;
    ensure!(
        is_stream && socket_acceptconn(socket)?,
        "it is no stream socket that listens"
    );
    SocketAddr::try_from(getsockname(socket)?).context("it has no IP address")
}
