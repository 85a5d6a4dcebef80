//! What a build of a plugin reads, and whether that has changed since the last build began.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::cli::build::Built;
use crate::net::watch::Stamp;

/// Files of a package's folder that cargo reads and lists nowhere.
const MANIFESTS: [&str; 4] = [
    "Cargo.toml",
    ".cargo/config.toml",
    "rust-toolchain.toml",
    "rust-toolchain",
];

/// Folders that are looked into at most: a package's sources are far fewer.
const MAX_FOLDERS: usize = 1_000;

/// The files that a build reads, and how they looked when the last one began.
pub(super) struct Inputs {
    files: BTreeSet<PathBuf>,
    /// Where a source file that is new counts too, in the folders inside as well: a build that failed may have missed it.
    folders: BTreeSet<PathBuf>,
    outputs: BTreeSet<PathBuf>,
    seen: BTreeMap<PathBuf, Seen>,
}

#[derive(Clone, Copy)]
struct Seen {
    stamp: Stamp,
    content: u64,
}

impl Inputs {
    /// As good as can be guessed of a folder before its first build.
    pub(super) fn guess(folder: &Path) -> Self {
        let mut guessed = Self {
            files: BTreeSet::new(),
            folders: BTreeSet::new(),
            outputs: BTreeSet::from([folder.join("target")]),
            seen: BTreeMap::new(),
        };
        guessed.add_package(folder);
        guessed
    }

    /// As cargo says.
    fn of(built: &Built) -> Self {
        let mut inputs = Self {
            files: built.files.clone(),
            folders: BTreeSet::new(),
            outputs: built.outputs.clone(),
            seen: BTreeMap::new(),
        };
        let sources = built.files.iter().filter(|file| is_source(file));
        let folders = sources.filter_map(|file| file.parent());
        inputs.folders.extend(folders.map(Path::to_owned));
        for package in &built.packages {
            inputs.add_package(package);
        }
        inputs
    }

    fn add_package(&mut self, folder: &Path) {
        self.files.extend(MANIFESTS.map(|file| folder.join(file)));
        self.folders.insert(folder.join("src"));
    }

    /// A build is about to begin: it reads the files as they are now.
    pub(super) fn begin(&mut self) {
        let files = self.paths().into_iter();
        self.seen = files
            .filter_map(|file| Some((Seen::of(&file)?, file)))
            .map(|(seen, file)| (file, seen))
            .collect();
    }

    /// A build has ended that began at `began`; what it read is known if it made something.
    ///
    /// A file that was saved meanwhile counts as changed. One that was written again with the same content does not: a
    /// build script may do that in each build.
    pub(super) fn end(&mut self, built: Option<&Built>, began: SystemTime) {
        let before = std::mem::take(&mut self.seen);
        if let Some(built) = built {
            *self = Self::of(built);
        }
        for file in self.paths() {
            let seen = match (before.get(&file), Seen::of(&file)) {
                (Some(before), Some(now)) if before.content == now.content => now,
                (Some(before), _) => *before,
                (None, Some(now)) if !modified_since(&file, began) => now,
                (None, _) => continue,
            };
            self.seen.insert(file, seen);
        }
    }

    /// The first file that does not look as it did when the last build began.
    pub(super) fn changed(&self) -> Option<PathBuf> {
        let mut files = self.paths();
        files.extend(self.seen.keys().cloned());
        files
            .into_iter()
            .find(|file| Stamp::of(file) != self.seen.get(file).map(|seen| seen.stamp))
    }

    /// The folders in which these files lie.
    pub(super) fn watched(&self) -> BTreeSet<PathBuf> {
        let folders = self.files.iter().filter_map(|file| file.parent());
        let mut folders: BTreeSet<_> = folders.map(Path::to_owned).collect();
        folders.extend(self.source_folders());
        folders.retain(|folder| folder.is_dir());
        folders
    }

    fn paths(&self) -> BTreeSet<PathBuf> {
        let mut files = self.files.clone();
        for folder in self.source_folders() {
            let found = entries(&folder).filter(|file| is_source(file));
            files.extend(found);
        }
        files
    }

    /// The folders of sources and those inside; of a package's own folder, which has more in it than sources, only itself.
    fn source_folders(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut left: Vec<_> = self.folders.iter().cloned().collect();
        while let Some(folder) = left.pop() {
            if found.len() == MAX_FOLDERS {
                break;
            }
            if self.outputs.contains(&folder) || found.contains(&folder) {
                continue;
            }
            if !folder.join("Cargo.toml").exists() {
                let inside = entries(&folder).filter(|entry| entry.is_dir() && !entry.is_symlink());
                left.extend(inside);
            }
            found.insert(folder);
        }
        found
    }
}

impl Seen {
    fn of(file: &Path) -> Option<Self> {
        let stamp = Stamp::of(file)?;
        let mut hasher = DefaultHasher::new();
        hasher.write(&fs::read(file).ok()?);
        Some(Self {
            stamp,
            content: hasher.finish(),
        })
    }
}

/// What lies in a folder and is not hidden.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| entry.path())
}

fn is_source(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "rs")
}

fn modified_since(file: &Path, time: SystemTime) -> bool {
    let modified = fs::metadata(file).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified >= time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(package: &Path, more: &[PathBuf]) -> Built {
        let mut files = BTreeSet::from([package.join("src/lib.rs")]);
        files.extend(more.iter().cloned());
        Built {
            component: package.join("out/wasm32-wasip2/release/it.wasm"),
            files,
            packages: BTreeSet::from([package.to_owned()]),
            outputs: BTreeSet::from([package.join("out")]),
        }
    }

    fn write(file: &Path, content: &str) {
        fs::create_dir_all(file.parent().expect("it has a folder")).expect("the folder is made");
        fs::write(file, content).expect("the file is written");
    }

    /// The inputs of a package with one source file that was just built.
    fn package(folder: &Path, more: &[PathBuf]) -> Inputs {
        write(&folder.join("Cargo.toml"), "[package]");
        write(&folder.join("src/lib.rs"), "mod other;");
        let mut inputs = Inputs::guess(folder);
        inputs.begin();
        inputs.end(Some(&built(folder, more)), SystemTime::now());
        assert_eq!(inputs.changed(), None);
        inputs
    }

    #[test]
    fn every_input_that_changes_is_found_and_no_output() {
        let folder = tempfile::tempdir().expect("a folder is made");
        let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
        let text = theirs.join("assets/text");
        write(&text, "a");
        let mut inputs = package(&ours, std::slice::from_ref(&text));
        for output in ["out/release/x.rs", "web/index.html", "Cargo.lock"] {
            write(&ours.join(output), "");
            assert_eq!(inputs.changed(), None, "{output}");
        }
        for input in [
            text,
            ours.join("Cargo.toml"),
            ours.join("src/lib.rs"),
            ours.join("src/other/mod.rs"),
            ours.join(".cargo/config.toml"),
        ] {
            write(&input, "changed");
            assert_eq!(inputs.changed(), Some(input));
            inputs.begin();
            assert_eq!(inputs.changed(), None);
        }
        let other = ours.join("src/other/mod.rs");
        fs::remove_file(&other).expect("it is there");
        assert_eq!(inputs.changed(), Some(other));
    }

    #[test]
    fn file_saved_during_a_build_is_built_again_and_generated_file_once() {
        let folder = tempfile::tempdir().expect("a folder is made");
        let folder = folder.path();
        let mut inputs = package(folder, &[]);
        let (saved, generated) = (folder.join("src/lib.rs"), folder.join("src/generated.rs"));
        let began = SystemTime::UNIX_EPOCH;
        inputs.begin();
        write(&saved, "saved");
        inputs.end(None, began);
        assert_eq!(inputs.changed(), Some(saved));
        // Two builds that write the same file: the second is no reason for a third.
        for expected in [Some(generated.clone()), None] {
            inputs.begin();
            write(&generated, "generated");
            inputs.end(Some(&built(folder, &[])), began);
            assert_eq!(inputs.changed(), expected);
        }
    }
}
