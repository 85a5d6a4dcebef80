//! A message, and the form it has on the wire. Knows the frame header of RFC 6455 §5.2 and nothing else
//! of WebSocket.

use bytes::{BufMut, Bytes};

/// One whole message, as a client sent it or as it is sent to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Binary(Vec<u8>),
}

impl Message {
    /// Bytes of the payload.
    pub(crate) fn len(&self) -> usize {
        self.payload().len()
    }

    fn payload(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    fn opcode(&self) -> u8 {
        match self {
            Self::Text(_) => 0x1,
            Self::Binary(_) => 0x2,
        }
    }
}

/// A message as one unmasked, final frame: what a server writes. Cloning shares the bytes, so a message
/// for many connections is encoded once.
#[derive(Clone, Debug)]
pub(crate) struct Frame(Bytes);

/// Bytes of the longest header a server writes.
const MAX_HEADER: usize = 10;

impl Frame {
    pub(crate) fn encode(message: &Message) -> Self {
        let mut bytes = Vec::with_capacity(MAX_HEADER + message.len());
        Self::encode_into(message, &mut bytes);
        Self(bytes.into())
    }

    /// Writes the frame of `message` at the end of `out`.
    pub(crate) fn encode_into(message: &Message, out: &mut Vec<u8>) {
        const FINAL: u8 = 0x80;
        out.reserve(MAX_HEADER + message.len());
        out.put_u8(FINAL | message.opcode());
        match message.len() {
            length @ 0..=125 => out.put_u8(length as u8),
            length @ 126..=0xffff => {
                out.put_u8(126);
                out.put_u16(length as u16);
            }
            length => {
                out.put_u8(127);
                out.put_u64(length as u64);
            }
        }
        out.put_slice(message.payload());
    }

    /// Bytes on the wire.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &Message, header: &[u8]) {
        let frame = Frame::encode(message);
        let (written, payload) = frame.as_ref().split_at(header.len());
        assert_eq!(written, header);
        assert_eq!(payload, message.payload());
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        check(&Message::Text(String::new()), &[0x81, 0]);
        check(&Message::Text("hi".into()), &[0x81, 2]);
        check(&Message::Binary(vec![7; 125]), &[0x82, 125]);
        check(&Message::Binary(vec![7; 126]), &[0x82, 126, 0, 126]);
        check(&Message::Binary(vec![7; 65_535]), &[0x82, 126, 0xff, 0xff]);
        check(
            &Message::Binary(vec![7; 65_536]),
            &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0],
        );
    }
}
