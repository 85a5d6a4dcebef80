//! What the plugins of one process serve and the files alone do not tell, for the process that serves in its place:
//! rollbacks, rollouts, and the newest signed version of each.

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

/// By plugin. One that serves the code of its file, and has no rollout, need not be here.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Heritage {
    /// The newest signed version that has served.
    pub(crate) floors: BTreeMap<String, u32>,
    pub(crate) plugins: BTreeMap<String, InheritedPlugin>,
}

/// How one plugin was.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct InheritedPlugin {
    /// The digest of the file that was looked at last: as long as it is the same, its code is not served.
    pub(crate) offered: String,
    pub(crate) stable: InheritedCode,
    pub(crate) candidate: Option<InheritedCode>,
    /// A rollout is under way, for so many percent of the connections.
    pub(crate) rollout: Option<u32>,
}

/// A component, whole: its file may hold another by now.
#[derive(Clone, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct InheritedCode {
    /// Base64.
    component: String,
    signature: Option<String>,
}

impl Plugin {
    /// How it is; none where its file alone tells.
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

    /// The component and its signature, judged as code is that served before.
    pub(crate) fn open(
        &self,
        plugin: &config::Plugin,
    ) -> Result<(Source, Option<Signature>), Fault> {
        let broken = |message: String| Fault {
            key: format!("plugins.{}.component", plugin.name),
            message: format!("the state of the process before this one cannot be read: {message}"),
            remedy: "stop that process, and start this one without it".into(),
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

/// Not its megabytes.
impl std::fmt::Debug for InheritedCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InheritedCode").finish_non_exhaustive()
    }
}
