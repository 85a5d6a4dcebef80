//! `lockgate build`: from a plugin's source folder to its component.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// The target that rustc builds components for.
const TARGET: &str = "wasm32-wasip2";

/// Builds the plugin in `dir` and gives the path of its component. What the compiler says goes to standard error.
pub(super) fn build(dir: &Path) -> Result<PathBuf> {
    if !dir.is_dir() {
        bail!("{}: there is no such folder", dir.display());
    }
    if !dir.join("Cargo.toml").is_file() {
        bail!(
            "{}: there is no Cargo.toml; a plugin's folder is one that cargo builds, such as plugins/echo",
            dir.display()
        );
    }
    ensure_target(dir)?;
    let built = cargo(dir, "cargo")
        .args([
            "build",
            "--release",
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
        ])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo; it comes with rustup, https://rustup.rs")?;
    if !built.status.success() {
        bail!("{}: cargo could not build it; see above", dir.display());
    }
    component(&built.stdout).with_context(|| {
        format!(
            "{}: cargo built no component; Cargo.toml needs [lib] crate-type = [\"cdylib\"]",
            dir.display()
        )
    })
}

/// What cargo says of each file it made.
#[derive(Deserialize)]
struct Made {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

fn component(messages: &[u8]) -> Option<PathBuf> {
    let made = messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Made>(line).ok());
    made.filter(|made| made.reason == "compiler-artifact")
        .flat_map(|made| made.filenames)
        .rfind(|path| {
            path.extension()
                .is_some_and(|extension| extension == "wasm")
        })
}

/// Adds the target to the toolchain that the folder uses, if it is missing.
fn ensure_target(dir: &Path) -> Result<()> {
    let libraries = cargo(dir, "rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .context("cannot run rustc; it comes with rustup, https://rustup.rs")?;
    let libraries = String::from_utf8_lossy(&libraries.stdout);
    if !libraries.trim().is_empty() && Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    let added = cargo(dir, "rustup")
        .args(["target", "add", TARGET])
        .stdout(Stdio::null())
        .status();
    if !added.is_ok_and(|status| status.success()) {
        bail!(
            "the Rust target {TARGET} is missing and could not be added; try `rustup target add {TARGET}`"
        );
    }
    Ok(())
}

/// A tool in the plugin's folder, with nothing of the cargo that may have started us: not its toolchain, not
/// its flags.
fn cargo(dir: &Path, tool: &str) -> Command {
    let mut command = Command::new(tool);
    command.current_dir(dir);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let inherited =
            text.starts_with("CARGO_") && text != "CARGO_HOME" && !text.starts_with("CARGO_NET")
                || matches!(
                    &*text,
                    "CARGO" | "RUSTC" | "RUSTFLAGS" | "RUSTC_WRAPPER" | "RUSTUP_TOOLCHAIN"
                );
        if inherited {
            command.env_remove(&name);
        }
    }
    command
}
