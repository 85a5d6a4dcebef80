//! The SDK in a project's folder `sdk`: laid there, compared with that of the program, and replaced.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::super::embedded;
use super::write;
use crate::signature::digest_of;

/// The folder of the SDK in a project.
const FOLDER: &str = "sdk";

/// The file in it that says which SDK it is.
const MARK: &str = "lockgate-sdk.toml";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sdk {
    Rust,
    Js,
    Go,
}

/// The content of the mark.
#[derive(Deserialize, Serialize)]
struct Mark {
    language: Sdk,
    /// The version of Lockgate.
    version: String,
    /// The digest of the files, as they were laid: an author may change them.
    digest: String,
}

impl Sdk {
    /// The folder of its files in the program.
    const fn files(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Go => "go",
        }
    }

    /// The mark of the program's own SDK.
    fn mark(self) -> Mark {
        let mut all = Vec::new();
        for (path, content) in embedded::files(self.files()) {
            all.extend_from_slice(path.as_bytes());
            all.push(0);
            all.extend_from_slice(&content.len().to_le_bytes());
            all.extend_from_slice(content);
        }
        Mark {
            language: self,
            version: env!("CARGO_PKG_VERSION").into(),
            digest: digest_of(&all),
        }
    }
}

/// Lays the program's SDK into a project.
pub(super) fn lay(sdk: Sdk, project: &Path) -> Result<()> {
    lay_into(sdk, &project.join(FOLDER))
}

fn lay_into(sdk: Sdk, folder: &Path) -> Result<()> {
    for (path, content) in embedded::files(sdk.files()) {
        write(&folder.join(path), content)?;
    }
    let mark = toml::to_string(&sdk.mark())?;
    let text = format!(
        "# The SDK as `lockgate new` has laid it. `lockgate new --sdk PROJECT` replaces it by that of the program.\n{mark}"
    );
    write(&folder.join(MARK), text.as_bytes())
}

/// Replaces the SDK of a project by the program's. Gives its folder.
pub(super) fn replace(project: &Path) -> Result<PathBuf> {
    let folder = project.join(FOLDER);
    let Some(mark) = read(project)? else {
        bail!(
            "{}: there is no SDK that `lockgate new` has laid, with {MARK}; name the folder of a project made by it",
            folder.display()
        );
    };
    let in_folder = || folder.display().to_string();
    // The old one stays until the new one is complete.
    let new = tempfile::tempdir_in(project).with_context(in_folder)?;
    let laid = new.path().join(FOLDER);
    lay_into(mark.language, &laid)?;
    fs::remove_dir_all(&folder).with_context(in_folder)?;
    fs::rename(&laid, &folder).with_context(in_folder)?;
    Ok(folder)
}

/// Says of a project's SDK that it is not the program's, with the remedy.
pub(in crate::cli) fn difference(project: &Path) -> Option<String> {
    let mark = match read(project) {
        Ok(mark) => mark?,
        Err(error) => return Some(format!("{error:#}")),
    };
    if mark.digest == mark.language.mark().digest {
        return None;
    }
    Some(format!(
        "{}: the SDK is that of another lockgate ({}, this is {}); `lockgate new --sdk {}` replaces it",
        project.join(FOLDER).display(),
        mark.version,
        env!("CARGO_PKG_VERSION"),
        project.display()
    ))
}

/// Reads the mark of a project's SDK. A project without one has no SDK, or another way to it.
fn read(project: &Path) -> Result<Option<Mark>> {
    let path = project.join(FOLDER).join(MARK);
    let Ok(text) = fs::read_to_string(&path) else {
        return Ok(None);
    };
    let mark = toml::from_str(&text)
        .with_context(|| format!("{}: remove the file, or lay the SDK again", path.display()));
    Ok(Some(mark?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sdk_of_another_version_is_named_and_replaced() {
        let project = tempfile::tempdir().expect("a folder is made");
        let project = project.path();
        assert_eq!(difference(project), None, "a project without one");
        assert!(replace(project).is_err());

        lay(Sdk::Rust, project).expect("it is laid");
        assert_eq!(difference(project), None);
        let (manifest, mark) = (
            project.join("sdk/Cargo.toml"),
            project.join("sdk").join(MARK),
        );
        fs::write(&manifest, "# the author's own").expect("it is written");
        assert_eq!(difference(project), None, "the author's own change");

        let text = fs::read_to_string(&mark).expect("it is there");
        let other = text.replace(&Sdk::Rust.mark().digest, "sha256:00");
        fs::write(&mark, other).expect("it is written");
        let said = difference(project).expect("it differs");
        assert!(said.contains("lockgate new --sdk"), "{said}");
        replace(project).expect("it is replaced");
        assert_eq!(difference(project), None);
        let manifest = fs::read_to_string(&manifest).expect("it is there");
        assert!(manifest.contains("lockgate-plugin"));
    }
}
