//! The errors of an invocation, in words for the plugin's author: the limit, its key, its value, the remedy.

use std::fmt;
use std::time::Duration;

use crate::words::count_of;

/// The error of an invocation that has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvokeError {
    /// All instances are busy, and the line of waiting calls is full.
    #[error("{0}")]
    Busy(Busy),
    /// The guest used up its processor time, or its deadline passed.
    #[error("cut off: {0}")]
    Deadline(Cut),
    /// The handler returned a failure, or more than the gateway takes at once.
    #[error("the handler failed: {0}")]
    Failed(String),
    /// The guest trapped: a panic, too much memory, a broken rule of the component model. The text is for its author.
    #[error("the plugin trapped: {0}")]
    Trapped(String),
    /// The plugin was taken out of the configuration.
    #[error("the plugin is no longer in the configuration")]
    Removed,
    /// The process ends, and the call was at work longer than a stop waits.
    #[error(
        "given up: the gateway stops, and waits no longer than limits.disconnects_s for handlers"
    )]
    GivenUp,
    /// A fault of the gateway, not of the guest.
    #[error("the gateway failed: {0:#}")]
    Host(anyhow::Error),
}

impl InvokeError {
    /// The HTTP status of a handshake without an answer. The access log has it for a message too.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Busy(_) => 429,
            Self::Deadline(_) => 504,
            Self::Failed(_) | Self::Trapped(_) => 502,
            Self::Removed | Self::GivenUp => 503,
            Self::Host(_) => 500,
        }
    }

    /// Its kind, one word for programs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Busy(_) => "busy",
            Self::Deadline(_) => "deadline",
            Self::Failed(_) => "failed",
            Self::Trapped(_) => "trapped",
            Self::Removed => "removed",
            Self::GivenUp => "given_up",
            Self::Host(_) => "host",
        }
    }

    /// Whether the code is to blame: it trapped, or computed for too long. Timeouts do not count: a client could
    /// force a rollback by making a handler wait.
    pub(crate) fn blames_the_code(&self) -> bool {
        match self {
            Self::Trapped(_) | Self::Deadline(Cut::Cpu(_)) => true,
            Self::Busy(_)
            | Self::Deadline(_)
            | Self::Failed(_)
            | Self::Removed
            | Self::GivenUp
            | Self::Host(_) => false,
        }
    }
}

/// The limit that ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// More processor time than this.
    Cpu(Duration),
    /// More time than this, of the processor and of waits for what it called.
    Deadline(Duration),
    /// More time than this after its version was replaced.
    Retired(Duration),
}

/// The reason why there is no instance for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Busy {
    /// All instances of the plugin are in use and the line is full: the number of instances, and of calls that wait.
    Instances(u32, u32),
    /// The instances of all plugins use all the room and the line is full: the number of instances, and of calls of
    /// this plugin that wait.
    Room(u32, u32),
    /// As many handshakes of the plugin as may wait for guest threads do: those of its costly `$connect` and authorizer handlers.
    Handshakes(usize),
    /// The machine has no memory, or the engine no slot, for another instance.
    Machine,
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
                "it computed and waited for more than {} ms in all, which is limits.deadline_ms of the plugin; wait for less, \
                 or raise it",
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
                "{} (limits.instances of the plugin) may run, none is free, and {} (limits.waiting) may wait, as \
                 many as do; have the handler take less time, or raise them",
                count_of(*instances, "instance"),
                count_of(*waiting, "call")
            ),
            Self::Room(total, waiting) => write!(
                f,
                "the gateway has room for {total} instances of all plugins, none is free, and {} (limits.waiting of the plugin) \
                 may wait, as many as do; lower limits.instances of the plugins that have most, or \
                 have their handlers take less time",
                count_of(*waiting, "call")
            ),
            Self::Handshakes(waiting) => write!(
                f,
                "{waiting} of the plugin's handshakes wait for a processor, in handlers of $connect or authorizers that compute \
                 for long: as many as places are left for those of others, of half of limits.handshakes; have them compute \
                 less, or raise it"
            ),
            Self::Machine => f.write_str(
                "there is no room for another instance; lower limits.instances of the plugins, or give the process more \
                 memory and address space",
            ),
        }
    }
}
