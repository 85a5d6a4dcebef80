//! The files of `tests/configs`: their verdicts, and damaged copies.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::config::{Config, LoadMode, read};

/// Lists the files of `tests/configs/FOLDER` that end in `.toml`.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/configs")
        .join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder exists")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    files
}

/// Gives the problems of a file, with paths relative to its folder.
fn verdict(path: &Path) -> String {
    let folder = format!("{}/", path.parent().expect("a file has a folder").display());
    // Git keeps no permissions.
    let read = read(path).and_then(|(text, _)| Config::of(&text, path, LoadMode::Serve, None));
    match read {
        Ok(_) => String::new(),
        Err(problems) => format!("{problems}\n").replace(&folder, ""),
    }
}

#[test]
fn good_files_load() {
    let files = files("good");
    assert!(!files.is_empty());
    for path in files {
        assert_eq!(verdict(&path), "", "{}", path.display());
    }
}

/// With `BLESS=1` the answers are written, not compared: read them before you commit them.
#[test]
fn bad_files_give_the_errors_beside_them() {
    let files = files("bad");
    assert!(files.len() >= 40, "only {} bad files", files.len());
    let mut answers = BTreeSet::new();
    for path in files {
        let answer = verdict(&path);
        let expected = path.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected, &answer).expect("the folder can be written");
        }
        let expected = fs::read_to_string(&expected)
            .unwrap_or_else(|error| format!("{}: {error}", expected.display()));
        assert!(!expected.is_empty(), "{}", path.display());
        assert_eq!(answer, expected, "{}", path.display());
        let (_, said) = expected.split_once(' ').expect("an answer has words");
        assert!(
            answers.insert(said.to_owned()),
            "{} repeats another",
            path.display()
        );
    }
}

#[test]
fn unreadable_file_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let said = |path: &Path| Config::load(path).expect_err("it is no file").to_string();
    assert!(said(&folder.path().join("none.toml")).contains("none.toml: cannot be read: "));
    assert!(said(folder.path()).contains(": cannot be read: "));
    let file = folder.path().join("bytes.toml");
    fs::write(&file, [0xff]).expect("the folder can be written");
    assert!(said(&file).contains("bytes.toml: is not text: "));
    fs::write(&file, vec![b'\n'; 5 << 20]).expect("the folder can be written");
    assert!(said(&file).contains("bytes.toml: cannot be read: it is longer than 4 MiB"));
}

/// Pieces of text that may change the meaning where they are put.
const PIECES: &[&str] = &[
    "", "\"", "[", "]", "{", "}", "=", ".", "\n", "-", "9", "${", "'", "#", "é", "\0",
];

/// A good file with one piece cut out and another put in.
fn mutated() -> impl Strategy<Value = String> {
    let texts: Vec<String> = files("good")
        .into_iter()
        .map(|path| fs::read_to_string(path).expect("the file can be read"))
        .collect();
    (
        proptest::sample::select(texts),
        any::<proptest::sample::Index>(),
        0..20_usize,
        proptest::sample::select(PIECES),
    )
        .prop_map(|(text, start, length, piece)| {
            let characters: Vec<char> = text.chars().collect();
            let start = start.index(characters.len());
            let end = (start + length).min(characters.len());
            let mut mutated: String = characters[..start].iter().collect();
            mutated.push_str(piece);
            mutated.extend(&characters[end..]);
            mutated
        })
}

proptest! {
    #[test]
    fn arbitrary_text_causes_no_panic(text in prop_oneof![any::<String>(), mutated()]) {
        if let Err(problems) = Config::parse(&text, Path::new("gateway.toml")) {
            prop_assert!(!problems.0.is_empty());
            prop_assert!(problems.0.iter().all(|problem| !problem.remedy.is_empty()));
        }
    }
}
