//! Embeds the contract, the SDKs and the templates of new projects: writes `embedded.rs`, the list of their files.
//! `lockgate new` lays them into a project on a machine that has the program alone.

#![allow(
    clippy::expect_used,
    reason = "a build script has nobody to return an error to"
)]

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The embedded folders, by their names in the list.
const FOLDERS: [(&str, &str); 5] = [
    ("wit", "wit"),
    ("rust", "guest-sdk/rust"),
    ("js", "guest-sdk/js"),
    ("go", "guest-sdk/go"),
    ("templates", "guest-sdk/templates"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let host =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the package's folder"));
    let root = host.parent().expect("host/ lies in the repository");
    let mut list = String::from("&[\n");
    for (name, folder) in FOLDERS {
        let folder = root.join(folder);
        if folder.is_dir() {
            embed(name, &folder, &mut list);
        }
    }
    list.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names the output folder"));
    fs::write(out.join("embedded.rs"), list).expect("the output folder can be written to");
}

/// Lists the files of a folder and of its subfolders in the order of their names.
fn embed(name: &str, folder: &Path, list: &mut String) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    entries.sort_unstable();
    let listed = entries.len();
    let of_a_template = name.starts_with("templates");
    entries.retain(|path| !is_left_out(path, of_a_template));
    // Cargo watches a named folder with all that is in it. A folder with packages that a tool installs is not named: a new
    // file in it is found once another changes.
    if entries.len() == listed {
        println!("cargo::rerun-if-changed={}", folder.display());
    }
    for path in entries {
        let file = path.file_name().expect("it is an entry").to_string_lossy();
        let name = format!("{name}/{file}");
        if path.is_dir() {
            embed(&name, &path, list);
        } else {
            println!("cargo::rerun-if-changed={}", path.display());
            let path = path.display().to_string();
            writeln!(list, "    ({name:?}, include_bytes!({path:?})),")
                .expect("a string takes what is written");
        }
    }
}

/// Whether an entry is no source of an SDK or of a template: what tools write, and an SDK's own tests.
fn is_left_out(path: &Path, of_a_template: bool) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if ["node_modules", "target", ".lockgate"].contains(&&*name) {
        return true;
    }
    let is_test = ["test", "tests"].contains(&&*name)
        || name.ends_with("_test.go")
        || name.contains(".test.");
    !of_a_template && (is_test || name.starts_with('.'))
}
