//! Where something listens: an IP address and port, or a socket in the file system.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What the address of a socket in the file system begins with.
pub(super) const UNIX: &str = "unix:";

/// Bytes of the longest path of a socket: the kernel has room for so many, with an end.
pub(super) const LONGEST: usize = 107;

/// Who may connect to a socket in the file system unless that is said: its owner and its group.
pub(super) const MODE: u32 = 0o660;

/// Who may administer by one: its owner. The group is often that of a proxy, which is to bring clients and no more.
pub(super) const ADMIN_MODE: u32 = 0o600;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Ip(SocketAddr),
    Unix {
        path: PathBuf,
        /// The permissions of the file: who may write to it may connect.
        mode: u32,
    },
}

impl Address {
    /// None of a socket in the file system.
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

    /// Reads what [`Display`](fmt::Display) has written, or what is typed to name a listener that is there.
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

    /// Whether both are one place, whoever may connect there.
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
