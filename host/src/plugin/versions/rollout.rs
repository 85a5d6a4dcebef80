//! Going back to an earlier version, by command or by itself, and rolling a newer one out to a share of the connections.

use std::sync::Arc;

use super::handle::Versions;
use super::plugin::{Plugin, REMOVED, retire};
use super::version::{Code, Version};
use crate::config;

impl Plugin {
    /// Goes back to an earlier version: to that of a number, or to the last that had other code.
    pub(crate) async fn roll_back(&self, to: Option<u64>) -> Result<String, String> {
        let _changing = self.changing.by_command().await?;
        let said = self
            .go_back(to, "rolled back by command".into(), false)
            .await?;
        self.lock().tallies.rollbacks += 1;
        tracing::info!(plugin = &*self.name, "{said}");
        Ok(said)
    }

    async fn go_back(&self, to: Option<u64>, why: String, failed: bool) -> Result<String, String> {
        let serving = self.versions().ok_or(REMOVED)?;
        let now = serving.stable.code.compiled.digest;
        let (number, code, config, newest) = {
            let record = self.lock();
            let (number, code) = record.history.back_to(to, now)?;
            let newest = record.history.signed();
            (number, code, record.config.clone(), newest)
        };
        Self::trusted(&config, &code).await.map_err(|fault| {
            format!(
                "version {number} is not to serve again: {}; {}",
                fault.message, fault.remedy
            )
        })?;
        if to.is_none() {
            check_floor(&config, number, &code, newest)?;
        }
        let built = Self::build(&self.place, &config, code).await;
        let mut version = built.map_err(|fault| fault.message)?;
        let (serves, retired) = {
            let mut record = self.lock();
            version.begin(record.history.next_number());
            let serves = version.number;
            record
                .history
                .add(&version, format!("rollback to version {number}"));
            record.rollout = None;
            let next = Versions::only(Arc::new(version));
            (serves, self.swap(&mut record, next, &why, failed))
        };
        retire(retired).await;
        Ok(format!(
            "version {serves} serves, the code of version {number}"
        ))
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
        let why = format!("rolled itself back: {traps} of {calls} calls trapped");
        let digest = version.code.compiled.digest;
        if !is_stable || self.lock().history.back_to(None, digest).is_ok() {
            // First: going back takes a while, in which the other process would come to serve.
            let name = &self.name;
            changing.give_up(format!("version {number} of the plugin {name} {why}"));
        }
        let done = if is_stable {
            self.go_back(None, why, true).await
        } else {
            let retired = self.end_rollout(&serving.stable, &why, true);
            retire(retired).await;
            Ok(format!("version {} serves all", serving.stable.number))
        };
        match done {
            Ok(said) => {
                self.lock().tallies.withdrawn += 1;
                tracing::error!(
                    plugin = &*self.name,
                    version = number,
                    calls,
                    traps,
                    "the version traps too often and rolled itself back: {said}"
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
    pub(crate) async fn roll_out(&self, share: u32) -> Result<String, String> {
        if !(1..=100).contains(&share) {
            return Err("a share is a number from 1 to 100, in percent".into());
        }
        let _changing = self.changing.by_command().await?;
        let serving = self.versions().ok_or(REMOVED)?;
        let mut record = self.lock();
        record.rollout = Some(share);
        record.changes += 1;
        let Some(candidate) = &serving.candidate else {
            return Ok(format!(
                "the next version of the file will serve {share} % of the connections"
            ));
        };
        let said = format!(
            "version {} serves {share} % of the connections",
            candidate.number
        );
        let next = Versions {
            share,
            ..Versions::clone(&serving)
        };
        // Both serve as they did: nothing is to be retired.
        self.swap(&mut record, next, "replaced", false);
        tracing::info!(plugin = &*self.name, "{said}");
        Ok(said)
    }

    /// The rollout's version serves all.
    pub(crate) async fn promote(&self) -> Result<String, String> {
        let _changing = self.changing.by_command().await?;
        let serving = self.versions().ok_or(REMOVED)?;
        let Some(candidate) = &serving.candidate else {
            return Err("no rollout has a version yet".into());
        };
        let said = format!("version {} serves all connections", candidate.number);
        let retired = {
            let mut record = self.lock();
            record.rollout = None;
            let next = Versions::only(Arc::clone(candidate));
            self.swap(&mut record, next, "replaced", false)
        };
        retire(retired).await;
        tracing::info!(plugin = &*self.name, "{said}");
        Ok(said)
    }

    /// The rollout's version serves none, and the rollout is over.
    pub(crate) async fn abort(&self) -> Result<String, String> {
        let _changing = self.changing.by_command().await?;
        let serving = self.versions().ok_or(REMOVED)?;
        if self.lock().rollout.is_none() {
            return Err("no rollout is under way".into());
        }
        retire(self.end_rollout(&serving.stable, "aborted by command", false)).await;
        let said = format!("version {} serves all connections", serving.stable.number);
        tracing::info!(plugin = &*self.name, "{said}");
        Ok(said)
    }

    fn end_rollout(&self, stable: &Arc<Version>, why: &str, failed: bool) -> Vec<Arc<Version>> {
        let mut record = self.lock();
        record.rollout = None;
        let next = Versions::only(Arc::clone(stable));
        self.swap(&mut record, next, why, failed)
    }
}

/// Without a `min_version` code that is signed as an older version than what was loaded already serves again only where
/// its number is named.
fn check_floor(
    config: &config::Plugin,
    number: u64,
    code: &Code,
    newest: u32,
) -> Result<(), String> {
    let (Some(wanted), Some(signature)) = (&config.signature, &code.signature) else {
        return Ok(());
    };
    if wanted.min_version.is_some() || signature.version >= newest {
        return Ok(());
    }
    Err(format!(
        "version {number} is signed as {}, and {newest} was loaded already; to go back deliberately, name it: \
         `lockgate plugins rollback {} --to {number}`, or write min_version = {}",
        signature.version, config.name, signature.version
    ))
}
