//! The history of a plugin's versions: their origins and ends, and the code of the last few.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;

use super::change::{EndReason, NoChange, VersionOrigin};
use super::version::{Code, Counts, Version};
use crate::clock::now_ms;
use crate::plugin::load::source::Compiled;
use crate::signature::{Digest, Signature};

/// Versions that the history keeps.
const MAX_ENTRIES: usize = 16;

/// Replaced versions whose code is kept, in addition to the versions that serve.
const MAX_COMPILED: usize = 3;

#[derive(Default)]
pub(crate) struct History {
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// The calls, traps and missed deadlines of versions that the history has dropped.
    dropped: (u64, u64, u64),
    /// The last number that was given.
    last_number: u64,
    /// The newest signed version.
    signed: u32,
}

struct Entry {
    number: u64,
    digest: Digest,
    size: u64,
    compiled: Option<Arc<Compiled>>,
    signature: Option<Arc<Signature>>,
    counts: Arc<Counts>,
    came: VersionOrigin,
    loaded_at: u64,
    ended: Option<EndReason>,
    /// It was more than the candidate of a rollout.
    served_all: bool,
}

impl Entry {
    /// Whether the version has ended, with all its calls.
    fn is_over(&self) -> bool {
        self.ended.is_some() && Arc::strong_count(&self.counts) == 1
    }
}

/// A version as the admin API shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct VersionInfo {
    pub(crate) version: u64,
    pub(crate) digest: String,
    pub(crate) bytes: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) loaded_at: u64,
    /// The origin.
    pub(crate) came: String,
    /// The reason for its end; none while it serves.
    pub(crate) ended: Option<String>,
    /// Whether a rollback to it needs no compiling.
    pub(crate) compiled: bool,
    pub(crate) calls: u64,
    pub(crate) traps: u64,
}

impl History {
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(crate) fn add(&mut self, version: &Version, came: VersionOrigin) {
        let signed = version.code.signature.as_ref();
        self.signed = self
            .signed
            .max(signed.map_or(0, |signature| signature.version));
        self.entries.push_back(Entry {
            number: version.number,
            digest: version.code.compiled.digest,
            size: version.code.compiled.bytes.len() as u64,
            compiled: Some(Arc::clone(&version.code.compiled)),
            signature: version.code.signature.clone(),
            counts: Arc::clone(&version.counts),
            came,
            loaded_at: now_ms(),
            ended: None,
            served_all: false,
        });
    }

    /// Notes that a version serves all connections, or all but those of a candidate.
    pub(crate) fn serves_all(&mut self, number: u64) {
        let mut entries = self.entries.iter_mut();
        if let Some(entry) = entries.find(|entry| entry.number == number) {
            entry.served_all = true;
        }
    }

    /// The last version that had the code of this digest, and how it ended, if it has.
    pub(crate) fn ended(&self, digest: Digest) -> Option<(u64, EndReason)> {
        let mut entries = self.entries.iter().rev();
        let entry = entries.find(|entry| entry.digest == digest)?;
        Some((entry.number, entry.ended?))
    }

    /// Notes the end of a version, and drops code and entries that are too old.
    pub(crate) fn end(&mut self, number: u64, ended: EndReason) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.number == number) {
            entry.ended = Some(ended);
        }
        let mut kept: Vec<Digest> = Vec::new();
        for entry in self.entries.iter_mut().rev() {
            if entry.ended.is_none() {
                continue;
            }
            // A candidate that was given up takes no version's place: no rollback goes to it by itself.
            let given_up = !entry.served_all;
            if given_up || kept.contains(&entry.digest) || kept.len() >= MAX_COMPILED {
                entry.compiled = None;
            } else if entry.compiled.is_some() {
                kept.push(entry.digest);
            }
        }
        // An entry whose version still has calls under way stays: its counts may change. So does one that serves, which
        // under a rollout may be the oldest for as long as that lasts.
        while self.entries.len() > MAX_ENTRIES
            && let Some(index) = self.entries.iter().position(Entry::is_over)
            && let Some(oldest) = self.entries.remove(index)
        {
            self.dropped.0 += oldest.counts.calls();
            self.dropped.1 += oldest.counts.traps();
            self.dropped.2 += oldest.counts.deadlines();
        }
    }

    /// The code of this digest, if it is still compiled.
    pub(crate) fn compiled(&self, digest: Digest) -> Option<Arc<Compiled>> {
        let mut known = self.entries.iter().rev();
        known
            .find_map(|entry| entry.compiled.as_ref().filter(|code| code.digest == digest))
            .cloned()
    }

    /// The version of a rollback: the one of this number, or else the last that has other code than `now`, did not fail,
    /// and has served more than the share of a rollout: a candidate that was given up never comes to serve all.
    pub(crate) fn back_to(
        &self,
        number: Option<u64>,
        now: Digest,
    ) -> Result<(u64, Code), NoChange> {
        if let Some(number) = number {
            let entry = self.entries.iter().find(|entry| entry.number == number);
            let entry = entry.ok_or(NoChange::NoVersion(number))?;
            // A later version with the same code may have kept it.
            let code = self.compiled(entry.digest);
            let compiled = code.ok_or(NoChange::NotCompiled(number))?;
            let signature = entry.signature.clone();
            return Ok((
                number,
                Code {
                    compiled,
                    signature,
                },
            ));
        }
        let has_failed = |digest| {
            let mut entries = self.entries.iter().filter(|entry| entry.digest == digest);
            entries.any(|entry| matches!(entry.ended, Some(EndReason::Withdrawn(_))))
        };
        let mut earlier = self.entries.iter().rev();
        earlier
            .find_map(|entry| {
                let code = Code {
                    // It may be kept by a later one that is the same.
                    compiled: self.compiled(entry.digest)?,
                    signature: entry.signature.clone(),
                };
                let fits = entry.ended.is_some()
                    && entry.served_all
                    && entry.digest != now
                    && !has_failed(entry.digest);
                fits.then_some((entry.number, code))
            })
            .ok_or(NoChange::NoEarlier)
    }

    /// The newest signed version; 0 when none was signed.
    pub(crate) fn signed(&self) -> u32 {
        self.signed
    }

    /// Calls, traps and missed deadlines of all versions together.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let add = |(calls, traps, deadlines), entry: &Entry| {
            let counts = &entry.counts;
            (
                calls + counts.calls(),
                traps + counts.traps(),
                deadlines + counts.deadlines(),
            )
        };
        self.entries.iter().fold(self.dropped, add)
    }

    /// Newest first.
    pub(crate) fn infos(&self) -> Vec<VersionInfo> {
        let info = |entry: &Entry| VersionInfo {
            version: entry.number,
            digest: entry.digest.to_string(),
            bytes: entry.size,
            loaded_at: entry.loaded_at,
            came: entry.came.to_string(),
            ended: entry.ended.as_ref().map(EndReason::to_string),
            compiled: self.compiled(entry.digest).is_some(),
            calls: entry.counts.calls(),
            traps: entry.counts.traps(),
        };
        self.entries.iter().rev().map(info).collect()
    }
}
