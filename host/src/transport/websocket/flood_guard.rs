//! The flood guard counts a client's input before it is parsed: fragments, control frames, unfinished messages.
//!
//! tungstenite bounds bytes and hides frames, and a client can flood with more than bytes. The guard reads frame
//! headers (RFC 6455 §5.2) as the bytes pass by, and judges nothing else: that is tungstenite's.

use tokio::time::Instant;

use crate::config::StageLimits;

/// Bytes of a message that allow one more fragment than the stage's limit: honest fragments of a large message pass,
/// empty ones do not.
const BYTES_PER_FRAGMENT: u64 = 64;

/// Seconds' worth of control frames that may come at once.
const CONTROL_BURST_S: f64 = 5.0;

/// Bytes of the longest frame header.
const MAX_HEADER: usize = 14;

/// Input that no honest client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    Fragments,
    ControlFrames,
    /// A length that is not in its shortest form (RFC 6455 §5.2).
    LongLength,
}

/// A frame that no honest client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offence {
    pub(crate) flood: Flood,
    /// Bytes before it, of those that were passed with it.
    pub(crate) before: usize,
}

#[derive(Debug)]
pub(crate) struct FloodGuard {
    /// The header of the current frame, as far as it has come.
    header: [u8; MAX_HEADER],
    header_len: usize,
    /// Bytes of the current frame's payload that are still to come.
    payload_left: u64,
    /// Whether fragments of a message have come, and not the last.
    fragmented: bool,
    /// The start of the unfinished message, and the number of messages before it.
    message_since: Option<(Instant, u64)>,
    /// Messages that have ended.
    messages: u64,
    /// Whether the current frame is the last of a message.
    last: bool,
    fragments: u64,
    message_bytes: u64,
    whole: u64,
    /// Seconds' worth of control frames that may come now.
    control_allowed_s: f64,
    control_at: Instant,
    /// The limits of the stage.
    max_fragments: u64,
    control_frames_per_s: f64,
}

impl FloodGuard {
    pub(crate) fn new(limits: &StageLimits) -> Self {
        Self {
            header: [0; MAX_HEADER],
            header_len: 0,
            payload_left: 0,
            fragmented: false,
            message_since: None,
            messages: 0,
            last: false,
            fragments: 0,
            message_bytes: 0,
            whole: 0,
            control_allowed_s: CONTROL_BURST_S,
            control_at: Instant::now(),
            max_fragments: u64::from(limits.fragments),
            control_frames_per_s: f64::from(limits.control_frames_per_s),
        }
    }

    /// Takes the limits of a new snapshot.
    pub(crate) fn set_limits(&mut self, limits: &StageLimits) {
        self.max_fragments = u64::from(limits.fragments);
        self.control_frames_per_s = f64::from(limits.control_frames_per_s);
    }

    /// Whether all bytes so far make whole messages.
    pub(crate) fn between_messages(&self) -> bool {
        self.header_len == 0 && self.payload_left == 0 && !self.fragmented
    }

    /// The number of messages and control frames whose last frame has begun. Between messages all of them are whole.
    pub(crate) fn whole(&self) -> u64 {
        self.whole
    }

    /// The start of the message that has not come to its end.
    pub(crate) fn message_since(&self) -> Option<Instant> {
        self.message_since.map(|(since, _)| since)
    }

    /// Counts bytes, in the order in which they come.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Result<(), Offence> {
        self.count(bytes)?;
        if self.between_messages() {
            self.message_since = None;
        } else if self
            .message_since
            .is_none_or(|(_, before)| before != self.messages)
        {
            self.message_since = Some((Instant::now(), self.messages));
        }
        Ok(())
    }

    fn count(&mut self, mut bytes: &[u8]) -> Result<(), Offence> {
        let (all, mut before) = (bytes.len(), 0);
        while !bytes.is_empty() {
            if self.header_len == 0 && self.payload_left == 0 {
                before = all - bytes.len();
            }
            if self.payload_left > 0 {
                let left = usize::try_from(self.payload_left).unwrap_or(usize::MAX);
                let passing = bytes.len().min(left);
                self.payload_left -= passing as u64;
                bytes = bytes.split_at(passing).1;
                self.end_frame();
            } else if let Some((byte, rest)) = bytes.split_first() {
                bytes = rest;
                self.header_byte(*byte)
                    .map_err(|flood| Offence { flood, before })?;
            }
        }
        Ok(())
    }

    fn header_byte(&mut self, byte: u8) -> Result<(), Flood> {
        if let Some(slot) = self.header.get_mut(self.header_len) {
            *slot = byte;
        }
        self.header_len += 1;
        let [first, second, extended @ ..] = self.header;
        if self.header_len < 2 {
            return Ok(());
        }
        let (mask, extra) = (
            if second & 0x80 == 0 { 0 } else { 4 },
            match second & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            },
        );
        if self.header_len < 2 + extra + mask {
            return Ok(());
        }
        self.header_len = 0;
        let [a, b, c, d, e, f, g, h, ..] = extended;
        let (length, shortest) = match extra {
            2 => (u64::from(u16::from_be_bytes([a, b])), 126),
            8 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 1 << 16),
            _ => (u64::from(second & 0x7f), 0),
        };
        if length < shortest {
            return Err(Flood::LongLength);
        }
        self.payload_left = length;
        self.frame(first, length)?;
        self.end_frame();
        Ok(())
    }

    /// Notes the end of a message, once all of its last frame has come.
    fn end_frame(&mut self) {
        if self.payload_left == 0 && std::mem::take(&mut self.last) {
            self.messages += 1;
        }
    }

    fn frame(&mut self, first: u8, length: u64) -> Result<(), Flood> {
        let (last, control) = (first & 0x80 != 0, first & 0x08 != 0);
        if control || last {
            self.whole += 1;
        }
        if control {
            return self.control_frame();
        }
        self.fragments += 1;
        self.message_bytes = self.message_bytes.saturating_add(length);
        if self.fragments > self.max_fragments + self.message_bytes / BYTES_PER_FRAGMENT {
            return Err(Flood::Fragments);
        }
        self.fragmented = !last;
        self.last = last;
        if last {
            self.fragments = 0;
            self.message_bytes = 0;
        }
        Ok(())
    }

    fn control_frame(&mut self) -> Result<(), Flood> {
        let now = Instant::now();
        let earned = now.duration_since(self.control_at).as_secs_f64();
        self.control_at = now;
        self.control_allowed_s = (self.control_allowed_s + earned).min(CONTROL_BURST_S)
            - self.control_frames_per_s.recip();
        if self.control_allowed_s < 0.0 {
            Err(Flood::ControlFrames)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn guard() -> FloodGuard {
        FloodGuard::new(&StageLimits::default())
    }

    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload {
            0..=125 => bytes.push(0x80 | payload as u8),
            126..=0xffff => {
                bytes.push(0x80 | 126);
                bytes.extend((payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes.resize(bytes.len() + payload, 0);
        bytes
    }

    #[test]
    fn ends_of_messages_are_found_however_the_bytes_are_split() {
        let mut bytes = Vec::new();
        for payload in [0, 1, 125, 126, 65_535, 65_536] {
            bytes.extend(frame(0x81, payload));
        }
        for step in [1, 7, 1_000, bytes.len()] {
            let mut guard = guard();
            for part in bytes.chunks(step) {
                assert_eq!(guard.pass(part), Ok(()));
            }
            assert!(guard.between_messages());
            assert_eq!(guard.pass(&[0x81]), Ok(()));
            assert!(!guard.between_messages());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn unfinished_message_is_timed_from_its_first_byte() {
        let mut guard = guard();
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(guard.pass(&frame(0x01, 9)), Ok(()));
        advance(second).await;
        // A ping between fragments, and the last frame, are no new message.
        assert_eq!(guard.pass(&frame(0x89, 0)), Ok(()));
        let last = frame(0x80, 9);
        let (head, rest) = last.split_at(7);
        assert_eq!(guard.pass(head), Ok(()));
        assert_eq!(guard.message_since(), Some(begun));
        advance(second).await;
        // What comes with its end is another.
        assert_eq!(guard.pass(&[rest, &[0x81]].concat()), Ok(()));
        assert_eq!(guard.message_since(), Some(begun + 2 * second));
    }

    #[test]
    fn one_empty_fragment_more_than_the_limit_is_a_flood() {
        let mut guard = guard();
        for _ in 0..StageLimits::default().fragments {
            assert_eq!(guard.pass(&frame(0x01, 0)), Ok(()));
        }
        assert!(!guard.between_messages());
        assert_eq!(
            guard.pass(&[frame(0x00, 0), frame(0x00, 0)].concat()),
            Err(Offence {
                flood: Flood::Fragments,
                before: 0
            })
        );
    }

    #[test]
    fn honest_fragments_of_a_large_message_pass() {
        let mut guard = guard();
        for _ in 0..20_000 {
            assert_eq!(guard.pass(&frame(0x00, 64)), Ok(()));
        }
        assert_eq!(guard.pass(&frame(0x80, 0)), Ok(()));
        assert!(guard.between_messages());
    }

    #[test]
    fn control_frames_beyond_their_burst_are_a_flood() {
        let mut guard = guard();
        let sent = (0..200)
            .take_while(|_| guard.pass(&frame(0x89, 5)).is_ok())
            .count();
        assert!((100..=110).contains(&sent), "{sent}");
    }

    #[test]
    fn length_in_a_longer_form_is_a_flood() {
        assert_eq!(
            guard().pass(&[0x81, 0x80 | 126, 0, 125, 1, 2, 3, 4]),
            Err(Offence {
                flood: Flood::LongLength,
                before: 0
            })
        );
        let long = [0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4];
        let behind = [&frame(0x81, 3)[..], &frame(0x89, 0), &long].concat();
        assert_eq!(
            guard().pass(&behind),
            Err(Offence {
                flood: Flood::LongLength,
                before: 15
            })
        );
    }
}
