//! What a reload asks of plugins: read, judged, compiled, linked and tried beside what serves.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Plugins;
use super::load::source::{Compiled, Source};
use super::load::{self, ReadMode, policy};
use super::versions::change::Cause;
use super::versions::heritage;
use super::versions::plugin::{FirstVersions, KnownCode, Placement, Plugin};
use super::versions::prepared::{Prepared, Unchanged};
use super::versions::version::Code;
use crate::config::{self, Fault};
use crate::signature::Signature;

/// How long a component is compiled before that is said.
const SOON: Duration = Duration::from_millis(500);
/// What a reload asks of one plugin, checked and ready.
pub(crate) enum Ready {
    /// A plugin that was not there.
    New(Arc<Plugin>),
    Changed(Box<Prepared>),
    /// What serves is what is asked for; its files were read again, as they have changed.
    Read(Unchanged),
    /// It is as it was.
    Same,
}

impl Ready {
    /// The signature of the file that was read.
    pub(super) fn signature(&self) -> Option<Arc<Signature>> {
        match self {
            Self::New(plugin) => plugin.versions()?.stable.code.signature.clone(),
            Self::Changed(prepared) => prepared.signature.clone(),
            Self::Read(seen) => seen.signature.clone(),
            Self::Same => None,
        }
    }

    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::New(plugin) => Some(&plugin.name),
            Self::Changed(prepared) => Some(&prepared.plugin.name),
            Self::Read(seen) => Some(&seen.plugin.name),
            Self::Same => None,
        }
    }
}
impl Plugins {
    /// Reads, compiles, links and tries what a plugin's configuration asks for, away from the threads that serve.
    /// Nothing has changed when this returns.
    ///
    /// Fails when the file is no component of the world `lockgate:plugin/handler-plugin`, is not signed as it must be,
    /// imports what it was not granted, makes no instance within its limits, or does not pass its self-test.
    pub(crate) async fn prepare(
        &self,
        config: &config::Plugin,
        cause: Cause,
    ) -> Result<Ready, Fault> {
        let Some(plugin) = self.all().get(&config.name).map(Arc::clone) else {
            return self.first(config).await.map(Ready::New);
        };
        // Looking is cheap, and reading twice is not: most files are as they were at most reloads.
        if plugin.is_as_it_was(config) {
            return Ok(Ready::Same);
        }
        policy::await_pair(config).await;
        let mut read = None;
        let prepared = async {
            let (source, signature) = self.source(config, ReadMode::UntilWhole).await?;
            let (digest, stamp) = (*read.insert(source.digest), source.stamp);
            let compiled = match plugin.known(digest) {
                KnownCode::Same => None,
                KnownCode::Compiled(compiled) => Some(compiled),
                KnownCode::Other => Some(self.compile(config, source).await?),
            };
            let prepared = plugin
                .prepare(config, (digest, stamp), compiled, &signature, cause)
                .await?;
            let seen = Unchanged {
                plugin: Arc::clone(&plugin),
                offered: (digest, stamp),
                signature,
            };
            Ok::<_, Fault>(match prepared {
                Some(prepared) => Ready::Changed(Box::new(prepared)),
                None => Ready::Read(seen),
            })
        };
        match prepared.await {
            Ok(ready) => Ok(ready),
            Err(fault) => {
                plugin.refused();
                let digest = read.map(tracing::field::display);
                tracing::warn!(
                    plugin = config.name,
                    digest,
                    reason = fault.message,
                    "the new version is not served, the one before continues"
                );
                Err(fault)
            }
        }
    }

    async fn first(&self, config: &config::Plugin) -> Result<Arc<Plugin>, Fault> {
        let (source, signature) = self.source(config, ReadMode::Once).await?;
        let offered = (source.digest, source.stamp);
        let before = self.inherited().get(&config.name).cloned();
        let place = Placement {
            engine: self.engine.clone(),
            room: Arc::clone(&self.room),
            slots: self.guests.slots(),
        };
        let build = async |source, signature| {
            let compiled = self.compile(config, source).await?;
            let code = Code {
                compiled,
                signature,
            };
            Plugin::build(&place, config, code).await
        };
        let again = async |inheritance: &heritage::Inheritance| {
            let (source, signature) = inheritance.open(config)?;
            build(source, signature.map(Arc::new)).await
        };
        let first = match before {
            // The file is the one that was looked at there: it serves as far as it did.
            Some(before) if before.offered == source.digest.to_string() => FirstVersions {
                stable: again(&before.stable).await?,
                candidate: match &before.candidate {
                    Some(candidate) => Some(again(candidate).await?),
                    None => None,
                },
                rollout: before.rollout,
                cause: Cause::Upgrade,
            },
            Some(before) if before.rollout.is_some() => FirstVersions {
                stable: again(&before.stable).await?,
                candidate: Some(build(source, signature).await?),
                rollout: before.rollout,
                cause: Cause::Upgrade,
            },
            Some(_) | None => FirstVersions {
                stable: build(source, signature).await?,
                candidate: None,
                rollout: None,
                cause: Cause::Start,
            },
        };
        Ok(Plugin::new(
            place.clone(),
            Arc::clone(&self.changing),
            config.clone(),
            offered,
            first,
        ))
    }

    /// A component that may be loaded, with its signature if it must have one: it is signed as it must be, and not older
    /// than what was loaded before.
    async fn source(
        &self,
        config: &config::Plugin,
        look: ReadMode,
    ) -> Result<(Source, Option<Arc<Signature>>), Fault> {
        let source = load::read(config, look, self.pulled).await?;
        let newest = self.signed().get(&config.name).copied().unwrap_or(0);
        let config_ = config.clone();
        let checked = tokio::task::spawn_blocking(move || {
            policy::check(&config_, &source.bytes, newest)
                .map(|signature| (source, signature.map(Arc::new)))
        });
        checked
            .await
            .unwrap_or_else(|error| Err(load::interrupted(config, &error)))
    }

    async fn compile(
        &self,
        config: &config::Plugin,
        source: Source,
    ) -> Result<Arc<Compiled>, Fault> {
        let (compiler, engine) = (Arc::clone(&self.compiler), self.engine.clone());
        let (config_, digest, size) = (config.clone(), source.digest, source.bytes.len());
        let began = Instant::now();
        let mut compiling = tokio::task::spawn_blocking(move || {
            load::compile(&compiler, &engine, &config_, &source)
        });
        let compiled = match timeout(SOON, &mut compiling).await {
            Ok(compiled) => compiled,
            Err(_) => {
                let (plugin, kib) = (&config.name, size >> 10);
                tracing::info!(plugin, %digest, kib, "compiling a component, which takes a while");
                let compiled = compiling.await;
                let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                if let Ok(Ok(_)) = &compiled {
                    tracing::info!(plugin, %digest, took_ms, "compiled the component");
                }
                compiled
            }
        };
        let compiled = compiled.unwrap_or_else(|error| Err(load::interrupted(config, &error)));
        compiled.map(Arc::new)
    }
}
