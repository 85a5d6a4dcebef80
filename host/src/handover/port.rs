//! A UDP port in an upgrade: each process has a socket of its own there, since two that read one take each other's
//! packets.
//!
//! The kernel tells their packets apart ([`steering`]): the ids of a process's connections begin with its [`Tag`]. Packets
//! with the tag of another process go to that one's socket, and all others to the process that serves.
//!
//! That process keeps the port: it alone knows the kernel's numbers of the sockets, which change when one closes. So it
//! has copies of all of them, and closes the copy of a process that has ended. It binds the socket of its successor, and gives it with
//! the copies; until the successor serves, nothing comes there.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseport;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::time::sleep;

use super::mark::Mark;
use super::steering::{self, TAG};
use crate::net::bind_datagrams;

/// Limit of processes with a socket on a port: this one, and those before it whose clients have not gone. One more
/// drains as if the kernel could not tell packets apart.
pub(super) const MAX_PROCESSES: usize = 16;

/// Interval of looking whether another process has ended. Packets for its connections wait for nobody then.
const LOOK: Duration = Duration::from_secs(1);

/// The beginning of the names of sockets that are handed over.
const NAME: &str = "datagrams ";

/// The beginning of the ids of a process's connections. Of the ids that a client makes up, one in 2³² has it.
pub(crate) type Tag = [u8; TAG];

/// A UDP port on which this process has a socket.
pub(crate) struct Port {
    address: SocketAddr,
    tag: Tag,
    state: Mutex<PortState>,
    /// Why no other process can have a socket on it.
    refused: Option<io::Error>,
}

struct PortState {
    /// The processes with a socket on the port, in the kernel's order.
    members: Vec<Member>,
    /// The successor was given a socket: the last of `members`.
    is_given: bool,
    /// This process keeps the port no more.
    has_left: bool,
    /// Tells a process that starts that this one drains.
    mark: Option<Mark>,
}

struct Member {
    tag: Tag,
    process: u32,
    /// Shows the end of another process; none if it had ended before.
    end: Option<Arc<OwnedFd>>,
    socket: Arc<OwnedFd>,
}

impl Port {
    /// Binds an address that no other process has.
    pub(super) fn bind(address: SocketAddr) -> io::Result<(UdpSocket, Self)> {
        // One that others share may be a program's of another kind.
        drop(bind_datagrams(address, false)?);
        let (socket, tag) = (bind_datagrams(address, true)?, random_tag());
        let own = Member {
            tag,
            process: std::process::id(),
            end: None,
            socket: Arc::new(socket.as_fd().try_clone_to_owned()?),
        };
        let mut port = Self::new(address, vec![own], tag);
        let steered = port.lock().steer(tag);
        port.refused = steered.err();
        // Nobody joins it but a successor.
        set_socket_reuseport(&socket, false)?;
        Ok((socket, port))
    }

    /// Takes the sockets on an address out of those that the process before this one gave.
    pub(super) fn take(
        address: SocketAddr,
        given: &mut Vec<(String, OwnedFd)>,
    ) -> io::Result<Option<(UdpSocket, Self)>> {
        let prefix = format!("{NAME}{address} ");
        let names_it = |(name, _): &mut (String, OwnedFd)| name.starts_with(&prefix);
        let members = given.extract_if(.., names_it).map(|(name, socket)| {
            let parts = name.strip_prefix(&prefix).and_then(|rest| {
                let (process, tag) = rest.split_once(' ')?;
                let tag = u32::from_str_radix(tag, 16).ok()?;
                Some((process.parse().ok()?, tag.to_be_bytes()))
            });
            let (process, tag) = parts.ok_or(ErrorKind::InvalidData)?;
            Member::new(tag, process, socket)
        });
        let members = members.collect::<io::Result<Vec<_>>>()?;
        let Some(own) = members.last() else {
            return Ok(None);
        };
        let (socket, tag) = (own.socket.try_clone()?, own.tag);
        Ok(Some((socket.into(), Self::new(address, members, tag))))
    }

    fn new(address: SocketAddr, members: Vec<Member>, tag: Tag) -> Self {
        Self {
            address,
            tag,
            state: Mutex::new(PortState {
                members,
                is_given: false,
                has_left: false,
                mark: None,
            }),
            refused: None,
        }
    }

    /// The address of a socket that is handed over, if it is for datagrams.
    pub(super) fn address_in(name: &str) -> Option<SocketAddr> {
        let (address, _) = name.strip_prefix(NAME)?.split_once(' ')?;
        address.parse().ok()
    }

    /// Whether a socket that is handed over is for datagrams.
    pub(super) fn is_name(name: &str) -> bool {
        name.starts_with(NAME)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The beginning of the ids of this process's connections.
    pub(crate) fn tag(&self) -> Tag {
        self.tag
    }

    /// Why no other process can have a socket here, so that an upgrade ends this one's connections first.
    pub(crate) fn refused(&self) -> Option<&io::Error> {
        self.refused.as_ref()
    }

    /// Whether another process serves here, and packets of this process's connections still come to it.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.lock().is_handed_over()
    }

    /// Whether packets with this tag may be another process's.
    pub(crate) fn is_of_another(&self, tag: &[u8]) -> bool {
        let state = self.lock();
        let mut members = state.members.iter();
        tag != self.tag && (state.has_left || members.any(|member| member.tag == tag))
    }

    /// Binds the socket of a successor, and gives all sockets with the names under which it takes them. Gives none if
    /// the successor has to wait for the port.
    pub(super) fn give(&self, successor: u32) -> Vec<(String, Arc<OwnedFd>)> {
        if self.refused.is_some() {
            return Vec::new();
        }
        self.try_give(successor).unwrap_or_else(|error| {
            let address = self.address;
            tracing::warn!(
                "the new process gets no socket for QUIC on UDP {address}, and waits until this one has closed its own: \
                 {error}"
            );
            Vec::new()
        })
    }

    fn try_give(&self, successor: u32) -> io::Result<Vec<(String, Arc<OwnedFd>)>> {
        let mut state = self.lock();
        state.is_given = false;
        // Sockets of ended processes keep their numbers: the successor's process, which is being started, may have a copy of
        // each for another moment, and would take the place of one that closes later.
        if state.members.len() >= MAX_PROCESSES {
            let much = format!("{MAX_PROCESSES} processes have a socket there already");
            return Err(io::Error::other(much));
        }
        state.set_shared(true)?;
        let bound = bind_datagrams(self.address, true);
        let joined = bound.and_then(|socket| Member::new(random_tag(), successor, socket.into()));
        match joined {
            Ok(member) => state.members.push(member),
            Err(error) => {
                state.set_shared(state.members.len() > 1)?;
                return Err(error);
            }
        }
        state.is_given = true;
        let address = self.address;
        let names = state.members.iter().map(|member| {
            let tag = u32::from_be_bytes(member.tag);
            let name = format!("{NAME}{address} {} {tag:08x}", member.process);
            (name, Arc::clone(&member.socket))
        });
        Ok(names.collect())
    }

    /// Leaves the port to the successor, if it was given a socket.
    pub(super) fn hand_over(&self) {
        let state = self.lock();
        let successor = state.members.last().filter(|_| state.is_given);
        // After an error the successor does it, which has heard by now that it serves.
        let _ = successor.map(|member| state.steer(member.tag));
        drop(state);
        self.leave();
    }

    /// Notes that the successor does not serve.
    pub(crate) fn keep(&self) {
        self.lock().is_given = false;
    }

    /// Whether a process that drains has a socket at an address.
    pub(crate) fn is_draining(address: SocketAddr) -> bool {
        Mark::is_set(address)
    }

    /// Keeps the port no more, and closes the copies of other processes' sockets. Only the process that keeps it may change
    /// what the kernel does.
    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        state.has_left = true;
        if state.mark.is_none() {
            state.mark = Mark::set(self.address);
        }
        state.members.retain(|member| member.tag == self.tag);
    }

    /// Whether no other process has a socket here, or this one keeps the port no more.
    pub(crate) fn is_alone(&self) -> bool {
        self.lock().members.len() <= 1
    }

    /// Has all packets come to this process that are no other's: it serves, and the process before it has left.
    pub(super) fn serve(&self) {
        let state = self.lock();
        if self.refused.is_some() || state.has_left {
            return;
        }
        if let Err(error) = state.steer(self.tag) {
            tracing::error!(
                "new clients of QUIC on UDP {} still come to the process before this one: {error}\n  remedy: restart the \
                 gateway",
                self.address
            );
        }
    }

    /// Waits until another process has ended whose socket can be closed. Gives false if there is none.
    pub(crate) async fn other_ended(&self) -> bool {
        let has_ended = || {
            let state = self.lock();
            let are_others = state.members.len() > 1;
            are_others.then(|| state.ended(self.tag).is_some())
        };
        loop {
            match has_ended() {
                Some(true) => return true,
                Some(false) => sleep(LOOK).await,
                None => return false,
            }
        }
    }

    /// Closes the sockets of processes that have ended. No process may be starting, which would have copies.
    pub(crate) fn forget_ended(&self) -> io::Result<()> {
        self.lock().forget_ended(self.tag)
    }

    fn lock(&self) -> MutexGuard<'_, PortState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PortState {
    fn is_handed_over(&self) -> bool {
        self.has_left && self.is_given
    }

    /// The place of an ended process. None while the last one lives and is another: it may be a successor that was given up,
    /// and that has copies of the others' sockets.
    fn ended(&self, own: Tag) -> Option<usize> {
        let has_ended = |member: &Member| member.tag != own && member.has_ended();
        let last = self.members.last()?;
        if last.tag != own && !last.has_ended() {
            return None;
        }
        self.members.iter().rposition(has_ended)
    }

    fn forget_ended(&mut self, own: Tag) -> io::Result<()> {
        if self.has_left {
            return Ok(());
        }
        while let Some(place) = self.ended(own) {
            // The kernel does the same with its list. Between the two calls packets may be lost, but none is another's.
            let ended = self.members.swap_remove(place);
            self.steer(own)?;
            drop(ended);
        }
        self.set_shared(self.members.len() > 1)
    }

    fn steer(&self, newest: Tag) -> io::Result<()> {
        let tags: Vec<_> = self.members.iter().map(|member| member.tag).collect();
        match self.members.first() {
            Some(member) => steering::steer(&member.socket, &tags, newest),
            None => Ok(()),
        }
    }

    /// Lets another socket of this user join the port, or nobody. Those that share it must allow it as long as they do.
    fn set_shared(&self, shared: bool) -> io::Result<()> {
        for member in &self.members {
            set_socket_reuseport(&member.socket, shared)?;
        }
        Ok(())
    }
}

impl Member {
    fn new(tag: Tag, process: u32, socket: OwnedFd) -> io::Result<Self> {
        let end = end_of(process)?;
        let socket = Arc::new(socket);
        Ok(Self {
            tag,
            process,
            end,
            socket,
        })
    }

    fn has_ended(&self) -> bool {
        has_ended(self.end.as_deref())
    }
}

/// Gives what shows the end of a process; none if it has ended.
pub(super) fn end_of(process: u32) -> io::Result<Option<Arc<OwnedFd>>> {
    let id = i32::try_from(process).ok().and_then(Pid::from_raw);
    let id = id.ok_or(ErrorKind::InvalidData)?;
    match pidfd_open(id, PidfdFlags::empty()) {
        Ok(end) => Ok(Some(Arc::new(end))),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a process has ended, by what [`end_of`] gave.
pub(super) fn has_ended(end: Option<&OwnedFd>) -> bool {
    let Some(end) = end else { return true };
    let now = Timespec::default();
    poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

fn random_tag() -> Tag {
    let mut tag = Tag::default();
    getrandom::fill(&mut tag).expect("the operating system has random numbers");
    tag
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;
    use std::{fs, thread};

    use super::*;
    use crate::handover::CONNECTION_ID;

    /// A process that ends when it is told to.
    fn process() -> Child {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).spawn().unwrap()
    }

    fn end(mut process: Child) {
        drop(process.stdin.take());
        process.wait().unwrap();
    }

    /// The port as a successor has it.
    fn taken(given: &[(String, Arc<OwnedFd>)], address: SocketAddr) -> (UdpSocket, Port) {
        let copy =
            |(name, socket): &(String, Arc<OwnedFd>)| (name.clone(), socket.try_clone().unwrap());
        let mut given = given.iter().map(copy).collect();
        let taken = Port::take(address, &mut given).unwrap().unwrap();
        assert!(given.is_empty());
        taken
    }

    /// The socket at which packets with this tag come, with either header.
    fn comes_at(address: SocketAddr, tag: Tag, sockets: &[&UdpSocket]) -> usize {
        let rest = [7; CONNECTION_ID - TAG];
        let short = [&[0x40][..], &tag, &rest, &[0; 20]].concat();
        let long = [&[0xc0, 0, 0, 0, 1, 12][..], &tag, &rest, &[0; 20]].concat();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut places = [&short, &long].map(|packet| {
            client.send_to(packet, address).unwrap();
            let mut buffer = [0; 100];
            let came = |socket: &&UdpSocket| socket.recv(&mut buffer).is_ok();
            sockets.iter().position(came).unwrap()
        });
        places.sort_unstable();
        let [one, other] = places;
        assert_eq!(one, other);
        one
    }

    fn free_port() -> (SocketAddr, UdpSocket, Port) {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let (socket, port) = Port::bind(address).unwrap();
        assert!(port.refused().is_none());
        (address, socket, port)
    }

    /// Waits until the kernel has closed all sockets at an address but so many. Processes that other tests start have
    /// copies of ours until their program runs.
    fn wait_for_sockets(address: SocketAddr, count: usize) {
        let port = format!(":{:04X}", address.port());
        let deadline = Instant::now() + Duration::from_secs(60);
        let at_port = |line: &&str| {
            let local = line.split_whitespace().nth(1);
            local.is_some_and(|local| local.ends_with(&port))
        };
        loop {
            let table = fs::read_to_string("/proc/net/udp").unwrap();
            if table.lines().filter(at_port).count() == count {
                return;
            }
            assert!(Instant::now() < deadline, "not {count}: {table}");
            thread::yield_now();
        }
    }

    #[test]
    fn packets_come_to_the_process_of_their_tag_and_others_to_the_one_that_serves() {
        let (address, first, port) = free_port();
        let nobody = Port::bind(address).err().map(|error| error.kind());
        assert_eq!(nobody, Some(ErrorKind::AddrInUse));
        let (a, b) = (process(), process());
        let (second, next) = taken(&port.give(a.id()), address);
        let both = [&first, &second];
        let unknown = [9; TAG];
        // Nothing comes to a successor that does not serve.
        assert_eq!(comes_at(address, unknown, &both), 0);
        assert!(!port.is_of_another(&unknown));
        assert!(port.is_of_another(&next.tag()));
        port.hand_over();
        // It changes nothing any more.
        port.forget_ended().unwrap();
        port.serve();
        assert_eq!(comes_at(address, unknown, &both), 1);
        next.serve();
        assert_eq!(comes_at(address, port.tag(), &both), 0);
        assert_eq!(comes_at(address, next.tag(), &both), 1);
        assert_eq!(comes_at(address, unknown, &both), 1);
        assert!(port.is_of_another(&unknown));

        // A third one, while the first still has clients.
        let (third, last) = taken(&next.give(b.id()), address);
        next.hand_over();
        last.serve();
        let all = [&first, &second, &third];
        for (port, place) in [(&port, 0), (&next, 1), (&last, 2)] {
            assert_eq!(comes_at(address, port.tag(), &all), place);
        }
        assert_eq!(comes_at(address, unknown, &all), 2);
        end(b);
        end(a);
    }

    #[test]
    fn sockets_of_ended_processes_are_closed_and_the_others_keep_their_packets() {
        let (address, first, port) = free_port();
        let failed = process();
        drop(taken(&port.give(failed.id()), address));
        port.keep();
        end(failed);
        port.forget_ended().unwrap();
        wait_for_sockets(address, 1);
        assert_eq!(comes_at(address, [9; TAG], &[&first]), 0);
        // Nobody else joins again.
        assert!(bind_datagrams(address, true).is_err());

        let (a, b) = (process(), process());
        let (second, mut next) = taken(&port.give(a.id()), address);
        port.hand_over();
        next.serve();
        // The first one has ended, as far as its successors know. Its socket keeps its number.
        let end_first = |port: &mut Port| {
            let mut state = port.lock();
            let own = std::process::id();
            let mut members = state.members.iter_mut();
            members.find(|member| member.process == own).unwrap().end = None;
        };
        end_first(&mut next);
        let given = next.give(b.id());
        assert_eq!(given.len(), 3);
        let all = [&first, &second];
        assert_eq!(comes_at(address, next.tag(), &all), 1);
        let (third, mut last) = taken(&given, address);
        next.hand_over();
        last.serve();
        end_first(&mut last);
        drop((given, first, port));
        last.forget_ended().unwrap();
        assert_eq!(last.lock().members.len(), 2);
        wait_for_sockets(address, 2);
        let both = [&second, &third];
        assert_eq!(comes_at(address, next.tag(), &both), 0);
        for tag in [[9; TAG], last.tag()] {
            assert_eq!(comes_at(address, tag, &both), 1);
        }
        end(a);
        drop((second, next));
        last.forget_ended().unwrap();
        assert_eq!(last.lock().members.len(), 1);
        wait_for_sockets(address, 1);
        for tag in [[9; TAG], last.tag()] {
            assert_eq!(comes_at(address, tag, &[&third]), 0);
        }
        end(b);
    }

    #[test]
    fn port_of_too_many_processes_is_not_given() {
        let (_, _socket, port) = free_port();
        let process = process();
        for more in 1..MAX_PROCESSES {
            assert_eq!(port.give(process.id()).len(), more + 1);
        }
        assert!(port.give(process.id()).is_empty());
        port.hand_over();
        assert!(!port.is_handed_over());
        end(process);
    }
}
