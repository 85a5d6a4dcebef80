//! The error codes of HTTP/3 (RFC 9114 §8.1) and QPACK (RFC 9204 §6).

use quinn::VarInt;

/// An error of the client that ends its connection, or the reason for which a stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Nothing is wrong.
    None,
    StreamCreation,
    ClosedCriticalStream,
    FrameUnexpected,
    Frame,
    ExcessiveLoad,
    Id,
    Settings,
    MissingSettings,
    /// A request that nobody has looked at: the client may make it again elsewhere.
    RequestRejected,
    RequestCancelled,
    RequestIncomplete,
    /// A malformed request.
    Message,
    QpackDecompression,
    QpackEncoderStream,
    /// A datagram that names no stream (RFC 9297 §2.1).
    Datagram,
    /// A stream of a WebTransport session that is over, or has no use for it.
    SessionGone,
}

impl From<Code> for VarInt {
    fn from(code: Code) -> Self {
        Self::from_u32(match code {
            Code::Datagram => 0x33,
            Code::None => 0x100,
            Code::StreamCreation => 0x103,
            Code::ClosedCriticalStream => 0x104,
            Code::FrameUnexpected => 0x105,
            Code::Frame => 0x106,
            Code::ExcessiveLoad => 0x107,
            Code::Id => 0x108,
            Code::Settings => 0x109,
            Code::MissingSettings => 0x10a,
            Code::RequestRejected => 0x10b,
            Code::RequestCancelled => 0x10c,
            Code::RequestIncomplete => 0x10d,
            Code::Message => 0x10e,
            Code::QpackDecompression => 0x200,
            Code::QpackEncoderStream => 0x201,
            Code::SessionGone => 0x170d_7b68,
        })
    }
}
