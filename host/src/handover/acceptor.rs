//! What clients are accepted on: a socket with an address, or one in the file system.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, UnixListener};

use super::unix::{self, SocketFile};
use crate::config::Address;
use crate::net::Stream;

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
            (Self::Unix { file: Some(_), .. }, Address::Unix { path, mode }) => {
                unix::set_mode(path, *mode)
            }
            (Self::Unix { .. } | Self::Ip(_), _) => Ok(()),
        }
    }

    /// Who comes by a socket in the file system has this machine's own address.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Ip(socket) => {
                let (stream, address) = socket.accept().await?;
                Ok((Stream::Ip(stream), address))
            }
            Self::Unix { socket, .. } => {
                let (stream, _) = socket.accept().await?;
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                Ok((Stream::Unix(stream), address))
            }
        }
    }
}
