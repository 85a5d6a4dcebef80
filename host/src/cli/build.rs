//! `lockgate build`: from a plugin's source folder to its component, by cargo.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::process::Command;

/// The target that rustc builds components for.
const TARGET: &str = "wasm32-wasip2";

/// A component, and what cargo says of how it was made.
pub(super) struct Built {
    pub(super) component: PathBuf,
    /// The files that the compiler read: those of the plugin and of what it depends on by path.
    pub(super) files: BTreeSet<PathBuf>,
    /// The folders of the packages that they belong to.
    pub(super) packages: BTreeSet<PathBuf>,
    /// The folders that cargo and the build scripts write to.
    pub(super) outputs: BTreeSet<PathBuf>,
}

/// Builds the plugin in `dir`. The compiler's messages go to standard error. Dropped, it ends cargo.
pub(super) async fn build(dir: &Path) -> Result<Built> {
    if !dir.is_dir() {
        bail!("{}: there is no such folder", dir.display());
    }
    if !dir.join("Cargo.toml").is_file() {
        bail!(
            "{}: there is no Cargo.toml; a plugin's folder is one that cargo builds, such as plugins/echo",
            dir.display()
        );
    }
    // As cargo names it.
    let dir = &dir
        .canonicalize()
        .with_context(|| dir.display().to_string())?;
    ensure_target(dir).await?;
    let built = tool(dir, "cargo")
        .args([
            "build",
            "--release",
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
        ])
        .stderr(Stdio::inherit())
        .spawn()
        .context("cannot run cargo; it comes with rustup, https://rustup.rs")?
        .wait_with_output()
        .await
        .context("cannot run cargo")?;
    if !built.status.success() {
        bail!("{}: cargo could not build it; see above", dir.display());
    }
    let messages: Vec<_> = built
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .collect();
    let component = component(dir, &messages)?;
    Ok(describe(component, &messages))
}

/// Cargo's message about a step: it made a file, or ran a build script.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    out_dir: Option<PathBuf>,
}

/// The one component of the package in `dir`: its dependencies may be components too.
fn component(dir: &Path, messages: &[Message]) -> Result<PathBuf> {
    let manifest = dir.join("Cargo.toml");
    let made = messages
        .iter()
        .filter(|message| message.reason == "compiler-artifact");
    let components: Vec<(bool, &PathBuf)> = made
        .flat_map(|made| {
            let own = made.manifest_path == manifest;
            made.filenames.iter().map(move |file| (own, file))
        })
        .filter(|(_, file)| file.extension().is_some_and(|ending| ending == "wasm"))
        .collect();
    let own: Vec<_> = components.iter().filter(|(own, _)| *own).collect();
    // The folder of a workspace has no package of its own.
    let chosen = if own.is_empty() {
        components.iter().collect()
    } else {
        own
    };
    match *chosen {
        [(_, component)] => Ok(PathBuf::clone(component)),
        [] => bail!(
            "{}: cargo built no component; Cargo.toml needs [lib] crate-type = [\"cdylib\"]",
            dir.display()
        ),
        _ => {
            let names: Vec<_> = chosen
                .iter()
                .filter_map(|(_, file)| Some(file.file_name()?.to_string_lossy()))
                .collect();
            bail!(
                "{}: cargo built several components ({}); name the folder of one plugin",
                dir.display(),
                names.join(", ")
            )
        }
    }
}

fn describe(component: PathBuf, messages: &[Message]) -> Built {
    let mut outputs: BTreeSet<PathBuf> = messages
        .iter()
        .filter_map(|message| message.out_dir.clone())
        .collect();
    // TARGET-DIR/wasm32-wasip2/release/NAME.wasm
    outputs.extend(component.ancestors().nth(3).map(Path::to_owned));
    let listed = std::fs::read_to_string(component.with_extension("d")).unwrap_or_default();
    let mut files = dependencies(&listed);
    files.retain(|file| !outputs.iter().any(|output| file.starts_with(output)));
    let packages = messages
        .iter()
        .filter(|message| message.package_id.contains("path+file:"))
        .filter_map(|message| message.manifest_path.parent())
        .map(Path::to_owned);
    Built {
        packages: packages.collect(),
        component,
        files,
        outputs,
    }
}

/// The files that a dep-info file lists: `TARGET: FILE FILE …`, with `\` before a space that is part of a name.
fn dependencies(listed: &str) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for line in listed.lines() {
        let Some((_, list)) = line.split_once(": ") else {
            continue;
        };
        let mut file = String::new();
        for part in list.split(' ') {
            match part.strip_suffix('\\') {
                Some(part) => file += &format!("{part} "),
                None => {
                    file += part;
                    files.insert(PathBuf::from(std::mem::take(&mut file)));
                }
            }
        }
    }
    files.remove(Path::new(""));
    files
}

/// Adds the target to the toolchain that the folder uses, if it is missing.
async fn ensure_target(dir: &Path) -> Result<()> {
    let libraries = tool(dir, "rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .await
        .context("cannot run rustc; it comes with rustup, https://rustup.rs")?;
    let libraries = String::from_utf8_lossy(&libraries.stdout);
    if !libraries.trim().is_empty() && Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    let added = tool(dir, "rustup")
        .args(["target", "add", TARGET])
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .await;
    if !added.is_ok_and(|status| status.success()) {
        bail!(
            "the Rust target {TARGET} is missing and could not be added; try `rustup target add {TARGET}`"
        );
    }
    Ok(())
}

/// A tool in the plugin's folder, with the user's environment.
fn tool(dir: &Path, name: &str) -> Command {
    let mut command = Command::new(name);
    command
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    // `cargo run` and `cargo test` describe the package that they run; none of it is about the plugin.
    if std::env::var_os("CARGO_MANIFEST_DIR").is_some() {
        for (name, _) in std::env::vars_os() {
            if is_of_running_package(&name.to_string_lossy()) {
                command.env_remove(&name);
            }
        }
    }
    command
}

/// Whether cargo, or rustup before it, sets this variable for a program that it runs. What a user sets for cargo, such as
/// `CARGO_TARGET_DIR`, is none of these.
fn is_of_running_package(variable: &str) -> bool {
    const NAMES: [&str; 10] = [
        "CARGO",
        "CARGO_BIN_NAME",
        "CARGO_CRATE_NAME",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_LINKS",
        "CARGO_MANIFEST_PATH",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "OUT_DIR",
        // The toolchain of the package that is run: the plugin's folder may have another.
        "RUSTUP_TOOLCHAIN",
    ];
    NAMES.contains(&variable)
        || variable.starts_with("CARGO_PKG_")
        || variable.starts_with("CARGO_BIN_EXE_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dep_info_lists_files_with_spaces_in_their_names() {
        let listed = "/t/my\\ plugin.wasm: /p/src/lib.rs /p/with\\ two\\ spaces.txt\n\n";
        let files: Vec<_> = dependencies(listed).into_iter().collect();
        let expected = ["/p/src/lib.rs", "/p/with two spaces.txt"].map(PathBuf::from);
        assert_eq!(files, expected);
        assert!(dependencies("/t/plugin.wasm:\n").is_empty());
    }

    #[test]
    fn only_the_running_package_is_taken_from_the_environment() {
        for taken in ["CARGO", "CARGO_PKG_NAME", "CARGO_MANIFEST_DIR"] {
            assert!(is_of_running_package(taken), "{taken}");
        }
        for kept in [
            "CARGO_TARGET_DIR",
            "CARGO_REGISTRIES_OURS_TOKEN",
            "CARGO_HTTP_PROXY",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_HOME",
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
        ] {
            assert!(!is_of_running_package(kept), "{kept}");
        }
    }
}
