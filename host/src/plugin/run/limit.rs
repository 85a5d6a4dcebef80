//! The limits that plugin authors meet, in words: what was too much, its key, its value, and what to do.

use std::fmt;
use std::time::Duration;

use crate::connections::OutboxLimits;

/// The limit that ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It computed for longer.
    Cpu(Duration),
    /// It lasted longer, waits included.
    Deadline(Duration),
    /// Its version was replaced, and it went on for longer.
    Retired(Duration),
}

/// Why there is no instance for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Busy {
    /// So many instances of the plugin are in use, and so many calls wait.
    Instances(u32, u32),
    /// All plugins together use the room for so many, and so many calls of this one wait.
    Room(u32, u32),
    /// The machine has no memory, or the engine no place, for another instance.
    Machine,
}

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

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(limit) => write!(
                f,
                "it computed for more than {} ms, which is limits.cpu_ms of the plugin; compute less for one event, or \
                 raise it",
                limit.as_millis()
            ),
            Self::Deadline(limit) => write!(
                f,
                "it took more than {} ms, waits included, which is limits.deadline_ms of the plugin; wait for less, or \
                 raise it",
                limit.as_millis()
            ),
            Self::Retired(limit) => write!(
                f,
                "its version was replaced and it went on for more than {} s, which is limits.retire_s of the plugin",
                limit.as_secs()
            ),
        }
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instances(instances, waiting) => write!(
                f,
                "all {instances} instances (limits.instances of the plugin) are busy and {waiting} calls \
                 (limits.waiting) wait already; have the handler take less time, or raise them"
            ),
            Self::Room(total, waiting) => write!(
                f,
                "the gateway has room for {total} instances of all plugins, all are busy, and {waiting} calls \
                 (limits.waiting of the plugin) wait already; lower limits.instances of the plugins that have most, or \
                 have their handlers take less time"
            ),
            Self::Machine => f.write_str(
                "there is no room for another instance; lower limits.instances of the plugins, or give the process more \
                 memory and address space",
            ),
        }
    }
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
                "busy: it may send {limit} messages for one event, which is limits.posts of the plugin; send fewer, \
                 where a publish to a group counts as one however many it reaches, or raise it"
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
                "busy: what waits for the connection's client is {} KiB, which is limits.outbox_kib of the stage, or {} \
                 messages, which is limits.outbox_messages, or four times as many while it takes them; send less for one \
                 event, or raise them",
                limits.bytes >> 10,
                limits.messages
            ),
        }
    }
}
