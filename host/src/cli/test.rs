//! `lockgate test`: runs the dialogues of a plugin, with no network and a clock of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::build::build;
use super::dev::{CONFIGURATION, Subject};
use super::run::block_on;
use crate::config::{Component, Config, Problem, Problems};
use crate::dialogue::{self, Log, Mistake, Script};
use crate::words::count_of;

/// The ending of a dialogue's file.
const ENDING: &str = "dialogue";

/// Bytes of the longest dialogue.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct TestOptions {
    /// A plugin's folder, a configuration file, or a component
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Dialogues, or folders of them [default: tests/*.dialogue, beside the plugin or the configuration]
    files: Vec<PathBuf>,
}

pub(super) fn test(options: &TestOptions) -> Result<()> {
    let files = files(options)?;
    let scripts = read_all(&files)?;
    let mut subject = subject(&options.path)?;
    let mut config = block_on(async { built(subject.read()?).await })?;
    // Each dialogue has a gateway of its own; the first compiles for all.
    let compiled = tempfile::tempdir().context("a folder for compiled code")?;
    config
        .compile_cache
        .get_or_insert_with(|| compiled.path().to_owned());
    let mut failed = 0;
    for (file, script) in &scripts {
        let place = file.display();
        let ran = dialogue::run(script, &config)?;
        let log = Log(&ran.log);
        match ran.outcome {
            Ok(Ok(())) => super::print(&format!("ok      {place}"))?,
            Ok(Err(failure)) => {
                failed += 1;
                let (line, written) = (failure.line, &failure.written);
                super::print(&format!(
                    "FAILED  {place}:{line}: {written}\n{failure}{log}"
                ))?;
            }
            Err(error) => {
                super::print(&format!("FAILED  {place}: nothing is served\n{log}"))?;
                return Err(subject.blame(error));
            }
        }
    }
    let all = count_of(scripts.len(), "dialogue");
    ensure!(failed == 0, "{failed} of {all} failed");
    super::print(&format!("{all} passed"))
}

/// The configuration to test: the given one, that of the folder, or the one of `lockgate dev`.
fn subject(path: &Path) -> Result<Subject> {
    let beside = path.join(CONFIGURATION);
    if path.is_dir() && beside.is_file() {
        Subject::of(&beside, &[])
    } else if path.is_file() && path.extension().is_some_and(|ending| ending == "wasm") {
        Subject::of_component(path)
    } else {
        Subject::of(path, &[])
    }
}

/// The dialogues that the command line names, or those of the plugin.
fn files(options: &TestOptions) -> Result<Vec<PathBuf>> {
    let path = &options.path;
    ensure!(
        path.exists(),
        "{}: there is no such file or folder; name a plugin's folder, a configuration file, or a component",
        path.display()
    );
    let mut found = Vec::new();
    for file in &options.files {
        if file.is_dir() {
            let inside = dialogues(file)?;
            ensure!(
                !inside.is_empty(),
                "{}: there is no *.{ENDING} in it",
                file.display()
            );
            found.extend(inside);
        } else {
            found.push(file.clone());
        }
    }
    if options.files.is_empty() {
        let folder = if path.is_dir() {
            path
        } else {
            path.parent().unwrap_or(path)
        };
        let tests = folder.join("tests");
        found = if tests.is_dir() {
            dialogues(&tests)?
        } else {
            Vec::new()
        };
        if found.is_empty() {
            bail!(
                "{}: there is no dialogue; write one, such as {}:\n\n  a connects\n  a sends hello\n  a gets hello\n",
                path.display(),
                tests.join(format!("hello.{ENDING}")).display()
            );
        }
    }
    Ok(found)
}

fn dialogues(folder: &Path) -> Result<Vec<PathBuf>> {
    let in_folder = || folder.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(in_folder)? {
        let path = entry.with_context(in_folder)?.path();
        if path.is_file() && path.extension().is_some_and(|ending| ending == ENDING) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Reads all dialogues, before anything is built.
fn read_all(files: &[PathBuf]) -> Result<Vec<(PathBuf, Script)>> {
    let (mut scripts, mut problems) = (Vec::new(), Vec::new());
    for file in files {
        let wrong = |Mistake {
                         line,
                         message,
                         remedy,
                     }| Problem {
            file: file.clone(),
            line,
            column: 1,
            key: String::new(),
            message,
            remedy,
        };
        match dialogue::parse(&read(file)?) {
            Ok(script) => scripts.push((file.clone(), script)),
            Err(mistakes) => problems.extend(mistakes.into_iter().map(wrong)),
        }
    }
    if problems.is_empty() {
        Ok(scripts)
    } else {
        Err(Problems(problems).into())
    }
}

fn read(file: &Path) -> Result<String> {
    let shown = || file.display().to_string();
    let length = fs::metadata(file).with_context(shown)?.len();
    ensure!(
        length <= MAX_BYTES,
        "{}: a dialogue has at most {} KiB; write several",
        file.display(),
        MAX_BYTES >> 10
    );
    let bytes = fs::read(file).with_context(shown)?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to());
        let lines = valid.unwrap_or_default().split(|byte| *byte == b'\n');
        anyhow!(
            "{}:{}: the line is not UTF-8; save the file as UTF-8",
            file.display(),
            lines.count()
        )
    })
}

/// Builds the plugins that have a source.
async fn built(mut config: Config) -> Result<Config> {
    let mut components = BTreeMap::new();
    for plugin in &mut config.plugins {
        let Component::Source { folder, built } = &mut plugin.component else {
            continue;
        };
        if !components.contains_key(folder) {
            components.insert(folder.clone(), build(folder).await?.component);
        }
        *built = components.get(folder).cloned();
    }
    Ok(config)
}
