//! The limits that plugin authors meet, as log texts: the limit, its key, its value, the remedy.

use std::fmt;

use crate::auth::MAX_IDENTITY;
use crate::connections::OutboxLimits;
use crate::words::count_of;

/// A limit that refused a request of a guest. The error that the guest gets carries no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The posts of a call.
    Posts(u32),
    /// The groups of a connection.
    Groups(usize),
    /// The bytes of the message, and the most that it may have.
    Message(usize, usize),
    /// The bytes of all attributes of a connection.
    Attributes(usize),
    /// The outbox of a connection.
    Outbox(OutboxLimits),
    /// The bytes of a client's identity.
    Identity,
    /// The routes that renew what let a client in are others, or nothing has let it in.
    Renewal,
    /// The stage's datagrams are off.
    DatagramsOff,
    /// The bytes of the datagram, and the most that it may have.
    Datagram(usize, usize),
}

impl Limit {
    /// A bit of its own for each kind.
    pub(crate) fn bit(self) -> u16 {
        match self {
            Self::Posts(_) => 1,
            Self::Groups(_) => 2,
            Self::Message(..) => 4,
            Self::Attributes(_) => 8,
            Self::Outbox(_) => 16,
            Self::Identity => 32,
            Self::Renewal => 64,
            Self::DatagramsOff => 128,
            Self::Datagram(..) => 256,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Posts(limit) => write!(
                f,
                "busy: it may send {} for one event, which is limits.posts of the plugin; send fewer (a publish to a group counts as one), or raise it",
                count_of(*limit, "message")
            ),
            Self::Groups(limit) => write!(
                f,
                "busy: the connection is in {}, which is limits.groups of the stage; leave one, or raise it",
                count_of(*limit, "group")
            ),
            Self::Message(bytes, limit) => write!(
                f,
                "too-large: a message of {bytes} bytes, and {} KiB is limits.message_kib of the stage; send less, or \
                 raise it",
                limit >> 10
            ),
            Self::Attributes(limit) => write!(
                f,
                "too-large: the attributes of the connection would be over {} KiB, which is limits.attributes_kib of \
                 the stage; keep less there, or raise it",
                limit >> 10
            ),
            Self::Outbox(limits) => write!(
                f,
                "busy: the outbox of the connection is full: {} KiB, which is limits.outbox_kib of the stage, or {}, which is limits.outbox_messages, or four times as many while the client takes them; send less for one event, or raise them",
                limits.bytes >> 10,
                count_of(limits.messages, "message")
            ),
            Self::Identity => write!(
                f,
                "too-large: the principal, values and scopes of the client would be over {} KiB; keep less there",
                MAX_IDENTITY >> 10
            ),
            Self::Renewal => f.write_str(
                "denied: only a message of a route with renews = \"handler\" renews what let its client in, and only if an authorizer has",
            ),
            Self::DatagramsOff => f.write_str(
                "denied: the stage sends no datagrams; set datagrams = true of the stage, or send a message"
            ),
            Self::Datagram(bytes, limit) => write!(
                f,
                "too-large: a datagram of {bytes} bytes, and {limit} bytes fit, by the client's network or limits.message_kib of the stage; send less, or a message"
            ),
        }
    }
}
