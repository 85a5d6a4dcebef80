//! The cache of an authorizer: identities by what clients have presented, for a while. Off unless `cache_s` is set.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::auth::Identity;
use crate::clock::now_ms;
use crate::invocation::Scope;
use crate::signature::digest_of;

/// Identities that are kept at once: 32 MiB where each is as large as may be. The oldest makes room.
const MAX_ENTRIES: usize = 4_096;

/// What a client has presented to a stage, as a digest: nobody can read a token from the memory of the cache.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key(Arc<str>);

/// The versions of a plugin that gave an answer.
pub(super) type Generation = (u64, u64);

pub(super) struct Cache {
    keep_ms: u64,
    entries: Mutex<Entries>,
}

/// The identities that one generation of the authorizer's plugin gave.
#[derive(Default)]
struct Entries {
    generation: Generation,
    by_key: HashMap<Key, Entry>,
    /// The keys in the order in which they end.
    order: VecDeque<(Key, u64)>,
}

struct Entry {
    identity: Arc<Identity>,
    /// Milliseconds since the Unix epoch.
    until: u64,
}

impl Key {
    /// An authorizer may decide differently for another API or stage.
    pub(super) fn of(scope: &Scope, presented: &[&str]) -> Self {
        let mut text = Vec::new();
        let parts = [&*scope.api, &*scope.stage].into_iter();
        for part in parts.chain(presented.iter().copied()) {
            text.extend_from_slice(&part.len().to_le_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        Self(digest_of(&text).into())
    }
}

impl Cache {
    /// Keeps each identity for this time.
    pub(super) fn new(keep: Duration) -> Self {
        Self {
            keep_ms: u64::try_from(keep.as_millis()).unwrap_or(u64::MAX),
            entries: Mutex::default(),
        }
    }

    /// The same cache with nothing in it.
    pub(super) fn emptied(&self) -> Self {
        Self {
            keep_ms: self.keep_ms,
            entries: Mutex::default(),
        }
    }

    /// The identity that this generation gave for the key, if it still holds.
    pub(super) fn find(&self, key: &Key, generation: Generation) -> Option<Arc<Identity>> {
        let now = now_ms();
        let entries = self.lock();
        let entry = entries.by_key.get(key)?;
        let holds = entries.generation == generation && entry.until > now;
        holds.then(|| Arc::clone(&entry.identity))
    }

    /// Keeps an identity, but no longer than it holds.
    pub(super) fn keep(&self, key: Key, generation: Generation, identity: &Arc<Identity>) {
        let now = now_ms();
        let kept_until = now.saturating_add(self.keep_ms);
        let until = identity
            .expires_at
            .map_or(kept_until, |end| end.min(kept_until));
        let mut entries = self.lock();
        if entries.generation != generation {
            *entries = Entries {
                generation,
                ..Entries::default()
            };
        }
        while let Some((oldest, end)) = entries.order.front().cloned() {
            if end > now && entries.order.len() < MAX_ENTRIES {
                break;
            }
            entries.order.pop_front();
            // A newer entry of the same key has a later place in the order.
            if entries
                .by_key
                .get(&oldest)
                .is_some_and(|entry| entry.until <= end)
            {
                entries.by_key.remove(&oldest);
            }
        }
        let identity = Arc::clone(identity);
        entries.order.push_back((key.clone(), kept_until));
        entries.by_key.insert(key, Entry { identity, until });
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENERATION: Generation = (1, 1);

    fn key(number: usize) -> Key {
        Key(number.to_string().into())
    }

    #[test]
    fn oldest_identity_makes_room() {
        let cache = Cache::new(Duration::from_secs(3_600));
        let identity = Arc::new(Identity::default());
        let keep = |number| cache.keep(key(number), GENERATION, &identity);
        let has = |number| cache.find(&key(number), GENERATION).is_some();
        (0..MAX_ENTRIES).for_each(keep);
        assert!(has(0) && has(MAX_ENTRIES - 1));
        keep(MAX_ENTRIES);
        assert!(!has(0) && has(1) && has(MAX_ENTRIES));
        // One that is kept again and again takes the room of as many.
        (0..MAX_ENTRIES).for_each(|_| keep(1));
        assert!(has(1) && !has(MAX_ENTRIES));
        let entries = cache.lock();
        assert_eq!(
            (entries.by_key.len(), entries.order.len()),
            (1, MAX_ENTRIES)
        );
    }
}
