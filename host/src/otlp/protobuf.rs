//! Protocol Buffers, as far as OTLP needs them: messages are written field by field, and answers read the same way
//! (<https://protobuf.dev/programming-guides/encoding>).

/// The ways in which a field is written.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// A message being written. Fields may come in any order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn integer(&mut self, field: u64, value: u64) {
        self.tag(field, VARINT);
        self.varint(value);
    }

    pub(super) fn fixed64(&mut self, field: u64, value: u64) {
        self.tag(field, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn fixed32(&mut self, field: u64, value: u32) {
        self.tag(field, FIXED32);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes, a text or a message.
    pub(super) fn bytes(&mut self, field: u64, value: &[u8]) {
        self.header(field, value.len());
        self.0.extend_from_slice(value);
    }

    /// The tag and the length of bytes that follow.
    pub(super) fn header(&mut self, field: u64, length: usize) {
        self.tag(field, LENGTH);
        self.varint(length as u64);
    }

    /// A message within this one.
    pub(super) fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        self.tag(field, LENGTH);
        let begin = self.0.len();
        write(self);
        // Its length stands before it, and is known now.
        let length = self.0.len() - begin;
        self.varint(length as u64);
        let moved = self.0.len() - begin - length;
        if let Some(both) = self.0.get_mut(begin..) {
            both.rotate_right(moved);
        }
    }

    /// Bytes behind their header.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn tag(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A field of a message that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Integer(u64),
    Bytes(&'a [u8]),
    /// A number of fixed size, which no answer has.
    Fixed,
}

/// The fields of a message with their numbers, up to its end or to the first that is malformed.
pub(super) fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        let tag = read_varint(&mut message)?;
        let field = match tag & 7 {
            VARINT => Field::Integer(read_varint(&mut message)?),
            LENGTH => {
                let length = usize::try_from(read_varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Field::Bytes(bytes)
            }
            kind @ (FIXED64 | FIXED32) => {
                let length = if kind == FIXED64 { 8 } else { 4 };
                message = message.get(length..)?;
                Field::Fixed
            }
            _ => return None,
        };
        Some((tag >> 3, field))
    })
}

fn read_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn message_is_written_as_the_specification_shows() {
        let mut message = Message::default();
        message.integer(1, 150);
        message.bytes(2, b"testing");
        message.message(3, |inner| inner.integer(1, 150));
        let expected = b"\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01";
        assert_eq!(message.as_bytes(), expected);
    }

    #[test]
    fn fields_of_a_cut_message_end_before_the_cut() {
        let mut message = Message::default();
        message.fixed64(4, 1);
        message.fixed32(5, 1);
        message.message(6, |inner| inner.bytes(2, &[7; 200]));
        let whole = message.as_bytes();
        let read: Vec<_> = fields(whole).map(|(field, _)| field).collect();
        assert_eq!(read, [4, 5, 6]);
        for cut in 0..whole.len() {
            assert!(fields(&whole[..cut]).count() < 3);
        }
        assert_eq!(fields(&[0x08, 0xff, 0xff]).count(), 0);
        assert_eq!(fields(&[0xff; 12]).count(), 0);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(numbers: Vec<u64>, bytes: Vec<u8>) {
            let mut message = Message::default();
            for number in &numbers {
                message.integer(1, *number);
            }
            message.message(2, |inner| inner.bytes(3, &bytes));
            let mut read = fields(message.as_bytes());
            for number in &numbers {
                prop_assert_eq!(read.next(), Some((1, Field::Integer(*number))));
            }
            let Some((2, Field::Bytes(inner))) = read.next() else { panic!("no message") };
            prop_assert_eq!(fields(inner).next(), Some((3, Field::Bytes(&bytes[..]))));
        }

        #[test]
        fn any_bytes_are_read_to_an_end(bytes: Vec<u8>) {
            prop_assert!(fields(&bytes).count() <= bytes.len());
        }
    }
}
