//! The bounds of a QUIC connection, and of the clients that wait to be accepted.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::{HandshakeTokenKey, ServerConfig as Crypto};
use quinn::{IdleTimeout, ServerConfig, TransportConfig, VarInt};

use super::streams::{FEW_QUIC_STREAMS, MAX_STREAMS};

/// Limit of unidirectional streams that a client has open: HTTP/3 needs three, and clients add some without a meaning.
const MAX_UNI_STREAMS: u32 = 8;

/// Bytes that a client may send on one stream before its session reads them.
const STREAM_WINDOW: u32 = 64 << 10;

/// The same for all streams together, so that unread streams leave the others their room.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;

/// Bytes of one connection that were written and that its client has not acknowledged. The rest waits in the outboxes,
/// which the configuration bounds.
const SEND_WINDOW: u64 = 256 << 10;

/// Bytes of datagrams that wait, either way. None are served: WebTransport clients ask for them all the same.
const DATAGRAMS: usize = 16 << 10;

/// Time without a packet after which a connection has ended, and the interval of pings that keep a live one from that.
/// Networks forget a quiet UDP client after 30 s.
const IDLE_TIMEOUT_MS: u32 = 30_000;
const PING: Duration = Duration::from_secs(12);

/// Limit of clients that wait to be accepted, and the bytes that they may send meanwhile: the first packets of a
/// handshake.
const BACKLOG: usize = 1_024;
const BACKLOG_BYTES: u64 = 16 << 10;
const BACKLOG_BYTES_IN_ALL: u64 = 4 << 20;

/// The configuration of a server with these bounds.
pub(super) fn bounded(
    crypto: Arc<dyn Crypto>,
    token_key: Arc<dyn HandshakeTokenKey>,
) -> ServerConfig {
    let mut config = ServerConfig::new(crypto, token_key);
    config
        .transport_config(Arc::new(transport()))
        .max_incoming(BACKLOG)
        .incoming_buffer_size(BACKLOG_BYTES)
        .incoming_buffer_size_total(BACKLOG_BYTES_IN_ALL);
    config
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(FEW_QUIC_STREAMS.into())
        .max_concurrent_uni_streams(MAX_UNI_STREAMS.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(Some(DATAGRAMS))
        .datagram_send_buffer_size(DATAGRAMS)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .keep_alive_interval(Some(PING));
    transport
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Instant;

    use bytes::BytesMut;
    use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
    use quinn::{ClientConfig, EndpointConfig};
    use quinn_proto::{DatagramEvent, Endpoint, Incoming};
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls_pki_types::PrivateKeyDer;

    use super::*;
    use crate::listener::quic_identity::QuicKeys;

    /// An endpoint without a socket.
    fn server() -> Endpoint {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let token_key = QuicKeys::derive(&key).retry;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let crypto = QuicServerConfig::try_from(tls).unwrap();
        let config = bounded(Arc::new(crypto), Arc::new(token_key));
        let own = Arc::new(EndpointConfig::default());
        Endpoint::new(own, Some(Arc::new(config)), true, None)
    }

    /// The first packet of a client.
    fn first_packet(clients: &mut Endpoint, config: &ClientConfig) -> BytesMut {
        let (now, server) = (Instant::now(), SocketAddr::from(([127, 0, 0, 1], 443)));
        let connecting = clients.connect(now, config.clone(), server, "localhost");
        let (_, mut connection) = connecting.unwrap();
        let mut packet = Vec::new();
        let sent = connection.poll_transmit(now, 1, &mut packet);
        assert!(sent.is_some(), "no packet");
        packet[..].into()
    }

    fn clients() -> (Endpoint, ClientConfig) {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let crypto = QuicClientConfig::try_from(tls).unwrap();
        let own = Arc::new(EndpointConfig::default());
        let clients = Endpoint::new(own, None, false, None);
        (clients, ClientConfig::new(Arc::new(crypto)))
    }

    fn come(server: &mut Endpoint, packet: BytesMut) -> Option<Incoming> {
        let from = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let came = server.handle(Instant::now(), from, None, None, packet, &mut Vec::new());
        match came {
            Some(DatagramEvent::NewConnection(incoming)) => Some(incoming),
            Some(_) => panic!("not a first packet"),
            None => None,
        }
    }

    #[test]
    fn clients_that_nobody_accepts_are_bounded_with_their_bytes() {
        let (mut server, (mut clients, config)) = (server(), clients());
        let mut waiting = Vec::new();
        for number in 0..BACKLOG {
            let packet = first_packet(&mut clients, &config);
            let length = packet.len() as u64;
            waiting.push(come(&mut server, packet.clone()).expect("a place"));
            // It sends on while it waits.
            let before = server.incoming_buffer_bytes();
            for _ in 0..=BACKLOG_BYTES / length {
                assert!(come(&mut server, packet.clone()).is_none());
            }
            let kept = server.incoming_buffer_bytes() - before;
            let is_full = before + BACKLOG_BYTES > BACKLOG_BYTES_IN_ALL;
            assert!(
                kept <= BACKLOG_BYTES && server.incoming_buffer_bytes() <= BACKLOG_BYTES_IN_ALL
            );
            assert!(
                is_full || kept > BACKLOG_BYTES - length,
                "{kept} bytes of client {number}"
            );
        }
        assert!(server.incoming_buffer_bytes() > BACKLOG_BYTES_IN_ALL - BACKLOG_BYTES);
        assert!(come(&mut server, first_packet(&mut clients, &config)).is_none());
        // One that is turned away leaves its place and its bytes.
        server.ignore(waiting.swap_remove(0));
        let next = come(&mut server, first_packet(&mut clients, &config)).expect("a place");
        waiting.push(next);
        waiting
            .into_iter()
            .for_each(|incoming| server.ignore(incoming));
        assert_eq!(server.incoming_buffer_bytes(), 0);
    }
}
