//! The ends of a session, with the close for the client and the close for `$disconnect`: one table.

use crate::connections::{Closer, Closing};
use crate::transport::ReadError;
use crate::transport::websocket::flood_guard::Flood;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client closed, went, or broke the protocol.
    Client(ReadError),
    /// A handler or an operator closed it, it was idle or too old, or the gateway stops.
    Closed(Closing),
    /// The client took nothing for the stall timeout.
    Stalled,
    /// A message did not come to its end in time.
    Unfinished,
    /// A bug of the gateway; it ends this connection and no other.
    Panicked,
    /// A ping was not answered.
    Unanswered,
    /// The gateway stops and the client did not take its close frame.
    Cut(Closing),
}

/// The last frame for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// None: the client has gone, or does not read.
    Nothing,
    /// A close frame without a code, in answer to one without.
    Bare,
    Frame(Closing),
}

impl End {
    pub(super) fn farewell(&self) -> Farewell {
        Farewell::Frame(match self {
            Self::Client(ReadError::Closed(Some(closing))) => closing.clone(),
            Self::Client(ReadError::Closed(None)) => return Farewell::Bare,
            Self::Client(ReadError::Protocol(_)) => Closing::new(1002, "protocol error"),
            Self::Client(ReadError::Utf8) => Closing::new(1007, "text is not UTF-8"),
            Self::Client(ReadError::Binary) => Closing::new(1003, "binary messages are not taken"),
            Self::Client(ReadError::TooLarge) => Closing::new(1009, "message too big"),
            Self::Client(ReadError::Flood(Flood::LongLength)) => {
                Closing::new(1002, "protocol error")
            }
            Self::Client(ReadError::Flood(Flood::Fragments)) => {
                Closing::new(1008, "too many fragments")
            }
            Self::Client(ReadError::Flood(Flood::ControlFrames)) => {
                Closing::new(1008, "too many control frames")
            }
            Self::Unfinished => Closing::new(1008, "message took too long"),
            Self::Panicked => Closing::new(1011, "internal error"),
            Self::Closed(closing) => closing.clone(),
            Self::Stalled => Closing::new(1013, "slow consumer"),
            Self::Client(ReadError::Gone) | Self::Unanswered | Self::Cut(_) => {
                return Farewell::Nothing;
            }
        })
    }

    /// The close for the `$disconnect` handler, as by API Gateway where that is known (docs/api-gateway.md).
    pub(super) fn closing(&self) -> Closing {
        let closing = match self {
            Self::Client(ReadError::Closed(None)) => {
                Closing::new(1005, "Client-side close frame status not set")
            }
            Self::Unanswered => Closing::new(1006, "ping not answered"),
            Self::Cut(why) => why.clone(),
            Self::Client(_)
            | Self::Closed(_)
            | Self::Stalled
            | Self::Unfinished
            | Self::Panicked => match self.farewell() {
                Farewell::Frame(closing) => closing,
                Farewell::Nothing | Farewell::Bare => Closing::new(1006, ""),
            },
        };
        closing.by(self.closer())
    }

    fn closer(&self) -> Closer {
        match self {
            Self::Client(ReadError::Closed(_) | ReadError::Gone) => Closer::Client,
            Self::Closed(closing) | Self::Cut(closing) => closing.by,
            Self::Client(
                ReadError::Protocol(_)
                | ReadError::Utf8
                | ReadError::Binary
                | ReadError::TooLarge
                | ReadError::Flood(_),
            )
            | Self::Stalled
            | Self::Unfinished
            | Self::Panicked
            | Self::Unanswered => Closer::Gateway,
        }
    }

    /// The cause, for the access log: what the code alone does not tell. None of a close that somebody asked for.
    pub(super) fn cause(&self) -> Option<&'static str> {
        Some(match self {
            Self::Closed(_) | Self::Client(ReadError::Closed(_)) => return None,
            Self::Client(ReadError::Gone) => "the connection was lost",
            Self::Client(ReadError::Protocol(_) | ReadError::Flood(Flood::LongLength)) => {
                "the client broke the protocol"
            }
            Self::Client(ReadError::Utf8) => "a text was not UTF-8",
            Self::Client(ReadError::Binary) => "a binary message, and compat = \"aws\"",
            Self::Client(ReadError::TooLarge) => "limits.message_kib or limits.frame_kib",
            Self::Client(ReadError::Flood(Flood::Fragments)) => "limits.fragments",
            Self::Client(ReadError::Flood(Flood::ControlFrames)) => "limits.control_frames_per_s",
            Self::Stalled => "limits.stall_timeout_s",
            Self::Unfinished => "limits.message_timeout_s",
            Self::Unanswered => "limits.pong_timeout_s",
            Self::Panicked => "a bug of the gateway",
            Self::Cut(_) => "the time of a stop was over",
        })
    }

    /// Whether to wait for the client's close frame: not when its frames can no longer be read.
    pub(super) fn awaits_close(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}
