//! A map in many shards, each with a lock of its own. Threads that use different keys seldom meet, and a shard is
//! small: it stops nobody for long when it grows.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{PoisonError, RwLock};

use hashbrown::HashTable;

pub(super) struct ShardedMap<K, V> {
    hasher: RandomState,
    /// Shards share cache lines: of so many, two neighbours are seldom used at the same time.
    shards: Box<[MapShard<K, V>]>,
}

type MapShard<K, V> = RwLock<HashTable<(K, V)>>;

impl<K: Hash + Eq, V> ShardedMap<K, V> {
    /// A map in `count` shards, or in as many as the next power of two.
    pub(super) fn new(count: usize) -> Self {
        let shards = (0..count.next_power_of_two()).map(|_| RwLock::default());
        Self {
            hasher: RandomState::new(),
            shards: shards.collect(),
        }
    }

    pub(super) fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let (hash, shard) = self.shard(key);
        let entries = shard.read().unwrap_or_else(PoisonError::into_inner);
        let found = entries.find(hash, |(other, _)| other.borrow() == key);
        found.map(|(_, value)| value.clone())
    }

    /// Lets `act` insert, replace or remove the value of a key, while nobody else sees it.
    pub(super) fn change<T>(&self, key: K, act: impl FnOnce(&mut Option<V>) -> T) -> T {
        let (hash, shard) = self.shard(&key);
        let mut entries = shard.write().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.find_entry(hash, |(other, _)| *other == key);
        let mut value = entry.ok().map(|entry| entry.remove().0.1);
        let result = act(&mut value);
        if let Some(value) = value {
            entries.insert_unique(hash, (key, value), |(key, _)| self.hasher.hash_one(key));
        }
        result
    }

    /// All keys. Reads one shard after the other: keys that come or go meanwhile may be listed or not.
    pub(super) fn keys(&self) -> Vec<K>
    where
        K: Clone,
    {
        (0..self.count())
            .flat_map(|place| self.keys_of(place))
            .collect()
    }

    /// The number of shards.
    pub(super) fn count(&self) -> usize {
        self.shards.len()
    }

    /// The keys of the shard at a place, in no order.
    pub(super) fn keys_of(&self, place: usize) -> Vec<K>
    where
        K: Clone,
    {
        self.shards.get(place).map_or_else(Vec::new, |shard| {
            let entries = shard.read().unwrap_or_else(PoisonError::into_inner);
            entries.iter().map(|(key, _)| key.clone()).collect()
        })
    }

    /// The place of the shard that has a key, or would have it.
    pub(super) fn place<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        self.place_of(self.hasher.hash_one(key))
    }

    /// A table places entries by the lowest bits of a hash and compares the highest seven: the shard is chosen by other
    /// bits.
    fn place_of(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.shards.len() - 1)
    }

    /// The hash of a key, and its shard.
    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> (u64, &MapShard<K, V>) {
        let hash = self.hasher.hash_one(key);
        let shard = self.shards.get(self.place_of(hash));
        (hash, shard.expect("there are as many as a power of two"))
    }
}

impl<K, V> fmt::Debug for ShardedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardedMap").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_found_from_its_insertion_to_its_removal() {
        let shards: ShardedMap<Box<str>, u32> = ShardedMap::new(3);
        assert_eq!(shards.shards.len(), 4);
        assert_eq!(shards.get("a"), None);
        for name in ["a", "b"] {
            shards.change(name.into(), |slot| *slot = Some(1));
        }
        let before = shards.change("a".into(), |slot| slot.replace(2));
        assert_eq!(before, Some(1));
        assert_eq!((shards.get("a"), shards.get("b")), (Some(2), Some(1)));
        shards.change("b".into(), |slot| *slot = None);
        shards.change("never there".into(), |slot| *slot = None);
        assert_eq!(shards.get("b"), None);
        assert_eq!(shards.keys(), vec![Box::<str>::from("a")]);
    }

    /// A shard with many times its share would stop others for as many times as long when it grows.
    #[test]
    fn shards_have_about_the_same_number_of_keys() {
        const EACH: usize = 400;
        let shards = ShardedMap::new(64);
        for key in 0..64 * EACH {
            shards.change(key, |slot| *slot = Some(()));
        }
        assert_eq!(shards.keys().len(), 64 * EACH);
        for shard in &shards.shards {
            let held = shard.read().unwrap().len();
            assert!((EACH / 2..EACH * 2).contains(&held), "{held}");
        }
    }
}
