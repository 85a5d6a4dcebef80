//! Builds every guest that a test loads, and writes `guests.rs`: their list, with the path of each component.
//!
//! A guest is built as a plugin author builds one, by plain `cargo build --target wasm32-wasip2`, in a target
//! folder of its own beside the workspace's.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a build script has nobody to return an error to"
)]

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const TARGET: &str = "wasm32-wasip2";

fn main() {
    let here =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the package's folder"));
    let root = here.parent().expect("tests/ lies in the repository");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names the output folder"));
    // OUT_DIR is target/PROFILE/build/PACKAGE/out.
    let target = out
        .ancestors()
        .nth(4)
        .expect("OUT_DIR lies four folders deep")
        .join("guests");

    for path in ["build.rs", "guests"] {
        println!("cargo::rerun-if-changed={}", here.join(path).display());
    }
    for path in ["wit", "guest-sdk/rust/src", "guest-sdk/rust/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }

    add_target();
    let mut guests = build(&here.join("guests"), &target);
    for plugin in ["chat", "doorkeeper", "echo"] {
        let folder = root.join("plugins").join(plugin);
        for path in ["src", "Cargo.toml"] {
            println!("cargo::rerun-if-changed={}", folder.join(path).display());
        }
        guests.extend(build(&folder, &target));
    }
    guests.sort();
    fs::write(out.join("guests.rs"), list(&guests)).expect("the output folder can be written to");
}

/// Installs the standard library for the guests' target, unless it is there.
fn add_target() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let answer = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .expect("rustc runs");
    let folder = String::from_utf8_lossy(&answer.stdout);
    if Path::new(folder.trim()).is_dir() {
        return;
    }
    let done = Command::new("rustup")
        .args(["target", "add", TARGET])
        .status()
        .is_ok_and(|status| status.success());
    assert!(
        done,
        "the guests need the target {TARGET}: run `rustup target add {TARGET}`"
    );
}

/// Builds the package or workspace in `folder`, and returns its components with their names.
fn build(folder: &Path, target: &Path) -> Vec<(String, PathBuf)> {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo names itself"));
    cargo
        .args(["build", "--release", "--workspace", "--target", TARGET])
        .args([
            "--message-format",
            "json-render-diagnostics",
            "--target-dir",
        ])
        .arg(target)
        .current_dir(folder)
        .stderr(Stdio::inherit());
    // Variables of the outer cargo or clippy about the outer build must not reach the guests.
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let outer = name.starts_with("CARGO_") && !is_user_setting(name);
        if outer || name.starts_with("RUSTC") || name.starts_with("CLIPPY_") || name == "RUSTFLAGS"
        {
            cargo.env_remove(name);
        }
    }
    let answer = cargo.output().expect("cargo runs");
    assert!(
        answer.status.success(),
        "the guests in {} were not built",
        folder.display()
    );

    let components: Vec<_> = String::from_utf8_lossy(&answer.stdout)
        .lines()
        .filter_map(component)
        .collect();
    assert!(
        !components.is_empty(),
        "no component came out of {}",
        folder.display()
    );
    components
}

/// Whether a variable of cargo's is the user's configuration, and not about the outer build.
fn is_user_setting(name: &str) -> bool {
    name == "CARGO_HOME"
        || name == "CARGO_MAKEFLAGS"
        || [
            "CARGO_HTTP_",
            "CARGO_NET_",
            "CARGO_REGISTRIES_",
            "CARGO_REGISTRY_",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// The component in a line of cargo's output, with its name.
fn component(line: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    if message.get("reason")? != "compiler-artifact" {
        return None;
    }
    let file = message
        .get("filenames")?
        .as_array()?
        .iter()
        .filter_map(|file| file.as_str())
        .find(|file| file.ends_with(".wasm"))?;
    let name = Path::new(file).file_stem()?.to_str()?;
    Some((name.replace('-', "_"), PathBuf::from(file)))
}

/// The source of `guests.rs`.
fn list(guests: &[(String, PathBuf)]) -> String {
    let mut source = String::from("guests! {\n");
    for (name, path) in guests {
        let mut words = name.split('_');
        let variant: String = words
            .by_ref()
            .map(|word| {
                let (first, rest) = word.split_at(1);
                first.to_uppercase() + rest
            })
            .collect();
        writeln!(
            source,
            "    {variant} = {name:?} at {:?},",
            path.display().to_string()
        )
        .expect("a string takes what is written");
    }
    source.push_str("}\n");
    source
}
