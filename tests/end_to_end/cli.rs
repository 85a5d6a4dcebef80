//! The commands of `lockgate`.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use lockgate_tests::{LONG_PATIENCE, copy_of_plugin};
use serde_json::Value;
use tempfile::TempDir;

use crate::LOCKGATE;

#[tokio::test]
async fn version_names_the_gateway_and_the_contract() {
    for words in ["version", "--version"] {
        let ended = LOCKGATE.run(&[words]).await;
        assert_eq!(ended.code, Some(0));
        assert!(
            ended.output.contains(env!("CARGO_PKG_VERSION")),
            "{}",
            ended.output
        );
    }
    assert!(
        LOCKGATE
            .run(&["version"])
            .await
            .output
            .contains("lockgate:plugin@0.1.0")
    );
}

#[tokio::test]
async fn gateway_as_a_word_alone_gets_the_option_to_write() {
    for (words, tip) in [
        (
            &["connections", "list", "gateway.toml"][..],
            "--config gateway.toml",
        ),
        (
            &["connections", "show", "L0SM9cOFvHcCIhw_", "gateway.toml"],
            "--config gateway.toml",
        ),
        (
            &["plugins", "list", "127.0.0.1:9090"],
            "--management 127.0.0.1:9090",
        ),
    ] {
        let ended = LOCKGATE.run(words).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let tip = format!("name the gateway by an option: {tip}");
        assert!(ended.error.contains(&tip), "{ended:?}");
    }
    // This command has no such option.
    let ended = LOCKGATE.run(&["version", "gateway.toml"]).await;
    assert!(!ended.error.contains("by an option"), "{ended:?}");
}

#[tokio::test]
async fn help_lists_every_command() {
    let ended = LOCKGATE.run(&["--help"]).await;
    assert_eq!(ended.code, Some(0));
    let commands = [
        "new", "run", "validate", "upgrade", "health", "config", "build", "test", "dev", "inspect",
        "keys", "sign", "verify", "version",
    ];
    for command in commands {
        assert!(
            ended.output.contains(&format!("\n  {command} ")),
            "{command}: {}",
            ended.output
        );
        let ended = LOCKGATE.run(&[command, "--help"]).await;
        assert_eq!(ended.code, Some(0));
        assert!(ended.output.contains("Usage: lockgate"), "{}", ended.output);
    }
}

#[tokio::test]
async fn unknown_words_are_a_usage_error() {
    for words in [
        &["serve"][..],
        &[],
        &["run"],
        &["validate", "a", "b"],
        &["run", "--fast", "x"],
        &["config", "scheme"],
    ] {
        let ended = LOCKGATE.run(words).await;
        assert_eq!(ended.code, Some(2), "{words:?}: {ended:?}");
        assert!(
            ended.error.contains("Usage: lockgate"),
            "{words:?}: {}",
            ended.error
        );
        assert!(ended.output.is_empty());
    }
    assert!(
        LOCKGATE
            .run(&["valdate", "x"])
            .await
            .error
            .contains("validate")
    );
}

#[tokio::test]
async fn schema_documents_every_key() {
    let ended = LOCKGATE.run(&["config", "schema"]).await;
    assert_eq!(ended.code, Some(0));
    let schema: Value = serde_json::from_str(&ended.output).unwrap();
    let top = schema["properties"].as_object().unwrap();
    for key in [
        "listeners",
        "management",
        "health",
        "apis",
        "plugins",
        "require_signatures",
        "registries",
        "component_cache",
        "limits",
        "compile_cache",
        "log",
    ] {
        assert!(top.contains_key(key), "{key}");
    }
    undocumented(&schema, &mut Vec::new());
}

/// Checks that every property in a schema, and every property below it, has a description.
fn undocumented(schema: &Value, place: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Object(properties)) = fields.get("properties") {
                for (name, property) in properties {
                    assert!(
                        property["description"].is_string(),
                        "{}.{name} has no description",
                        place.join(".")
                    );
                }
            }
            for (name, value) in fields {
                place.push(name.clone());
                undocumented(value, place);
                place.pop();
            }
        }
        Value::Array(values) => values.iter().for_each(|value| undocumented(value, place)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn build_prints_the_components_path_last() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("built-echo");
    let folder = copy_of_plugin("echo", &folder, LOCKGATE.target());
    let ended = LOCKGATE
        .run_within(LONG_PATIENCE, &["build", folder.to_str().unwrap()])
        .await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    let path = Path::new(ended.output.lines().last().unwrap());
    assert!(path.is_absolute(), "{}", path.display());
    // The header of a component, which differs from a core module's.
    assert_eq!(fs::read(path).unwrap()[..8], *b"\0asm\x0d\0\x01\0");
}

/// `build` passes the user's settings on to cargo.
#[tokio::test]
async fn build_leaves_the_users_settings_of_cargo() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("elsewhere-echo");
    let folder = copy_of_plugin("echo", &folder, LOCKGATE.target());
    let elsewhere = TempDir::new().unwrap();
    let target = elsewhere.path().canonicalize().unwrap().join("target");
    symlink(LOCKGATE.target().join("guests"), &target).unwrap();
    let mut command = LOCKGATE.command(&["build", folder.to_str().unwrap()]);
    command.env("CARGO_TARGET_DIR", &target);
    let built = tokio::process::Command::from(command)
        .output()
        .await
        .unwrap();
    let error = String::from_utf8_lossy(&built.stderr);
    let path = String::from_utf8(built.stdout).unwrap();
    assert!(path.starts_with(target.to_str().unwrap()), "{path}{error}");
}

#[tokio::test]
async fn build_of_a_broken_plugin_fails() {
    let folder = TempDir::new().unwrap();
    let here = folder.path().to_str().unwrap();
    let ended = LOCKGATE.run(&["build", here]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.error.contains("Cargo.toml"), "{}", ended.error);

    let manifest = "[package]\nname = \"broken\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n";
    fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/lib.rs"), "this is no Rust").unwrap();
    let toolchain = concat!(env!("CARGO_MANIFEST_DIR"), "/../rust-toolchain.toml");
    fs::copy(toolchain, folder.path().join("rust-toolchain.toml")).unwrap();
    let ended = LOCKGATE.run_within(LONG_PATIENCE, &["build", here]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.error.contains("src/lib.rs:1"), "{}", ended.error);
    assert!(ended.output.is_empty(), "{}", ended.output);

    let ended = LOCKGATE.run(&["build", "/nowhere"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.error.contains("/nowhere"), "{}", ended.error);
}

/// A folder with these files, where each manifest is a package or a workspace of its own.
fn folder_of(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    let toolchain = concat!(env!("CARGO_MANIFEST_DIR"), "/../rust-toolchain.toml");
    fs::copy(toolchain, folder.path().join("rust-toolchain.toml")).unwrap();
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    folder
}

/// The manifest of a package with this name, with `more` at its end.
fn package(name: &str, more: &str) -> String {
    format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n{more}\n")
}

#[tokio::test]
async fn folder_without_a_plugin_is_refused_with_reason_and_remedy() {
    const CDYLIB: &str = "[lib]\ncrate-type = [\"cdylib\"]";
    let (lib, main) = ("", "fn main() {}");
    let alone = |name: &str, more: &str| package(name, &format!("{more}\n[workspace]"));
    for (files, reason, remedy) in [
        (
            vec![],
            "there is no Cargo.toml, package.json, go.mod; ",
            "name a plugin's folder",
        ),
        (
            vec![("Cargo.toml", "no manifest".to_owned())],
            "cargo cannot read it; ",
            "correct what it says above",
        ),
        (
            vec![
                (
                    "Cargo.toml",
                    "[workspace]\nmembers = [\"a\"]\nresolver = \"3\"".to_owned(),
                ),
                ("a/Cargo.toml", package("a", "")),
                ("a/src/main.rs", main.to_owned()),
            ],
            "it is a workspace without a plugin: ",
            "name a plugin's folder",
        ),
        (
            vec![
                (
                    "Cargo.toml",
                    "[workspace]\nmembers = [\"a\", \"b\"]\nresolver = \"3\"".to_owned(),
                ),
                ("a/Cargo.toml", package("a", CDYLIB)),
                ("a/src/lib.rs", lib.to_owned()),
                ("b/Cargo.toml", package("b", CDYLIB)),
                ("b/src/lib.rs", lib.to_owned()),
            ],
            "it is a workspace of several plugins; ",
            "name the folder of one; plugins of its workspace are in a, b",
        ),
        (
            vec![
                ("Cargo.toml", alone("a", "")),
                ("src/main.rs", main.to_owned()),
            ],
            "its package a has no library, as a plugin has; ",
            "write src/lib.rs, and [lib]",
        ),
        (
            vec![
                ("Cargo.toml", alone("a", "")),
                ("src/lib.rs", lib.to_owned()),
            ],
            "the library of its package a is no cdylib, as a plugin's is; ",
            "write crate-type = [\"cdylib\"]",
        ),
        // The package has a binary beside the plugin.
        (
            vec![
                ("Cargo.toml", alone("a", CDYLIB)),
                ("src/lib.rs", lib.to_owned()),
                ("src/main.rs", main.to_owned()),
            ],
            "what it builds is no plugin: it exports neither lockgate:plugin/handler@0.1.0 nor lockgate:plugin/authorizer@0.1.0; ",
            "write lockgate_plugin::export!(TYPE) below the handler",
        ),
    ] {
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| (*name, text.as_str()))
            .collect();
        let folder = folder_of(&files);
        let place = folder.path().canonicalize().unwrap();
        let place = place.to_str().unwrap();
        for words in [
            &["build", place][..],
            &["dev", place, "--wss-port", "0", "--ws-port", "0"],
        ] {
            let ended = LOCKGATE.run_within(LONG_PATIENCE, words).await;
            assert_eq!(ended.code, Some(1), "{words:?}: {}", ended.error);
            let said = format!("{place}: {reason}");
            assert!(ended.error.contains(&said), "{said}: {}", ended.error);
            assert!(ended.error.contains(remedy), "{remedy}: {}", ended.error);
        }
    }
}
