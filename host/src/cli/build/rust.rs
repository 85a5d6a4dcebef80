//! `lockgate build`: from a plugin's source folder to its component, by cargo.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::process::Command;

use crate::plugin;

/// The target that rustc builds components for.
const TARGET: &str = "wasm32-wasip2";

/// Plugin folders suggested at most in an error about a folder that is no plugin's.
const MAX_SUGGESTIONS: usize = 8;

/// A built component, with what cargo says of its build.
pub(super) struct Built {
    pub(super) component: PathBuf,
    /// The files that the compiler read: those of the plugin and of what it depends on by path.
    pub(super) files: BTreeSet<PathBuf>,
    /// The folders of the packages of `files`.
    pub(super) packages: BTreeSet<PathBuf>,
    /// The folders that cargo and the build scripts write to.
    pub(super) outputs: BTreeSet<PathBuf>,
}

/// Builds the plugin in `dir`. The compiler's messages go to standard error. Dropping the future ends cargo.
pub(super) async fn build(dir: &Path) -> Result<Built> {
    if !dir.is_dir() {
        let what = if dir.exists() {
            "it is no folder"
        } else {
            "there is no such folder"
        };
        bail!(
            "{}: {what}; name a plugin's, such as plugins/echo",
            dir.display()
        );
    }
    if !dir.join("Cargo.toml").is_file() {
        bail!(
            "{}: there is no Cargo.toml; name a plugin's folder that cargo builds, such as plugins/echo, or build the plugin \
             with its own tools and name the component in a configuration",
            dir.display()
        );
    }
    // Cargo names packages by canonical paths.
    let dir = &dir
        .canonicalize()
        .with_context(|| dir.display().to_string())?;
    let manifest = &manifest(dir).await?;
    ensure_target(dir).await?;
    let output = cargo(
        dir,
        &[
            "build",
            "--release",
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
            // The library alone is the plugin: a package may have programs too.
            "--lib",
            "--manifest-path",
        ],
        manifest,
    );
    let Some(output) = output.await? else {
        bail!(
            "{}: cargo could not build it; correct what it says above",
            dir.display()
        );
    };
    let messages: Vec<_> = output
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<CargoMessage>(line).ok())
        .collect();
    let component = component(dir, manifest, &messages)?;
    check(dir, &component)?;
    Ok(describe(component, &messages))
}

/// Runs cargo on a manifest. Gives its standard output, or none if it fails: it has said why on standard error.
async fn cargo(dir: &Path, words: &[&str], manifest: &Path) -> Result<Option<Vec<u8>>> {
    let ended = tool(dir, "cargo")
        .args(words)
        .arg(manifest)
        .stderr(Stdio::inherit())
        .spawn()
        .context("cannot run cargo; it comes with rustup, https://rustup.rs")?
        .wait_with_output()
        .await
        .context("cannot run cargo")?;
    Ok(ended.status.success().then_some(ended.stdout))
}

/// The answer of `cargo metadata`: the package of a folder, and those of its workspace.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<CargoPackage>,
}

#[derive(Deserialize)]
struct CargoPackage {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<CargoTarget>,
}

#[derive(Deserialize)]
struct CargoTarget {
    crate_types: Vec<String>,
}

impl CargoPackage {
    fn is_plugin(&self) -> bool {
        let mut types = self.targets.iter().flat_map(|target| &target.crate_types);
        types.any(|crate_type| crate_type == "cdylib")
    }

    /// Whether the package has a library of any kind.
    fn is_library(&self) -> bool {
        let mut types = self.targets.iter().flat_map(|target| &target.crate_types);
        types.any(|crate_type| crate_type.ends_with("lib"))
    }
}

/// Finds the manifest of a folder's plugin: its own package's, or that of the only plugin in its workspace.
async fn manifest(dir: &Path) -> Result<PathBuf> {
    let manifest = dir.join("Cargo.toml");
    let words = [
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
        "--manifest-path",
    ];
    let Some(output) = cargo(dir, &words, &manifest).await? else {
        bail!(
            "{}: cargo cannot read it; correct what it says above",
            dir.display()
        );
    };
    let Metadata { packages } =
        serde_json::from_slice(&output).with_context(|| dir.display().to_string())?;
    let plugins: Vec<_> = packages
        .iter()
        .filter(|package| package.is_plugin())
        .collect();
    let own_package = packages
        .iter()
        .find(|package| package.manifest_path == manifest);
    let reason = match (own_package, plugins.as_slice()) {
        (Some(own_package), _) if own_package.is_plugin() => return Ok(manifest),
        (None, [only]) => return Ok(only.manifest_path.clone()),
        (Some(own_package), _) if own_package.is_library() => format!(
            "the library of its package {} is no cdylib, as a plugin's is; write crate-type = [\"cdylib\"] into [lib] of its \
             Cargo.toml",
            own_package.name
        ),
        (Some(own_package), _) => format!(
            "its package {} has no library, as a plugin has; write src/lib.rs, and [lib] with crate-type = [\"cdylib\"] into \
             its Cargo.toml",
            own_package.name
        ),
        (None, []) => "it is a workspace without a plugin: none of its packages has a library with crate-type = \
                       [\"cdylib\"]; name a plugin's folder, such as plugins/echo"
            .into(),
        (None, _) => "it is a workspace of several plugins; name the folder of one".into(),
    };
    let mut folders: Vec<_> = plugins
        .iter()
        .filter_map(|plugin| plugin.manifest_path.parent())
        .map(|folder| {
            folder
                .strip_prefix(dir)
                .unwrap_or(folder)
                .display()
                .to_string()
        })
        .collect();
    folders.sort_unstable();
    folders.truncate(MAX_SUGGESTIONS);
    let there = if folders.is_empty() {
        String::new()
    } else {
        format!("; plugins of its workspace are in {}", folders.join(", "))
    };
    bail!("{}: {reason}{there}", dir.display())
}

/// Refuses a component that the gateway would not call.
fn check(dir: &Path, component: &Path) -> Result<()> {
    let in_folder = |error: anyhow::Error| error.context(dir.display().to_string());
    let bytes = plugin::read(component).map_err(in_folder)?;
    let misfits = plugin::inspect(&bytes).map_err(in_folder)?.misfits;
    if misfits.is_empty() {
        return Ok(());
    }
    bail!(
        "{}: what it builds is no plugin: {}; {}",
        dir.display(),
        misfits.join("; "),
        plugin::NO_HANDLER
    )
}

/// Cargo's message about a step: a file was made, or a build script ran.
#[derive(Deserialize)]
struct CargoMessage {
    reason: String,
    #[serde(default)]
    package_id: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    out_dir: Option<PathBuf>,
}

/// Finds the component of this manifest's package: dependencies may be components too.
fn component(dir: &Path, manifest: &Path, messages: &[CargoMessage]) -> Result<PathBuf> {
    let made = messages
        .iter()
        .filter(|made| made.reason == "compiler-artifact" && made.manifest_path == manifest);
    let mut components = made
        .flat_map(|made| &made.filenames)
        .filter(|file| file.extension().is_some_and(|ending| ending == "wasm"));
    components.next().cloned().with_context(|| {
        format!(
            "{}: cargo built no component; write crate-type = [\"cdylib\"] into [lib] of its Cargo.toml",
            dir.display()
        )
    })
}

fn describe(component: PathBuf, messages: &[CargoMessage]) -> Built {
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

/// Parses a dep-info file: `TARGET: FILE FILE …`, with `\` before a space that is part of a name.
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

/// Adds [`TARGET`] to the toolchain of the folder, unless it is there.
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

/// Makes a command that runs in the plugin's folder, with the user's environment.
fn tool(dir: &Path, name: &str) -> Command {
    let mut command = Command::new(name);
    command
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    // Under `cargo run` and `cargo test`, variables describe the running package, not the plugin.
    if std::env::var_os("CARGO_MANIFEST_DIR").is_some() {
        for (name, _) in std::env::vars_os() {
            if is_of_running_package(&name.to_string_lossy()) {
                command.env_remove(&name);
            }
        }
    }
    command
}

/// Whether cargo or rustup sets this variable for a program that it runs. Variables that a user sets for cargo, such as
/// `CARGO_TARGET_DIR`, are kept.
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
        // The toolchain of the running package: the plugin's folder may have another.
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
