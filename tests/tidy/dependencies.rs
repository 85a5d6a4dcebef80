//! Dependencies are new enough, one of a kind, and built once.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    process::Command,
};

use super::root;

/// For each crate, the oldest version without a known defect that concerns a gateway. `.ci/run dependencies` checks all
/// advisories, but only where it can fetch their database; these floors hold everywhere.
const FLOORS: [(&str, [u64; 3]); 18] = [
    ("aws-lc-sys", [0, 39, 0]),
    ("bytes", [1, 11, 1]),
    ("crossbeam-channel", [0, 5, 15]),
    ("h2", [0, 4, 16]),
    ("idna", [1, 0, 0]),
    ("prometheus-client", [0, 25, 2]),
    ("rustls", [0, 23, 46]),
    ("rustls-webpki", [0, 103, 13]),
    ("slab", [0, 4, 11]),
    ("tar", [0, 4, 45]),
    ("time", [0, 3, 47]),
    ("tokio-rustls", [0, 26, 6]),
    ("tokio-tungstenite", [0, 30, 0]),
    ("tracing-subscriber", [0, 3, 20]),
    ("tungstenite", [0, 30, 0]),
    ("wasmtime", [48, 0, 8]),
    ("wasmtime-wasi", [48, 0, 8]),
    ("wasmtime-wasi-io", [48, 0, 8]),
];

#[test]
fn dependencies_are_no_older_than_their_fixes() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut checked = 0;
    for package in lock.split("[[package]]") {
        let field = |name: &str| {
            let line = package
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name} = \"")))?;
            line.strip_suffix('"')
        };
        let (Some(name), Some(version)) = (field("name"), field("version")) else {
            continue;
        };
        let Some((_, floor)) = FLOORS.iter().find(|(crate_name, _)| *crate_name == name) else {
            continue;
        };
        let release = version.split(['-', '+']).next().unwrap();
        let numbers: Vec<u64> = release
            .split('.')
            .map(|number| number.parse().unwrap())
            .collect();
        assert!(
            numbers.as_slice() >= floor.as_slice(),
            "{name} {version} is older than {floor:?}"
        );
        checked += 1;
    }
    assert!(
        checked >= 9,
        "only {checked} of the crates with a floor were found"
    );
}

/// The dependencies that `cargo tree` lists with these arguments, one a line.
fn dependencies(arguments: &[&str]) -> String {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--prefix", "none", "--locked", "--offline"])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&tree.stderr);
    assert!(tree.status.success(), "{error}");
    // The mark stands at a package whose dependencies are listed above.
    String::from_utf8(tree.stdout).unwrap().replace(" (*)", "")
}

/// A package with other features under `-p lockgate` than under `--workspace` is compiled twice, and so are its
/// dependents: wasmtime takes minutes.
#[test]
fn gateway_alone_is_built_with_the_features_of_the_workspace() {
    for edges in ["normal,build,dev", "no-dev"] {
        let features = ["--edges", edges, "--format", "{p} {f}"];
        let workspace = dependencies(&[&["--workspace"], &features[..]].concat());
        let alone = dependencies(&[&["--package", "lockgate"], &features[..]].concat());
        let workspace: HashSet<_> = workspace.lines().collect();
        let others: BTreeSet<_> = alone
            .lines()
            .filter(|package| !workspace.contains(package))
            .collect();
        assert!(
            others.is_empty(),
            "--workspace has other features of {others:#?}: name them in host/Cargo.toml"
        );
        assert!(workspace.len() > 100, "{workspace:?}");
    }
}

/// Only built packages count: the lock file names `ring` for features and systems that nothing is built for.
#[test]
fn only_one_cryptography_library_is_built() {
    let systems = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];
    let systems = systems.map(|system| ["--target", system]);
    let words = ["--workspace", "--edges", "all"];
    let tree = dependencies(&[&words[..], systems.as_flattened()].concat());
    let is_built = |name: &str| {
        tree.lines()
            .any(|line| line.starts_with(&format!("{name} v")))
    };
    assert!(is_built("aws-lc-rs"), "{tree}");
    for other in ["ring", "openssl", "openssl-sys", "boring", "rsa"] {
        assert!(
            !is_built(other),
            "{other} is built too: `cargo tree --invert {other}`"
        );
    }
}

/// The manifest of the Rust SDK inherits nothing, since `lockgate new` lays it into projects of their own.
#[test]
fn manifest_of_the_rust_sdk_says_what_the_workspace_does() {
    let read = |path: &str| -> toml::Table {
        let text = fs::read_to_string(root().join(path)).unwrap();
        text.parse().unwrap()
    };
    let (workspace, sdk) = (read("Cargo.toml"), read("guest-sdk/rust/Cargo.toml"));
    let workspace = &workspace["workspace"];
    for (key, value) in workspace["package"].as_table().unwrap() {
        assert_eq!(sdk["package"][key], *value, "{key}");
    }
    assert_eq!(sdk["lints"], workspace["lints"]);
}
