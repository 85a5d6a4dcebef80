//! The machine code of a component's functions, kept for the next compilation: a save of its author changes few of them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wasmtime::CacheStore;

use crate::net::watch;
use crate::signature::Digest;

/// The folder of such files.
pub(super) const FOLDER: &str = "functions";

/// Bytes of the largest file: the functions of a JavaScript engine need a tenth.
const MAX_BYTES: usize = 64 << 20;

/// Bytes of the digest before the functions: damaged code could end the compilation, or run.
const DIGEST: usize = 32;

/// Bytes of a key: Cranelift's digest of a function and of all settings that its code depends on.
const KEY: usize = 32;

/// Bytes of the length between a key and its code.
const LENGTH: usize = size_of::<u32>();

/// The functions of the last compilation, and those that this one adds. Whoever may write the file chooses the code that
/// runs.
#[derive(Debug)]
pub(super) struct Functions {
    file: PathBuf,
    bytes: Vec<u8>,
    known: HashMap<[u8; KEY], Known>,
    added: Mutex<HashMap<[u8; KEY], Vec<u8>>>,
}

/// Where the code of a function lies in the file, and whether this compilation has asked for it.
#[derive(Debug)]
struct Known {
    code: Range<usize>,
    is_used: AtomicBool,
}

impl Functions {
    /// Reads a file as [`Self::write`] writes it. One that is not there, or is damaged, has no functions.
    pub(super) fn read(file: PathBuf) -> Self {
        let read = watch::read(&file, MAX_BYTES as u64);
        let bytes = read.map(|(bytes, _)| bytes).unwrap_or_default();
        let mut known = HashMap::new();
        let mut rest = sound(&bytes).unwrap_or_default();
        while let Some((key, code, after)) = entry(rest) {
            let end = bytes.len() - after.len();
            let entry = Known {
                code: end - code.len()..end,
                is_used: AtomicBool::new(false),
            };
            known.insert(*key, entry);
            rest = after;
        }
        Self {
            file,
            bytes,
            known,
            added: Mutex::default(),
        }
    }

    /// Replaces the file by the functions of this compilation, as many as it holds.
    pub(super) fn write(&self) -> io::Result<()> {
        let used = |known: &&Known| known.is_used.load(Ordering::Relaxed);
        let added = self.added();
        if added.is_empty() && self.known.values().all(|known| used(&known)) {
            return Ok(());
        }
        let used = self.known.iter().filter(|(_, known)| used(known));
        let used = used.filter_map(|(key, known)| Some((key, self.bytes.get(known.code.clone())?)));
        let added = added.iter().map(|(key, code)| (key, code.as_slice()));
        let mut bytes = vec![0; DIGEST];
        for (key, code) in used.chain(added) {
            let Ok(length) = u32::try_from(code.len()) else {
                continue;
            };
            if bytes.len() + KEY + LENGTH + code.len() > MAX_BYTES {
                break;
            }
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(code);
        }
        if let Some((digest, functions)) = bytes.split_first_chunk_mut::<DIGEST>() {
            *digest = *Digest::of(functions).bytes();
        }
        let unfinished = self.file.with_extension("new");
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&unfinished, bytes)?;
        fs::rename(unfinished, &self.file)
    }

    fn added(&self) -> MutexGuard<'_, HashMap<[u8; KEY], Vec<u8>>> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheStore for Functions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let known = self.known.get(key)?;
        known.is_used.store(true, Ordering::Relaxed);
        self.bytes.get(known.code.clone()).map(Cow::Borrowed)
    }

    fn insert(&self, key: &[u8], code: Vec<u8>) -> bool {
        let Ok(key) = key.try_into() else {
            return false;
        };
        self.added().insert(key, code);
        true
    }
}

/// The functions of a file, if their digest is the one before them.
fn sound(bytes: &[u8]) -> Option<&[u8]> {
    let (digest, functions) = bytes.split_first_chunk::<DIGEST>()?;
    (digest == Digest::of(functions).bytes()).then_some(functions)
}

/// Splits the first key and its code off.
fn entry(bytes: &[u8]) -> Option<(&[u8; KEY], &[u8], &[u8])> {
    let (key, rest) = bytes.split_first_chunk::<KEY>()?;
    let (length, rest) = rest.split_first_chunk::<LENGTH>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (code, rest) = rest.split_at_checked(length)?;
    Some((key, code, rest))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use wasmtime::component::Component;

    use super::*;
    use crate::plugin::run::address_space::Addressing;
    use crate::plugin::run::engine;

    /// Compiles a component of functions that give these numbers. Gives how many functions were compiled for it, and how
    /// many were known.
    fn compiled(file: &Path, numbers: &[u32]) -> (usize, usize) {
        let functions = numbers
            .iter()
            .map(|number| format!("(func (result i32) i32.const {number})"));
        let functions: String = functions.collect();
        let text = format!("(component (core module {functions}))");
        let store = Arc::new(Functions::read(file.to_path_buf()));
        let cache = tempfile::tempdir().unwrap();
        let cache = engine::cache(cache.path()).unwrap();
        let engine = engine::to_compile(cache, Addressing::Reserved, Some(store.clone())).unwrap();
        Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
        store.write().unwrap();
        let used = store.known.values();
        let used = used.filter(|known| known.is_used.load(Ordering::Relaxed));
        (store.added().len(), used.count())
    }

    #[test]
    fn function_that_has_not_changed_is_not_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FOLDER).join("a");
        let (all, known) = compiled(&file, &[1, 2, 3]);
        assert_eq!(known, 0);
        assert!(all >= 3);
        assert_eq!(compiled(&file, &[1, 2, 3]), (0, all));
        assert_eq!(compiled(&file, &[1, 4, 3]), (1, all - 1));
        // The function that was not needed is forgotten.
        assert_eq!(compiled(&file, &[1, 2, 3]), (1, all - 1));
    }

    #[test]
    fn damaged_file_has_no_functions_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let (all, _) = compiled(&file, &[1, 2, 3]);
        let whole = fs::read(&file).unwrap();
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        for damaged in [
            &changed,
            &whole[..whole.len() - 1],
            &whole[..DIGEST - 1],
            &[],
        ] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(compiled(&file, &[1, 2, 3]), (all, 0));
            assert_eq!(compiled(&file, &[1, 2, 3]), (0, all));
        }
    }

    #[test]
    fn functions_beyond_the_largest_file_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let store = Functions::read(file.to_path_buf());
        for number in 0..3 {
            store.insert(&[number; KEY], vec![0; MAX_BYTES / 2 - 100]);
        }
        store.write().unwrap();
        assert_eq!(Functions::read(file).known.len(), 2);
        assert!(!store.insert(b"no key", Vec::new()));
    }
}
