//! Binding of TCP sockets, each for the addresses of its own family alone.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, getsockname, ipproto, socket_with};

/// Limit of clients that wait to be accepted; the kernel may allow fewer (`net.core.somaxconn`).
pub(super) const BACKLOG: i32 = 1_024;

/// Binds and listens. If sockets of `own` with the same port are in the way, both listen until those are closed.
pub(super) fn listen(address: SocketAddr, own: &[BorrowedFd<'_>]) -> io::Result<TcpListener> {
    let listen = |socket: &OwnedFd| Ok(rustix::net::listen(socket, BACKLOG)?);
    bind(address, own, listen).map(TcpListener::from)
}

/// Reports that an address cannot be bound. The socket never listens, and so takes no clients from `own`.
pub(super) fn check(address: SocketAddr, own: &[BorrowedFd<'_>]) -> io::Result<()> {
    bind(address, own, |_| Ok(())).map(drop)
}

fn bind(
    address: SocketAddr,
    own: &[BorrowedFd<'_>],
    then: impl Fn(&OwnedFd) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let taken = match try_bind(address, false, &then) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => error,
        bound => return bound,
    };
    let in_the_way: Vec<_> = own
        .iter()
        .filter(|socket| port(socket) == Some(address.port()))
        .collect();
    if in_the_way.is_empty() {
        return Err(taken);
    }
    // The option is set only for the bind: no process may share the port later.
    for socket in &in_the_way {
        set_socket_reuseport(socket, true)?;
    }
    let bound = try_bind(address, true, &then);
    for socket in &in_the_way {
        set_socket_reuseport(socket, false)?;
    }
    let bound = bound?;
    set_socket_reuseport(&bound, false)?;
    Ok(bound)
}

fn try_bind(
    address: SocketAddr,
    reuse_port: bool,
    then: &impl Fn(&OwnedFd) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // Connections of an earlier process may linger on the port.
    set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // Without this, `[::]` takes the port of `0.0.0.0` too on most machines, and not on others.
        set_ipv6_v6only(&socket, true)?;
    }
    set_socket_reuseport(&socket, reuse_port)?;
    rustix::net::bind(&socket, &address)?;
    then(&socket)?;
    Ok(socket)
}

fn port(socket: impl AsFd) -> Option<u16> {
    let address = getsockname(socket).ok()?;
    SocketAddr::try_from(address)
        .ok()
        .map(|address| address.port())
}
