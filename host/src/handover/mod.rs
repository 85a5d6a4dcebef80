//! The binary upgrade: a new process of the program takes over the listening sockets of this one, and no connect is
//! refused meanwhile.
//!
//! The two talk over a pair of sockets; the new process has its end as standard input. The old one sends each listening
//! socket with its name, and a file with what its successor must know, then [`END`]. The new one loads and compiles
//! everything, accepts, and answers [`READY`], or why it cannot. Until then nothing has changed for the old one. This
//! module knows neither HTTP nor plugins.

mod acceptor;
mod activation;
mod channel;
mod hand_over;
mod mark;
mod port;
mod socket;
mod steering;
mod take_over;
mod unix;

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::Result;
use tokio::net::{TcpListener, UnixListener};

use crate::config::{Address, Mode, overlap};

pub(crate) use acceptor::Acceptor;
use activation::Activated;
pub(crate) use activation::HeldBySystemd;
pub(crate) use hand_over::{CLEAN_UP, NotServing, ask_to_reload, hand_over};
pub(crate) use port::Port;
pub(crate) use steering::CONNECTION_ID;
pub(crate) use take_over::Predecessor;
pub(crate) use unix::find as find_socket;
use unix::{Owner, SocketFile, SocketInode};

/// The separator between the purpose of a socket and its path.
const UNIX: &str = " unix:";

/// The environment variable that tells a process that its standard input is an end of the pair.
const VARIABLE: &str = "LOCKGATE_HANDOVER";

/// The prefix of the names of systemd's sockets.
const SYSTEMD: &str = "systemd ";

/// The old process's last message: all sockets have been sent.
const END: &str = "end";
/// The new process's answer: it accepts.
const READY: &str = "ready";
/// The new process's answer: it cannot serve. The reason follows.
const FAILED: &str = "failed: ";

/// The listening sockets of this process: its own, and those that it was given and does not use yet.
#[derive(Clone, Default)]
pub(crate) struct Sockets(Arc<Mutex<SocketTable>>);

#[derive(Default)]
struct SocketTable {
    /// Sockets that another process gave, not used yet.
    given: Vec<(String, OwnedFd)>,
    activated: Vec<Activated>,
    /// The open sockets, by name; weak, since their listeners close them.
    open: Vec<(String, Weak<OwnedFd>)>,
    /// The open UDP ports.
    ports: Vec<Weak<Port>>,
    /// The files of sockets in the file system, by name; those of `given` too.
    inodes: Vec<(String, SocketInode)>,
    /// The files of given sockets without a listener: another process may still serve there.
    abandoned: Vec<SocketInode>,
    /// The sockets of `open` that served before the ones being bound, and may be closed for them.
    settled: Vec<Weak<OwnedFd>>,
    /// The process that gave sockets.
    predecessor: Option<DrainingProcess>,
    /// Whether another process has what was bound here, and so its files: true once this one is succeeded.
    bound_elsewhere: Arc<AtomicBool>,
    /// Whether another process has what was given: true also until the process before this one lets go of it.
    given_elsewhere: Arc<AtomicBool>,
}

/// The process that gave the sockets, while it drains.
#[derive(Clone)]
pub(crate) struct DrainingProcess {
    pub(crate) id: u32,
    /// Shows its end; none if it had ended before.
    end: Option<Arc<OwnedFd>>,
    /// Longest time from the upgrade to its end; none if it has not told.
    pub(crate) limit: Option<Duration>,
}

/// The error of a path at which this gateway has a listener of another purpose. It cannot be taken over: its file would
/// have to go before anything can fail.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("another listener of this gateway is there, until this one serves")]
pub(crate) struct HeldByUs;

/// A listening socket, for as long as this value lives also one of the sockets to hand over.
pub(crate) struct Listening {
    pub(crate) socket: Acceptor,
    /// A copy of the socket, to hand over.
    _shared: Arc<OwnedFd>,
}

impl Sockets {
    /// Opens a socket: the one that another process had at this address for this purpose, or systemd's, or a new one.
    ///
    /// The address is the configured one: with port 0 a process keeps the port that its predecessor was given.
    pub(crate) fn listen(&self, purpose: &str, address: &Address) -> io::Result<Listening> {
        let name = format!("{purpose} {address}");
        match address {
            Address::Ip(address) => self.listen_by_ip(name, *address),
            Address::Unix { path, mode } => self.listen_at(name, address, path, *mode),
        }
    }

    /// An error if an address could not be listened on. Nothing listens there for that: nobody is to wait in a queue that
    /// may never be served.
    pub(crate) fn check(&self, purpose: &str, address: &Address) -> io::Result<()> {
        let name = format!("{purpose} {address}");
        let is_given = self.lock().given.iter().any(|(given, _)| *given == name);
        if is_given || self.has_activated(address) {
            return Ok(());
        }
        match address {
            Address::Ip(address) => {
                self.check_beside_activated(*address)?;
                self.beside_ours(|ours| socket::check(*address, ours))
            }
            Address::Unix { path, .. } => {
                unix::check(path).map_err(|error| self.held_by_us(path, error))
            }
        }
    }

    fn listen_by_ip(&self, name: String, address: SocketAddr) -> io::Result<Listening> {
        let given = self.take(&name);
        let activated = self.activated_at(&address.into())?;
        let socket = match activated.or(given) {
            Some(socket) => {
                let socket = std::net::TcpListener::from(socket);
                socket.set_nonblocking(true)?;
                socket
            }
            None => {
                self.check_beside_activated(address)?;
                self.beside_ours(|ours| socket::listen(address, ours))?
            }
        };
        let socket = TcpListener::from_std(socket)?;
        Ok(Listening {
            _shared: self.opened(name, socket.as_fd())?,
            socket: Acceptor::Ip(socket),
        })
    }

    fn listen_at(
        &self,
        name: String,
        address: &Address,
        path: &Path,
        mode: Mode,
    ) -> io::Result<Listening> {
        let given = self.take(&name);
        let activated = self.activated_at(address)?;
        let owner = match (&activated, &given) {
            (Some(_), _) => Owner::Systemd,
            (None, Some(_)) => Owner::Gateway {
                elsewhere: Arc::clone(&self.lock().given_elsewhere),
            },
            (None, None) => Owner::Gateway {
                elsewhere: Arc::clone(&self.lock().bound_elsewhere),
            },
        };
        let socket = match activated.or(given) {
            Some(socket) => socket.into(),
            None => unix::bind(path, mode.bits).map_err(|error| self.held_by_us(path, error))?,
        };
        socket.set_nonblocking(true)?;
        let inode = SocketInode::of(path);
        let shared = self.opened(name.clone(), socket.as_fd())?;
        let mut table = self.lock();
        table.inodes.retain(|(known_as, _)| *known_as != name);
        table
            .inodes
            .extend(inode.clone().map(|inode| (name, inode)));
        drop(table);
        let socket = Acceptor::Unix {
            socket: UnixListener::from_std(socket)?,
            file: inode.map(|inode| SocketFile::at(inode, owner)),
        };
        Ok(Listening {
            socket,
            _shared: shared,
        })
    }

    /// Binds an address, also one that overlaps an older socket of this process or of the process before it.
    fn beside_ours<T>(
        &self,
        bind: impl FnOnce(&[BorrowedFd<'_>]) -> io::Result<T>,
    ) -> io::Result<T> {
        let table = self.lock();
        let settled: Vec<_> = table.settled.iter().filter_map(Weak::upgrade).collect();
        let ours = settled.iter().map(|socket| socket.as_fd());
        let given = table.given.iter();
        let given = given.filter(|(name, _)| !Port::is_name(name));
        let given = given.map(|(_, socket)| socket.as_fd());
        bind(&ours.chain(given).collect::<Vec<_>>())
    }

    /// Turns an address in use into [`HeldByUs`] if this gateway listens at the path.
    fn held_by_us(&self, path: &Path, error: io::Error) -> io::Error {
        let table = self.lock();
        let mut inodes = table.inodes.iter();
        let is_ours = inodes.any(|(_, inode)| inode.path() == path && inode.is_there());
        if is_ours && error.kind() == io::ErrorKind::AddrInUse {
            return io::Error::new(io::ErrorKind::AddrInUse, HeldByUs);
        }
        error
    }

    /// Opens a UDP port: with the socket that the process before this one has bound there for it, or a new one.
    pub(crate) fn open_port(&self, address: SocketAddr) -> io::Result<(UdpSocket, Arc<Port>)> {
        let mut table = self.lock();
        let taken = Port::take(address, &mut table.given).unwrap_or_else(|error| {
            tracing::warn!("the UDP port {address} cannot be taken over: {error}");
            None
        });
        let (socket, port) = match taken {
            Some(taken) => taken,
            None => Port::bind(address)?,
        };
        let port = Arc::new(port);
        table.ports.retain(|port| port.strong_count() > 0);
        table.ports.push(Arc::downgrade(&port));
        Ok((socket, port))
    }

    /// The open UDP ports.
    pub(crate) fn ports(&self) -> Vec<Arc<Port>> {
        self.lock().ports.iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether this process keeps an open UDP port in the way of an address: as long as processes before it have sockets there.
    pub(crate) fn keep_port_beside(&self, address: SocketAddr) -> bool {
        let ports = self.ports();
        ports.iter().any(|port| overlap(port.address(), address))
    }

    /// Marks all open sockets as serving: sockets bound later may take a port over from them.
    pub(crate) fn mark_serving(&self) {
        let mut table = self.lock();
        table.settled = table
            .open
            .iter()
            .map(|(_, socket)| Weak::clone(socket))
            .collect();
    }

    /// Notes that another process has the sockets too.
    pub(crate) fn set_handed_over(&self) {
        let table = self.lock();
        table.bound_elsewhere.store(true, Ordering::Relaxed);
        table.given_elsewhere.store(true, Ordering::Relaxed);
        drop(table);
        self.ports().iter().for_each(|port| port.hand_over());
    }

    /// Whether the process before this one still has sockets: those given to this one, and others.
    pub(crate) fn are_elsewhere(&self) -> bool {
        self.lock().given_elsewhere.load(Ordering::Relaxed)
    }

    /// The process before this one, unless it has ended.
    pub(crate) fn draining(&self) -> Option<DrainingProcess> {
        let predecessor = self.lock().predecessor.clone()?;
        (!port::has_ended(predecessor.end.as_deref())).then_some(predecessor)
    }

    /// Notes how long the process before this one drains.
    pub(crate) fn set_drain_limit(&self, limit: Duration) {
        if let Some(predecessor) = &mut self.lock().predecessor {
            predecessor.limit = Some(limit);
        }
    }

    /// The UDP ports whose sockets another process gave, not opened yet.
    pub(crate) fn given_ports(&self) -> Vec<SocketAddr> {
        let table = self.lock();
        let given = table.given.iter();
        let mut ports: Vec<_> = given
            .filter_map(|(name, _)| Port::address_in(name))
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Notes that the process before this one has let go of the sockets, and removes the files of those without a listener.
    pub(crate) fn set_let_go(&self) {
        let mut table = self.lock();
        let still_ours = !table.bound_elsewhere.load(Ordering::Relaxed);
        if still_ours {
            table.given_elsewhere.store(false, Ordering::Relaxed);
        }
        let abandoned = mem::take(&mut table.abandoned);
        drop(table);
        abandoned.iter().for_each(SocketInode::remove);
        for port in self.ports() {
            port.serve();
        }
    }

    /// Opens a Unix socket in the abstract namespace, which has no file: it ends with the last process that has it.
    pub(crate) fn listen_by_name(
        &self,
        purpose: &str,
        name: &str,
    ) -> io::Result<(UnixListener, Arc<OwnedFd>)> {
        let known_as = format!("{purpose} {name}");
        let socket = match self.take(&known_as) {
            Some(socket) => socket.into(),
            None => {
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                std::os::unix::net::UnixListener::bind_addr(&address)?
            }
        };
        socket.set_nonblocking(true)?;
        let shared = self.opened(known_as, socket.as_fd())?;
        Ok((UnixListener::from_std(socket)?, shared))
    }

    /// Registers a socket, which is handed over for as long as the returned value lives.
    fn opened(&self, name: String, socket: BorrowedFd<'_>) -> io::Result<Arc<OwnedFd>> {
        let shared = Arc::new(socket.try_clone_to_owned()?);
        let mut table = self.lock();
        table.open.retain(|(_, socket)| socket.strong_count() > 0);
        table.open.push((name, Arc::downgrade(&shared)));
        Ok(shared)
    }

    /// Closes given sockets without a listener.
    pub(crate) fn close_unused(&self) {
        let mut table = self.lock();
        let given = mem::take(&mut table.given);
        let unused = |name: &String| given.iter().any(|(given, _)| given == name);
        let abandoned = table.inodes.extract_if(.., |(name, _)| unused(name));
        let abandoned: Vec<_> = abandoned.map(|(_, inode)| inode).collect();
        table.abandoned = abandoned;
    }

    /// Reads the file that another process gave under this name.
    pub(crate) fn take_file(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.take(name) else {
            return Ok(None);
        };
        let (mut file, mut content) = (File::from(file), Vec::new());
        file.rewind()?;
        file.read_to_end(&mut content)?;
        Ok(Some(content))
    }

    fn take(&self, name: &str) -> Option<OwnedFd> {
        let mut table = self.lock();
        let index = table.given.iter().position(|(given, _)| given == name)?;
        Some(table.given.remove(index).1)
    }

    fn given(sockets: Vec<(String, OwnedFd)>, by: Option<u32>) -> Result<Self> {
        // Without its id, or where the kernel does not show its end, it is not named.
        let predecessor = by.and_then(|id| {
            let (end, limit) = (port::end_of(id).ok()?, None);
            Some(DrainingProcess { id, end, limit })
        });
        let mut table = SocketTable {
            predecessor,
            given_elsewhere: Arc::new(AtomicBool::new(true)),
            ..SocketTable::default()
        };
        for (name, socket) in sockets {
            if let Some(name) = name.strip_prefix(SYSTEMD) {
                let activated = Activated::of(name.to_owned(), socket)?;
                table.activated.push(activated);
                continue;
            }
            let path = name.split_once(UNIX).map(|(_, path)| Path::new(path));
            let inode = path.and_then(SocketInode::of);
            table
                .inodes
                .extend(inode.map(|inode| (name.clone(), inode)));
            table.given.push((name, socket));
        }
        // The files of systemd's sockets stay: they are not this process's to remove.
        let SocketTable {
            activated, inodes, ..
        } = &mut table;
        inodes.retain(|(_, inode)| !activated.iter().any(|activated| activated.has(inode)));
        Ok(Self(Arc::new(Mutex::new(table))))
    }

    /// Lists the sockets to hand over. A socket whose file is gone, or another's, stays behind: the new process opens
    /// its own, or says why it cannot.
    fn to_hand_over(&self, successor: u32) -> Vec<(String, Arc<OwnedFd>)> {
        let ports = self.ports();
        let datagrams = ports.iter().flat_map(|port| port.give(successor));
        let table = self.lock();
        let lost = |name: &String| {
            let mut inodes = table.inodes.iter();
            inodes.any(|(known_as, inode)| known_as == name && !inode.is_there())
        };
        let open = table.open.iter().filter(|(name, _)| !lost(name));
        let open = open.filter_map(|(name, socket)| Some((name.clone(), socket.upgrade()?)));
        let activated = table.activated.iter();
        let activated = activated.filter(|activated| !activated.is_lost());
        let activated = activated.map(Activated::to_hand_over);
        let activated = activated.map(|(name, socket)| (format!("{SYSTEMD}{name}"), socket));
        open.chain(activated).chain(datagrams).collect()
    }

    fn lock(&self) -> MutexGuard<'_, SocketTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_of_one_start_do_not_share_a_port_and_later_ones_take_it_over() {
        let sockets = Sockets::default();
        let free = SocketAddr::from(([127, 0, 0, 1], 0)).into();
        let first = sockets.listen("ws", &free).unwrap();
        let address = first.socket.address(&free).unwrap();
        let second = sockets.listen("wss", &address);
        assert_eq!(
            second.err().map(|error| error.kind()),
            Some(io::ErrorKind::AddrInUse)
        );
        sockets.mark_serving();
        assert!(sockets.listen("wss", &address).is_ok());
    }
}
