//! The content of a stream behind its field section: DATA frames, out of which the bytes are taken. A request without a
//! tunnel may have another field section behind them, its trailers, of which nothing is read.

use super::code::Code;
use super::frame::{self, FrameHead};

/// Takes frames apart, in whatever pieces they come.
#[derive(Debug)]
pub(super) struct DataFrames {
    state: State,
    trailers: Trailers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trailers {
    /// Of a tunnel.
    Forbidden,
    Allowed,
    /// They have begun: nothing comes behind them.
    Begun,
}

#[derive(Debug)]
enum State {
    Head(FrameHead),
    Data(u64),
    /// In a frame without a meaning.
    PassedOver(u64),
}

impl DataFrames {
    /// Those of an extended CONNECT.
    pub(super) fn of_tunnel() -> Self {
        Self {
            state: State::Head(FrameHead::default()),
            trailers: Trailers::Forbidden,
        }
    }

    /// Those of any other request.
    pub(super) fn of_request() -> Self {
        Self {
            trailers: Trailers::Allowed,
            ..Self::of_tunnel()
        }
    }

    /// Whether all frames have come to their end.
    pub(super) fn is_whole(&self) -> bool {
        matches!(&self.state, State::Head(head) if head.is_empty())
    }

    /// Moves the data within `bytes`, the next of the stream, to its front, and gives their number. An error ends the
    /// connection: a CONNECT has no frame but DATA (RFC 9114 §4.4), and others have them in order (§4.1).
    pub(super) fn take_apart(&mut self, bytes: &mut [u8]) -> Result<usize, Code> {
        let (mut next, mut data) = (0, 0);
        while let Some(&byte) = bytes.get(next) {
            let (left, is_data) = match &mut self.state {
                State::Head(head) => {
                    next += 1;
                    if let Some((kind, length)) = head.push(byte) {
                        self.begin(kind, length)?;
                    }
                    continue;
                }
                State::Data(left) => (left, true),
                State::PassedOver(left) => (left, false),
            };
            let rest = bytes.len() - next;
            let length = usize::try_from(*left).unwrap_or(usize::MAX).min(rest);
            *left -= length as u64;
            if *left == 0 {
                self.state = State::Head(FrameHead::default());
            }
            if is_data {
                bytes.copy_within(next..next + length, data);
                data += length;
            }
            next += length;
        }
        Ok(data)
    }

    fn begin(&mut self, kind: u64, length: u64) -> Result<(), Code> {
        let is_data = kind == frame::DATA && self.trailers != Trailers::Begun;
        let is_trailers = kind == frame::HEADERS && self.trailers == Trailers::Allowed;
        if frame::is_known(kind) && !is_data && !is_trailers {
            return Err(Code::FrameUnexpected);
        }
        if is_trailers {
            self.trailers = Trailers::Begun;
        }
        self.state = match length {
            0 => State::Head(FrameHead::default()),
            _ if is_data => State::Data(length),
            _ => State::PassedOver(length),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_are_taken_out_of_frames_in_pieces_of_every_length() {
        let mut bytes = Vec::new();
        frame::put(&mut bytes, frame::DATA, b"one ");
        frame::put(&mut bytes, 0x21, b"grease");
        frame::put(&mut bytes, frame::DATA, b"");
        frame::put(&mut bytes, frame::DATA, &[b'x'; 100]);
        for piece in 1..bytes.len() {
            let (mut frames, mut data) = (DataFrames::of_tunnel(), Vec::new());
            for part in bytes.chunks(piece) {
                let mut part = part.to_vec();
                let length = frames.take_apart(&mut part).unwrap();
                data.extend_from_slice(&part[..length]);
            }
            assert_eq!(data, [&b"one "[..], &[b'x'; 100]].concat(), "{piece}");
            assert!(frames.is_whole());
        }
        let mut frames = DataFrames::of_tunnel();
        frames
            .take_apart(&mut [frame::DATA as u8, 5, b'a'])
            .unwrap();
        assert!(!frames.is_whole());
    }

    #[test]
    fn trailers_of_a_request_are_passed_over_and_nothing_follows_them() {
        let mut bytes = Vec::new();
        frame::put(&mut bytes, frame::DATA, b"body");
        frame::put(&mut bytes, frame::HEADERS, b"trailers");
        frame::put(&mut bytes, 0x21, b"grease");
        let mut frames = DataFrames::of_request();
        assert_eq!(frames.take_apart(&mut bytes), Ok(4));
        assert!(frames.is_whole());
        for kind in [frame::DATA, frame::HEADERS] {
            let mut more = DataFrames::of_request();
            more.take_apart(&mut [frame::HEADERS as u8, 0]).unwrap();
            let read = more.take_apart(&mut [kind as u8, 0]);
            assert_eq!(read, Err(Code::FrameUnexpected));
        }
    }

    #[test]
    fn other_frames_end_the_connection() {
        for kind in [frame::HEADERS, frame::SETTINGS, 0x02] {
            let read = DataFrames::of_tunnel().take_apart(&mut [kind as u8, 0]);
            assert_eq!(read, Err(Code::FrameUnexpected));
        }
    }
}
