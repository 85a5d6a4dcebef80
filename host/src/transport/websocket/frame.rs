//! Frames (RFC 6455 §5.2): those that the server writes, unmasked, and the unmasking of a client's.

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::connections::MessageKind;

pub(super) const CLOSE: OpCode = OpCode::Control(Control::Close);
const CONTINUATION: OpCode = OpCode::Data(Data::Continue);
pub(super) const PING: OpCode = OpCode::Control(Control::Ping);

/// The opcode for the first frame of a message.
fn opcode(kind: MessageKind) -> OpCode {
    OpCode::Data(match kind {
        MessageKind::Text => Data::Text,
        MessageKind::Binary => Data::Binary,
    })
}

/// Appends a message to `out`, and gives its number of bytes: one frame, or several of at most `longest` bytes
/// (RFC 6455 §5.4).
pub(super) fn write_message(
    out: &mut Vec<u8>,
    kind: MessageKind,
    payload: &[u8],
    longest: usize,
) -> usize {
    let (mut opcode, mut rest, mut written) = (opcode(kind), payload, 0);
    while let Some((part, further)) = rest.split_at_checked(longest)
        && !further.is_empty()
    {
        written += write_part(out, opcode, part, false);
        (opcode, rest) = (CONTINUATION, further);
    }
    written + write(out, opcode, rest)
}

/// Appends a final frame to `out`, and gives its number of bytes.
pub(super) fn write(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) -> usize {
    write_part(out, opcode, payload, true)
}

fn write_part(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8], is_final: bool) -> usize {
    let header = FrameHeader {
        is_final,
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
    fn message_over_the_longest_frame_goes_in_fragments() {
        let check = |payload: &[u8], frames: &[u8]| {
            let mut out = Vec::new();
            let written = write_message(&mut out, MessageKind::Text, payload, 3);
            assert_eq!((out.as_slice(), written), (frames, frames.len()));
        };
        check(b"", &[0x81, 0]);
        check(b"abc", &[0x81, 3, b'a', b'b', b'c']);
        check(b"abcd", &[0x01, 3, b'a', b'b', b'c', 0x80, 1, b'd']);
        check(
            b"abcdefg",
            &[
                0x01, 3, b'a', b'b', b'c', 0x00, 3, b'd', b'e', b'f', 0x80, 1, b'g',
            ],
        );
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
