//! The state of plugins that their files do not tell, for the process that takes over: rollbacks, rollouts, and the
//! newest signed version of each.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::plugin::Plugin;
use super::version::Code;
use crate::config::{self, Fault};
use crate::plugin::load::policy;
use crate::plugin::load::source::Source;
use crate::signature::Signature;

/// The state by plugin. A plugin that serves the code of its file, and has no rollout, is left out.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Heritage {
    /// The newest signed version of each plugin that has served.
    pub(crate) floors: BTreeMap<String, u32>,
    pub(crate) plugins: BTreeMap<String, InheritedPlugin>,
}

/// The state of one plugin.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct InheritedPlugin {
    /// The digest of the file that was read last: while the file is the same, its code is not served.
    pub(crate) offered: String,
    pub(crate) stable: InheritedCode,
    pub(crate) candidate: Option<InheritedCode>,
    /// The share of a rollout under way, in percent of the connections.
    pub(crate) rollout: Option<u32>,
}

/// A whole component: its file may hold another by now.
#[derive(Clone, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct InheritedCode {
    /// Base64.
    component: String,
    signature: Option<String>,
}

impl Plugin {
    /// The state to hand over; none where the file alone tells it.
    pub(crate) fn inherited(&self) -> Option<InheritedPlugin> {
        let versions = self.versions()?;
        let record = self.lock();
        let is_as_offered = versions.stable.code.compiled.digest == record.offered;
        if is_as_offered && versions.candidate.is_none() && record.rollout.is_none() {
            return None;
        }
        let candidate = versions.candidate.as_ref();
        Some(InheritedPlugin {
            offered: record.offered.to_string(),
            stable: InheritedCode::of(&versions.stable.code),
            candidate: candidate.map(|version| InheritedCode::of(&version.code)),
            rollout: record.rollout,
        })
    }
}

impl InheritedCode {
    pub(crate) fn of(code: &Code) -> Self {
        Self {
            component: STANDARD.encode(&code.compiled.bytes),
            signature: code.signature.as_deref().map(Signature::to_text),
        }
    }

    /// The component and its signature, judged as code that served before.
    pub(crate) fn open(
        &self,
        plugin: &config::Plugin,
    ) -> Result<(Source, Option<Signature>), Fault> {
        let broken = |message: String| Fault {
            key: format!("plugins.{}.component", plugin.name),
            message: format!("the state of the process before this one cannot be read: {message}"),
            remedy: "stop that process, and start this one without it".into(),
            is_passing: false,
        };
        let bytes = STANDARD
            .decode(&self.component)
            .map_err(|error| broken(error.to_string()))?;
        let signature = match &self.signature {
            Some(text) => {
                let signature = Signature::parse(text.as_bytes());
                Some(signature.map_err(|untrusted| broken(untrusted.to_string()))?)
            }
            None => None,
        };
        let source = Source::from(bytes);
        if signature
            .as_ref()
            .is_some_and(|signature| signature.digest != source.digest.to_string())
        {
            return Err(broken("its signature is another component's".into()));
        }
        policy::check_again(plugin, signature.as_ref())?;
        Ok((source, signature))
    }
}

/// Leaves out the megabytes of code.
impl std::fmt::Debug for InheritedCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InheritedCode").finish_non_exhaustive()
    }
}
