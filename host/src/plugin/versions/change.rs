//! Changes of a plugin, their causes, and the reasons against one: values, which the log, the history and the
//! management API show.

use std::fmt;
use std::sync::Arc;

use super::change_lock::Upgrading;
use crate::config::Fault;
use crate::signature::Digest;

/// The cause of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The gateway starts.
    Start,
    /// This process takes over from the one before it.
    Upgrade,
    /// `lockgate validate`.
    Check,
    /// The management API.
    Command,
    /// SIGHUP.
    Signal,
    ChangedFile,
    /// The same change, which could not be judged before.
    ChangedFileAgain,
    /// The configuration of `lockgate dev` has changed.
    ChangedConfiguration,
    /// `lockgate dev` has built it.
    Build,
}

impl Cause {
    /// Whether `lockgate dev` tells the author what comes of the load: the log need not.
    pub(crate) fn is_told_by_dev(self) -> bool {
        match self {
            Self::ChangedConfiguration | Self::Build => true,
            Self::Start
            | Self::Upgrade
            | Self::Check
            | Self::Command
            | Self::Signal
            | Self::ChangedFile
            | Self::ChangedFileAgain => false,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Upgrade => "upgrade",
            Self::Check => "check",
            Self::Command => "command",
            Self::Signal => "SIGHUP",
            Self::ChangedFile | Self::ChangedFileAgain => "changed file",
            Self::ChangedConfiguration => "changed configuration",
            Self::Build => "build",
        }
    }
}

/// The origin of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionOrigin {
    Loaded(Cause),
    /// By a rollback to the version of this number, whose code it has.
    RolledBackTo(u64),
}

impl fmt::Display for VersionOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loaded(cause) => f.write_str(cause.as_str()),
            Self::RolledBackTo(number) => write!(f, "rollback to version {number}"),
        }
    }
}

/// The reason why a version serves no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    Replaced,
    RolledBack,
    /// Its rollout was aborted.
    Aborted,
    /// It trapped too often: no automatic rollback goes to it.
    Withdrawn(TrapCount),
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced => f.write_str("replaced"),
            Self::RolledBack => f.write_str("rolled back by command"),
            Self::Aborted => f.write_str("aborted by command"),
            Self::Withdrawn(trapped) => trapped.fmt(f),
        }
    }
}

/// The counts of a version when it rolled itself back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrapCount {
    pub(crate) calls: u64,
    pub(crate) traps: u64,
}

impl fmt::Display for TrapCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, traps } = self;
        write!(f, "rolled itself back: {traps} of {calls} calls trapped")
    }
}

/// A version that another process takes over has rolled itself back.
#[derive(Clone, Debug, thiserror::Error)]
#[error("version {version} of the plugin {plugin} {trapped}")]
pub(crate) struct Withdrawn {
    pub(crate) plugin: Arc<str>,
    pub(crate) version: u64,
    pub(crate) trapped: TrapCount,
}

/// A change of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PluginChange {
    Added,
    Removed,
    /// By a reload, with its new versions: none when only settings that concern no version have changed.
    Reloaded(Vec<NewVersion>),
    RolledBack {
        serves: u64,
        code_of: u64,
    },
    /// A rollout will begin with the next version of the file.
    NextShare(u32),
    Share {
        version: u64,
        percent: u32,
    },
    /// Its rollout is over.
    ServesAll(u64),
    /// The rollout of another is over, which serves no more.
    RolloutEnded(u64),
}

/// A version that serves since a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewVersion {
    pub(crate) number: u64,
    pub(crate) digest: Digest,
    /// The percentage of connections, in a rollout.
    pub(crate) share: Option<u32>,
}

impl fmt::Display for PluginChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added => f.write_str("added"),
            Self::Removed => f.write_str("removed"),
            Self::Reloaded(versions) if versions.is_empty() => {
                f.write_str("nothing that serves has changed")
            }
            Self::Reloaded(versions) => {
                let mut between = "";
                for version in versions {
                    write!(f, "{between}{version}")?;
                    between = ", ";
                }
                Ok(())
            }
            Self::RolledBack { serves, code_of } => {
                write!(f, "version {serves} serves, the code of version {code_of}")
            }
            Self::NextShare(percent) => write!(
                f,
                "the next version of the file will serve {percent} % of the connections"
            ),
            Self::Share { version, percent } => {
                write!(f, "version {version} serves {percent} % of the connections")
            }
            Self::ServesAll(version) => write!(f, "version {version} serves all connections"),
            Self::RolloutEnded(version) => write!(
                f,
                "the rollout has ended, and version {version} serves all connections"
            ),
        }
    }
}

impl fmt::Display for NewVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} serves", self.number)?;
        if let Some(share) = self.share {
            write!(f, " {share} % of the connections")?;
        }
        write!(f, " ({})", self.digest)
    }
}

/// The plugin's file holds code that an operator, or the code itself, took back: a reload does not serve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldBack {
    /// The last version with the file's code, and how that ended, as far as it is remembered.
    pub(super) version: Option<(u64, EndReason)>,
    pub(super) serves: u64,
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some((number, ended)) => {
                let ended = match ended {
                    EndReason::Replaced => "was replaced",
                    EndReason::RolledBack => "was rolled back",
                    EndReason::Aborted => "was aborted",
                    EndReason::Withdrawn(_) => "rolled itself back",
                };
                write!(f, "the file holds version {number}, which {ended}")?;
            }
            None => f.write_str("the file holds code that was rolled back")?,
        }
        write!(f, "; version {} serves", self.serves)
    }
}

/// The reason why a command changes nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoChange {
    #[error(transparent)]
    Upgrading(#[from] Upgrading),
    #[error("the plugin is no longer in the configuration")]
    Removed,
    #[error("there is no version {0}")]
    NoVersion(u64),
    #[error("version {0} is not kept compiled any more")]
    NotCompiled(u64),
    #[error("there is no earlier version to go back to")]
    NoEarlier,
    #[error("version {number} may not serve again: {}; {}", .fault.message, .fault.remedy)]
    Untrusted { number: u64, fault: Fault },
    /// Without a `min_version` an older signed version serves again only where its number is named.
    #[error(
        "version {number} is signed as {signed}, and {newest} was loaded already; to go back deliberately, name it: \
         `lockgate plugins rollback {plugin} --to {number}`, or write min_version = {signed}"
    )]
    BelowNewest {
        plugin: Arc<str>,
        number: u64,
        signed: u32,
        newest: u32,
    },
    #[error("{}", .0.message)]
    NotBuilt(Fault),
    #[error("a share is a number from 1 to 100, in percent")]
    NoShare,
    /// So many percent are meant for it.
    #[error("a rollout to {0} % waits for the next file: there is no version to promote yet")]
    NoCandidate(u32),
    #[error("no rollout is under way")]
    NoRollout,
}
