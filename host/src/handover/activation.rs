//! The sockets that systemd has bound for this process (`LISTEN_FDS`). They stay open for its life, and go to the
//! process that takes over: nobody else can bind their addresses, and systemd keeps them open anyway.
//!
//! A listener finds its socket by the address in the configuration. The names (`LISTEN_FDNAMES`) are for the log.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::net::sockopt::{ipv6_v6only, socket_acceptconn, socket_type};
use rustix::net::{SocketAddrUnix, SocketType, getsockname};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::Sockets;
use super::unix::SocketInode;
use crate::config::{Address, overlap};

/// A socket that systemd has bound.
pub(super) struct Activated {
    /// The name in its unit.
    name: String,
    bound: BoundAddress,
    socket: Arc<OwnedFd>,
    /// The log has said that nobody accepts there.
    is_idle: bool,
}

enum BoundAddress {
    Ip(SocketAddr),
    Unix(SocketInode),
}

/// The error of an address that overlaps one that systemd has bound.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("systemd listens on {0} for this gateway, and one of the two addresses contains the other")]
pub(crate) struct HeldBySystemd(pub(crate) SocketAddr);

impl Sockets {
    /// Takes the sockets that systemd has bound for this process, if there are any.
    pub(crate) fn activated(
        listen_fds: io::Result<impl Iterator<Item = (RawFd, String)>>,
    ) -> Result<Self> {
        let descriptors = listen_fds.map_err(|error| {
            anyhow!(
                "LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES: they do not tell which sockets this process has: {error}; unset \
                 them, or leave them to systemd"
            )
        })?;
        let sockets = Self::default();
        for (descriptor, name) in descriptors {
            let of = format!("LISTEN_FDS: the descriptor {descriptor} ({name})");
            let activated =
                copy_descriptor(descriptor).and_then(|socket| Activated::of(name, socket));
            sockets.lock().activated.push(activated.context(of)?);
        }
        Ok(sockets)
    }

    /// Gives a copy of systemd's socket at this address, unless its file is gone, so that nobody reaches it.
    pub(super) fn activated_at(&self, address: &Address) -> io::Result<Option<OwnedFd>> {
        let table = self.lock();
        let mut activated = table.activated.iter();
        let found = activated.find(|activated| activated.is_at(address) && !activated.is_lost());
        found.map(|found| found.socket.try_clone()).transpose()
    }

    /// Whether systemd has bound this address.
    pub(crate) fn has_activated(&self, address: &Address) -> bool {
        let table = self.lock();
        let mut activated = table.activated.iter();
        activated.any(|activated| activated.is_at(address) && !activated.is_lost())
    }

    /// Fails if this address overlaps one of systemd's.
    pub(super) fn check_beside_activated(&self, address: SocketAddr) -> io::Result<()> {
        let table = self.lock();
        let mut activated = table.activated.iter();
        let held = activated.find_map(|activated| match activated.bound {
            BoundAddress::Ip(held) if overlap(held, address) => Some(held),
            BoundAddress::Ip(_) | BoundAddress::Unix(_) => None,
        });
        held.map_or(Ok(()), |held| {
            let error = HeldBySystemd(held);
            Err(io::Error::new(io::ErrorKind::AddrInUse, error))
        })
    }

    /// Warns of systemd's sockets that no listener uses. Each is warned of once, until a listener has used it again.
    pub(crate) fn warn_of_idle(&self, mut open: Vec<Address>) {
        for activated in &mut self.lock().activated {
            let index = open.iter().position(|open| activated.is_at(open));
            if let Some(index) = index {
                open.swap_remove(index);
            } else if !activated.is_idle {
                tracing::warn!(
                    "systemd listens on {} for this gateway ({}), and no listener of the configuration does: clients \
                     connect, and wait in a queue that nobody serves; add a listener with this address, or take \
                     ListenStream= out of the socket unit and restart it",
                    activated.address(),
                    activated.name
                );
            }
            activated.is_idle = index.is_none();
        }
    }
}

impl Activated {
    pub(super) fn of(name: String, socket: OwnedFd) -> Result<Self> {
        let bound = bound_address(&socket).context(
            "cannot be listened on; write ListenStream= with an IP address and port, or with a path, and Accept=no, in \
             the socket unit",
        )?;
        if let BoundAddress::Ip(address) = bound {
            // On any other address the option makes no difference.
            let takes_ipv4 =
                address.is_ipv6() && address.ip().is_unspecified() && !ipv6_v6only(&socket)?;
            ensure!(
                !takes_ipv4,
                "takes IPv4 too, and a listener on {address} takes IPv6 only; in the socket unit write BindIPv6Only=ipv6-only with \
                 ListenStream={address}, and for IPv4 ListenStream=0.0.0.0:{port}",
                port = address.port()
            );
        }
        Ok(Self {
            name,
            bound,
            socket: Arc::new(socket),
            is_idle: false,
        })
    }

    /// Gives the name and the socket to hand over.
    pub(super) fn to_hand_over(&self) -> (&str, Arc<OwnedFd>) {
        (&self.name, Arc::clone(&self.socket))
    }

    pub(super) fn is_at(&self, address: &Address) -> bool {
        match (&self.bound, address) {
            (BoundAddress::Ip(own), Address::Ip(other)) => own == other,
            (BoundAddress::Unix(own), Address::Unix { path, .. }) => is_same(own.path(), path),
            (BoundAddress::Ip(_), Address::Unix { .. })
            | (BoundAddress::Unix(_), Address::Ip(_)) => false,
        }
    }

    /// Whether its socket file is this inode.
    pub(super) fn has(&self, inode: &SocketInode) -> bool {
        matches!(&self.bound, BoundAddress::Unix(own) if own.is_same(inode))
    }

    pub(super) fn is_lost(&self) -> bool {
        match &self.bound {
            BoundAddress::Ip(_) => false,
            BoundAddress::Unix(inode) => !inode.is_there(),
        }
    }

    fn address(&self) -> String {
        match &self.bound {
            BoundAddress::Ip(address) => address.to_string(),
            BoundAddress::Unix(inode) => format!("unix:{}", inode.path().display()),
        }
    }
}

/// Takes a copy of a descriptor by way of the kernel: it alone can say that a number is a descriptor of this process.
fn copy_descriptor(descriptor: RawFd) -> Result<OwnedFd> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(own, descriptor, PidfdGetfdFlags::empty())?)
}

fn bound_address(socket: &OwnedFd) -> Result<BoundAddress> {
    let is_stream = socket_type(socket)? == SocketType::STREAM;
    ensure!(
        is_stream && socket_acceptconn(socket)?,
        "it is no stream socket that listens"
    );
    let address = getsockname(socket)?;
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Ok(BoundAddress::Ip(address));
    }
    let address = SocketAddrUnix::try_from(address)?;
    let path = address.path();
    let path = path.map(|path| PathBuf::from(OsStr::from_bytes(path.to_bytes())));
    let path = path.context("it has neither an IP address nor a path")?;
    let inode = SocketInode::of(&path);
    let inode = inode.with_context(|| {
        format!(
            "its file {} is gone; restart the socket unit",
            path.display()
        )
    })?;
    Ok(BoundAddress::Unix(inode))
}

/// Whether two paths lead to one file, through links too.
fn is_same(one: &Path, other: &Path) -> bool {
    one == other
        || fs::canonicalize(one)
            .is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
}
