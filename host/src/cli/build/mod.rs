//! `lockgate build`: from a plugin's source folder to its component, by the tools of its language.

mod go;
mod javascript;
mod language;
mod rust;
mod tool;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::plugin;
pub(super) use language::Language;

/// A built component, with what the tools say of its build. The paths are canonical.
pub(super) struct Built {
    pub(super) language: Language,
    pub(super) component: PathBuf,
    /// The files that the tools read: those of the plugin and of what it depends on by path.
    pub(super) files: BTreeSet<PathBuf>,
    /// The folders of the packages of `files`.
    pub(super) packages: BTreeSet<PathBuf>,
    /// The folders that the tools write to.
    pub(super) outputs: BTreeSet<PathBuf>,
}

/// Builds the plugin in `dir`. The tools' messages go to standard error. Dropping the future ends them.
pub(super) async fn build(dir: &Path) -> Result<Built> {
    if !dir.is_dir() {
        let what = if dir.exists() {
            "it is no folder"
        } else {
            "there is no such folder"
        };
        bail!("{}: {what}; name a plugin's folder", dir.display());
    }
    let language = Language::of(dir)?;
    // Tools name packages by canonical paths.
    let dir = &dir
        .canonicalize()
        .with_context(|| dir.display().to_string())?;
    tool::ensure(dir, language).await?;
    let built = match language {
        Language::Rust => rust::build(dir).await?,
        Language::JavaScript => javascript::build(dir).await?,
        Language::Go => go::build(dir).await?,
    };
    check(dir, language, &built.component)?;
    Ok(built)
}

/// Refuses a component that the gateway would not call.
fn check(dir: &Path, language: Language, component: &Path) -> Result<()> {
    let in_folder = |error: anyhow::Error| error.context(dir.display().to_string());
    let bytes = plugin::read(component).map_err(in_folder)?;
    let misfits = plugin::inspect(&bytes).map_err(in_folder)?.misfits;
    if misfits.is_empty() {
        return Ok(());
    }
    let remedy = match language {
        Language::Rust => {
            "write lockgate_plugin::export!(TYPE) below the handler, or export_authorizer! below the authorizer"
        }
        // Their SDKs export both by themselves.
        Language::JavaScript | Language::Go => plugin::NO_HANDLER,
    };
    bail!(
        "{}: what it builds is no plugin: {}; {remedy}",
        dir.display(),
        misfits.join("; "),
    )
}
