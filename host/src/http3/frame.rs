//! Frames (RFC 9114 §7): a type, a length, and that many bytes.

use super::varint;

pub(super) const DATA: u64 = 0x00;
pub(super) const HEADERS: u64 = 0x01;
pub(super) const CANCEL_PUSH: u64 = 0x03;
pub(super) const SETTINGS: u64 = 0x04;
pub(super) const PUSH_PROMISE: u64 = 0x05;
pub(super) const GOAWAY: u64 = 0x07;
pub(super) const MAX_PUSH_ID: u64 = 0x0d;

/// Begins a stream of a WebTransport session, whose number stands for the length.
pub(super) const SESSION_STREAM: u64 = 0x41;

/// The frames of HTTP/2 that HTTP/3 has not, and that must not come (RFC 9114 §7.2.8).
const OF_HTTP_2: [u64; 4] = [0x02, 0x06, 0x08, 0x09];

/// Longest type and length together, in bytes.
pub(super) const MAX_HEAD: usize = 16;

/// Whether a frame of this type has a meaning, or must not come at all. Frames of other types are passed over, wherever
/// they come (RFC 9114 §9).
pub(super) fn is_known(kind: u64) -> bool {
    matches!(
        kind,
        DATA | HEADERS | CANCEL_PUSH | SETTINGS | PUSH_PROMISE | GOAWAY | MAX_PUSH_ID
    ) || OF_HTTP_2.contains(&kind)
}

/// The type and length of a frame, taken byte by byte.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FrameHead {
    bytes: [u8; MAX_HEAD],
    taken: usize,
}

impl FrameHead {
    /// Takes the next byte. Gives type and length once they are whole, and begins anew.
    pub(super) fn push(&mut self, byte: u8) -> Option<(u64, u64)> {
        // Any two integers fit.
        *self.bytes.get_mut(self.taken)? = byte;
        self.taken += 1;
        let mut bytes = self.bytes.get(..self.taken)?;
        let head = (varint::take(&mut bytes)?, varint::take(&mut bytes)?);
        self.taken = 0;
        Some(head)
    }

    /// Whether no byte of a frame has come.
    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0
    }
}

/// Appends the type and length of a frame.
pub(super) fn put_head(out: &mut Vec<u8>, kind: u64, length: usize) {
    varint::put(out, kind);
    varint::put(out, length as u64);
}

/// Appends a frame.
pub(super) fn put(out: &mut Vec<u8>, kind: u64, payload: &[u8]) {
    put_head(out, kind, payload.len());
    out.extend_from_slice(payload);
}
