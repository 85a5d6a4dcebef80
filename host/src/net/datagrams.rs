//! Sockets for datagrams.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{
    set_ipv6_v6only, set_socket_recv_buffer_size, set_socket_reuseport,
    set_socket_send_buffer_size, socket_recv_buffer_size, socket_send_buffer_size,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

/// Bytes of datagrams that wait in the kernel, for either direction: one socket has all connections of a listener, and
/// datagrams come in bursts. The usual default of 208 KiB is full within a tenth of a second at 16 Mbit/s.
const BUFFER: usize = 2 << 20;

/// A setting of the kernel that allows a buffer fewer bytes than [`BUFFER`].
#[derive(Debug)]
pub(crate) struct SmallBuffer {
    pub(crate) setting: &'static str,
    pub(crate) bytes: usize,
    pub(crate) wanted: usize,
}

/// Binds an address, for its own family alone. Sockets that are `shared` may have one address, if one user has them.
pub(crate) fn bind_datagrams(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    set_socket_reuseport(&socket, shared)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket.into())
}

/// Asks the kernel for buffers of [`BUFFER`] bytes. Gives the setting that allows fewer.
pub(crate) fn raise_buffers(socket: &UdpSocket) -> io::Result<Option<SmallBuffer>> {
    let small = |setting, bytes| {
        (bytes < BUFFER).then_some(SmallBuffer {
            setting,
            bytes,
            wanted: BUFFER,
        })
    };
    set_socket_recv_buffer_size(socket, BUFFER)?;
    set_socket_send_buffer_size(socket, BUFFER)?;
    // The kernel doubles what it allows, and tells the double.
    let receive = small("net.core.rmem_max", socket_recv_buffer_size(socket)? / 2);
    let send = small("net.core.wmem_max", socket_send_buffer_size(socket)? / 2);
    Ok(receive.or(send))
}
