//! Clients not of our making. `.ci/run` installs them; a test that needs a missing one is left out by name,
//! or fails where the environment says `CI=true`.
//!
//! | what | where it is looked for | unless this variable names another place |
//! | --- | --- | --- |
//! | `ws`, `playwright-core` (npm) | `foreign/node/node_modules` in the target folder | `LOCKGATE_NODE_MODULES` |
//! | `websockets`, `kosoku`, `sslyze` (PyPI) | `foreign/python/bin` in the target folder | `LOCKGATE_PYTHON_BIN` |
//! | Chromium | `/usr/bin/chromium` | `LOCKGATE_CHROMIUM` |
//!
//! `node` itself and `openssl` are taken from the `PATH`.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::LONG_PATIENCE;

/// Node with the packages of `tests/foreign/node`.
pub struct Node {
    modules: PathBuf,
}

/// The commands of a Python environment with what `tests/foreign/python` requires.
pub struct Python {
    bin: PathBuf,
}

pub struct Chromium {
    pub path: PathBuf,
}

impl Node {
    #[must_use]
    pub fn find(target: &Path) -> Option<Self> {
        let modules = place("LOCKGATE_NODE_MODULES", || {
            target.join("foreign/node/node_modules")
        });
        let there = ["ws", "playwright-core"]
            .iter()
            .all(|package| modules.join(package).is_dir());
        let node = Command::new("node")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        (there && node.is_ok_and(|status| status.success())).then_some(Self { modules })
    }

    /// Runs a script to its end.
    pub async fn run(&self, script: &Path, words: &[&str]) -> Output {
        let mut command = Command::new("node");
        command
            .arg(script)
            .args(words)
            .env("NODE_PATH", &self.modules);
        output(command).await
    }
}

impl Python {
    #[must_use]
    pub fn find(target: &Path) -> Option<Self> {
        let bin = place("LOCKGATE_PYTHON_BIN", || target.join("foreign/python/bin"));
        ["python", "kosoku", "sslyze", "websockets"]
            .iter()
            .all(|name| bin.join(name).exists())
            .then_some(Self { bin })
    }

    /// Runs a command of the environment, such as `python`, to its end.
    pub async fn run(&self, name: &str, words: &[&str]) -> Output {
        let mut command = Command::new(self.bin.join(name));
        command.args(words);
        output(command).await
    }
}

impl Chromium {
    #[must_use]
    pub fn find() -> Option<Self> {
        let path = place("LOCKGATE_CHROMIUM", || "/usr/bin/chromium".into());
        path.exists().then_some(Self { path })
    }
}

/// The command `openssl`.
pub struct OpenSsl;

impl OpenSsl {
    #[must_use]
    pub fn find() -> Option<Self> {
        let version = Command::new("openssl")
            .arg("version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        version.is_ok_and(|status| status.success()).then_some(Self)
    }

    /// Runs it to its end, with nothing to read.
    pub async fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new("openssl");
        command.args(words);
        output(command).await
    }
}

/// Says that a test is left out because a tool is missing.
///
/// # Panics
///
/// When the environment says `CI=true`: there, everything is tested.
pub fn left_out(test: &str, tool: &str) {
    let message = format!("left out: {test}, since {tool} is not installed (see .ci/run)");
    assert!(
        env::var_os("CI").is_none_or(|value| value != "true"),
        "{message}"
    );
    eprintln!("{message}");
}

fn place(variable: &str, usual: impl FnOnce() -> PathBuf) -> PathBuf {
    env::var_os(variable).map_or_else(usual, PathBuf::from)
}

/// What the command wrote, once it has ended. It is killed when it takes too long.
async fn output(command: Command) -> Output {
    let what = format!("{command:?}");
    let ended = tokio::process::Command::from(command)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(LONG_PATIENCE, ended).await {
        Ok(output) => output.unwrap(),
        Err(_) => panic!("did not end within {LONG_PATIENCE:?}: {what}"),
    }
}
