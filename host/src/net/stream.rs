//! An accepted connection, by either kind of socket.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Acknowledged;

pub(crate) enum Stream {
    Ip(TcpStream),
    /// A client on this machine, which has no address.
    Unix(UnixStream),
}

impl Stream {
    /// Whether the client has an address that tells it from others.
    pub(crate) fn has_address(&self) -> bool {
        matches!(self, Self::Ip(_))
    }

    /// Whether the client has connected to a loopback address.
    pub(crate) fn is_to_loopback(&self) -> bool {
        match self {
            Self::Ip(stream) => {
                let own = stream.local_addr();
                own.is_ok_and(|own| own.ip().to_canonical().is_loopback())
            }
            Self::Unix(_) => false,
        }
    }

    /// Disables Nagle's algorithm: waiting for more bytes only delays them.
    pub(crate) fn set_nodelay(&self) {
        if let Self::Ip(stream) = self {
            let _ = stream.set_nodelay(true);
        }
    }
}

impl Acknowledged for Stream {
    fn unacknowledged(&self) -> usize {
        match self {
            // A kernel that does not say is not waited for.
            Self::Ip(stream) => lockgate_steering::unacknowledged(stream).unwrap_or(0),
            Self::Unix(_) => 0,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Ip(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Ip(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Ip(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Ip(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Ip(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Connects to a Unix socket without waiting: where its queue is full the error is `WouldBlock`. The system's own
/// connect would wait for as long as the process on the other side does not accept. The stream does not block.
pub(crate) fn connect_unix(address: &SocketAddrUnix) -> io::Result<StdUnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, address)?;
    Ok(socket.into())
}

/// As [`connect_unix`], to a name in the abstract namespace.
pub(crate) fn connect_abstract(name: &str) -> io::Result<StdUnixStream> {
    connect_unix(&SocketAddrUnix::new_abstract_name(name.as_bytes())?)
}

#[cfg(test)]
mod connect_tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn full_queue_of_a_process_that_does_not_accept_is_no_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let address = SocketAddrUnix::new(&path).unwrap();
        let mut queue = Vec::new();
        let full = loop {
            match connect_unix(&address) {
                Ok(stream) => queue.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(!queue.is_empty() && queue.len() < 100);
        drop(listener);
        let refused = connect_unix(&address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
