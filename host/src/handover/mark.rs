//! The mark of a process that drains and still has a UDP port: one that starts meanwhile waits for the port, and serves all
//! else. Without it, the end of the newest process would keep the gateway down until those before it have drained.

use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};

use super::port::MAX_PROCESSES;

/// An abstract socket by which nothing is sent: it ends with the process. Everybody may bind such a name, and has a
/// gateway wait with QUIC at worst.
pub(super) struct Mark {
    _socket: UnixDatagram,
}

impl Mark {
    /// Marks a port. None where that is not possible.
    pub(super) fn set(address: SocketAddr) -> Option<Self> {
        let mut sockets = (0..MAX_PROCESSES).map(|number| bind(address, number));
        let socket = sockets.find_map(Result::ok)?;
        Some(Self { _socket: socket })
    }

    /// Whether a process has marked a port.
    pub(super) fn is_set(address: SocketAddr) -> bool {
        let is_taken = |error: io::Error| error.kind() == io::ErrorKind::AddrInUse;
        (0..MAX_PROCESSES).any(|number| bind(address, number).is_err_and(is_taken))
    }
}

fn bind(address: SocketAddr, number: usize) -> io::Result<UnixDatagram> {
    let name = format!("lockgate/draining/{address}/{number}");
    UnixDatagram::bind_addr(&UnixAddress::from_abstract_name(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_marked_while_one_of_its_processes_drains() {
        // No process of this machine has it.
        let address = SocketAddr::from(([127, 77, 77, 77], 1));
        assert!(!Mark::is_set(address));
        let (first, second) = (Mark::set(address), Mark::set(address));
        assert!(first.is_some() && second.is_some());
        drop(first);
        assert!(Mark::is_set(address));
        assert!(!Mark::is_set(([127, 77, 77, 77], 2).into()));
        drop(second);
        assert!(!Mark::is_set(address));
    }
}
