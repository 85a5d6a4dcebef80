//! The programs that build a plugin: whether they are there and new enough, and how they are run.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, bail};
use tokio::process::Command;

use super::Language;

/// A program of a language's toolchain.
pub(super) struct Tool {
    pub(super) program: &'static str,
    /// The oldest version that builds plugins; none takes any.
    pub(super) version: Option<Version>,
    /// How it is installed: the name, the place and a command.
    pub(super) install: &'static str,
}

pub(super) struct Version {
    pub(super) minimum: (u32, u32),
    /// The arguments with which the program prints its version.
    pub(super) arguments: &'static [&'static str],
}

/// Checks that the tools of a language are there and new enough for a plugin in `dir`.
pub(super) async fn ensure(dir: &Path, language: Language) -> Result<()> {
    for tool in language.tools() {
        if !is_there(tool.program) {
            bail!(
                "{}: {} is missing, which plugins in {} are built with; {}",
                dir.display(),
                tool.program,
                language.name(),
                tool.install
            );
        }
        let Some(Version { minimum, arguments }) = tool.version else {
            continue;
        };
        // Tools may choose a version by the folder: Go by its go.mod, version managers by files of their own.
        let printed = command(dir, tool.program).args(arguments).output().await;
        let printed = printed.map_or_else(|_| Vec::new(), |output| output.stdout);
        let printed = String::from_utf8_lossy(&printed);
        let (major, minor) = minimum;
        match version(&printed) {
            Some(version) if version >= minimum => {}
            Some(_) => bail!(
                "{}: {} is too old ({}), plugins in {} need {major}.{minor}; {}",
                dir.display(),
                tool.program,
                printed.trim(),
                language.name(),
                tool.install
            ),
            None => bail!(
                "{}: {} does not print its version, plugins in {} need {major}.{minor}; see what `{} {}` says, or {}",
                dir.display(),
                tool.program,
                language.name(),
                tool.program,
                arguments.join(" "),
                tool.install
            ),
        }
    }
    Ok(())
}

/// Whether a program is in the `PATH`.
fn is_there(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// Finds the first version in a text: `v20.1.0`, `go version go1.24 linux/amd64`.
fn version(printed: &str) -> Option<(u32, u32)> {
    let mut words =
        printed.split(|character: char| !character.is_ascii_digit() && character != '.');
    words.find_map(|word| {
        let mut numbers = word.split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
            _ => None,
        }
    })
}

/// Makes a command that runs in the plugin's folder, with the user's environment.
pub(super) fn command(dir: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
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
    fn version_is_found_in_what_tools_print() {
        for (printed, expected) in [
            ("v20.11.1\n", Some((20, 11))),
            ("go version go1.24.3 linux/amd64\n", Some((1, 24))),
            ("go version go1.25rc1 linux/amd64\n", Some((1, 25))),
            ("go version devel", None),
            ("", None),
            ("v99999999999.1", None),
        ] {
            assert_eq!(version(printed), expected, "{printed:?}");
        }
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
