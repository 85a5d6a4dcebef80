//! Capsules on the stream of a WebTransport session (RFC 9297 §3.2; draft-ietf-webtrans-http3 §6): its close.

use super::frame::{self, FrameHead};

const CLOSE_SESSION: u64 = 0x2843;

/// Longest close in bytes: a code, and a reason of 1,024.
const LONGEST: usize = 4 + 1_024;

/// The close of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionClose {
    pub(crate) code: u32,
    pub(crate) reason: String,
}

/// A capsule that breaks its form, or is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads capsules, in whatever pieces they come. Those of other types are passed over.
#[derive(Debug, Default)]
pub(super) struct Capsules(State);

#[derive(Debug)]
enum State {
    Head(FrameHead),
    Close { length: usize, bytes: Vec<u8> },
    PassedOver(u64),
}

impl Default for State {
    fn default() -> Self {
        Self::Head(FrameHead::default())
    }
}

impl Capsules {
    /// Whether all capsules have come to their end.
    pub(super) fn is_whole(&self) -> bool {
        matches!(&self.0, State::Head(head) if head.is_empty())
    }

    /// Takes bytes of the stream. Gives the close, if it has come; nothing behind it counts.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<Option<SessionClose>, Malformed> {
        while let Some((byte, rest)) = bytes.split_first() {
            let left = match &mut self.0 {
                State::Head(head) => {
                    bytes = rest;
                    let Some((kind, length)) = head.push(*byte) else {
                        continue;
                    };
                    self.0 = match usize::try_from(length) {
                        Ok(length @ 4..=LONGEST) if kind == CLOSE_SESSION => State::Close {
                            length,
                            bytes: Vec::new(),
                        },
                        _ if kind == CLOSE_SESSION => return Err(Malformed),
                        Ok(0) => State::default(),
                        _ => State::PassedOver(length),
                    };
                    continue;
                }
                State::Close { length, bytes } => (*length - bytes.len()) as u64,
                State::PassedOver(left) => *left,
            };
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let (own, rest) = bytes.split_at(taken);
            bytes = rest;
            match &mut self.0 {
                State::Close { length, bytes } => {
                    bytes.extend_from_slice(own);
                    if bytes.len() == *length {
                        return close(bytes).map(Some);
                    }
                }
                State::PassedOver(left) => {
                    *left -= taken as u64;
                    if *left == 0 {
                        self.0 = State::default();
                    }
                }
                State::Head(_) => {}
            }
        }
        Ok(None)
    }
}

fn close(payload: &[u8]) -> Result<SessionClose, Malformed> {
    let (code, reason) = payload.split_first_chunk().ok_or(Malformed)?;
    Ok(SessionClose {
        code: u32::from_be_bytes(*code),
        reason: String::from_utf8(reason.to_vec()).map_err(|_| Malformed)?,
    })
}

/// Appends the capsule of a close.
pub(super) fn put_close(out: &mut Vec<u8>, close: &SessionClose) {
    let payload = [&close.code.to_be_bytes(), close.reason.as_bytes()].concat();
    frame::put(out, CLOSE_SESSION, &payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], piece: usize) -> Result<Option<SessionClose>, Malformed> {
        let mut capsules = Capsules::default();
        for part in bytes.chunks(piece) {
            if let Some(close) = capsules.read(part)? {
                return Ok(Some(close));
            }
        }
        Ok(None)
    }

    #[test]
    fn close_is_found_behind_other_capsules() {
        let close = SessionClose {
            code: 4_000,
            reason: "bye".into(),
        };
        let mut bytes = Vec::new();
        frame::put(&mut bytes, 0x78ae, b"");
        frame::put(&mut bytes, 0x1234, &[7; 100]);
        put_close(&mut bytes, &close);
        bytes.extend_from_slice(b"what comes behind");
        for piece in [1, 3, 1_000] {
            assert_eq!(read(&bytes, piece), Ok(Some(close.clone())));
        }
    }

    #[test]
    fn malformed_close_is_refused() {
        let long = "x".repeat(1_025);
        for payload in [
            &b"abc"[..],
            b"\0\0\0\0\xc3\x28",
            &[&[0; 4], long.as_bytes()].concat(),
        ] {
            let mut bytes = Vec::new();
            frame::put(&mut bytes, CLOSE_SESSION, payload);
            assert_eq!(read(&bytes, 5), Err(Malformed));
        }
    }
}
