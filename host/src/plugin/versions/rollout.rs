//! Going back to an earlier version, by command or by itself, and rolling a newer one out to a share of the connections.

use std::sync::Arc;

use super::change::{Came, Ended, NoChange, PluginChange, Trapped, Withdrawn};
use super::plugin::Plugin;
use super::prepared::retire;
use super::share::Versions;
use super::version::{Code, Version};
use crate::config;

impl Plugin {
    /// Goes back to an earlier version: to that of a number, or to the last that had other code.
    pub(crate) async fn roll_back(&self, to: Option<u64>) -> Result<PluginChange, NoChange> {
        let _changing = self.changing.by_command().await?;
        let change = self.go_back(to, Ended::RolledBack).await?;
        self.lock().tallies.rollbacks += 1;
        Ok(self.say(change))
    }

    async fn go_back(&self, to: Option<u64>, ended: Ended) -> Result<PluginChange, NoChange> {
        let serving = self.versions().ok_or(NoChange::Removed)?;
        let now = serving.stable.code.compiled.digest;
        let (number, code, config, newest) = {
            let record = self.lock();
            let (number, code) = record.history.back_to(to, now)?;
            let newest = record.history.signed();
            (number, code, record.config.clone(), newest)
        };
        let trusted = Self::trusted(&config, &code).await;
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
            record.history.add(&version, Came::RolledBackTo(number));
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

    /// Takes back a version that fails too often.
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
        let trapped = Trapped { calls, traps };
        let digest = version.code.compiled.digest;
        if !is_stable || self.lock().history.back_to(None, digest).is_ok() {
            // First: going back takes a while, in which the other process would come to serve.
            changing.give_up(Withdrawn {
                plugin: Arc::clone(&self.name),
                version: number,
                trapped,
            });
        }
        let done = if is_stable {
            self.go_back(None, Ended::Withdrawn(trapped)).await
        } else {
            let retired = self.end_rollout(&serving.stable, Ended::Withdrawn(trapped));
            retire(retired).await;
            Ok(PluginChange::ServesAll(serving.stable.number))
        };
        match done {
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

    /// From now on a changed file serves a share of the connections; or changes the share of one that does.
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
        // Both serve as they did: nothing is to be retired.
        self.swap(&mut record, next, Ended::Replaced);
        Ok(self.say(change))
    }

    /// The rollout's version serves all.
    pub(crate) async fn promote(&self) -> Result<PluginChange, NoChange> {
        let _changing = self.changing.by_command().await?;
        let serving = self.versions().ok_or(NoChange::Removed)?;
        let Some(candidate) = &serving.candidate else {
            return Err(NoChange::NoCandidate);
        };
        let change = PluginChange::ServesAll(candidate.number);
        let retired = {
            let mut record = self.lock();
            record.rollout = None;
            let next = Versions::only(Arc::clone(candidate));
            self.swap(&mut record, next, Ended::Replaced)
        };
        retire(retired).await;
        Ok(self.say(change))
    }

    /// The rollout's version serves none, and the rollout is over.
    pub(crate) async fn abort(&self) -> Result<PluginChange, NoChange> {
        let _changing = self.changing.by_command().await?;
        let serving = self.versions().ok_or(NoChange::Removed)?;
        if self.lock().rollout.is_none() {
            return Err(NoChange::NoRollout);
        }
        retire(self.end_rollout(&serving.stable, Ended::Aborted)).await;
        Ok(self.say(PluginChange::ServesAll(serving.stable.number)))
    }

    fn say(&self, change: PluginChange) -> PluginChange {
        tracing::info!(plugin = &*self.name, "{change}");
        change
    }

    fn end_rollout(&self, stable: &Arc<Version>, ended: Ended) -> Vec<Arc<Version>> {
        let mut record = self.lock();
        record.rollout = None;
        let next = Versions::only(Arc::clone(stable));
        self.swap(&mut record, next, ended)
    }

    /// Without a `min_version` code that is signed as an older version than what was loaded already serves again only
    /// where its number is named.
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
