//! A UDP socket whose clients all have IPv6 addresses for quinn: those of IPv4 are written as `::ffff:192.0.2.1`.
//!
//! quinn keeps what it knows of a client's path when the port of an IPv4 address changes, as it may (RFC 9000 §9.4): a
//! router has forgotten the client, for all that it knows. So it also keeps the size of packets. Behind a balancer that
//! hides the addresses of clients, a move to another network looks the same, and where that takes smaller packets, nothing
//! arrives any more. On a path of IPv6, quinn begins anew with the smallest size.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// The socket under quinn, whose addresses are those of the system.
#[derive(Debug)]
pub(super) struct MappedSocket(pub(super) Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for MappedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(&Transmit {
            destination: canonical(transmit.destination),
            ecn: transmit.ecn,
            contents: transmit.contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip.map(|ip| ip.to_canonical()),
        })
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        packets: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.0.poll_recv(context, buffers, packets))?;
        for packet in packets.iter_mut().take(received) {
            if let IpAddr::V4(ip) = packet.addr.ip() {
                packet.addr.set_ip(mapped(ip));
            }
            if let Some(IpAddr::V4(ip)) = packet.dst_ip {
                packet.dst_ip = Some(mapped(ip));
            }
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

/// The address as the system has it.
pub(super) fn canonical(mut address: SocketAddr) -> SocketAddr {
    address.set_ip(address.ip().to_canonical());
    address
}

fn mapped(ip: Ipv4Addr) -> IpAddr {
    ip.to_ipv6_mapped().into()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::UdpSocket;

    use quinn::{Runtime as _, TokioRuntime};

    use super::*;

    #[tokio::test]
    async fn client_of_ipv4_has_an_address_of_ipv6_and_gets_its_answer() {
        let [socket, client] = [0, 1].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        let address = socket.local_addr().unwrap();
        let socket = MappedSocket(TokioRuntime.wrap_udp_socket(socket).unwrap());
        client.send_to(b"hello", address).unwrap();
        let mut buffer = vec![0; 64 << 10];
        let mut packet = [RecvMeta::default()];
        let received = poll_fn(|context| {
            socket.poll_recv(context, &mut [IoSliceMut::new(&mut buffer)], &mut packet)
        });
        assert_eq!(received.await.unwrap(), 1);
        let [packet] = packet;
        assert!(packet.addr.is_ipv6(), "{}", packet.addr);
        assert_eq!(canonical(packet.addr), client.local_addr().unwrap());
        let local = packet.dst_ip.unwrap();
        assert_eq!(
            (local.is_ipv6(), local.to_canonical()),
            (true, address.ip())
        );
        let answer = Transmit {
            destination: packet.addr,
            ecn: None,
            contents: b"hi",
            segment_size: None,
            src_ip: packet.dst_ip,
        };
        socket.try_send(&answer).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 2);
    }
}
