//! The report on one file: the problems found, and the place of each key in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::expand::is_secret;
use super::model::Secret;
use super::names::is_name;
use super::problem::{Problem, Problems};
use crate::net::{Secrecy, has_password, has_user, watch};

/// Fewest bytes of a value in `environment` that count as a secret: a short text stands for one that is not there.
const MIN_SECRET: usize = 8;

/// The report on one file so far.
pub(super) struct Report<'a> {
    file: &'a Path,
    text: &'a str,
    /// The byte offset of each line but the first.
    lines: Vec<usize>,
    /// The byte offset of each known key in the file, by dotted key.
    offsets: BTreeMap<String, usize>,
    /// The files that the file names, by dotted key, each with the remedy if it is not there.
    paths: Vec<(String, PathBuf, &'static str)>,
    /// The keys that unknown ones probably misspell: what they should have is not missing.
    meant: Vec<String>,
    /// The keys whose text stands in the file as it is, and comes from no variable.
    literals: BTreeSet<String>,
    /// Those of them that have a secret.
    secrets: Vec<String>,
    problems: Vec<Problem>,
    doubts: Vec<Problem>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self {
            file,
            text,
            lines: text.match_indices('\n').map(|(end, _)| end + 1).collect(),
            offsets: BTreeMap::new(),
            paths: Vec::new(),
            meant: Vec::new(),
            literals: BTreeSet::new(),
            secrets: Vec::new(),
            problems: Vec::new(),
            doubts: Vec::new(),
        }
    }

    /// Notes that `key` stands at the byte `offset`.
    pub(super) fn note_key(&mut self, key: &str, offset: usize) {
        self.offsets.insert(key.to_owned(), offset);
    }

    /// Notes that an unknown key at the byte `offset` probably means `key`: names inside it count as written, so that
    /// the one mistake does not cause others.
    pub(super) fn note_meant(&mut self, key: &str, offset: usize) {
        self.meant.push(key.to_owned());
        self.offsets.entry(key.to_owned()).or_insert(offset);
    }

    /// Notes that the text of `key` stands in the file as it is.
    pub(super) fn note_literal(&mut self, key: &str) {
        self.literals.insert(key.to_owned());
    }

    /// Gives the text of `key` as a secret. One that stands in the file makes the file a secret too.
    pub(super) fn secret(&mut self, key: &str, text: String) -> Secret {
        if !text.is_empty() {
            self.note_secret(key);
        }
        Secret::from(text)
    }

    /// Gives the URL of `key`, which has a secret if it has a user, or a query that tells of one.
    pub(super) fn secret_url(&mut self, key: &str, url: String) -> Secret {
        self.note_url(key, &url);
        Secret::from(url)
    }

    /// Notes whether the URL of `key` has a secret, as [`Self::secret_url`] does.
    pub(super) fn note_url(&mut self, key: &str, url: &str) {
        if has_user(url) || has_secret_query(url) {
            self.note_secret(key);
        }
    }

    /// Gives the value of an environment variable of this name, which stands at `key`. One of few bytes stands for a secret
    /// that is not there, and a user of a database alone is none.
    pub(super) fn variable(&mut self, key: &str, name: &str, value: String) -> Secret {
        let is_secret = is_secret(name) || has_password(&value) || has_secret_query(&value);
        if is_secret && value.len() >= MIN_SECRET {
            self.note_secret(key);
        }
        Secret::from(value)
    }

    fn note_secret(&mut self, key: &str) {
        if self.literals.contains(key) {
            self.secrets.push(key.to_owned());
        }
    }

    /// Checks the mode of the file itself: no others than its owner and its group may read a secret that stands in it.
    pub(super) fn check_secrecy(&mut self, mode: u32) {
        let first = self.secrets.iter().min_by_key(|key| self.offset(key));
        if let (Some(key), Err(exposed)) = (first.cloned(), Secrecy::Group.check(mode)) {
            let remedy = format!(
                "{}, or take the secret from the environment: \"${{VARIABLE}}\"; if others have read it, make another",
                exposed.remedy(self.file)
            );
            let message = format!("a secret stands in this file, and {exposed}");
            self.problem(&key, message, remedy);
        }
    }

    /// Whether an unknown key probably means `key`.
    pub(super) fn is_meant(&self, key: &str) -> bool {
        self.meant.iter().any(|meant| meant == key)
    }

    /// Whether `key` is in the file, valid or not.
    pub(super) fn is_written(&self, key: &str) -> bool {
        self.offsets.contains_key(key)
    }

    /// Lists the names in the table `key`, valid or not.
    pub(super) fn names_in(&self, key: &str) -> Vec<&str> {
        self.offsets
            .keys()
            .filter_map(|known| known.strip_prefix(key)?.strip_prefix('.'))
            .filter(|name| !name.contains(['.', '[']))
            .collect()
    }

    /// Whether `key` and everything inside it have no problem. A value that depends on a broken one is not judged: that
    /// would blame the wrong key.
    pub(super) fn is_clean(&self, key: &str) -> bool {
        let problems = self.problems.iter().map(|problem| &problem.key);
        !problems.chain(&self.meant).any(|of| is_within(of, key))
    }

    pub(super) fn forget_problems(&mut self) {
        self.problems.clear();
    }

    /// Adds a problem of `key`, at its place, or at that of the table that should have it.
    pub(super) fn problem(
        &mut self,
        key: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.problem_at(self.offset(key), key, message, remedy);
    }

    /// Adds a problem at the byte `offset`.
    pub(super) fn problem_at(
        &mut self,
        offset: usize,
        key: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let problem = self.problem_of(offset, key, message.into(), remedy.into());
        self.problems.push(problem);
    }

    /// Adds a doubt, once.
    pub(super) fn doubt(
        &mut self,
        key: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let doubt = self.problem_of(self.offset(key), key, message.into(), remedy.into());
        if !self.doubts.contains(&doubt) {
            self.doubts.push(doubt);
        }
    }

    /// Takes the doubts, in the file's order.
    pub(super) fn take_doubts(&mut self) -> Vec<Problem> {
        let mut doubts = std::mem::take(&mut self.doubts);
        doubts.sort_by_key(|doubt| (doubt.line, doubt.column));
        doubts
    }

    /// Gives the byte offset of `key`, or of the table that should have it.
    fn offset(&self, key: &str) -> usize {
        key.rmatch_indices(['.', '['])
            .map(|(end, _)| end)
            .fold(self.offsets.get(key), |found, end| {
                found.or_else(|| self.offsets.get(key.get(..end)?))
            })
            .copied()
            .unwrap_or(0)
    }

    fn problem_of(&self, offset: usize, key: &str, message: String, remedy: String) -> Problem {
        let lines_before = self.lines.partition_point(|start| *start <= offset);
        let line_start = lines_before
            .checked_sub(1)
            .and_then(|last| self.lines.get(last))
            .copied()
            .unwrap_or(0);
        let before = self.text.get(line_start..offset).unwrap_or_default();
        Problem {
            file: self.file.to_owned(),
            line: lines_before + 1,
            column: before.chars().count() + 1,
            key: key.to_owned(),
            message,
            remedy,
        }
    }

    /// Checks the name of an API, a stage or a plugin, which stands at `key`.
    pub(super) fn check_name(&mut self, key: &str, name: &str) {
        if !is_name(name) {
            self.problem(
                key,
                format!("{name:?} cannot be a name"),
                "use 1 to 128 of the characters A-Z a-z 0-9 _ -",
            );
        }
    }

    /// Resolves a path against the file's folder.
    pub(super) fn path(&mut self, key: &str, written: &str) -> PathBuf {
        if written.is_empty() {
            self.problem(key, "the path is empty", "write a path");
        }
        self.file
            .parent()
            .map_or_else(|| PathBuf::from(written), |folder| folder.join(written))
    }

    /// Resolves the path of a file that must exist when the configuration is loaded.
    pub(super) fn existing_file(&mut self, key: &str, written: &str) -> PathBuf {
        let remedy = "correct the path, which is relative to the folder of this file";
        self.file_or(key, written, remedy)
    }

    /// Resolves the path of a file that must exist, and that `remedy` makes.
    pub(super) fn file_or(&mut self, key: &str, written: &str, remedy: &'static str) -> PathBuf {
        let path = self.path(key, written);
        if !written.is_empty() {
            self.paths.push((key.to_owned(), path.clone(), remedy));
        }
        path
    }

    /// Checks that the files exist that must.
    pub(super) fn check_files(&mut self) {
        for (key, path, mut remedy) in std::mem::take(&mut self.paths) {
            let message = match fs::metadata(&path) {
                Ok(metadata) => match watch::other_kind(&metadata) {
                    None => continue,
                    Some(kind) => format!("{path:?} is {kind} and not a file"),
                },
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    format!("there is no file {path:?}")
                }
                Err(error) => {
                    remedy = watch::remedy(&error, remedy);
                    format!("{path:?} cannot be read: {error}")
                }
            };
            self.problem(&key, message, remedy);
        }
    }

    /// Gives `value` if there is one and no problem was found, and the problems if not.
    pub(super) fn judge<T>(self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            Some(_) | None => Err(self.into_problems()),
        }
    }

    /// Gives all problems, in the file's order.
    pub(super) fn into_problems(mut self) -> Problems {
        self.problems
            .sort_by_key(|problem| (problem.line, problem.column));
        Problems(self.problems)
    }
}

/// Whether the query of a URL tells of a secret.
fn has_secret_query(url: &str) -> bool {
    let query = url.split_once('?').map(|(_, query)| query);
    url.contains("://") && query.is_some_and(is_secret)
}

/// Whether `key` is `outer` or something inside it.
pub(super) fn is_within(key: &str, outer: &str) -> bool {
    key.strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Joins the dotted key of `name` inside `parent`, quoted as in TOML.
pub(super) fn join(parent: &str, name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let dot = if parent.is_empty() { "" } else { "." };
    if !name.is_empty() && name.bytes().all(bare) {
        format!("{parent}{dot}{name}")
    } else {
        format!("{parent}{dot}{name:?}")
    }
}
