//! Plugins in JavaScript and TypeScript: npm installs their packages, and the SDK's own script builds their components.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::tool::command;
use super::{Built, Language};
use crate::signature::digest_of;

/// The SDK in a project, as npm installs it or links it.
const SDK: &str = "node_modules/@lockgate/sdk";

/// The script that builds, in the SDK.
const SCRIPT: &str = "build/build.js";

/// The file in `node_modules` that says for which manifest npm has installed it.
const INSTALLED: &str = "node_modules/.lockgate-installed";

/// The files by which npm decides what to install.
const MANIFESTS: [&str; 2] = ["package.json", "package-lock.json"];

/// The folder that the script writes to.
const OUTPUT: &str = "dist";

/// What the script prints.
#[derive(Deserialize)]
struct Printed {
    component: PathBuf,
    files: BTreeSet<PathBuf>,
}

/// Builds the plugin in a canonical folder.
pub(super) async fn build(dir: &Path) -> Result<Built> {
    install(dir).await?;
    let Ok(sdk) = dir.join(SDK).canonicalize() else {
        bail!(
            "{}: its package.json does not have the SDK; write \"@lockgate/sdk\": \"file:sdk\" into \"dependencies\", as \
             `lockgate new` does",
            dir.display()
        );
    };
    // npm installs no packages for a linked folder that lies elsewhere.
    if !sdk.starts_with(dir) {
        install(&sdk).await?;
    }
    let output = command(dir, "node")
        .arg(sdk.join(SCRIPT))
        .arg(dir)
        .stderr(Stdio::inherit())
        .spawn()
        .context("cannot run node")?
        .wait_with_output()
        .await
        .context("cannot run node")?;
    if !output.status.success() {
        bail!(
            "{}: it could not be built; correct what is said above",
            dir.display()
        );
    }
    let printed: Printed = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "{}: {} did not say what it built; `lockgate new --sdk {}` lays the SDK again",
            dir.display(),
            sdk.join(SCRIPT).display(),
            dir.display()
        )
    })?;
    Ok(Built {
        language: Language::JavaScript,
        component: printed.component,
        files: printed.files,
        packages: BTreeSet::from([dir.to_owned(), sdk.clone()]),
        outputs: BTreeSet::from([
            dir.join(OUTPUT),
            dir.join("node_modules"),
            sdk.join("node_modules"),
        ]),
    })
}

/// Runs `npm install` in a folder, unless it has installed these manifests already.
async fn install(dir: &Path) -> Result<()> {
    let installed = dir.join(INSTALLED);
    if fs::read_to_string(&installed).is_ok_and(|before| before == manifests(dir)) {
        return Ok(());
    }
    let status = command(dir, "npm")
        .args(["install", "--no-audit", "--no-fund", "--loglevel=error"])
        // Standard output is for the component's path.
        .stdout(std::io::stderr())
        .stderr(Stdio::inherit())
        .status()
        .await
        .context("cannot run npm")?;
    if !status.success() {
        bail!(
            "{}: npm could not install its packages; correct what npm says above",
            dir.display()
        );
    }
    // npm makes no folder for a project without packages.
    fs::create_dir_all(dir.join("node_modules")).with_context(|| dir.display().to_string())?;
    fs::write(&installed, manifests(dir)).with_context(|| installed.display().to_string())
}

/// The digest of the manifests; one that is not there counts as empty.
fn manifests(dir: &Path) -> String {
    let mut all = Vec::new();
    for file in MANIFESTS {
        all.extend(fs::read(dir.join(file)).unwrap_or_default());
        all.push(0);
    }
    digest_of(&all)
}
