//! The files that a plugin's build reads, and whether one has changed since the last build began.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::cli::build::{Built, Language};
use crate::net::watch::Stamp;

/// Limit of source folders: a package has far fewer.
const MAX_FOLDERS: usize = 1_000;

/// The files that a build reads, with their states when the last build began.
pub(super) struct Inputs {
    /// None if the folder is of no language yet.
    language: Option<Language>,
    files: BTreeSet<PathBuf>,
    /// Folders where a new source file counts, at any depth: a failed build may have missed it.
    folders: BTreeSet<PathBuf>,
    /// The plugin's folder before its first build: sources may be anywhere in it.
    unbuilt: Option<PathBuf>,
    outputs: BTreeSet<PathBuf>,
    states: BTreeMap<PathBuf, FileState>,
}

#[derive(Clone, Copy)]
struct FileState {
    stamp: Stamp,
    content: u64,
}

impl Inputs {
    /// Guesses the inputs of a folder before its first build.
    pub(super) fn guess(folder: &Path) -> Self {
        let Ok(language) = Language::of(folder) else {
            // The next build waits for the manifest of some language.
            let mut guessed = Self::new(None);
            let manifests = Language::ALL.map(Language::manifest);
            guessed.files = manifests.map(|file| folder.join(file)).into();
            return guessed;
        };
        let mut guessed = Self::new(Some(language));
        let outputs = language.sources().outputs.iter();
        guessed.outputs = outputs.map(|output| folder.join(output)).collect();
        guessed.add_package(folder, language);
        guessed.folders.insert(folder.to_owned());
        guessed.unbuilt = Some(folder.to_owned());
        guessed
    }

    /// Takes the inputs of a build from the tools' messages.
    fn of(built: &Built) -> Self {
        let mut inputs = Self::new(Some(built.language));
        inputs.files.clone_from(&built.files);
        inputs.outputs.clone_from(&built.outputs);
        let sources = built.files.iter().filter(|file| inputs.is_source(file));
        let folders = sources.filter_map(|file| file.parent());
        inputs.folders = folders.map(Path::to_owned).collect();
        for package in &built.packages {
            inputs.add_package(package, built.language);
        }
        inputs
    }

    fn new(language: Option<Language>) -> Self {
        Self {
            language,
            files: BTreeSet::new(),
            folders: BTreeSet::new(),
            unbuilt: None,
            outputs: BTreeSet::new(),
            states: BTreeMap::new(),
        }
    }

    fn add_package(&mut self, folder: &Path, language: Language) {
        let sources = language.sources();
        let manifests = sources.manifests.iter().map(|file| folder.join(file));
        self.files.extend(manifests);
        let folders = sources.folders.iter().map(|inside| folder.join(inside));
        self.folders.extend(folders);
    }

    fn is_source(&self, file: &Path) -> bool {
        let endings = self.language.map(|language| language.sources().endings);
        let ending = file.extension().and_then(|ending| ending.to_str());
        endings
            .zip(ending)
            .is_some_and(|(endings, ending)| endings.contains(&ending))
    }

    /// Records the files as a build that begins now reads them.
    pub(super) fn begin(&mut self) {
        let files = self.paths().into_iter();
        self.states = files
            .filter_map(|file| Some((FileState::of(&file)?, file)))
            .map(|(state, file)| (file, state))
            .collect();
    }

    /// Records the end of a build that began at `began`, with its real inputs if it succeeded.
    ///
    /// A file saved during the build counts as changed. A file rewritten with the same content does not: a build script
    /// may do that in each build.
    pub(super) fn end(&mut self, built: Option<&Built>, began: SystemTime) {
        let before = std::mem::take(&mut self.states);
        if let Some(built) = built {
            *self = Self::of(built);
        }
        for file in self.paths() {
            let state = match (before.get(&file), FileState::of(&file)) {
                (Some(before), Some(now)) if before.content == now.content => now,
                (Some(before), _) => *before,
                (None, Some(now)) if !modified_since(&file, began) => now,
                (None, _) => continue,
            };
            self.states.insert(file, state);
        }
    }

    /// Finds the first file that has changed since the last build began.
    pub(super) fn changed(&self) -> Option<PathBuf> {
        let mut files = self.paths();
        files.extend(self.states.keys().cloned());
        files
            .into_iter()
            .find(|file| Stamp::of(file) != self.states.get(file).map(|state| state.stamp))
    }

    /// Gives the folders to watch: those in which the files lie.
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
            let found = entries(&folder).filter(|file| self.is_source(file));
            files.extend(found);
        }
        files
    }

    /// Gives the source folders and their subfolders; of a built package's root, which holds more than sources, only the
    /// root itself.
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
            if self.unbuilt.as_ref() == Some(&folder) || !Language::is_package(&folder) {
                let inside = entries(&folder).filter(|entry| entry.is_dir() && !entry.is_symlink());
                left.extend(inside);
            }
            found.insert(folder);
        }
        found
    }
}

impl FileState {
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

/// Lists a folder without hidden entries.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| entry.path())
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
            language: Language::Rust,
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
    fn source_anywhere_in_a_folder_that_was_never_built_is_found() {
        for (manifest, source, output) in [
            ("Cargo.toml", "elsewhere/lib.rs", "target/debug/x.rs"),
            ("go.mod", "inside/a.go", ".lockgate/x.go"),
            ("package.json", "lib/deep/a.ts", "node_modules/a/a.ts"),
        ] {
            let folder = tempfile::tempdir().expect("a folder is made");
            let folder = folder.path();
            for file in [manifest, source, output] {
                write(&folder.join(file), "");
            }
            let mut inputs = Inputs::guess(folder);
            inputs.begin();
            inputs.end(None, SystemTime::now());
            write(&folder.join(output), "changed");
            assert_eq!(inputs.changed(), None, "{output}");
            write(&folder.join(source), "changed");
            assert_eq!(inputs.changed(), Some(folder.join(source)));
        }
    }

    #[test]
    fn manifest_of_a_folder_without_one_is_awaited() {
        let folder = tempfile::tempdir().expect("a folder is made");
        let mut inputs = Inputs::guess(folder.path());
        inputs.begin();
        inputs.end(None, SystemTime::now());
        assert_eq!(inputs.changed(), None);
        let manifest = folder.path().join("go.mod");
        write(&manifest, "module a");
        assert_eq!(inputs.changed(), Some(manifest));
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
