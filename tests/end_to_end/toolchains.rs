//! `lockgate build` without the tools of a plugin's language: what is missing, and how it is installed.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use tempfile::TempDir;

use crate::LOCKGATE;

/// Writes a script that stands for a tool.
fn tool(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Builds a folder with this manifest, with these tools and no others. Gives what is said on standard error.
async fn refused(manifest: &str, tools: &[(&str, &str)]) -> String {
    let folder = TempDir::new().unwrap();
    let (plugin, bin) = (folder.path().join("plugin"), folder.path().join("bin"));
    for made in [&plugin, &bin] {
        fs::create_dir(made).unwrap();
    }
    fs::write(plugin.join(manifest), "").unwrap();
    let plugin = plugin.canonicalize().unwrap();
    for (name, script) in tools {
        tool(
            &bin,
            name,
            &script.replace("PLUGIN", plugin.to_str().unwrap()),
        );
    }
    let mut command = LOCKGATE.command(&["build", plugin.to_str().unwrap()]);
    command.env("PATH", &bin);
    let ended = LOCKGATE.end(command).await;
    assert_eq!(ended.code, Some(1), "{}", ended.error);
    ended.error
}

#[tokio::test]
async fn missing_tool_is_named_with_the_command_that_installs_it() {
    let rustup = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh";
    let node = "install Node.js 20 or newer, which has npm, from https://nodejs.org";
    for (manifest, tools, missing, remedy) in [
        ("Cargo.toml", &[][..], "cargo", rustup),
        ("Cargo.toml", &[("cargo", "")], "rustc", rustup),
        ("package.json", &[], "node", node),
        ("package.json", &[("node", "echo v20.0.0")], "npm", node),
        (
            "go.mod",
            &[],
            "go",
            "install Go 1.24 or newer from https://go.dev/dl",
        ),
    ] {
        let error = refused(manifest, tools).await;
        let missing = format!("plugin: {missing} is missing, which plugins in ");
        assert!(error.contains(&missing), "{missing}: {error}");
        assert!(error.contains(remedy), "{remedy}: {error}");
    }
}

#[tokio::test]
async fn tool_that_is_too_old_is_named_with_both_versions() {
    for (manifest, tool, old) in [
        (
            "package.json",
            ("node", "echo v18.19.0"),
            "node is too old (v18.19.0), plugins in JavaScript or TypeScript need 20",
        ),
        (
            "go.mod",
            ("go", "echo go version go1.23.9 linux/amd64"),
            "go is too old (go version go1.23.9 linux/amd64), plugins in Go need 1.24",
        ),
        (
            "go.mod",
            ("go", "exit 1"),
            "go does not print its version, plugins in Go need 1.24; see what `go version` says",
        ),
    ] {
        let error = refused(manifest, &[tool]).await;
        assert!(error.contains(old), "{old}: {error}");
        assert!(error.contains("install "), "{error}");
    }
}

#[tokio::test]
async fn rust_without_the_target_is_told_how_to_add_it() {
    let metadata = r#"echo '{"packages":[{"name":"a","manifest_path":"PLUGIN/Cargo.toml","targets":[{"crate_types":["cdylib"]}]}]}'"#;
    let rust = [("cargo", metadata), ("rustc", "echo /nowhere")];
    let error = refused("Cargo.toml", &rust).await;
    assert!(
        error.contains("the Rust target wasm32-wasip2 is missing"),
        "{error}"
    );
    assert!(error.contains("install Rust with rustup"), "{error}");

    let with_rustup = [&rust[..], &[("rustup", "exit 1")]].concat();
    let error = refused("Cargo.toml", &with_rustup).await;
    assert!(
        error.contains("try `rustup target add wasm32-wasip2`"),
        "{error}"
    );
}
