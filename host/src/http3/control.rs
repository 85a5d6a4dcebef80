//! The client's control stream (RFC 9114 §6.2.1): its settings, then frames that hardly concern a server.

use super::code::Code;
use super::frame::{self, FrameHead};
use super::{settings, varint};

/// Longest frame in bytes that is taken on a control stream. Settings are a few dozen bytes, the others one number.
const MAX_FRAME: u64 = 4 << 10;

/// Reads a control stream, in whatever pieces it comes.
#[derive(Debug, Default)]
pub(super) struct ControlStream {
    /// Whether the settings have come.
    settled: bool,
    /// Whether they say that the client takes datagrams.
    pub(super) takes_datagrams: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Head(FrameHead),
    Payload {
        kind: u64,
        left: u64,
        /// Empty for a frame that is passed over.
        bytes: Vec<u8>,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Head(FrameHead::default())
    }
}

impl ControlStream {
    /// Takes bytes of the stream. An error ends the connection.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), Code> {
        while let Some((byte, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Head(head) => {
                    bytes = rest;
                    if let Some((kind, length)) = head.push(*byte) {
                        self.begin(kind, length)?;
                    }
                }
                State::Payload {
                    kind,
                    left,
                    bytes: payload,
                } => {
                    let length = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len());
                    let (own, rest) = bytes.split_at(length);
                    if frame::is_known(*kind) {
                        payload.extend_from_slice(own);
                    }
                    *left -= length as u64;
                    bytes = rest;
                }
            }
            self.end()?;
        }
        Ok(())
    }

    fn begin(&mut self, kind: u64, length: u64) -> Result<(), Code> {
        if !self.settled && kind != frame::SETTINGS {
            return Err(Code::MissingSettings);
        }
        match kind {
            frame::SETTINGS if !self.settled => {}
            frame::GOAWAY | frame::MAX_PUSH_ID => {}
            // Nothing was pushed that could be cancelled.
            frame::CANCEL_PUSH => return Err(Code::Id),
            kind if frame::is_known(kind) => return Err(Code::FrameUnexpected),
            _ => {}
        }
        if length > MAX_FRAME && frame::is_known(kind) {
            return Err(Code::ExcessiveLoad);
        }
        self.state = State::Payload {
            kind,
            left: length,
            bytes: Vec::new(),
        };
        Ok(())
    }

    /// Judges a frame that has come to its end.
    fn end(&mut self) -> Result<(), Code> {
        let State::Payload {
            kind,
            left: 0,
            bytes,
        } = &self.state
        else {
            return Ok(());
        };
        match *kind {
            frame::SETTINGS => {
                self.takes_datagrams = settings::check(bytes)?;
                self.settled = true;
            }
            frame::GOAWAY | frame::MAX_PUSH_ID => {
                let mut payload = &bytes[..];
                if varint::take(&mut payload).is_none() || !payload.is_empty() {
                    return Err(Code::Frame);
                }
            }
            _ => {}
        }
        self.state = State::default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the frames byte by byte, and all at once.
    #[track_caller]
    fn judge(frames: &[(u64, &[u8])], expected: Result<(), Code>) {
        let mut bytes = Vec::new();
        for (kind, payload) in frames {
            frame::put(&mut bytes, *kind, payload);
        }
        assert_eq!(ControlStream::default().read(&bytes), expected);
        let mut stream = ControlStream::default();
        let by_bytes = bytes.iter().try_for_each(|byte| stream.read(&[*byte]));
        assert_eq!(by_bytes, expected);
    }

    #[test]
    fn control_stream_is_settings_and_then_few_frames() {
        judge(
            &[
                (frame::SETTINGS, &[]),
                (0x21, b"grease"),
                (frame::GOAWAY, &[0]),
            ],
            Ok(()),
        );
        judge(
            &[(0x21, b"grease"), (frame::SETTINGS, &[])],
            Err(Code::MissingSettings),
        );
        let again: [(u64, &[u8]); 2] = [(frame::SETTINGS, &[]); 2];
        judge(&again, Err(Code::FrameUnexpected));
        for (kind, code) in [
            (frame::DATA, Code::FrameUnexpected),
            (frame::HEADERS, Code::FrameUnexpected),
            (frame::PUSH_PROMISE, Code::FrameUnexpected),
            (0x08, Code::FrameUnexpected),
            (frame::CANCEL_PUSH, Code::Id),
        ] {
            judge(&[(frame::SETTINGS, &[]), (kind, &[0])], Err(code));
        }
        judge(
            &[(frame::SETTINGS, &[]), (frame::MAX_PUSH_ID, &[1, 2])],
            Err(Code::Frame),
        );
    }

    #[test]
    fn frames_longer_than_the_bound_are_refused_before_they_come() {
        let most = MAX_FRAME as usize;
        judge(
            &[(frame::SETTINGS, &[]), (0x21, &vec![0; most + 1])],
            Ok(()),
        );
        for (length, expected) in [(most, Ok(())), (most + 1, Err(Code::ExcessiveLoad))] {
            let mut head = Vec::new();
            frame::put_head(&mut head, frame::SETTINGS, length);
            assert_eq!(ControlStream::default().read(&head), expected);
        }
    }
}
