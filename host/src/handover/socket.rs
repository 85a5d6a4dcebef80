//! Sockets that are bound here, each for the addresses of its own family and no other.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, getsockname, ipproto, listen, socket_with,
};

/// Connects that wait to be accepted; the kernel may allow fewer (`net.core.somaxconn`).
pub(super) const BACKLOG: i32 = 1_024;

/// A socket that listens. Where one of `ours` stands in the way, since it has the same port, both listen until that one is
/// closed.
pub(super) fn bind(address: SocketAddr, ours: &[BorrowedFd<'_>]) -> io::Result<TcpListener> {
    let taken = match try_bind(address, false) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => error,
        bound => return bound,
    };
    let in_the_way: Vec<_> = ours
        .iter()
        .filter(|socket| port(socket) == Some(address.port()))
        .collect();
    if in_the_way.is_empty() {
        return Err(taken);
    }
    // Only for as long as it takes: no process is to share the port later on.
    for socket in &in_the_way {
        set_socket_reuseport(socket, true)?;
    }
    let bound = try_bind(address, true);
    for socket in &in_the_way {
        set_socket_reuseport(socket, false)?;
    }
    let bound = bound?;
    set_socket_reuseport(&bound, false)?;
    Ok(bound)
}

fn try_bind(address: SocketAddr, beside_ours: bool) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // Connections of a process before this one may linger.
    set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // Or else `[::]` would take the port of `0.0.0.0` too on most machines, and not on others.
        set_ipv6_v6only(&socket, true)?;
    }
    set_socket_reuseport(&socket, beside_ours)?;
    rustix::net::bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Whether a socket is not to be had since too many files are open.
pub(crate) fn out_of_files(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE]
        .map(|errno| Some(errno.raw_os_error()))
        .contains(&error.raw_os_error())
}

fn port(socket: impl AsFd) -> Option<u16> {
    let address = getsockname(socket).ok()?;
    SocketAddr::try_from(address)
        .ok()
        .map(|address| address.port())
}
