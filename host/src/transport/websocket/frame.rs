//! Frames (RFC 6455 §5.2): those that the server writes, final and unmasked, and the unmasking of a client's.

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::connections::MessageKind;

pub(super) const CLOSE: OpCode = OpCode::Control(Control::Close);
pub(super) const PING: OpCode = OpCode::Control(Control::Ping);

/// The opcode for the frame of a whole message.
pub(super) fn opcode(kind: MessageKind) -> OpCode {
    OpCode::Data(match kind {
        MessageKind::Text => Data::Text,
        MessageKind::Binary => Data::Binary,
    })
}

/// Appends a frame to `out`, and gives its number of bytes.
pub(super) fn write(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) -> usize {
    let header = FrameHeader {
        is_final: true,
        opcode,
        mask: None,
        ..FrameHeader::default()
    };
    let length = payload.len() as u64;
    let frame_len = header.len(length) + payload.len();
    out.reserve(frame_len);
    header
        .format(length, out)
        .expect("a buffer takes all that is written to it");
    out.extend_from_slice(payload);
    frame_len
}

/// Unmasks a payload (RFC 6455 §5.3): sixteen bytes at a time, which is one instruction.
pub(super) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = [a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d];
    let (blocks, rest) = payload.as_chunks_mut::<16>();
    for block in blocks {
        for (byte, mask) in block.iter_mut().zip(wide) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in rest.iter_mut().zip(wide) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(opcode: OpCode, length: usize, header: &[u8]) {
        let (mut out, payload) = (vec![0xff], vec![b'x'; length]);
        let frame_len = write(&mut out, opcode, &payload);
        assert_eq!(out, [&[0xff], header, &payload].concat());
        assert_eq!(frame_len, out.len() - 1);
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        let (text, binary) = (opcode(MessageKind::Text), opcode(MessageKind::Binary));
        check(text, 0, &[0x81, 0]);
        check(text, 2, &[0x81, 2]);
        check(binary, 125, &[0x82, 125]);
        check(binary, 126, &[0x82, 126, 0, 126]);
        check(binary, 65_535, &[0x82, 126, 0xff, 0xff]);
        check(binary, 65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        check(PING, 0, &[0x89, 0]);
        check(CLOSE, 2, &[0x88, 2]);
    }
}
