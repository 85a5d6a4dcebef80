//! Rollbacks to an earlier version, by command or by themselves, and rollouts of a newer one to a share of the
//! connections.

use std::sync::Arc;

use super::change::{EndReason, NoChange, PluginChange, TrapCount, VersionOrigin, Withdrawn};
use super::plugin::Plugin;
use super::prepared::retire;
use super::rollout_share::Versions;
use super::version::{Code, Version};
use crate::config;

impl Plugin {
    /// Goes back: to the version of a number; or from a rollout to what serves the others, since that has been good; or
    /// to the last that had other code.
    pub(crate) async fn roll_back(&self, to: Option<u64>) -> Result<PluginChange, NoChange> {
        let _changing = self.changing.by_command().await?;
        if to.is_none()
            && let Some(serving) = self.versions()
            && serving.candidate.is_some()
        {
            retire(self.end_rollout(&serving.stable, EndReason::RolledBack)).await;
            self.lock().tallies.rollbacks += 1;
            return Ok(self.log(PluginChange::RolloutEnded(serving.stable.number)));
        }
        let change = self.go_back(to, EndReason::RolledBack).await?;
        self.lock().tallies.rollbacks += 1;
        Ok(self.log(change))
    }

    async fn go_back(&self, to: Option<u64>, ended: EndReason) -> Result<PluginChange, NoChange> {
        let serving = self.versions().ok_or(NoChange::Removed)?;
        let now = serving.stable.code.compiled.digest;
        let (number, code, config, newest) = {
            let record = self.lock();
            let (number, code) = record.history.back_to(to, now)?;
            let newest = record.history.signed();
            (number, code, record.config.clone(), newest)
        };
        let trusted = Self::check_trust(&config, &code).await;
        trusted.map_err(|fault| NoChange::Untrusted { number, fault })?;
        if to.is_none() {
            self.check_floor(&config, number, &code, newest)?;
        }
        let built = Self::build(&self.place, &config, code).await;
        let mut version = built.map_err(NoChange::NotBuilt)?;
        let (serves, retired) = {
            let mut record = self.lock();
            version.begin(record.history.next_number());
            let serves = version.number;
            record
                .history
                .add(&version, VersionOrigin::RolledBackTo(number));
            record.rollout = None;
            let next = Versions::only(Arc::new(version));
            (serves, self.swap(&mut record, next, ended))
        };
        retire(retired).await;
        Ok(PluginChange::RolledBack {
            serves,
            code_of: number,
        })
    }

    /// Rolls back a version that traps too often.
    pub(crate) async fn withdraw(&self, number: u64) {
        let mut changing = self.changing.lock().await;
        let Some(serving) = self.versions() else {
            return;
        };
        let of = |version: &Arc<Version>| version.number == number;
        let (version, is_stable) = match &serving.candidate {
            _ if of(&serving.stable) => (&serving.stable, true),
            Some(candidate) if of(candidate) => (candidate, false),
            Some(_) | None => return,
        };
        let (calls, traps) = (version.counts.calls(), version.counts.traps());
        let trapped = TrapCount { calls, traps };
        let digest = version.code.compiled.digest;
        if !is_stable || self.lock().history.back_to(None, digest).is_ok() {
            // Before the rollback, which takes a while: the other process must not come to serve meanwhile.
            changing.give_up(Withdrawn {
                plugin: Arc::clone(&self.name),
                version: number,
                trapped,
            });
        }
        let result = if is_stable {
            self.go_back(None, EndReason::Withdrawn(trapped)).await
        } else {
            let retired = self.end_rollout(&serving.stable, EndReason::Withdrawn(trapped));
            retire(retired).await;
            Ok(PluginChange::RolloutEnded(serving.stable.number))
        };
        match result {
            Ok(change) => {
                self.lock().tallies.withdrawn += 1;
                tracing::error!(
                    plugin = &*self.name,
                    version = number,
                    calls,
                    traps,
                    "the version traps too often and rolled itself back: {change}"
                );
            }
            Err(reason) => tracing::error!(
                plugin = &*self.name,
                version = number,
                calls,
                traps,
                "the version traps too often and goes on serving: {reason}"
            ),
        }
    }

    /// Begins a rollout, in which a changed file serves a share of the connections, or changes the share of one under
    /// way.
    pub(crate) async fn roll_out(&self, share: u32) -> Result<PluginChange, NoChange> {
        if !(1..=100).contains(&share) {
            return Err(NoChange::NoShare);
        }
        let _changing = self.changing.by_command().await?;
        let serving = self.versions().ok_or(NoChange::Removed)?;
        let mut record = self.lock();
        record.rollout = Some(share);
        record.changes += 1;
        let Some(candidate) = &serving.candidate else {
            return Ok(PluginChange::NextShare(share));
        };
        let change = PluginChange::Share {
            version: candidate.number,
            percent: share,
        };
        let next = Versions {
            share,
            ..Versions::clone(&serving)
        };
        // Both versions go on serving: none is retired.
        self.swap(&mut record, next, EndReason::Replaced);
        Ok(self.log(change))
    }

    /// Ends a rollout: its version serves all connections.
    pub(crate) async fn promote(&self) -> Result<PluginChange, NoChange> {
        let _changing = self.changing.by_command().await?;
        let serving = self.versions().ok_or(NoChange::Removed)?;
        let Some(candidate) = &serving.candidate else {
            let share = self.lock().rollout;
            return Err(share.map_or(NoChange::NoRollout, NoChange::NoCandidate));
        };
        let change = PluginChange::ServesAll(candidate.number);
        let retired = {
            let mut record = self.lock();
            record.rollout = None;
            let next = Versions::only(Arc::clone(candidate));
            self.swap(&mut record, next, EndReason::Replaced)
        };
        retire(retired).await;
        Ok(self.log(change))
    }

    /// Aborts a rollout: its version serves no connection.
    pub(crate) async fn abort(&self) -> Result<PluginChange, NoChange> {
        let _changing = self.changing.by_command().await?;
        let serving = self.versions().ok_or(NoChange::Removed)?;
        if self.lock().rollout.is_none() {
            return Err(NoChange::NoRollout);
        }
        retire(self.end_rollout(&serving.stable, EndReason::Aborted)).await;
        Ok(self.log(PluginChange::RolloutEnded(serving.stable.number)))
    }

    fn log(&self, change: PluginChange) -> PluginChange {
        tracing::info!(plugin = &*self.name, "{change}");
        change
    }

    fn end_rollout(&self, stable: &Arc<Version>, ended: EndReason) -> Vec<Arc<Version>> {
        let mut record = self.lock();
        record.rollout = None;
        let next = Versions::only(Arc::clone(stable));
        self.swap(&mut record, next, ended)
    }

    /// Without a `min_version`, code that is signed as an older version than one already loaded serves again only if
    /// the rollback names its number.
    fn check_floor(
        &self,
        config: &config::Plugin,
        number: u64,
        code: &Code,
        newest: u32,
    ) -> Result<(), NoChange> {
        let (Some(wanted), Some(signature)) = (&config.signature, &code.signature) else {
            return Ok(());
        };
        if wanted.min_version.is_some() || signature.version >= newest {
            return Ok(());
        }
        Err(NoChange::BelowNewest {
            plugin: Arc::clone(&self.name),
            number,
            signed: signature.version,
            newest,
        })
    }
}
