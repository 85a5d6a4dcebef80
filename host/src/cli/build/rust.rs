//! Plugins in Rust: cargo builds their components.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::language::RUSTUP;
use super::tool::command;
use super::{Built, Language};

/// The target that rustc builds components for.
const TARGET: &str = "wasm32-wasip2";

/// Plugin folders suggested at most in an error about a folder that is no plugin's.
const MAX_SUGGESTIONS: usize = 8;

/// Builds the plugin in a canonical folder.
pub(super) async fn build(dir: &Path) -> Result<Built> {
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
    Ok(describe(component, &messages))
}

/// Runs cargo on a manifest. Gives its standard output, or none if it fails: it has said why on standard error.
async fn cargo(dir: &Path, words: &[&str], manifest: &Path) -> Result<Option<Vec<u8>>> {
    let ended = command(dir, "cargo")
        .args(words)
        .arg(manifest)
        .stderr(Stdio::inherit())
        .spawn()
        .context("cannot run cargo")?
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
                       [\"cdylib\"]; name a plugin's folder"
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
        language: Language::Rust,
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
    let libraries = command(dir, "rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .await
        .context("cannot run rustc")?;
    let libraries = String::from_utf8_lossy(&libraries.stdout);
    if !libraries.trim().is_empty() && Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    let added = command(dir, "rustup")
        .args(["target", "add", TARGET])
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .await;
    match added {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => bail!(
            "the Rust target {TARGET} is missing and could not be added; try `rustup target add {TARGET}`"
        ),
        Err(_) => bail!("the Rust target {TARGET} is missing, and rustup, which adds it; {RUSTUP}"),
    }
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
}
