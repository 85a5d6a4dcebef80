//! The UDP socket of a port. It has all QUIC connections there, so it outlives its listener: a listener that is removed or
//! changed accepts no more, and its connections go on. Only one process can read it: in an upgrade each has its own
//! ([`Port`]), or, where the kernel does not tell their packets apart, one after the other.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use lockgate_steering::separate;
use quinn::{Endpoint, EndpointConfig, Runtime as _, TokioRuntime};
use tokio::sync::OnceCell;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::ListenerContext;
use super::quic_addresses::MappedSocket;
use super::quic_identity::{ResetKey, endpoint_config};
use super::tls::Tls;
use crate::handover::{Port, Sockets};
use crate::http3::Code;
use crate::net::{bind_datagrams, raise_buffers};

/// Time for which a client remembers that QUIC is served: a day, in seconds.
const REMEMBER_S: u32 = 86_400;

/// Interval of looking whether the process before this one has closed its socket.
const LOOK: Duration = Duration::from_millis(50);

/// Time after which the connections of a process that another one succeeds are ended: it waits for the port.
const RELEASE: Duration = Duration::from_secs(6);

/// A UDP socket and the QUIC connections on it.
pub(crate) struct QuicSocket {
    pub(crate) address: SocketAddr,
    sockets: Sockets,
    /// Empty while another process has the address.
    open: OnceCell<OpenSocket>,
    /// Whether `open` has a socket, for those who do not keep it.
    is_open: Arc<AtomicBool>,
    /// Listeners that accept here.
    accepting: Mutex<usize>,
    reset_key: ResetKey,
}

struct OpenSocket {
    endpoint: Endpoint,
    port: Arc<Port>,
}

/// What answers over TCP say of QUIC.
#[derive(Clone)]
pub(crate) struct AltSvc {
    value: HeaderValue,
    /// False while nobody is served there.
    is_open: Arc<AtomicBool>,
}

impl QuicSocket {
    /// Reports that an address cannot be bound, unless it is given or to be waited for.
    pub(crate) fn check(address: SocketAddr, sockets: &Sockets) -> io::Result<()> {
        if sockets.are_elsewhere() {
            return Ok(());
        }
        match bind_datagrams(address, false) {
            Err(error) if is_to_be_free(&error, address, sockets) => Ok(()),
            bound => bound.map(drop),
        }
    }

    /// Opens an address. The process before this one may have it, without a socket there for this one: two processes that
    /// read one socket would take each other's packets. Then it is bound as soon as that process has closed its connections.
    /// Until then, clients are not told of it.
    pub(crate) fn bind(address: SocketAddr, sockets: &Sockets) -> io::Result<Self> {
        let reset_key = ResetKey::of(address);
        let open = match open(address, sockets, &reset_key) {
            Ok(open) => Some(open),
            Err(error) if is_to_be_free(&error, address, sockets) => {
                warn_of_wait(address, sockets);
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            address,
            sockets: sockets.clone(),
            is_open: Arc::new(AtomicBool::new(open.is_some())),
            open: OnceCell::new_with(open),
            accepting: Mutex::new(0),
            reset_key,
        })
    }

    /// Whether another process serves here, and packets of this one's connections still come to it.
    pub(crate) fn is_handed_over(&self) -> bool {
        let open = self.open.get();
        open.is_some_and(|open| open.port.is_handed_over())
    }

    /// Gives the endpoint, once the address is free.
    pub(super) async fn endpoint(&self) -> &Endpoint {
        let opened = self.open.get_or_init(async || {
            let mut said = None;
            loop {
                sleep(LOOK).await;
                let error = match open(self.address, &self.sockets, &self.reset_key) {
                    Ok(open) => return open,
                    Err(error) => error,
                };
                if is_to_be_free(&error, self.address, &self.sockets)
                    || self.sockets.keep_port_beside(self.address)
                    || said == Some(error.kind())
                {
                    continue;
                }
                said = Some(error.kind());
                tracing::warn!(
                    "QUIC on UDP {} still waits, and the process before this one has ended: {error}\n  remedy: stop the process \
                     that listens there, unless it is one of this gateway that drains (`ss -lunp 'sport = :{}'` shows it), or \
                     write another port",
                    self.address,
                    self.address.port()
                );
            }
        });
        let opened = opened.await;
        self.is_open.store(true, Ordering::Relaxed);
        &opened.endpoint
    }

    /// Whether this process has a socket at the address.
    pub(crate) fn is_open(&self) -> bool {
        self.open.initialized()
    }

    /// Keeps the port without a listener while other processes have sockets there.
    pub(crate) fn keep(self: Arc<Self>, context: &ListenerContext) {
        if let Some(open) = self.open.get() {
            let endpoint = open.endpoint.clone();
            let ending = end(self, endpoint, context.releasing.clone());
            context.tasks.spawn(ending);
        }
    }

    /// Tells clients of TCP that QUIC is served here, once it is.
    pub(super) fn alt_svc(&self) -> AltSvc {
        let port = self.address.port();
        let value = format!("h3=\":{port}\"; ma={REMEMBER_S}");
        AltSvc {
            value: HeaderValue::from_str(&value).expect("these are characters of a header"),
            is_open: Arc::clone(&self.is_open),
        }
    }

    pub(super) fn begin_to_accept(
        &self,
        endpoint: &Endpoint,
        tls: &Arc<Tls>,
        config: &quinn::ServerConfig,
    ) {
        self.reset_key.set(tls);
        let mut accepting = self
            .accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *accepting == 0 {
            tracing::info!("serving QUIC on UDP {}", self.address);
            endpoint.set_server_config(Some(config.clone()));
        }
        *accepting += 1;
    }

    /// Without a listener, packets of new clients are dropped.
    pub(super) fn end_to_accept(&self, endpoint: &Endpoint) {
        let mut accepting = self
            .accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *accepting -= 1;
        if *accepting == 0 {
            endpoint.set_server_config(None);
        }
    }
}

impl AltSvc {
    /// Has clients forget what they were told.
    pub(super) fn clear() -> Self {
        Self {
            value: HeaderValue::from_static("clear"),
            is_open: Arc::new(AtomicBool::new(true)),
        }
    }

    /// The header's value; none while there is nothing to tell.
    pub(super) fn value(&self) -> Option<&HeaderValue> {
        self.is_open.load(Ordering::Relaxed).then_some(&self.value)
    }
}

/// Whether an address that cannot be bound may be that of a process before this one, which closes its sockets as it drains.
fn is_to_be_free(error: &io::Error, address: SocketAddr, sockets: &Sockets) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
        && (sockets.are_elsewhere() || sockets.draining().is_some() || Port::is_draining(address))
}

fn warn_of_wait(address: SocketAddr, sockets: &Sockets) {
    let draining = sockets.draining();
    let who = draining.as_ref().map_or_else(
        || "the process before this one".to_owned(),
        |it| format!("the process {} that this one has succeeded", it.id),
    );
    let until = match draining.and_then(|it| it.limit) {
        Some(limit) => format!("within {} s of the upgrade", limit.as_secs()),
        None => "when it has drained".to_owned(),
    };
    tracing::warn!(
        "QUIC on UDP {address} waits for its port, and clients connect over TCP meanwhile: {who}, or one before that, has it, and \
         closes it {until}; if another program has it (`ss -lunp 'sport = :{}'` shows it), stop that, or write another port",
        address.port()
    );
}

fn open(address: SocketAddr, sockets: &Sockets, key: &ResetKey) -> io::Result<OpenSocket> {
    let (socket, port) = sockets.open_port(address)?;
    if let Some(small) = raise_buffers(&socket)? {
        tracing::warn!(
            "the kernel gives the UDP socket on {address} buffers of {} KiB, and packets are lost when they are full\n  \
             remedy: sysctl -w {}={}",
            small.bytes >> 10,
            small.setting,
            small.wanted
        );
    }
    let config = endpoint_config(Arc::clone(&port), key.clone());
    let endpoint = endpoint_on(socket, config)?;
    if let Some(error) = port.refused() {
        tracing::warn!(
            "an upgrade closes the connections of QUIC on UDP {address} at once, and new ones wait for some seconds: the kernel \
             does not tell the packets of two processes apart: {error}\n  remedy: allow the process setsockopt with \
             SO_ATTACH_REUSEPORT_CBPF, which Linux has since 4.5"
        );
    }
    Ok(OpenSocket { endpoint, port })
}

/// An endpoint that gets each packet by itself. quinn has the kernel join up to 64 of one client in a buffer, and any byte
/// that is not read yet keeps the whole buffer: its bounds count a packet for it.
fn endpoint_on(socket: UdpSocket, config: EndpointConfig) -> io::Result<Endpoint> {
    let copy = socket.try_clone()?;
    let runtime = Arc::new(TokioRuntime);
    let socket = Arc::new(MappedSocket(runtime.wrap_udp_socket(socket)?));
    let endpoint = Endpoint::new_with_abstract_socket(config, None, socket, runtime)?;
    // A kernel without the option joins none.
    let _ = separate(&copy);
    Ok(endpoint)
}

/// Waits until the last connections have told their clients of their end, and no other process has a socket on the port:
/// until then nobody can bind it anew. Ends the connections when another process waits for the port.
///
/// A new listener finds the socket meanwhile.
pub(super) async fn end(socket: Arc<QuicSocket>, endpoint: Endpoint, releasing: CancellationToken) {
    let releasing = async {
        releasing.cancelled().await;
        sleep(RELEASE).await;
    };
    tokio::select! {
        () = endpoint.wait_idle() => {}
        () = releasing => {
            endpoint.close(Code::None.into(), b"");
            endpoint.wait_idle().await;
        }
    }
    let open = socket.open.get();
    while open.is_some_and(|open| !open.port.is_alone()) {
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use quinn::udp::{Transmit, UdpSocketState};

    use super::*;

    #[tokio::test]
    async fn packets_that_come_together_are_not_joined() {
        const PACKET: usize = 1_200;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (copy, address) = (socket.try_clone().unwrap(), socket.local_addr().unwrap());
        // It reads nothing before this test waits.
        let _endpoint = endpoint_on(socket, EndpointConfig::default()).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sending = UdpSocketState::new((&client).into()).unwrap();
        let packets = sending.max_gso_segments().min(8);
        let batch = Transmit {
            destination: address,
            ecn: None,
            contents: &vec![7; packets * PACKET],
            segment_size: Some(PACKET).filter(|_| packets > 1),
            src_ip: None,
        };
        sending.try_send((&client).into(), &batch).unwrap();
        let mut buffer = vec![0; 64 << 10];
        for _ in 0..packets {
            assert_eq!(copy.recv(&mut buffer).unwrap(), PACKET);
        }
    }
}
