//! The binary upgrade: a new process of the program takes over the listening sockets of this one, and not one
//! connect is refused meanwhile.
//!
//! The two talk over a pair of sockets, of which the new process has one end as its standard input. The old one sends
//! each listening socket with its name, and a file that tells what its successor is to know, then [`END`]; the new one
//! loads and compiles everything, accepts, and answers [`READY`], or why it cannot. Until then nothing has changed for the
//! old one. Knows neither HTTP nor plugins.

mod acceptor;
mod activation;
mod channel;
mod hand_over;

mod socket;
mod take_over;
mod unix;

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anyhow::Result;
use tokio::net::{TcpListener, UnixListener};

use crate::config::Address;

pub(crate) use acceptor::Acceptor;
use activation::Activated;
pub(crate) use activation::HeldBySystemd;
pub(crate) use hand_over::{NotServing, ask_to_reload, hand_over};
pub(crate) use socket::out_of_files;
pub(crate) use take_over::Predecessor;
pub(crate) use unix::find as find_socket;
use unix::{Place, SocketFile};

/// What stands between the purpose of a socket and its path.
const UNIX: &str = " unix:";

/// What tells a process that its standard input is an end of the pair.
const VARIABLE: &str = "LOCKGATE_HANDOVER";

/// What the name of a socket that systemd has bound begins with.
const SYSTEMD: &str = "systemd ";

/// All sockets have been sent.
const END: &str = "end";
/// The new process accepts.
const READY: &str = "ready";
/// The new process cannot; the reason follows.
const FAILED: &str = "failed: ";

/// The listening sockets of this process: those that it has, and those that it was given and has no use for yet.
#[derive(Clone, Default)]
pub(crate) struct Sockets(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    given: Vec<(String, OwnedFd)>,
    activated: Vec<Activated>,
    /// Weakly: they are closed where they are accepted on.
    open: Vec<(String, Weak<OwnedFd>)>,
    /// The files of those that are in the file system, by name; of what was given too.
    places: Vec<(String, Place)>,
    /// The files of what was given and is not wanted: another process may still serve there.
    left: Vec<Place>,
    /// Those of `open` that served before what is bound now, and may be closed for it.
    settled: Vec<Weak<OwnedFd>>,
    /// Another process has the sockets too: their files are its own.
    handed_over: Arc<AtomicBool>,
}

/// A path cannot be taken over from a listener with another purpose: its file would have to go before anything can fail.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("another listener of this gateway is there, until this one serves")]
pub(crate) struct HeldByUs;

/// A socket to accept on.
pub(crate) struct Listening {
    pub(crate) socket: Acceptor,
    /// The same socket, to be handed over for as long as this lives.
    _shared: Arc<OwnedFd>,
}

impl Sockets {
    /// Gives the socket that another process had at this address for this purpose, or that systemd has bound, or a new one.
    ///
    /// The address is the configured one: with port 0 a process goes on with the port that its predecessor was given.
    pub(crate) fn listen(&self, purpose: &str, address: &Address) -> io::Result<Listening> {
        let name = format!("{purpose} {address}");
        match address {
            Address::Ip(address) => self.listen_by_ip(name, *address),
            Address::Unix { path, mode } => self.listen_at(name, address, path, *mode),
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
                self.bind(address)?
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
        mode: u32,
    ) -> io::Result<Listening> {
        let given = self.take(&name);
        let activated = self.activated_at(address)?;
        let is_ours = activated.is_none();
        let socket = match activated.or(given) {
            Some(socket) => socket.into(),
            None => unix::bind(path, mode).map_err(|error| self.held_by_us(path, error))?,
        };
        socket.set_nonblocking(true)?;
        let place = Place::of(path);
        let shared = self.opened(name.clone(), socket.as_fd())?;
        let mut known = self.lock();
        known.places.retain(|(known_as, _)| *known_as != name);
        known
            .places
            .extend(place.clone().map(|place| (name, place)));
        let handed_over = match is_ours {
            true => Arc::clone(&known.handed_over),
            false => Arc::new(AtomicBool::new(true)),
        };
        drop(known);
        let socket = Acceptor::Unix {
            socket: UnixListener::from_std(socket)?,
            file: place.map(|place| SocketFile::at(place, handed_over)),
        };
        Ok(Listening {
            socket,
            _shared: shared,
        })
    }

    /// Binds an address, also one that has another in it which served before, here or in the process before this one.
    fn bind(&self, address: SocketAddr) -> io::Result<std::net::TcpListener> {
        let known = self.lock();
        let settled: Vec<_> = known.settled.iter().filter_map(Weak::upgrade).collect();
        let ours = settled.iter().map(|socket| socket.as_fd());
        let given = known.given.iter().map(|(_, socket)| socket.as_fd());
        socket::bind(address, &ours.chain(given).collect::<Vec<_>>())
    }

    /// The error, or that the one who listens at this path is this gateway.
    fn held_by_us(&self, path: &Path, error: io::Error) -> io::Error {
        let known = self.lock();
        let mut places = known.places.iter();
        let is_ours = places.any(|(_, place)| place.path() == path && place.is_there());
        if is_ours && error.kind() == io::ErrorKind::AddrInUse {
            return io::Error::new(io::ErrorKind::AddrInUse, HeldByUs);
        }
        error
    }

    /// What is bound serves from now on: what is bound later may take a port over from it.
    pub(crate) fn settle(&self) {
        let mut known = self.lock();
        known.settled = known
            .open
            .iter()
            .map(|(_, socket)| Weak::clone(socket))
            .collect();
    }

    /// From now on another process has the sockets too.
    pub(crate) fn are_handed_over(&self) {
        self.lock().handed_over.store(true, Ordering::Relaxed);
    }

    /// Gives a socket that is known by this name, which is in no folder: it ends with the last process that has it.
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

    /// Notes a socket that is to be handed over for as long as what this gives lives.
    fn opened(&self, name: String, socket: BorrowedFd<'_>) -> io::Result<Arc<OwnedFd>> {
        let shared = Arc::new(socket.try_clone_to_owned()?);
        let mut known = self.lock();
        known.open.retain(|(_, socket)| socket.strong_count() > 0);
        known.open.push((name, Arc::downgrade(&shared)));
        Ok(shared)
    }

    /// Closes what was given and is not wanted.
    pub(crate) fn close_unused(&self) {
        let mut known = self.lock();
        let given = mem::take(&mut known.given);
        let unused = |name: &String| given.iter().any(|(given, _)| given == name);
        let left = known.places.extract_if(.., |(name, _)| unused(name));
        let left: Vec<_> = left.map(|(_, place)| place).collect();
        known.left = left;
    }

    /// Removes the files of what was given and is not wanted: the process that served there does no more.
    pub(crate) fn remove_left(&self) {
        let left = mem::take(&mut self.lock().left);
        left.iter().for_each(Place::remove);
    }

    /// The content of a file that another process gave by this name.
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
        let mut known = self.lock();
        let place = known.given.iter().position(|(given, _)| given == name)?;
        Some(known.given.remove(place).1)
    }

    fn given(sockets: Vec<(String, OwnedFd)>) -> Result<Self> {
        let mut known = Known::default();
        for (name, socket) in sockets {
            if let Some(name) = name.strip_prefix(SYSTEMD) {
                let activated = Activated::of(name.to_owned(), socket)?;
                known.activated.push(activated);
                continue;
            }
            let path = name.split_once(UNIX).map(|(_, path)| Path::new(path));
            let place = path.and_then(Place::of);
            known
                .places
                .extend(place.map(|place| (name.clone(), place)));
            known.given.push((name, socket));
        }
        // What is systemd's stays where it is.
        let Known {
            activated, places, ..
        } = &mut known;
        places.retain(|(_, place)| !activated.iter().any(|activated| activated.has(place)));
        Ok(Self(Arc::new(Mutex::new(known))))
    }

    /// What is handed over. A socket whose file is gone, or another's by now, is not: the new process makes one of its own,
    /// or says why it cannot.
    fn open(&self) -> Vec<(String, Arc<OwnedFd>)> {
        let known = self.lock();
        let lost = |name: &String| {
            let mut places = known.places.iter();
            places.any(|(known_as, place)| known_as == name && !place.is_there())
        };
        let open = known.open.iter().filter(|(name, _)| !lost(name));
        let open = open.filter_map(|(name, socket)| Some((name.clone(), socket.upgrade()?)));
        let activated = known.activated.iter();
        let activated = activated.filter(|activated| !activated.is_lost());
        let activated = activated.map(Activated::to_hand_over);
        let activated = activated.map(|(name, socket)| (format!("{SYSTEMD}{name}"), socket));
        open.chain(activated).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
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
        sockets.settle();
        assert!(sockets.listen("wss", &address).is_ok());
    }
}
