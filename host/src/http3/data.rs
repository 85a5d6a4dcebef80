//! The content of a stream behind its field section: DATA frames, out of which the bytes are taken.

use super::code::Code;
use super::frame::{self, FrameHead};

/// Takes frames apart, in whatever pieces they come.
#[derive(Debug)]
pub(super) struct DataFrames(State);

#[derive(Debug)]
enum State {
    Head(FrameHead),
    Data(u64),
    /// In a frame without a meaning.
    PassedOver(u64),
}

impl DataFrames {
    pub(super) fn new() -> Self {
        Self(State::Head(FrameHead::default()))
    }

    /// Whether all frames have come to their end.
    pub(super) fn is_whole(&self) -> bool {
        matches!(&self.0, State::Head(head) if head.is_empty())
    }

    /// Moves the data within `bytes`, the next of the stream, to its front, and gives their number. An error ends the
    /// connection: a CONNECT has no frame but DATA (RFC 9114 §4.4).
    pub(super) fn take_apart(&mut self, bytes: &mut [u8]) -> Result<usize, Code> {
        let (mut next, mut data) = (0, 0);
        while let Some(&byte) = bytes.get(next) {
            let (left, is_data) = match &mut self.0 {
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
                self.0 = State::Head(FrameHead::default());
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
        self.0 = match kind {
            _ if kind != frame::DATA && frame::is_known(kind) => {
                return Err(Code::FrameUnexpected);
            }
            _ if length == 0 => State::Head(FrameHead::default()),
            frame::DATA => State::Data(length),
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
            let (mut frames, mut data) = (DataFrames::new(), Vec::new());
            for part in bytes.chunks(piece) {
                let mut part = part.to_vec();
                let length = frames.take_apart(&mut part).unwrap();
                data.extend_from_slice(&part[..length]);
            }
            assert_eq!(data, [&b"one "[..], &[b'x'; 100]].concat(), "{piece}");
            assert!(frames.is_whole());
        }
        let mut frames = DataFrames::new();
        frames
            .take_apart(&mut [frame::DATA as u8, 5, b'a'])
            .unwrap();
        assert!(!frames.is_whole());
    }

    #[test]
    fn other_frames_end_the_connection() {
        for kind in [frame::HEADERS, frame::SETTINGS, 0x02] {
            let read = DataFrames::new().take_apart(&mut [kind as u8, 0]);
            assert_eq!(read, Err(Code::FrameUnexpected));
        }
    }
}
