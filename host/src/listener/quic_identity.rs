//! What a process has in common with those before and after it at a UDP port: the ids of connections, and the keys by which
//! one knows what another has sent.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::hmac;
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};
use quinn_proto::InvalidCid;
use rustls_pki_types::PrivateKeyDer;

use super::tls::Tls;
use crate::handover::{CONNECTION_ID, Port};

/// Least time between two stateless resets. After a crash each client needs one; none is longer than the packet that it
/// answers.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// The file with the machine's name, or the container's. It stays when the process does not.
const MACHINE: &str = "/proc/sys/kernel/hostname";

/// The keys that follow from the private key of a certificate: they stay when the process does not.
#[derive(Clone)]
pub(super) struct QuicKeys {
    /// Makes the token of a stateless reset out of a connection's id (RFC 9000 §10.3.2).
    reset: hmac::Key,
    /// Seals the addresses of clients that are told to come again (RFC 9000 §8.1.2).
    pub(super) retry: Prk,
}

impl QuicKeys {
    pub(super) fn derive(private: &PrivateKeyDer<'_>) -> Self {
        let salt = Salt::new(HKDF_SHA256, b"lockgate QUIC");
        let secret = salt.extract(private.secret_der());
        let reset = secret.expand(&[b"stateless reset"], hmac::HMAC_SHA256);
        Self {
            reset: reset.expect("it is as long as a hash").into(),
            retry: secret,
        }
    }
}

/// The key of stateless resets: that of the certificate that is shown now to clients that name no host.
///
/// The tokens are those of one address of one machine. Otherwise anyone who sees the id of a connection could end it, by a
/// packet with that id to another listener with the certificate: that has no such connection, and would give the
/// token away (RFC 9000 §21.11).
#[derive(Clone)]
pub(super) struct ResetKey {
    tls: Arc<ArcSwapOption<Tls>>,
    place: Arc<str>,
}

impl ResetKey {
    pub(super) fn of(address: SocketAddr) -> Self {
        // Without a name it is a machine like others without one.
        let machine = fs::read_to_string(MACHINE).unwrap_or_default();
        Self {
            tls: Arc::default(),
            place: format!("{} {address} ", machine.trim_end()).into(),
        }
    }

    pub(super) fn set(&self, tls: &Arc<Tls>) {
        self.tls.store(Some(Arc::clone(tls)));
    }

    fn current(&self) -> Option<hmac::Key> {
        let tls = self.tls.load();
        Some(tls.as_ref()?.quic_keys()?.reset)
    }

    fn at_place(&self, data: &[u8]) -> Vec<u8> {
        [self.place.as_bytes(), data].concat()
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], out: &mut [u8]) {
        // Before a listener has accepted there is no connection.
        if let Some(key) = self.current() {
            key.sign(&self.at_place(data), out);
        }
    }

    fn signature_len(&self) -> usize {
        hmac::HMAC_SHA256.digest_algorithm().output_len
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let key = self.current().ok_or(CryptoError)?;
        key.verify(&self.at_place(data), signature)
    }
}

/// Makes ids with the tag of this process. The rest is random, so that nobody else can tell which belong together.
struct ConnectionIds(Arc<Port>);

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CONNECTION_ID];
        getrandom::fill(&mut id).expect("the operating system has random numbers");
        let tag = self.0.tag();
        if let Some(start) = id.first_chunk_mut() {
            *start = tag;
        }
        ConnectionId::new(&id)
    }

    /// Refuses the ids of other processes: a reset by this one would end their connections. Those of processes that were
    /// killed are taken, so that their clients are told.
    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let tag = id.get(..self.0.tag().len()).unwrap_or_default();
        match self.0.is_of_another(tag) {
            true => Err(InvalidCid),
            false => Ok(()),
        }
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

pub(super) fn endpoint_config(port: Arc<Port>, key: ResetKey) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(key));
    config
        .min_reset_interval(RESET_INTERVAL)
        .cid_generator(move || Box::new(ConnectionIds(Arc::clone(&port))));
    config
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Instant;

    use bytes::BytesMut;
    use quinn_proto::{DatagramEvent, Endpoint};

    use super::*;
    use crate::handover::Sockets;

    /// Packets of no connection here, which anyone can send from the address of another.
    #[test]
    fn resets_are_one_in_their_interval_and_shorter_than_what_they_answer() {
        let from = SocketAddr::from(([127, 0, 0, 1], 0));
        let (_socket, port) = Sockets::default().open_port(from).unwrap();
        let config = endpoint_config(port, ResetKey::of(from));
        let mut endpoint = Endpoint::new(Arc::new(config), None, true, None);
        let packet = [&[0x40], &[7; 99][..]].concat();
        let mut answers = |at: Instant| {
            let (packet, mut answer) = (BytesMut::from(&packet[..]), Vec::new());
            match endpoint.handle(at, from, None, None, packet, &mut answer) {
                Some(DatagramEvent::Response(_)) => Some(answer.len()),
                Some(_) => panic!("not a reset"),
                None => None,
            }
        };
        let start = Instant::now();
        for (after, is_answered) in [
            (Duration::ZERO, true),
            (RESET_INTERVAL / 2, false),
            (RESET_INTERVAL, true),
            (RESET_INTERVAL, false),
        ] {
            let answer = answers(start + after);
            assert_eq!(answer.is_some(), is_answered, "after {after:?}");
            assert!(answer.is_none_or(|length| length < packet.len()));
        }
    }
}
