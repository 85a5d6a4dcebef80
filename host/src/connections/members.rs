//! The members of a group: a map ordered by key, in chunks that are shared with those who walk it.
//!
//! A walk takes one chunk after the other, and looks at it without the lock of the map. A change meanwhile copies that
//! chunk, and no other: neither waits for the other for longer than a chunk takes. A walk finds every member that is
//! there from its begin to its end, once; those that come or go meanwhile it may find or not.

use std::sync::Arc;

/// Members of the largest chunk. A copy of more would take a join tens of microseconds, and fewer would make more
/// chunks than a join should move.
const CHUNK: usize = 128;

#[derive(Debug)]
pub(super) struct Members<K, V> {
    /// In order, and none of them empty.
    chunks: Vec<Chunk<K, V>>,
    len: usize,
}

#[derive(Debug)]
struct Chunk<K, V> {
    /// No key in it is lower, and none of an earlier chunk is as high.
    lowest: K,
    entries: Arc<Vec<(K, V)>>,
}

/// The rest of a chunk, from the first member that a walk has not seen.
pub(super) struct Rest<K, V> {
    entries: Arc<Vec<(K, V)>>,
    from: usize,
}

impl<K, V> Rest<K, V> {
    pub(super) fn entries(&self) -> &[(K, V)] {
        self.entries.get(self.from..).unwrap_or_default()
    }
}

impl<K, V> Default for Members<K, V> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<K: Copy + Ord, V: Clone> Members<K, V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a member, or replaces the one with its key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        let at = self.chunk_of(&key);
        let Some(chunk) = self.chunks.get_mut(at) else {
            self.chunks.push(Chunk {
                lowest: key,
                entries: Arc::new(vec![(key, value)]),
            });
            self.len += 1;
            return;
        };
        let entries = Arc::make_mut(&mut chunk.entries);
        match entries.binary_search_by(|(other, _)| other.cmp(&key)) {
            Ok(found) => {
                if let Some((_, before)) = entries.get_mut(found) {
                    *before = value;
                }
            }
            Err(place) => {
                entries.insert(place, (key, value));
                self.len += 1;
            }
        }
        chunk.lowest = chunk.lowest.min(key);
        if entries.len() > CHUNK {
            let upper = entries.split_off(CHUNK / 2);
            let lowest = upper.first().map_or(key, |(key, _)| *key);
            let entries = Arc::new(upper);
            self.chunks.insert(at + 1, Chunk { lowest, entries });
        }
    }

    pub(super) fn remove(&mut self, key: &K) {
        let at = self.chunk_of(key);
        let Some(chunk) = self.chunks.get_mut(at) else {
            return;
        };
        let found = chunk.entries.binary_search_by(|(other, _)| other.cmp(key));
        let Ok(found) = found else { return };
        self.len -= 1;
        if chunk.entries.len() == 1 {
            self.chunks.remove(at);
            return;
        }
        Arc::make_mut(&mut chunk.entries).remove(found);
        self.join_with_next(at);
        if let Some(before) = at.checked_sub(1) {
            self.join_with_next(before);
        }
    }

    /// The members after a key, or all: as many as are in one chunk. None when there are no more.
    pub(super) fn after(&self, key: Option<&K>) -> Option<Rest<K, V>> {
        let at = key.map_or(0, |key| self.chunk_of(key));
        let rest = |at: usize| {
            let entries = Arc::clone(&self.chunks.get(at)?.entries);
            let from = key.map_or(0, |key| entries.partition_point(|(other, _)| other <= key));
            (from < entries.len()).then_some(Rest { entries, from })
        };
        rest(at).or_else(|| rest(at + 1))
    }

    /// The place of the chunk that has a key, or would have it.
    fn chunk_of(&self, key: &K) -> usize {
        let after = self.chunks.partition_point(|chunk| chunk.lowest <= *key);
        after.saturating_sub(1)
    }

    /// Makes one chunk of two that are small together, so that a group which has shrunk takes little memory.
    fn join_with_next(&mut self, at: usize) {
        if let Some([chunk, next]) = self.chunks.get_mut(at..at + 2)
            && chunk.entries.len() + next.entries.len() <= CHUNK / 2
        {
            let entries = Arc::unwrap_or_clone(std::mem::take(&mut next.entries));
            Arc::make_mut(&mut chunk.entries).extend(entries);
            self.chunks.remove(at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn walk(members: &Members<u16, u16>, mut after: Option<u16>) -> Vec<(u16, u16)> {
        let mut seen = Vec::new();
        while let Some(rest) = members.after(after.as_ref()) {
            seen.extend_from_slice(rest.entries());
            after = seen.last().map(|(key, _)| *key);
        }
        seen
    }

    /// Changes in a pseudo-random order (xorshift), on keys of which most occur often.
    #[test]
    fn members_are_those_of_an_ordered_map() {
        let (mut members, mut map) = (Members::default(), BTreeMap::new());
        let mut random = 1_u32;
        let mut walked = None;
        for step in 0..60_000 {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let (key, value) = ((random >> 8) as u16 % 2_000, step as u16);
            // The map grows, then shrinks.
            if random % 4 > u32::from(step > 30_000) * 2 {
                members.insert(key, value);
                map.insert(key, value);
            } else {
                members.remove(&key);
                map.remove(&key);
            }
            // A walk under way shares a chunk.
            walked = members.after(Some(&key));
            if step % 1_000 == 0 {
                let after = map.iter().filter(|(other, _)| **other > key);
                let after: Vec<_> = after.map(|(key, value)| (*key, *value)).collect();
                assert_eq!(walk(&members, Some(key)), after);
                assert_eq!(members.len(), map.len());
            }
            for chunk in &members.chunks {
                assert!((1..=CHUNK).contains(&chunk.entries.len()));
            }
        }
        drop(walked);
        assert!(walk(&members, None).into_iter().eq(map));
    }

    #[test]
    fn change_copies_no_chunk_but_its_own() {
        let mut members = Members::default();
        for key in 0..1_000_u16 {
            members.insert(key, key);
        }
        let held: Vec<_> = members
            .chunks
            .iter()
            .map(|chunk| Arc::clone(&chunk.entries))
            .collect();
        members.remove(&500);
        let copied = members.chunks.iter().zip(&held);
        let copied = copied.filter(|(now, before)| !Arc::ptr_eq(&now.entries, before));
        assert_eq!(copied.count(), 1);
        assert_eq!(held.iter().map(|chunk| chunk.len()).sum::<usize>(), 1_000);
    }

    #[test]
    fn shrunk_group_has_few_chunks() {
        let mut members = Members::default();
        for key in 0..10_000_u16 {
            members.insert(key, key);
        }
        for key in (0..10_000).filter(|key| key % 100 > 0) {
            members.remove(&key);
        }
        assert_eq!(members.len(), 100);
        assert!(
            members.chunks.len() <= 2 * 100 / (CHUNK / 2) + 1,
            "{}",
            members.chunks.len()
        );
    }
}
