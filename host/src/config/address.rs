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
