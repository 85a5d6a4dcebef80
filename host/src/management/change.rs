//! A change made by a reload or a command, as a value. The log and the commands show its text.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::Purpose;
use crate::config::Address;
use crate::plugin::PluginChange;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Plugin(Arc<str>, PluginChange),
    /// Each stage by `API/STAGE`.
    StageAdded(String),
    StageChanged(String),
    StageRemoved(String),
    /// Each listener by its address with its scheme.
    ListenerOpened(String),
    ListenerClosed(String),
    /// A listener that shows another certificate to new connections.
    Certificate {
        listener: String,
        certificate: String,
    },
    /// A listener that judges the certificates of new clients by other authorities or revocation lists.
    ClientCertificates(String),
    /// The management or the health listener.
    ManagementOpened(Purpose, Address),
    ManagementClosed(Purpose, Address),
    Limits,
    /// Keys of the connections API were added, changed or removed.
    AccessKeys,
    Log,
    AccessLog,
    Otlp,
    /// The file has another value, which takes effect at the next start.
    CompileCache,
}

impl From<(Arc<str>, PluginChange)> for Change {
    fn from((plugin, change): (Arc<str>, PluginChange)) -> Self {
        Self::Plugin(plugin, change)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plugin(name, change) => write!(f, "plugin {name}: {change}"),
            Self::StageAdded(stage) => write!(f, "stage {stage}: added"),
            Self::StageChanged(stage) => write!(f, "stage {stage}: changed"),
            Self::StageRemoved(stage) => write!(f, "stage {stage}: removed"),
            Self::ListenerOpened(listener) => write!(f, "listener {listener}: opened"),
            Self::ListenerClosed(listener) => write!(f, "listener {listener}: closed"),
            Self::Certificate {
                listener,
                certificate,
            } => write!(
                f,
                "listener {listener}: serving the changed certificate {certificate}"
            ),
            Self::ClientCertificates(listener) => write!(
                f,
                "listener {listener}: judging clients by the changed client_certificates"
            ),
            Self::ManagementOpened(purpose, address) => write!(f, "{purpose} {address}: opened"),
            Self::ManagementClosed(purpose, address) => write!(f, "{purpose} {address}: closed"),
            Self::Limits => f.write_str("limits: changed"),
            Self::AccessKeys => f.write_str("access_keys: changed"),
            Self::Log => f.write_str("log: changed"),
            Self::AccessLog => f.write_str("access log: changed"),
            Self::Otlp => f.write_str("otlp: changed"),
            Self::CompileCache => {
                f.write_str("compile_cache: the change takes effect at the next start")
            }
        }
    }
}

/// Serialises as its text, which the commands print.
impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_serialize_as_their_texts() {
        let changes = [
            Change::Plugin("chat".into(), PluginChange::ServesAll(3)),
            Change::Plugin("chat".into(), PluginChange::Reloaded(Vec::new())),
            Change::StageRemoved("chat/prod".into()),
            Change::Limits,
        ];
        let answer = serde_json::to_value(changes).unwrap();
        let expected = serde_json::json!([
            "plugin chat: version 3 serves all connections",
            "plugin chat: nothing that serves has changed",
            "stage chat/prod: removed",
            "limits: changed",
        ]);
        assert_eq!(answer, expected);
    }
}
