//! Frames of the bench: made once, patched for each message, and compared whole.

use anyhow::{Result, bail};

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
    /// The masked frame of that payload.
    frame: Vec<u8>,
    /// The offset of the number in the payload.
    id_at: usize,
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
        }
    }

    /// The length of the frame from the server.
    pub(crate) fn len(&self) -> usize {
        self.frame.len() - MASK.len()
    }

    /// Appends the client's frame of message number `id` to `out`.
    pub(crate) fn write(&self, id: u64, out: &mut Vec<u8>) {
        let start = out.len() + self.frame.len() - self.payload.len() + self.id_at;
        out.extend_from_slice(&self.frame);
        let place = out.get_mut(start..).unwrap_or_default();
        let masks = MASK.iter().cycle().skip(self.id_at % MASK.len());
        for ((byte, digit), mask) in place.iter_mut().zip(digits(id)).zip(masks) {
            *byte = digit ^ mask;
        }
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

/// The payload of the text frame at the start of `bytes`, and the bytes after it; none while the frame is incomplete.
///
/// Fails at any other frame, which no server here has a reason to send.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(&[u8], &[u8])>> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    if *first != 0x81 {
        bail!(
            "a frame that begins with {first:#x} instead of an answer: {:?}",
            String::from_utf8_lossy(bytes)
        );
    }
    let (length, rest) = match second {
        0..=125 => (usize::from(*second), rest),
        126 => match rest.split_first_chunk() {
            Some((length, rest)) => (u16::from_be_bytes(*length).into(), rest),
            None => return Ok(None),
        },
        _ => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from_be_bytes(*length) as usize, rest),
            None => return Ok(None),
        },
    };
    Ok(rest.split_at_checked(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(action: &str, to: Option<&str>, bytes: usize) {
        let template = Template::new(action, to, bytes);
        let mut sent = Vec::new();
        template.write(41, &mut sent);
        template.write(123_456_789_012, &mut sent);
        // Unmasked, as a server sends it.
        let mut answered = Vec::new();
        for frame in sent.chunks(sent.len() / 2) {
            let masked = &frame[frame.len() - template.payload.len()..];
            let payload: Vec<_> = masked
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask)
                .collect();
            assert_eq!(payload.len(), bytes);
            serde_json::from_slice::<serde_json::Value>(&payload).unwrap();
            unmasked(&payload, &mut answered);
        }
        let (first, rest) = read(&answered).unwrap().unwrap();
        assert!(template.is(41, first) && !template.is(42, first));
        let (second, rest) = read(rest).unwrap().unwrap();
        assert!(template.is(123_456_789_012, second));
        assert!(rest.is_empty());
        assert!(read(&answered[..template.len() - 1]).unwrap().is_none());
    }

    #[test]
    fn frame_reads_back_as_written() {
        check("echo", None, 64);
        check("publish", None, 300);
        check("post", Some("L0SM9cOFvHcCIhw_"), 64);
        check("echo", None, 70_000);
    }
}
