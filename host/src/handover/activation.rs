//! The sockets that systemd has bound for this process (`LISTEN_FDS`). They stay open for as long as it lives, and go to the
//! process that takes over: nobody else can bind their addresses, and systemd has them open anyway.
//!
//! A listener finds its own by its address, which the configuration has to say in any case; the names
//! (`LISTEN_FDNAMES`) are for the log.

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
use super::unix::Place;
use crate::config::{Address, overlap};

/// A socket that systemd has bound.
pub(super) struct Activated {
    /// What its unit calls it.
    name: String,
    at: At,
    socket: Arc<OwnedFd>,
    /// It has been said that nobody accepts there.
    is_idle: bool,
}

enum At {
    Ip(SocketAddr),
    Unix(Place),
}

/// An address cannot be bound beside one that systemd has bound.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("systemd listens on {0} for this gateway, and one of the two addresses contains the other")]
pub(crate) struct HeldBySystemd(pub(crate) SocketAddr);

impl Sockets {
    /// With the sockets that systemd has bound for this process, if it has.
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
            let of = format!("LISTEN_FDS: the descriptor {descriptor} ({name})");
            let activated = own(descriptor).and_then(|socket| Activated::of(name, socket));
            sockets.lock().activated.push(activated.context(of)?);
        }
        Ok(sockets)
    }

    /// The socket at this address that systemd has bound; not one that nobody reaches any more, since its file is gone.
    pub(super) fn activated_at(&self, address: &Address) -> io::Result<Option<OwnedFd>> {
        let known = self.lock();
        let mut activated = known.activated.iter();
        let found = activated.find(|activated| activated.is_at(address) && !activated.is_lost());
        found.map(|found| found.socket.try_clone()).transpose()
    }

    /// Whether systemd has bound this address.
    pub(crate) fn has_activated(&self, address: &Address) -> bool {
        let known = self.lock();
        let mut activated = known.activated.iter();
        activated.any(|activated| activated.is_at(address) && !activated.is_lost())
    }

    /// An error if systemd has an address that this one has in it, or is in.
    pub(super) fn check_beside_activated(&self, address: SocketAddr) -> io::Result<()> {
        let known = self.lock();
        let mut activated = known.activated.iter();
        let held = activated.find_map(|activated| match activated.at {
            At::Ip(held) if overlap(held, address) => Some(held),
            At::Ip(_) | At::Unix(_) => None,
        });
        held.map_or(Ok(()), |held| {
            let error = HeldBySystemd(held);
            Err(io::Error::new(io::ErrorKind::AddrInUse, error))
        })
    }

    /// Warns of those sockets of systemd that are none of these addresses, once until they are again.
    pub(crate) fn warn_of_idle(&self, mut open: Vec<Address>) {
        for activated in &mut self.lock().activated {
            let place = open.iter().position(|open| activated.is_at(open));
            if let Some(place) = place {
                open.swap_remove(place);
            } else if !activated.is_idle {
                tracing::warn!(
                    "systemd listens on {} for this gateway ({}), and no listener of the configuration does: clients \
                     connect, and wait in a queue that nobody serves; add a listener with this address, or take \
                     ListenStream= out of the socket unit and restart it",
                    activated.address(),
                    activated.name
                );
            }
            activated.is_idle = place.is_none();
        }
    }
}

impl Activated {
    pub(super) fn of(name: String, socket: OwnedFd) -> Result<Self> {
        let at = listening(&socket).context(
            "cannot be listened on; write ListenStream= with an IP address and port, or with a path, and Accept=no, in \
             the socket unit",
        )?;
        if let At::Ip(address) = at {
            // Of any other address both would come to the same.
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
            at,
            socket: Arc::new(socket),
            is_idle: false,
        })
    }

    /// What it is handed over with.
    pub(super) fn to_hand_over(&self) -> (&str, Arc<OwnedFd>) {
        (&self.name, Arc::clone(&self.socket))
    }

    pub(super) fn is_at(&self, address: &Address) -> bool {
        match (&self.at, address) {
            (At::Ip(own), Address::Ip(other)) => own == other,
            (At::Unix(own), Address::Unix { path, .. }) => is_same(own.path(), path),
            (At::Ip(_), Address::Unix { .. }) | (At::Unix(_), Address::Ip(_)) => false,
        }
    }

    /// Whether this is its file.
    pub(super) fn has(&self, place: &Place) -> bool {
        matches!(&self.at, At::Unix(own) if own.is_same(place))
    }

    pub(super) fn is_lost(&self) -> bool {
        match &self.at {
            At::Ip(_) => false,
            At::Unix(place) => !place.is_there(),
        }
    }

    fn address(&self) -> String {
        match &self.at {
            At::Ip(address) => address.to_string(),
            At::Unix(place) => format!("unix:{}", place.path().display()),
        }
    }
}

/// Only the process itself can say that a number is a descriptor of its own, and so it asks for a copy.
fn own(descriptor: RawFd) -> Result<OwnedFd> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(own, descriptor, PidfdGetfdFlags::empty())?)
}

fn listening(socket: &OwnedFd) -> Result<At> {
    let is_stream = socket_type(socket)? == SocketType::STREAM;
    ensure!(
        is_stream && socket_acceptconn(socket)?,
        "it is no stream socket that listens"
    );
    let address = getsockname(socket)?;
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Ok(At::Ip(address));
    }
    let address = SocketAddrUnix::try_from(address)?;
    let path = address.path();
    let path = path.map(|path| PathBuf::from(OsStr::from_bytes(path.to_bytes())));
    let path = path.context("it has neither an IP address nor a path")?;
    let place = Place::of(&path);
    let place = place.with_context(|| {
        format!(
            "its file {} is gone; restart the socket unit",
            path.display()
        )
    })?;
    Ok(At::Unix(place))
}

/// Whether two paths lead to one file, whatever links are on the way.
fn is_same(one: &Path, other: &Path) -> bool {
    one == other
        || fs::canonicalize(one)
            .is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
}
