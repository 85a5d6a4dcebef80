//! Datagrams (RFC 9297 §2.1): the number of a request's stream, in quarters, and the payload.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use quinn::SendDatagramError;

use super::session::Sessions;
use super::varint;
use crate::connections::{Datagram, DatagramError, DatagramSink};

/// The streams of requests are every fourth.
const QUARTER: u64 = 4;

/// The largest quarter of a stream's number.
const MAX_QUARTER: u64 = (1 << 60) - 1;

/// Takes a datagram apart: the number of the stream that it belongs to, and its payload. None if it names no stream.
pub(super) fn read(mut datagram: Bytes) -> Option<(u64, Bytes)> {
    let mut rest = &datagram[..];
    let quarter = varint::take(&mut rest).filter(|quarter| *quarter <= MAX_QUARTER)?;
    let head = datagram.len() - rest.len();
    datagram.advance(head);
    Some((quarter * QUARTER, datagram))
}

/// Sends the datagrams of one session.
///
/// They wait in quinn's buffer, which has a bound for the connection, until the network takes them.
#[derive(Debug)]
pub(crate) struct DatagramSender {
    /// What stands before each.
    head: Vec<u8>,
    quic: quinn::Connection,
    sessions: Arc<Sessions>,
}

impl DatagramSender {
    pub(super) fn new(session: u64, quic: quinn::Connection, sessions: Arc<Sessions>) -> Self {
        let mut head = Vec::new();
        varint::put(&mut head, session / QUARTER);
        Self {
            head,
            quic,
            sessions,
        }
    }
}

impl DatagramSink for DatagramSender {
    fn send(&self, payload: &[u8]) -> Result<Datagram, DatagramError> {
        let longest = self.quic.max_datagram_size();
        let Some(longest) = longest.filter(|_| self.sessions.take_datagrams()) else {
            return Err(match self.quic.close_reason() {
                Some(_) => DatagramError::Gone,
                None => DatagramError::NotTaken,
            });
        };
        let longest = longest.saturating_sub(self.head.len());
        if payload.len() > longest {
            return Err(DatagramError::TooLarge(longest));
        }
        let datagram = [&self.head[..], payload].concat();
        // quinn would drop older ones for it, and nobody would count them.
        if self.quic.datagram_send_buffer_space() < datagram.len() {
            return Ok(Datagram::Dropped);
        }
        match self.quic.send_datagram(datagram.into()) {
            Ok(()) => Ok(Datagram::Sent),
            Err(SendDatagramError::TooLarge) => Err(DatagramError::TooLarge(longest)),
            Err(SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled) => {
                Err(DatagramError::NotTaken)
            }
            Err(SendDatagramError::ConnectionLost(_)) => Err(DatagramError::Gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagram_names_its_stream_in_quarters() {
        let read = |bytes: &'static [u8]| read(Bytes::from_static(bytes));
        let payload = Bytes::from_static(b"hi");
        assert_eq!(read(b"\x02hi"), Some((8, payload.clone())));
        assert_eq!(read(b"\x40\x02hi"), Some((8, payload)));
        assert_eq!(read(b"\x00"), Some((0, Bytes::new())));
        for cut in [&b""[..], b"\x40", b"\xff\xff\xff"] {
            assert_eq!(read(cut), None);
        }
        // 2^60, of which no stream has the quadruple.
        assert_eq!(read(b"\xd0\0\0\0\0\0\0\0"), None);
    }
}
