//! The beginning of a request's stream, up to its field section (RFC 9114 §4.1).

use super::MAX_HEAD;
use super::code::Code;
use super::frame::{self, FrameHead};

/// Limit of bytes in frames without a meaning before the field section: clients add some, to keep servers used to them
/// (RFC 9114 §7.2.8), and a few bytes each.
const MAX_PASSED_OVER: u64 = 4 << 10;

/// Reads the beginning of a stream. It asks for as many bytes as it needs, so that none of a later part is taken.
#[derive(Debug)]
pub(super) struct RequestStart {
    state: State,
    passed_over: u64,
}

#[derive(Debug)]
enum State {
    Head(FrameHead),
    /// In a frame without a meaning.
    PassedOver(u64),
    Fields {
        length: usize,
        bytes: Vec<u8>,
    },
}

/// The beginning of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The encoded field section.
    Fields(Vec<u8>),
    /// A field section that is longer than it may be. It was not read.
    TooLarge,
    /// No request, but a stream of the WebTransport session with this number. What follows is the session's.
    OfSession(u64),
}

impl RequestStart {
    pub(super) fn new() -> Self {
        Self {
            state: State::Head(FrameHead::default()),
            passed_over: 0,
        }
    }

    /// The most bytes that [`Self::read`] takes next.
    pub(super) fn wants(&self) -> usize {
        match &self.state {
            State::Head(_) => 1,
            State::PassedOver(left) => usize::try_from(*left).unwrap_or(usize::MAX),
            State::Fields { length, bytes } => length - bytes.len(),
        }
    }

    /// Takes bytes of the stream, no more than it [`Self::wants`]. An error ends the connection.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Option<Start>, Code> {
        match &mut self.state {
            State::Head(head) => {
                let byte = bytes.first().copied();
                if let Some((kind, length)) = byte.and_then(|byte| head.push(byte)) {
                    return self.begin(kind, length);
                }
            }
            State::PassedOver(left) => {
                *left = left.saturating_sub(bytes.len() as u64);
                if *left == 0 {
                    self.state = State::Head(FrameHead::default());
                }
            }
            State::Fields {
                length,
                bytes: fields,
            } => {
                fields.extend_from_slice(bytes);
                if fields.len() >= *length {
                    return Ok(Some(Start::Fields(std::mem::take(fields))));
                }
            }
        }
        Ok(None)
    }

    fn begin(&mut self, kind: u64, length: u64) -> Result<Option<Start>, Code> {
        match kind {
            frame::HEADERS => match usize::try_from(length) {
                Ok(0) => Ok(Some(Start::Fields(Vec::new()))),
                Ok(length @ ..=MAX_HEAD) => {
                    let bytes = Vec::with_capacity(length.min(1 << 10));
                    self.state = State::Fields { length, bytes };
                    Ok(None)
                }
                _ => Ok(Some(Start::TooLarge)),
            },
            frame::SESSION_STREAM if self.passed_over > 0 => Err(Code::FrameUnexpected),
            frame::SESSION_STREAM if !length.is_multiple_of(4) => Err(Code::Id),
            frame::SESSION_STREAM => Ok(Some(Start::OfSession(length))),
            kind if frame::is_known(kind) => Err(Code::FrameUnexpected),
            _ => {
                // A frame has two bytes of its own at least.
                self.passed_over = self.passed_over.saturating_add(length).saturating_add(2);
                if self.passed_over > MAX_PASSED_OVER {
                    return Err(Code::ExcessiveLoad);
                }
                if length > 0 {
                    self.state = State::PassedOver(length);
                }
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads pieces of at most `piece` bytes. Gives the bytes that were left, too.
    fn read(mut bytes: &[u8], piece: usize) -> Result<(Option<Start>, usize), Code> {
        let mut start = RequestStart::new();
        while !bytes.is_empty() {
            let (next, rest) = bytes.split_at(start.wants().min(piece).min(bytes.len()));
            bytes = rest;
            if let Some(start) = start.read(next)? {
                return Ok((Some(start), bytes.len()));
            }
        }
        Ok((None, 0))
    }

    #[track_caller]
    fn check(frames: &[(u64, &[u8])], expected: &Result<(Option<Start>, usize), Code>) {
        let mut bytes = Vec::new();
        for (kind, payload) in frames {
            frame::put(&mut bytes, *kind, payload);
        }
        for piece in [1, 3, usize::MAX] {
            assert_eq!(read(&bytes, piece), *expected, "pieces of {piece}");
        }
    }

    #[test]
    fn fields_are_read_to_their_last_byte_and_no_further() {
        let fields = || Some(Start::Fields(b"fields".to_vec()));
        check(&[(frame::HEADERS, b"fields")], &Ok((fields(), 0)));
        let behind = [
            (0x21, &b"grease"[..]),
            (frame::HEADERS, b"fields"),
            (frame::DATA, b"1234"),
        ];
        check(&behind, &Ok((fields(), 6)));
        check(
            &[(0x40, b""), (frame::HEADERS, b"")],
            &Ok((Some(Start::Fields(Vec::new())), 0)),
        );
    }

    #[test]
    fn frames_that_do_not_belong_to_a_request_end_the_connection() {
        for kind in [
            frame::DATA,
            frame::SETTINGS,
            frame::GOAWAY,
            frame::PUSH_PROMISE,
            0x09,
        ] {
            check(&[(kind, b"x")], &Err(Code::FrameUnexpected));
        }
    }

    #[test]
    fn streams_of_sessions_are_told_from_requests() {
        let stream = |session: u8| [&[0x40, 0x41, session], &b"payload"[..]].concat();
        assert_eq!(read(&stream(8), 3), Ok((Some(Start::OfSession(8)), 7)));
        assert_eq!(read(&stream(9), 3), Err(Code::Id));
        let late = [&[0x21, 0], &stream(8)[..]].concat();
        assert_eq!(read(&late, 3), Err(Code::FrameUnexpected));
    }

    #[test]
    fn field_section_and_grease_are_bounded() {
        for (length, expected) in [
            (MAX_HEAD, Ok((None, 0))),
            (MAX_HEAD + 1, Ok((Some(Start::TooLarge), 0))),
        ] {
            let mut head = Vec::new();
            frame::put_head(&mut head, frame::HEADERS, length);
            assert_eq!(read(&head, 1), expected);
        }
        let most = vec![0; MAX_PASSED_OVER as usize - 2];
        check(&[(0x21, &most)], &Ok((None, 0)));
        check(&[(0x21, &most), (0x21, b"")], &Err(Code::ExcessiveLoad));
    }
}
