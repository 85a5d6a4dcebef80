//! The limits that plugin authors meet, in words: what was too much, its key, its value, and what to do.

use std::fmt;

use crate::connections::OutboxLimits;

/// What a guest asked for in a call and was refused by a case of `error`, which has no words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// More posts than so many.
    Posts(u32),
    /// More groups of a connection than so many.
    Groups(usize),
    /// A message of so many bytes, where so many may be.
    Message(usize, usize),
    /// More attributes of a connection than so many bytes.
    Attributes(usize),
    /// More than so much that waits for a client.
    Outbox(OutboxLimits),
}

impl Limit {
    /// A bit of its own for each kind.
    pub(crate) fn bit(self) -> u8 {
        match self {
            Self::Posts(_) => 1,
            Self::Groups(_) => 2,
            Self::Message(..) => 4,
            Self::Attributes(_) => 8,
            Self::Outbox(_) => 16,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Posts(limit) => write!(
                f,
                "busy: it may send {limit} messages for one event, which is limits.posts of the plugin; send fewer (a publish to a group counts as one), or raise it"
            ),
            Self::Groups(limit) => write!(
                f,
                "busy: the connection is in {limit} groups, which is limits.groups of the stage; leave one, or raise it"
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
                "busy: the outbox of the connection is full: {} KiB, which is limits.outbox_kib of the stage, or {} messages, which is limits.outbox_messages, or four times as many while the client takes them; send less for one event, or raise them",
                limits.bytes >> 10,
                limits.messages
            ),
        }
    }
}
