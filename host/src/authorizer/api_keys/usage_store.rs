//! The use of the keys of one file: counted in memory, saved in the background.
//!
//! A handshake or a message only counts. Every second a task adds what has come to the file, under a lock: the processes
//! of an upgrade write the same one. A kill loses the use of a second at most. The same task looks whether the file is as it
//! left it: one that is gone, broken or behind is put right also if nothing is used.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::usage_file::{self, BadUsage, Saved, SavedByPrefix};
use crate::auth::{Unsaved, Usage};
use crate::clock::now_ms;
use crate::config::UsagePlan;
use crate::net::{self, watch::Stamp};

/// Time from one saving to the next: the use of that time is lost if the process is killed.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// The use of all keys of one file.
pub(super) struct UsageStore {
    counts: Arc<Counts>,
    _saving: AbortOnDropHandle<()>,
}

struct Counts {
    file: PathBuf,
    /// By the prefix of the key.
    usages: Mutex<HashMap<String, Arc<Usage>>>,
    /// The file as the last saving left it, if there was one of either.
    left: Mutex<Option<Option<Stamp>>>,
}

impl UsageStore {
    /// Counts the use that `file` is to keep. Needs a runtime.
    pub(super) fn open(file: &Path) -> Self {
        let counts = Arc::new(Counts {
            file: file.to_owned(),
            usages: Mutex::default(),
            left: Mutex::default(),
        });
        let saving = Arc::clone(&counts).save_again_and_again();
        Self {
            counts,
            _saving: AbortOnDropHandle::new(TaskTracker::new().spawn(saving)),
        }
    }

    pub(super) fn is_of(&self, file: &Path) -> bool {
        self.counts.file == file
    }

    /// Gives the usage of each key, by its prefix, with its plan. Keys that are not among them are forgotten.
    pub(super) fn usages(&self, plans: HashMap<String, UsagePlan>) -> HashMap<String, Arc<Usage>> {
        let saved = self.counts.saved();
        let now = now_ms();
        let mut usages = self.counts.lock();
        let plans = plans.into_iter().map(|(prefix, plan)| {
            let usage = match usages.remove(&prefix) {
                Some(usage) => {
                    usage.set_plan(&plan);
                    usage
                }
                None => Arc::new(Usage::new(&plan)),
            };
            if let Some(saved) = saved.get(&prefix) {
                usage.set_saved(saved.into(), now);
            }
            (prefix, usage)
        });
        let now_used: HashMap<_, _> = plans.collect();
        usages.clone_from(&now_used);
        now_used
    }

    /// Saves the use so far.
    pub(super) fn save(&self) {
        self.counts.save_or_warn(&mut false);
    }
}

/// Saves what has been used since the last saving; a disk is nothing that a runtime's threads may wait for.
impl Drop for UsageStore {
    fn drop(&mut self) {
        match Handle::try_current() {
            Ok(runtime) => {
                let counts = Arc::clone(&self.counts);
                runtime.spawn_blocking(move || counts.save_or_warn(&mut false));
            }
            Err(_) => self.save(),
        }
    }
}

impl Counts {
    async fn save_again_and_again(self: Arc<Self>) {
        let mut warned = false;
        loop {
            sleep(SAVE_EVERY).await;
            let counts = Arc::clone(&self);
            let saving = spawn_blocking(move || {
                counts.save_or_warn(&mut warned);
                warned
            });
            // A runtime that ends takes no more work: the last saving is the stop's.
            let Ok(again) = saving.await else { return };
            warned = again;
        }
    }

    /// Saves, and warns of the first failure in a row.
    fn save_or_warn(&self, warned: &mut bool) {
        match self.save() {
            Ok(()) => *warned = false,
            Err(error) => {
                if !*warned {
                    let file = self.file.display();
                    tracing::warn!(%file, "the use of API keys is not saved: {error}\n  remedy: let the gateway's user read the file and write in its folder, and see that the disk has room");
                }
                *warned = true;
            }
        }
    }

    fn save(&self) -> io::Result<()> {
        // Two savings at once would both take the use of the other for saved.
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let usages = self.lock().clone();
        let unsaved: Vec<_> = usages
            .iter()
            .filter_map(|(prefix, usage)| Some((prefix, usage, usage.take_unsaved()?)))
            .collect();
        if unsaved.is_empty() && *left == Some(Stamp::of(&self.file)) {
            return Ok(());
        }
        let give_back = || {
            for (_, usage, unsaved) in &unsaved {
                usage.give_back(*unsaved);
            }
        };
        let (saved, stamp) = self.add(&unsaved).inspect_err(|_| give_back())?;
        *left = Some(stamp);
        let now = now_ms();
        for (prefix, usage) in &usages {
            if let Some(saved) = saved.get(prefix) {
                usage.set_saved(saved.into(), now);
            }
        }
        Ok(())
    }

    /// The use in the file. Warns if that is not known.
    fn saved(&self) -> SavedByPrefix {
        let bad = match usage_file::read(&self.file) {
            Ok(saved) => return saved.unwrap_or_default(),
            Err(bad @ BadUsage::Unreadable(_)) => bad,
            Err(BadUsage::Empty | BadUsage::Broken(_)) => {
                let lock = net::lock(&self.file);
                match lock.and_then(|_lock| usage_file::read_or_set_aside(&self.file)) {
                    Ok(saved) => return saved.unwrap_or_default(),
                    Err(error) => BadUsage::Unreadable(error),
                }
            }
        };
        let (file, remedy) = (self.file.display(), bad.remedy(&self.file));
        tracing::warn!(%file, "the use of API keys so far is not known: {bad}\n  remedy: {remedy}");
        SavedByPrefix::new()
    }

    /// Adds to the use in the file, and gives what is in it then, with the file's stamp. No use in it is less than this process
    /// knows: a file that is gone, broken or restored is written with all of it. What is of another period than the one under way
    /// makes room, also if it begins later: a plan counted by the day before, or a clock was ahead.
    fn add(
        &self,
        unsaved: &[(&String, &Arc<Usage>, Unsaved)],
    ) -> io::Result<(SavedByPrefix, Option<Stamp>)> {
        // What is to be added is in it.
        let known = self.known();
        let stamp = Stamp::of(&self.file);
        if known.is_empty() && stamp.is_none() {
            return Ok((known, None));
        }
        let _lock = net::lock(&self.file)?;
        let stamp = Stamp::of(&self.file);
        let before = usage_file::read_or_set_aside(&self.file)?;
        let mut saved = before.clone().unwrap_or_default();
        for (prefix, _, unsaved) in unsaved {
            if let Some(entry) = saved.get_mut(*prefix)
                && entry.begins == unsaved.begins
            {
                entry.used = entry.used.saturating_add(unsaved.used);
            }
        }
        for (prefix, known) in known {
            let entry = saved.entry(prefix).or_insert(known);
            let is_more = entry.begins == known.begins && entry.used > known.used;
            if !is_more {
                *entry = known;
            }
        }
        if before.unwrap_or_default() == saved {
            return Ok((saved, stamp));
        }
        usage_file::write(&self.file, &saved)?;
        Ok((saved, Stamp::of(&self.file)))
    }

    fn known(&self) -> SavedByPrefix {
        let now = now_ms();
        let usages = self.lock();
        let known = usages.iter().filter_map(|(prefix, usage)| {
            let Unsaved { begins, used } = usage.taken(now)?;
            Some((prefix.clone(), Saved { begins, used }))
        });
        known.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Usage>>> {
        self.usages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
