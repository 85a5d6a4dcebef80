//! Preparing a reload: components are read, judged, compiled, linked and tested beside the versions that serve.

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

/// A compilation that lasts longer is logged.
const LOG_AFTER: Duration = Duration::from_millis(500);

/// The part of a reload that concerns one plugin, checked and ready to commit.
pub(crate) enum Ready {
    /// A plugin that the configuration adds.
    New(Arc<Plugin>),
    Changed(Box<Prepared>),
    /// The files were read again and have the content that serves.
    Read(Unchanged),
    /// Neither the configuration nor the files have changed.
    Same,
}

impl Ready {
    /// Prepares a plugin again if another change has overtaken the first time.
    pub(super) async fn renew(self) -> Result<Self, Fault> {
        match self {
            Self::Changed(prepared) if !prepared.is_current() => {
                let renewed = prepared.again().await?;
                Ok(renewed.map_or(Self::Same, |renewed| Self::Changed(Box::new(renewed))))
            }
            Self::New(_) | Self::Changed(_) | Self::Read(_) | Self::Same => Ok(self),
        }
    }

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
    /// Reads, compiles, links and tests the component that a configuration names, away from the threads that serve.
    /// Changes nothing: [`Self::commit`] does.
    ///
    /// Fails when the file is no component of the world `lockgate:plugin/handler-plugin`, lacks a required signature,
    /// imports an interface that it was not granted, makes no instance within its limits, or fails its self-test.
    pub(crate) async fn prepare(
        &self,
        config: &config::Plugin,
        cause: Cause,
    ) -> Result<Ready, Fault> {
        let Some(plugin) = self.all().get(&config.name).map(Arc::clone) else {
            return self.prepare_first(config).await.map(Ready::New);
        };
        // Most files are unchanged at most reloads: looking at them is cheaper than reading them.
        if plugin.is_unchanged(config) {
            return Ok(Ready::Same);
        }
        policy::await_pair(config).await;
        let mut read = None;
        let prepared = async {
            let (source, signature) = self.read_checked(config, ReadMode::UntilWhole).await?;
            let (digest, stamp) = (*read.insert(source.digest), source.stamp);
            let compiled = match plugin.known_code(digest) {
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
                // It was said and counted the first time.
                if !(fault.is_passing && cause == Cause::ChangedFileAgain) {
                    plugin.refuse(read, &fault, cause);
                }
                Err(fault)
            }
        }
    }

    async fn prepare_first(&self, config: &config::Plugin) -> Result<Arc<Plugin>, Fault> {
        let (source, signature) = self.read_checked(config, ReadMode::Once).await?;
        let offered = (source.digest, source.stamp);
        let before = self.inherited().get(&config.name).cloned();
        let place = Placement {
            engine: self.engine.clone(),
            epochs: Arc::clone(&self.epochs),
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
        let again = async |inheritance: &heritage::InheritedCode| {
            let (source, signature) = inheritance.open(config)?;
            build(source, signature.map(Arc::new)).await
        };
        let first = match before {
            // The file has not changed since the other process read it: the versions are those of that process.
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

    /// Reads a component and checks its signature, if one is required: it must be trusted, and no older than the
    /// newest version that has served.
    async fn read_checked(
        &self,
        config: &config::Plugin,
        mode: ReadMode,
    ) -> Result<(Source, Option<Arc<Signature>>), Fault> {
        let source = load::read(config, mode, self.component_caches).await?;
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
        let compiled = match timeout(LOG_AFTER, &mut compiling).await {
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
