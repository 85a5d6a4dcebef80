//! The client listeners: bound and judged before anything changes, then opened, closed, or kept with newer
//! certificates.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::certificates::ReadTls;
use super::{Gateway, OpenManagement};
use crate::config::{self, Address, Config, Fault, Faults, overlap};
use crate::handover::{HeldBySystemd, HeldByUs};
use crate::listener::{Certificates, ClientTrust, Listener, QuicSocket, Socket, Tls};
use crate::management::Change;
use crate::net::watch;

/// Free ports that are tried until one is free by TCP and by UDP.
const FREE_PORTS: u32 = 8;

/// A listener that accepts.
#[derive(Clone)]
pub(super) struct OpenListener {
    pub(super) config: config::Listener,
    pub(super) address: Address,
    scheme: &'static str,
    socket: Socket,
    pub(super) tls: Option<Arc<Tls>>,
    stop: CancellationToken,
    pub(super) closing: CancellationToken,
}

/// The plan for one listener of a configuration.
pub(super) enum PlannedListener {
    /// An open listener stays, with its certificates as their files are now.
    Kept(OpenListener, Option<ReadTls>),
    New(config::Listener, Listener),
}

/// The error of a UDP address that overlaps one at which this gateway has a socket.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this gateway has QUIC on UDP {0}, and one of the two addresses contains the other")]
struct HeldByQuic(SocketAddr);

impl fmt::Display for OpenListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Ip(address) => write!(f, "{}://{address}", self.scheme),
            Address::Unix { .. } => write!(f, "{}+{}", self.scheme, self.address),
        }
    }
}

impl OpenListener {
    /// Shows these certificates to new connections. Gives a change for each new one.
    pub(super) fn show(&self, certificates: Certificates) -> Vec<Change> {
        let changed = self.tls.as_ref().map(|tls| tls.replace(certificates));
        let changed = changed.into_iter().flatten();
        changed
            .map(|certificate| Change::Certificate {
                listener: self.to_string(),
                certificate: certificate.to_string(),
            })
            .collect()
    }
}

impl OpenListener {
    /// The only one of these listeners that serves its port with a part of its addresses, or with all of them and more.
    fn moved_to<'a>(&self, open: &'a [Self]) -> Option<&'a Self> {
        let own = self.address.ip()?;
        let is_there = |other: &&Self| other.address.ip().is_some_and(|ip| overlap(own, ip));
        let mut there = open.iter().filter(is_there);
        there.next().filter(|_| there.next().is_none())
    }

    /// Judges the certificates of clients by these authorities and lists. Gives the change if they are others.
    pub(super) fn trust(&self, tls: &Tls, clients: Option<ClientTrust>) -> Vec<Change> {
        match tls.trust(clients) {
            Ok(true) => vec![Change::ClientCertificates(self.to_string())],
            Ok(false) => Vec::new(),
            // Only for want of random numbers.
            Err(error) => {
                tracing::error!("{self}: the changed client_certificates are not used: {error:#}");
                Vec::new()
            }
        }
    }
}

impl Gateway {
    /// Reports addresses that cannot be bound before anything that takes long. No socket listens for that.
    pub(super) fn check_addresses(&self, config: &Config) -> Result<()> {
        let open = self.reachable();
        for (index, listener) in config.listeners.iter().enumerate() {
            let is_open = open.iter().any(|opened| {
                opened.config.address == listener.address || opened.address.is_at(&listener.address)
            });
            if !is_open {
                Listener::check(&listener.address, &self.sockets)
                    .map_err(|error| listener_fault(index, &listener.address, &error))?;
            }
            if let Some(address) = quic_address(listener, &listener.address)
                && address.port() != 0
                && self.open_quic(address).is_none()
            {
                let checked = self.check_beside_quic(address);
                checked
                    .and_then(|()| QuicSocket::check(address, &self.sockets))
                    .map_err(|error| quic_fault(index, address, &error))?;
            }
        }
        self.check_management(config)
    }

    /// Binds new listeners. An unchanged listener keeps its socket and shows the certificates that its files hold now;
    /// one with changed TLS keeps its socket.
    pub(super) fn plan(
        &self,
        config: &Config,
        certificates: Vec<Option<ReadTls>>,
    ) -> Result<Vec<PlannedListener>> {
        let mut open = self.reachable();
        let mut planned = Vec::new();
        for (index, (listener, certificates)) in
            config.listeners.iter().zip(certificates).enumerate()
        {
            if let Some(kept) = open.iter().position(|opened| opened.config == *listener) {
                planned.push(PlannedListener::Kept(open.swap_remove(kept), certificates));
                continue;
            }
            let tls = match certificates {
                Some(read) => Some(Arc::new(Tls::new(
                    read.certificates,
                    read.clients,
                    listener.http2,
                )?)),
                None => None,
            };
            let same = open
                .iter()
                .find(|opened| opened.address.is_at(&listener.address))
                .map(|opened| Arc::clone(&opened.socket));
            let mut tries = FREE_PORTS;
            let bound = loop {
                let (same, tls, proxies) = (same.clone(), tls.clone(), listener.proxies.clone());
                let is_new = same.is_none();
                let mut bound = match same {
                    Some(socket) => Listener::on(socket, &listener.address, tls, proxies)?,
                    None => Listener::bind(&listener.address, tls, proxies, &self.sockets)
                        .map_err(|error| listener_fault(index, &listener.address, &error))?,
                };
                let Some(address) = quic_address(listener, &bound.address) else {
                    if listener.quic == Some(false) {
                        bound.clear_quic();
                    }
                    break bound;
                };
                match self.quic(address) {
                    Ok(socket) => {
                        bound.add_quic(socket)?;
                        break bound;
                    }
                    // Another port may be free by UDP too.
                    Err(error)
                        if is_new
                            && tries > 0
                            && error.kind() == io::ErrorKind::AddrInUse
                            && listener.address.ip().is_some_and(|ip| ip.port() == 0) =>
                    {
                        tries -= 1;
                    }
                    Err(error) => return Err(quic_fault(index, address, &error).into()),
                }
            };
            planned.push(PlannedListener::New(listener.clone(), bound));
        }
        Ok(planned)
    }

    /// The socket for QUIC at an address: the open one, also without a listener, or a new one.
    fn quic(&self, address: SocketAddr) -> io::Result<Arc<QuicSocket>> {
        if let Some(open) = self.open_quic(address) {
            return Ok(open);
        }
        self.check_beside_quic(address)?;
        let socket = Arc::new(QuicSocket::bind(address, &self.sockets)?);
        let mut state = self.lock();
        state.quic.retain(|socket| socket.strong_count() > 0);
        state.quic.push(Arc::downgrade(&socket));
        Ok(socket)
    }

    /// Keeps the UDP ports that the process before this one has handed over, and that no listener serves, while other
    /// processes have sockets there: else nobody could bind them until those have ended.
    pub(super) fn keep_given_ports(&self) {
        for address in self.sockets.given_ports() {
            match self.quic(address) {
                Ok(socket) => socket.keep(&self.listeners),
                Err(error) => tracing::warn!(
                    "QUIC on UDP {address} cannot be switched on until the process before this one has ended: {error}"
                ),
            }
        }
    }

    /// Fails if this address overlaps one at which this gateway has a UDP socket, also without a listener.
    fn check_beside_quic(&self, address: SocketAddr) -> io::Result<()> {
        let mut open = self.quic_sockets().into_iter();
        let held = open.find(|socket| socket.is_open() && overlap(socket.address, address));
        held.map_or(Ok(()), |held| {
            let error = HeldByQuic(held.address);
            Err(io::Error::new(io::ErrorKind::AddrInUse, error))
        })
    }

    fn open_quic(&self, address: SocketAddr) -> Option<Arc<QuicSocket>> {
        let mut open = self.quic_sockets().into_iter();
        open.find(|socket| socket.address == address)
    }

    pub(super) fn quic_sockets(&self) -> Vec<Arc<QuicSocket>> {
        self.lock().quic.iter().filter_map(Weak::upgrade).collect()
    }

    /// The open listeners, without those whose file is gone.
    fn reachable(&self) -> Vec<OpenListener> {
        let mut open = self.lock().open.clone();
        open.retain(|opened| !opened.socket.socket.is_lost());
        open
    }

    /// Opens, keeps and closes listeners as planned.
    pub(super) fn serve_listeners(
        &self,
        planned: Vec<PlannedListener>,
        wanted: &[config::Listener],
        changes: &mut Vec<Change>,
    ) {
        let mut state = self.lock();
        let before = std::mem::take(&mut state.open);
        let mut open = Vec::new();
        for planned in planned {
            let (config, listener) = match planned {
                PlannedListener::Kept(opened, read) => {
                    if let (Some(read), Some(tls)) = (read, &opened.tls) {
                        changes.extend(opened.trust(tls, read.clients));
                        // A self-signed certificate stays: it was made at start.
                        if let config::Tls::Files(_) = &opened.config.tls {
                            changes.extend(opened.show(read.certificates));
                        }
                    }
                    open.push(opened);
                    continue;
                }
                PlannedListener::New(config, listener) => (config, listener),
            };
            let opened = OpenListener {
                config,
                address: listener.address.clone(),
                scheme: listener.scheme(),
                socket: listener.socket(),
                tls: listener.tls(),
                stop: self.listeners.stop.child_token(),
                closing: CancellationToken::new(),
            };
            open.push(opened.clone());
            tracing::info!("listening on {opened}");
            if let Err(error) = opened.socket.socket.set_mode(&opened.config.address) {
                tracing::warn!("the permissions of {opened} were not changed: {error}");
            }
            note_ipv6_only(&opened.address, wanted);
            changes.push(Change::ListenerOpened(opened.to_string()));
            let mut listeners = self.listeners.clone();
            (listeners.stop, listeners.closing) = (opened.stop, opened.closing);
            listener.serve(&listeners);
        }
        for opened in before {
            let kept = |other: &OpenListener| Arc::ptr_eq(&other.socket, &opened.socket);
            let same = |other: &&OpenListener| kept(other) && other.config == opened.config;
            if !open.iter().any(|other| same(&other)) {
                let keeper = open.iter().find(|other| kept(other));
                if keeper.is_none() {
                    opened.closing.cancel();
                }
                let successor = keeper.or_else(|| opened.moved_to(&open));
                if let Some(tls) = &opened.tls {
                    tls.give_way_to(successor.and_then(|other| other.tls.as_ref()));
                }
                opened.stop.cancel();
                changes.push(Change::ListenerClosed(opened.to_string()));
            }
        }
        state.open = open;
    }

    /// The addresses of all open listeners, management and health included.
    pub(super) fn open_addresses(&self) -> Vec<Address> {
        let state = self.lock();
        let listeners = state.open.iter().map(|opened| opened.address.clone());
        let others = state.management.iter().map(OpenManagement::address);
        listeners.chain(others).collect()
    }
}

/// Gives the address for QUIC of a listener that is bound at `address`; none if it serves none.
fn quic_address(listener: &config::Listener, address: &Address) -> Option<SocketAddr> {
    address.ip().filter(|_| listener.quic == Some(true))
}

/// Makes the fault of a UDP address that cannot be bound.
fn quic_fault(index: usize, address: SocketAddr, error: &io::Error) -> Faults {
    let mut faults = bind_fault(format!("listeners[{index}].quic"), &address.into(), error);
    for fault in &mut faults.0 {
        fault.message = format!("cannot serve QUIC on UDP {address}: {error}");
        fault.remedy = fault.remedy.replace("ss -ltnp", "ss -lunp");
    }
    faults
}

fn listener_fault(index: usize, address: &Address, error: &io::Error) -> Faults {
    bind_fault(format!("listeners[{index}].address"), address, error)
}

/// Makes the fault of an address that cannot be bound, with the remedy.
pub(super) fn bind_fault(key: String, address: &Address, error: &io::Error) -> Faults {
    let is = |kind| error.kind() == kind;
    let remedy = if watch::out_of_files(error) {
        watch::RAISE_FILES.into()
    } else if let Address::Unix { path, .. } = address {
        if held_by::<HeldByUs>(error).is_some() {
            "remove that listener with one reload and add this one with the next, or write another path".into()
        } else if is(io::ErrorKind::AddrInUse) {
            "stop the process that listens there (`ss -lxp` shows it), or write another path".into()
        } else if is(io::ErrorKind::AlreadyExists) {
            "remove it if nobody needs it, or write another path".into()
        } else {
            let folder = path.parent().unwrap_or(path).display();
            format!(
                "make {folder} a folder that the gateway may write to; RuntimeDirectory= of systemd makes one"
            )
        }
    } else if let Some(HeldBySystemd(held)) = held_by(error) {
        format!(
            "write address = \"{held}\", or write ListenStream={address} in its socket unit and restart both units"
        )
    } else if let Some(HeldByQuic(held)) = held_by(error) {
        format!(
            "reload with quic = false, and with this address once the connections on {held} and the processes before this \
             one have ended"
        )
    } else if is(io::ErrorKind::AddrInUse) {
        format!(
            "stop the process that listens there (`ss -ltnp 'sport = :{}'` shows it), or write another port",
            address.ip().map_or(0, |address| address.port())
        )
    } else if is(io::ErrorKind::PermissionDenied) {
        "write a port from 1024 on, or allow the process lower ones: CAP_NET_BIND_SERVICE".into()
    } else if is(io::ErrorKind::AddrNotAvailable) {
        "write an address of this machine (`ip address` lists them), or 0.0.0.0 for all".into()
    } else {
        "correct the address".into()
    };
    Faults(vec![Fault {
        key,
        message: format!("cannot listen on {address}: {error}"),
        remedy,
        is_passing: false,
    }])
}

/// Finds the cause `E` in an error: the holder of an address, if it is known.
fn held_by<E: std::error::Error + 'static>(error: &io::Error) -> Option<&E> {
    error.get_ref()?.downcast_ref()
}

/// Notes that `[::]` takes IPv6 only: other servers take IPv4 with it, so the operator may expect that.
fn note_ipv6_only(address: &Address, wanted: &[config::Listener]) {
    let Some(address) = address.ip() else { return };
    let port = address.port();
    let is_v4 = |other: &config::Listener| {
        let other = other.address.ip();
        other.is_some_and(|other| other.is_ipv4() && [0, port].contains(&other.port()))
    };
    if address == SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)) && !wanted.iter().any(is_v4) {
        tracing::info!("{address} takes IPv6 only; for IPv4 add a listener on 0.0.0.0:{port}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_file_descriptors_is_not_blamed_on_the_address() {
        let address = Address::Ip(SocketAddr::from(([127, 0, 0, 1], 80)));
        // EMFILE, ENFILE
        for errno in [24, 23] {
            let error = io::Error::from_raw_os_error(errno);
            let faults = bind_fault("k".into(), &address, &error);
            let remedy = &faults.0.first().expect("one").remedy;
            assert!(remedy.contains("LimitNOFILE="), "{remedy}");
        }
    }
}
