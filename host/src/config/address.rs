//! The address of a listener: an IP address and port, or a socket in the file system.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The prefix of the address of a socket in the file system.
pub(super) const UNIX: &str = "unix:";

/// Longest path of a socket in bytes: the kernel's limit, without the NUL at the end.
pub(super) const MAX_PATH_BYTES: usize = 107;

/// Default permissions of a client or health socket: its owner and its group may connect.
pub(super) const MODE: Mode = Mode {
    bits: 0o660,
    is_meant: false,
};

/// Default permissions of a management socket: only its owner may connect. The group is often a proxy's, which may
/// bring clients and no more.
pub(super) const ADMIN_MODE: Mode = Mode {
    bits: 0o600,
    is_meant: true,
};

/// The permissions of a socket's file; write permission allows to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) bits: u32,
    /// Whether a socket of systemd with other permissions is warned of: with written ones, and with those of management.
    pub(crate) is_meant: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Ip(SocketAddr),
    Unix { path: PathBuf, mode: Mode },
}

impl Address {
    /// The IP address; none for a socket in the file system.
    pub(crate) fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }

    /// Whether only this machine can connect.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Ip(address) => address.ip().is_loopback(),
            Self::Unix { .. } => true,
        }
    }

    /// Parses the text that [`Display`](fmt::Display) writes, or that a user types to name an existing listener.
    pub(crate) fn of_listener(text: &str) -> Option<Self> {
        match text.strip_prefix(UNIX) {
            Some("") => None,
            Some(path) => Some(Self::Unix {
                path: path.into(),
                mode: MODE,
            }),
            None => text.parse().ok().map(Self::Ip),
        }
    }

    /// Whether both are the same address, whatever their permissions.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ip(one), Self::Ip(other)) => one == other,
            (Self::Unix { path: one, .. }, Self::Unix { path: other, .. }) => one == other,
            (Self::Ip(_), Self::Unix { .. }) | (Self::Unix { .. }, Self::Ip(_)) => false,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}
