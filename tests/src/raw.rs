//! A client that writes frames byte by byte, so that it can write invalid ones.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Duplex, within};

/// One connection after its 101, without a WebSocket library on the client's side.
pub struct RawClient {
    stream: Box<dyn Duplex>,
    received: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opcode(pub u8);

impl Opcode {
    pub const CONTINUATION: Self = Self(0);
    pub const TEXT: Self = Self(1);
    pub const BINARY: Self = Self(2);
    pub const CLOSE: Self = Self(8);
    pub const PING: Self = Self(9);
    pub const PONG: Self = Self(10);
}

/// One frame of RFC 6455 §5.2, valid unless a test changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub opcode: Opcode,
    pub payload: Vec<u8>,
    /// The three reserved bits: 4, 2 and 1.
    pub reserved: u8,
    pub masked: bool,
    /// The declared length, where it differs from the payload's.
    pub declared: Option<u64>,
}

impl Frame {
    #[must_use]
    pub fn new(opcode: Opcode, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            fin: true,
            opcode,
            payload: payload.into(),
            reserved: 0,
            masked: true,
            declared: None,
        }
    }

    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::new(Opcode::TEXT, text)
    }

    #[must_use]
    pub fn close(code: u16, reason: &[u8]) -> Self {
        Self::new(Opcode::CLOSE, [&code.to_be_bytes(), reason].concat())
    }

    /// Clears the FIN bit: more frames of the message follow.
    #[must_use]
    pub fn unfinished(mut self) -> Self {
        self.fin = false;
        self
    }

    #[must_use]
    pub fn unmasked(mut self) -> Self {
        self.masked = false;
        self
    }

    #[must_use]
    pub fn reserved(mut self, bits: u8) -> Self {
        self.reserved = bits;
        self
    }

    /// Declares another length than the payload's.
    #[must_use]
    pub fn declaring(mut self, length: u64) -> Self {
        self.declared = Some(length);
        self
    }

    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let mut bytes = vec![u8::from(self.fin) << 7 | self.reserved << 4 | self.opcode.0];
        let mask_bit = u8::from(self.masked) << 7;
        let length = self.declared.unwrap_or(self.payload.len() as u64);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length @ 0..=125), _) => bytes.push(mask_bit | length),
            (_, Ok(length)) => {
                bytes.push(mask_bit | 126);
                bytes.extend(length.to_be_bytes());
            }
            (_, Err(_)) => {
                bytes.push(mask_bit | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend(MASK);
            bytes.extend(
                self.payload
                    .iter()
                    .zip(MASK.iter().cycle())
                    .map(|(byte, mask)| byte ^ mask),
            );
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }
}

impl RawClient {
    /// A client on any stream, of which `received` has been read already.
    #[must_use]
    pub fn new(stream: Box<dyn Duplex>, received: Vec<u8>) -> Self {
        Self { stream, received }
    }

    pub async fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.bytes()).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        within("bytes to go out", sent).await.unwrap();
    }

    /// Reads and drops `bytes` bytes at most; false at the end of the connection.
    pub async fn take_some(&mut self, bytes: usize) -> bool {
        self.received.clear();
        let mut some = vec![0; bytes];
        let read = within("bytes to come", self.stream.read(&mut some)).await;
        read.is_ok_and(|bytes| bytes > 0)
    }

    /// The server's next frame; none at the end of the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = parse(&self.received) {
                self.received.drain(..length);
                return Some(frame);
            }
            let read = within("a frame", self.stream.read_buf(&mut self.received)).await;
            if read.is_ok_and(|length| length > 0) {
                continue;
            }
            assert!(
                self.received.is_empty(),
                "the connection ended within a frame"
            );
            return None;
        }
    }

    /// The server's next frame that is neither a ping nor a pong.
    pub async fn data(&mut self) -> Option<Frame> {
        loop {
            match self.frame().await {
                Some(Frame {
                    opcode: Opcode::PING | Opcode::PONG,
                    ..
                }) => {}
                frame => return frame,
            }
        }
    }

    /// Checks that the server's next frame is this text.
    pub async fn expect(&mut self, text: &str) {
        let frame = self.data().await.unwrap();
        assert_eq!(
            (frame.opcode, frame.payload.as_slice()),
            (Opcode::TEXT, text.as_bytes())
        );
    }

    /// Checks that the server closes next with this code, and then ends the connection; returns the reason.
    pub async fn expect_close(&mut self, code: u16) -> String {
        let frame = self.data().await;
        let Some(frame) = frame else {
            panic!("ended without a close frame, and not with {code}")
        };
        assert_eq!(
            frame.opcode,
            Opcode::CLOSE,
            "in place of a close frame: {frame:?}"
        );
        assert!(
            frame.payload.len() >= 2,
            "a close frame without a code, and not with {code}"
        );
        let given = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
        let reason = String::from_utf8(frame.payload[2..].to_vec()).unwrap();
        assert_eq!(given, code, "closed with reason {reason:?}");
        assert_eq!(self.data().await, None, "a frame after the close frame");
        reason
    }

    /// Ends the TCP connection without a word.
    pub fn vanish(self) {
        drop(self.stream);
    }
}

/// The first frame in the bytes of a server, which masks nothing, and its length on the wire.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let [first, second, ..] = *bytes else {
        return None;
    };
    assert_eq!(second & 0x80, 0, "a masked frame from the server");
    let (length, head) = match second & 0x7f {
        126 => (
            u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())),
            4,
        ),
        127 => (
            u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()),
            10,
        ),
        length => (u64::from(length), 2),
    };
    let end = head + usize::try_from(length).unwrap();
    let frame = Frame {
        fin: first & 0x80 != 0,
        opcode: Opcode(first & 0x0f),
        payload: bytes.get(head..end)?.to_vec(),
        reserved: first >> 4 & 7,
        masked: false,
        declared: None,
    };
    Some((frame, end))
}

#[cfg(test)]
mod tests {
    use super::{Frame, Opcode, parse};

    #[test]
    fn frame_reads_back_as_written() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let frame = Frame::new(Opcode::BINARY, vec![7; length]).unmasked();
            let bytes = frame.bytes();
            assert_eq!(parse(&bytes), Some((frame, bytes.len())));
            assert_eq!(parse(&bytes[..bytes.len() - 1]), None);
        }
    }
}
