//! What clients are accepted on: a socket with an address, or one in the file system.

use std::net::{self, IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::{io, os};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::socket::BACKLOG;
use super::unix::SocketFile;
use crate::config::Address;
use crate::net::Stream;

/// Who comes by a socket in the file system has this machine's own address.
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) enum Acceptor {
    Ip(TcpListener),
    Unix {
        socket: UnixListener,
        file: Option<SocketFile>,
    },
}

impl Acceptor {
    /// Where it listens in fact, for this address that is wanted.
    pub(crate) fn address(&self, wanted: &Address) -> io::Result<Address> {
        Ok(match self {
            Self::Ip(socket) => Address::Ip(socket.local_addr()?),
            Self::Unix { .. } => wanted.clone(),
        })
    }

    /// Nobody can connect any more: the file is gone, or another's.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Ip(_) => false,
            Self::Unix { file, .. } => !file.as_ref().is_some_and(SocketFile::is_there),
        }
    }

    /// Has those connect from now on who may by this address, which is where it listens.
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
            Self::Unix { socket, .. } => Ok((Stream::Unix(socket.accept().await?.0), HERE)),
        }
    }

    /// Those who wait in its queue, which the kernel resets when it closes.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (Stream, SocketAddr)> {
        // Those who come as fast as they are taken keep no socket open.
        (0..BACKLOG).map_while(|_| self.accept_now().ok())
    }

    /// An error when nobody waits. The runtime may not know yet of someone who does.
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
                Ok((Stream::Unix(UnixStream::from_std(stream)?), HERE))
            }
        }
    }
}
