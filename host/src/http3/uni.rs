//! The client's unidirectional streams (RFC 9114 §6.2): one for control, two for QPACK, others that mean nothing.

use super::code::Code;
use super::control::ControlStream;
use super::varint;

const CONTROL: u64 = 0x00;
const PUSH: u64 = 0x01;
const QPACK_ENCODER: u64 = 0x02;
const QPACK_DECODER: u64 = 0x03;

/// Set Dynamic Table Capacity to 0, the only instruction for a table without room (RFC 9204 §4.3.1).
const NO_CAPACITY: u8 = 0x20;

/// Longest type of a stream in bytes.
const MAX_TYPE: usize = 8;

/// Which of the streams that a connection has once are there.
#[derive(Debug, Default)]
pub(super) struct Critical {
    control: bool,
    encoder: bool,
    decoder: bool,
}

/// Reads a unidirectional stream, in whatever pieces it comes.
#[derive(Debug)]
pub(super) enum UniStream {
    /// The type has not come whole.
    Start(Vec<u8>),
    Control(ControlStream),
    Encoder,
    Decoder,
    /// Another type: nothing of it is read.
    Unknown,
}

impl UniStream {
    pub(super) fn new() -> Self {
        Self::Start(Vec::new())
    }

    /// Takes bytes of the stream. An error ends the connection. `taken` marks a stream that is there once.
    pub(super) fn read(
        &mut self,
        mut bytes: &[u8],
        taken: impl FnMut(Kind) -> bool,
    ) -> Result<(), Code> {
        if let Self::Start(start) = self {
            bytes = match read_type(start, bytes)? {
                None => return Ok(()),
                Some((kind, rest)) => {
                    *self = Self::of(kind, taken)?;
                    rest
                }
            };
        }
        match self {
            Self::Control(control) => control.read(bytes),
            Self::Encoder if bytes.iter().any(|byte| *byte != NO_CAPACITY) => {
                Err(Code::QpackEncoderStream)
            }
            // Cancelled streams, of which nothing waits for a table.
            Self::Start(_) | Self::Encoder | Self::Decoder | Self::Unknown => Ok(()),
        }
    }

    fn of(kind: u64, mut taken: impl FnMut(Kind) -> bool) -> Result<Self, Code> {
        let (kind, stream) = match kind {
            CONTROL => (Kind::Control, Self::Control(ControlStream::default())),
            QPACK_ENCODER => (Kind::Encoder, Self::Encoder),
            QPACK_DECODER => (Kind::Decoder, Self::Decoder),
            // Clients do not push.
            PUSH => return Err(Code::StreamCreation),
            _ => return Ok(Self::Unknown),
        };
        if taken(kind) {
            return Err(Code::StreamCreation);
        }
        Ok(stream)
    }

    /// Whether it is the control stream, and has told that the client takes datagrams.
    pub(super) fn takes_datagrams(&self) -> bool {
        matches!(self, Self::Control(control) if control.takes_datagrams)
    }

    /// Judges the end of the stream. An error ends the connection.
    pub(super) fn end(&self) -> Result<(), Code> {
        match self {
            Self::Control(_) | Self::Encoder | Self::Decoder => Err(Code::ClosedCriticalStream),
            Self::Start(_) | Self::Unknown => Ok(()),
        }
    }
}

/// A stream that a connection has once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Control,
    Encoder,
    Decoder,
}

impl Critical {
    /// Marks a stream. Gives whether it was there before.
    pub(super) fn take(&mut self, kind: Kind) -> bool {
        let place = match kind {
            Kind::Control => &mut self.control,
            Kind::Encoder => &mut self.encoder,
            Kind::Decoder => &mut self.decoder,
        };
        std::mem::replace(place, true)
    }
}

/// Takes the type of a stream. Gives the bytes behind it, once it is whole.
fn read_type<'a>(start: &mut Vec<u8>, bytes: &'a [u8]) -> Result<Option<(u64, &'a [u8])>, Code> {
    let before = start.len();
    start.extend(bytes.iter().take(MAX_TYPE - before));
    let mut rest = &start[..];
    let Some(kind) = varint::take(&mut rest) else {
        return Ok(None);
    };
    let length = start.len() - rest.len();
    Ok(Some((
        kind,
        bytes.get(length - before..).unwrap_or_default(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(streams: &[&[u8]]) -> Result<(), Code> {
        let mut critical = Critical::default();
        streams.iter().try_for_each(|bytes| {
            let mut stream = UniStream::new();
            bytes
                .iter()
                .try_for_each(|byte| stream.read(&[*byte], |kind| critical.take(kind)))
        })
    }

    #[test]
    fn streams_are_told_apart_by_their_type() {
        let settings: &[u8] = &[0, 4, 0];
        assert_eq!(
            read(&[settings, &[2, 0x20], &[3, 0x40, 0x41], &[0x21, 0, 1]]),
            Ok(())
        );
        assert_eq!(read(&[settings, settings]), Err(Code::StreamCreation));
        assert_eq!(read(&[&[3], &[3]]), Err(Code::StreamCreation));
        assert_eq!(read(&[&[1]]), Err(Code::StreamCreation));
        // A capacity of 1, and an entry for the table.
        assert_eq!(read(&[&[2, 0x21]]), Err(Code::QpackEncoderStream));
        assert_eq!(read(&[&[2, 0xc1, 1, b'x']]), Err(Code::QpackEncoderStream));
        assert_eq!(read(&[&[0, 7, 1, 0]]), Err(Code::MissingSettings));
        // A type of eight bytes.
        assert_eq!(
            read(&[&[0xc0, 0, 0, 0, 0, 0, 0, 1]]),
            Err(Code::StreamCreation)
        );
    }

    #[test]
    fn end_of_a_critical_stream_ends_the_connection() {
        for (start, expected) in [
            (&[0, 4, 0][..], Err(Code::ClosedCriticalStream)),
            (&[2], Err(Code::ClosedCriticalStream)),
            (&[0x21], Ok(())),
            (&[], Ok(())),
        ] {
            let mut stream = UniStream::new();
            stream.read(start, |_| false).unwrap();
            assert_eq!(stream.end(), expected);
        }
    }
}
