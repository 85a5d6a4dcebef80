//! Frames of the bench: made once, patched for each message, and compared whole.

use anyhow::{Result, bail};

use crate::client::Scheme;

/// A client's frames are masked; the key may be any.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Digits of a message's number.
const DIGITS: usize = 12;

/// The length of the shortest message with all its parts.
pub(crate) const MIN_BYTES: usize = 64;

/// A text message `{"action":"…","id":"000000000042",…}`, in which only the number changes.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// The payload, with zeros for the number.
    payload: Vec<u8>,
    /// The frame of that payload, masked in a WebSocket.
    frame: Vec<u8>,
    /// The offset of the number in the payload.
    id_at: usize,
    framing: Framing,
}

/// The form of a message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// RFC 6455 §5.2.
    WebSocket,
    /// That of WebTransport sessions: as a WebSocket's without its first byte, and without a mask.
    Session,
}

impl Template {
    /// A message of `bytes` bytes, at least [`MIN_BYTES`]; for a post, `to` is the target connection.
    pub(crate) fn new(action: &str, to: Option<&str>, bytes: usize) -> Self {
        let start = format!(r#"{{"action":"{action}","id":""#);
        // A post names its receiver within the length of an echo.
        let (before, padding, after) = match to {
            Some(to) => (format!(r#"","to":"{to}""#), ' ', "}"),
            None => (r#"","text":""#.to_owned(), 'x', "\"}"),
        };
        let id_at = start.len();
        let mut text = format!("{start}{:0DIGITS$}{before}", 0);
        let missing = bytes.saturating_sub(text.len() + after.len());
        text.extend(std::iter::repeat_n(padding, missing));
        text.push_str(after);
        let payload = text.into_bytes();
        let mut frame = Vec::new();
        header(&mut frame, payload.len(), 0x80);
        frame.extend_from_slice(&MASK);
        frame.extend(
            payload
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        Self {
            payload,
            frame,
            id_at,
            framing: Framing::WebSocket,
        }
    }

    /// The same message in the form that goes over this scheme.
    pub(crate) fn over(self, scheme: Scheme) -> Self {
        if scheme != Scheme::Wt {
            return self;
        }
        let mut frame = Vec::new();
        unmasked(&self.payload, &mut frame);
        frame.remove(0);
        Self {
            frame,
            framing: Framing::Session,
            ..self
        }
    }

    /// The length of the frame from the server.
    pub(crate) fn len(&self) -> usize {
        match self.framing {
            Framing::WebSocket => self.frame.len() - MASK.len(),
            Framing::Session => self.frame.len(),
        }
    }

    /// Appends the client's frame of message number `id` to `out`.
    pub(crate) fn write(&self, id: u64, out: &mut Vec<u8>) {
        let start = out.len() + self.frame.len() - self.payload.len() + self.id_at;
        out.extend_from_slice(&self.frame);
        let place = out.get_mut(start..).unwrap_or_default();
        let mask = match self.framing {
            Framing::WebSocket => MASK,
            Framing::Session => [0; MASK.len()],
        };
        let masks = mask.iter().cycle().skip(self.id_at % mask.len());
        for ((byte, digit), mask) in place.iter_mut().zip(digits(id)).zip(masks) {
            *byte = digit ^ mask;
        }
    }

    /// The payload of the message at the start of `bytes`, and the bytes after it; none while it is incomplete.
    ///
    /// Fails at anything but a text, which no server here has a reason to send.
    pub(crate) fn read<'b>(&self, bytes: &'b [u8]) -> Result<Option<(&'b [u8], &'b [u8])>> {
        let (kind, rest) = match (self.framing, bytes) {
            (Framing::WebSocket, [first, rest @ ..]) => (*first == 0x81, rest),
            (Framing::Session, [first, ..]) => (first & 0x80 == 0, bytes),
            (_, []) => return Ok(None),
        };
        if !kind {
            bail!(
                "in place of an answer came {:?}",
                String::from_utf8_lossy(bytes)
            );
        }
        Ok(payload(rest))
    }

    /// Whether the payload is message number `id`, to the byte.
    pub(crate) fn is(&self, id: u64, payload: &[u8]) -> bool {
        let (from, to) = (self.id_at, self.id_at + DIGITS);
        payload.get(..from) == self.payload.get(..from)
            && payload.get(from..to) == Some(&digits(id))
            && payload.get(to..) == self.payload.get(to..)
    }
}

fn digits(id: u64) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    let mut rest = id;
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

/// The header of a final text frame.
fn header(out: &mut Vec<u8>, length: usize, masked: u8) {
    out.push(0x81);
    match length {
        0..=125 => out.push(masked | length as u8),
        126..=0xffff => {
            out.push(masked | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Appends the text frame of a server.
pub(crate) fn unmasked(payload: &[u8], out: &mut Vec<u8>) {
    header(out, payload.len(), 0);
    out.extend_from_slice(payload);
}

/// The payload behind its length, and the bytes after it; none while it is incomplete.
fn payload(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = match first {
        0..=125 => (usize::from(*first), rest),
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u16::from_be_bytes(*length).into(), rest)
        }
        _ => {
            let (length, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*length) as usize, rest)
        }
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(action: &str, to: Option<&str>, bytes: usize) {
        for scheme in [Scheme::Ws, Scheme::Wt] {
            let template = Template::new(action, to, bytes).over(scheme);
            let mut sent = Vec::new();
            template.write(41, &mut sent);
            template.write(123_456_789_012, &mut sent);
            let mut answered = Vec::new();
            for frame in sent.chunks(sent.len() / 2) {
                answered.extend(as_answer(&template, frame));
            }
            let (first, rest) = template.read(&answered).unwrap().unwrap();
            assert_eq!(first.len(), bytes);
            serde_json::from_slice::<serde_json::Value>(first).unwrap();
            assert!(template.is(41, first) && !template.is(42, first));
            let (second, rest) = template.read(rest).unwrap().unwrap();
            assert!(template.is(123_456_789_012, second));
            assert!(rest.is_empty());
            let unfinished = &answered[..template.len() - 1];
            assert!(template.read(unfinished).unwrap().is_none());
        }
    }

    /// A client's frame as a server sends it back.
    fn as_answer(template: &Template, frame: &[u8]) -> Vec<u8> {
        if template.framing == Framing::Session {
            return frame.to_vec();
        }
        let masked = &frame[frame.len() - template.payload.len()..];
        let payload = masked.iter().zip(MASK.iter().cycle());
        let payload: Vec<_> = payload.map(|(byte, mask)| byte ^ mask).collect();
        let mut answer = Vec::new();
        unmasked(&payload, &mut answer);
        answer
    }

    #[test]
    fn frame_reads_back_as_written() {
        check("echo", None, 64);
        check("publish", None, 300);
        check("post", Some("L0SM9cOFvHcCIhw_"), 64);
        check("echo", None, 70_000);
    }
}
