//! The socket that accepts clients: a TCP listener, or a socket in the file system.

use std::net::{self, IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::{io, os};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::socket::BACKLOG;
use super::unix::SocketFile;
use crate::config::Address;
use crate::net::Stream;

/// The address of clients of a socket in the file system: this machine's own.
const LOCAL_CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) enum Acceptor {
    Ip(TcpListener),
    Unix {
        socket: UnixListener,
        file: Option<SocketFile>,
    },
}

impl Acceptor {
    /// Gives the bound address: the wanted one may have port 0.
    pub(crate) fn address(&self, wanted: &Address) -> io::Result<Address> {
        Ok(match self {
            Self::Ip(socket) => Address::Ip(socket.local_addr()?),
            Self::Unix { .. } => wanted.clone(),
        })
    }

    /// Whether nobody can connect any more: the file is gone, or another's.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Ip(_) => false,
            Self::Unix { file, .. } => !file.as_ref().is_some_and(SocketFile::is_there),
        }
    }

    /// Sets the permissions of the socket's file to those of `wanted`, which has the same path.
    pub(crate) fn set_mode(&self, wanted: &Address) -> io::Result<()> {
        match (self, wanted) {
            (
                Self::Unix {
                    file: Some(file), ..
                },
                Address::Unix { mode, .. },
            ) => file.set_mode(*mode),
            (Self::Unix { .. } | Self::Ip(_), _) => Ok(()),
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Ip(socket) => {
                let (stream, address) = socket.accept().await?;
                Ok((Stream::Ip(stream), address))
            }
            Self::Unix { socket, .. } => Ok((Stream::Unix(socket.accept().await?.0), LOCAL_CLIENT)),
        }
    }

    /// Takes the clients that wait in the queue: the kernel resets them when the socket closes.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (Stream, SocketAddr)> {
        // The bound ends the loop: clients that come as fast as they are taken would keep the socket open.
        (0..BACKLOG).map_while(|_| self.accept_now().ok())
    }

    /// Accepts without waiting; an error if nobody waits. This asks the kernel, since the runtime may not know of a
    /// waiting client yet.
    fn accept_now(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Ip(socket) => {
                let socket = net::TcpListener::from(socket.as_fd().try_clone_to_owned()?);
                let (stream, address) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Stream::Ip(TcpStream::from_std(stream)?), address))
            }
            Self::Unix { socket, .. } => {
                let socket =
                    os::unix::net::UnixListener::from(socket.as_fd().try_clone_to_owned()?);
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Stream::Unix(UnixStream::from_std(stream)?), LOCAL_CLIENT))
            }
        }
    }
}
