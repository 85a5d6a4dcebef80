//! The fast path: nearly every message is one final, masked frame that has come whole (RFC 6455 §5.2), and is read in
//! place. All other input, wrong or only unusual, is left to tungstenite, which knows its errors.

use super::frame::unmask;
use crate::connections::Message;

/// The start of some input, as the fast path sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A simple message, and the number of its bytes.
    Message(Message, usize),
    /// Nothing, or the beginning of a message that may be simple.
    Unfinished,
    /// Any other input.
    Other,
}

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const MASKED: u8 = 0x80;

/// Parses the start of `bytes`. A simple message has at most `limit` bytes.
pub(crate) fn parse(bytes: &[u8], limit: usize) -> Parsed {
    let (text, second, rest) = match bytes {
        [] | [TEXT | BINARY] => return Parsed::Unfinished,
        [
            first @ (TEXT | BINARY),
            second @ MASKED..=u8::MAX,
            rest @ ..,
        ] => (*first == TEXT, *second, rest),
        _ => return Parsed::Other,
    };
    let (length, shortest, rest) = match (second - MASKED, rest) {
        (length @ 0..=125, rest) => (u64::from(length), 0, rest),
        (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 126, rest),
        (127, [a, b, c, d, e, f, g, h, rest @ ..]) => {
            let length = [*a, *b, *c, *d, *e, *f, *g, *h];
            (u64::from_be_bytes(length), 1 << 16, rest)
        }
        _ => return Parsed::Unfinished,
    };
    let length = match usize::try_from(length) {
        Ok(fits) if length >= shortest && fits <= limit => fits,
        _ => return Parsed::Other,
    };
    let Some((mask, rest)) = rest.split_first_chunk() else {
        return Parsed::Unfinished;
    };
    let Some(masked) = rest.get(..length) else {
        return Parsed::Unfinished;
    };
    let mut payload = masked.to_vec();
    unmask(&mut payload, *mask);
    let message = if text {
        match String::from_utf8(payload) {
            Ok(text) => Message::Text(text),
            Err(_) => return Parsed::Other,
        }
    } else {
        Message::Binary(payload)
    };
    Parsed::Message(message, bytes.len() - rest.len() + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// A masked frame with its length in `length_bytes` bytes.
    fn frame(first: u8, payload: &[u8], length_bytes: usize) -> Vec<u8> {
        let length = payload.len() as u64;
        let mut bytes = vec![first];
        match length_bytes {
            1 => bytes.push(0x80 | length as u8),
            2 => bytes.extend([0xfe, (length >> 8) as u8, length as u8]),
            _ => {
                bytes.push(0xff);
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
        bytes
    }

    #[track_caller]
    fn check_taken(bytes: &[u8], limit: usize, expected: &Message) {
        let expected = Parsed::Message(expected.clone(), bytes.len());
        assert_eq!(parse(bytes, limit), expected);
        // Bytes behind it change nothing; without all of its own it is unfinished.
        assert_eq!(parse(&[bytes, &[0x88]].concat(), limit), expected);
        for short in (0..bytes.len().min(20)).chain([bytes.len() - 1]) {
            assert_eq!(parse(&bytes[..short], limit), Parsed::Unfinished, "{short}");
        }
    }

    #[test]
    fn whole_simple_frame_is_parsed() {
        // From RFC 6455 §5.7.
        let hello = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        check_taken(&hello, 5, &Message::Text("Hello".into()));
        for length in [
            0, 1, 3, 4, 15, 16, 17, 125, 126, 127, 65_535, 65_536, 100_001,
        ] {
            let payload: Vec<_> = (0..length).map(|at| (at % 251) as u8).collect();
            let length_bytes = match length {
                0..126 => 1,
                126..0x1_0000 => 2,
                _ => 8,
            };
            let bytes = frame(0x82, &payload, length_bytes);
            check_taken(&bytes, length, &Message::Binary(payload));
        }
    }

    #[test]
    fn other_input_is_recognized_from_its_first_bytes() {
        let check = |input: &str, bytes: &[u8]| {
            assert_eq!(parse(bytes, 100_000), Parsed::Other, "{input}");
        };
        check("an unfinished message", &[0x01]);
        check("a continuation", &[0x80]);
        check("a ping", &[0x89]);
        check("a close", &[0x88]);
        check("a reserved bit", &[0xc1]);
        check("a reserved opcode", &[0x83]);
        check("no mask", &[0x81, 0x01]);
        check("no UTF-8", &frame(0x81, b"\xff", 1));
        check(
            "a length in two bytes that fits in one",
            &[0x82, 0xfe, 0, 125],
        );
        check(
            "a length in eight bytes that fits in two",
            &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
        );
        check(
            "the longest length",
            &[&[0x82, 0xff], &[0xff; 8][..]].concat(),
        );
        check(
            "over the limit",
            &[&[0x82, 0xff], &100_001u64.to_be_bytes()[..]].concat(),
        );
    }
}
