//! `lockgate inspect` describes a component before it gets any grant.

use std::fs;
use std::path::Path;

use lockgate_tests::{CommandResult, Guest, write_configuration};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::LOCKGATE;

async fn inspect(file: &Path) -> CommandResult {
    LOCKGATE.run(&["inspect", file.to_str().unwrap()]).await
}

async fn inspect_json(file: &Path) -> Value {
    let words = ["inspect", "--json", file.to_str().unwrap()];
    let ended = LOCKGATE.run(&words).await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    serde_json::from_str(&ended.output).unwrap()
}

#[tokio::test]
async fn inspect_describes_a_component_in_words() {
    let ended = inspect(Guest::Probe.path()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    let size = fs::metadata(Guest::Probe.path()).unwrap().len();
    for line in [
        &*format!("  size       {size} bytes\n"),
        "  digest     sha256:",
        "  world      lockgate:plugin/handler-plugin@0.1.0\n",
        "  exports    lockgate:plugin/handler@0.1.0\n",
        "lockgate:plugin/connections@0.1.0  needs the grant \"connections\"\n",
        "given to every plugin\n",
        "wit-component 0.",
        "  signature  none\n",
        "  grants     grants = [\"connections\", \"groups\"]\n",
    ] {
        assert!(ended.output.contains(line), "{line}: {}", ended.output);
    }
}

#[tokio::test]
async fn inspect_gives_digest_and_grants_as_json() {
    let told = inspect_json(Guest::Echo.path()).await;
    let openssl = std::process::Command::new("sha256sum")
        .arg(Guest::Echo.path())
        .output()
        .unwrap();
    let digest = String::from_utf8(openssl.stdout).unwrap();
    assert_eq!(told["digest"], format!("sha256:{}", &digest[..64]));
    assert_eq!(told["grants"], json!([]));
    assert_eq!(told["signature"], json!({"state": "none"}));
    assert_eq!(
        told["exports"],
        json!([{"name": "lockgate:plugin/handler", "version": "0.1.0"}])
    );
    assert!(told["toolchain"]["processed-by"].is_array(), "{told}");
    let imports = told["imports"].as_array().unwrap();
    assert!(
        imports.iter().all(|import| import["needs"] == "nothing"),
        "{told}"
    );
}

/// Its modules may be an engine or an adapter, in another language than the plugin.
#[tokio::test]
async fn language_of_the_component_is_shown_in_place_of_its_modules() {
    let module = r#"(core module (@producers (language "Rust" "") (processed-by "rustc" "1.95")))"#;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("made.wasm");
    for (outer, language) in [
        (r#"(@producers (language "TypeScript" ""))"#, "TypeScript"),
        ("", "Rust"),
    ] {
        let component = wat::parse_str(format!("(component {module} {outer})")).unwrap();
        fs::write(&file, component).unwrap();
        let told = inspect_json(&file).await;
        assert_eq!(
            told["toolchain"],
            json!({
                "language": [{"name": language, "version": ""}],
                "processed-by": [{"name": "rustc", "version": "1.95"}],
            })
        );
    }
}

#[tokio::test]
async fn inspect_names_imports_that_no_plugin_is_given() {
    let told = inspect_json(Guest::Filesystem.path()).await;
    let refused: Vec<_> = told["imports"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|import| import["needs"] == "stub")
        .map(|import| import["name"].as_str().unwrap())
        .collect();
    assert!(refused.contains(&"wasi:filesystem/types"), "{told}");
    let ended = inspect(Guest::Filesystem.path()).await;
    assert!(
        ended.output.contains("given to no plugin; stub_wasi"),
        "{}",
        ended.output
    );

    let told = inspect_json(Guest::Command.path()).await;
    assert_eq!(told["world"], Value::Null);
    let ended = inspect(Guest::Command.path()).await;
    assert!(
        ended.output.contains("none that this gateway calls"),
        "{}",
        ended.output
    );
}

/// `inspect` and `validate` judge alike, and neither compiles the component.
#[tokio::test]
async fn component_with_other_handler_functions_is_of_no_world() {
    let component = wat::parse_str(
        r#"(component
            (core module $code (func (export "f") (param i32)))
            (core instance $code (instantiate $code))
            (func $f (param "event" u32) (canon lift (core func $code "f")))
            (instance $handler (export "on-connect" (func $f)))
            (export "lockgate:plugin/handler@0.1.0" (instance $handler)))"#,
    )
    .unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("other.wasm");
    fs::write(&file, component).unwrap();
    let told = inspect_json(&file).await;
    assert_eq!(told["world"], Value::Null);
    let misfits: Vec<_> = told["misfits"].as_array().unwrap().iter().collect();
    assert_eq!(misfits.len(), 3, "{misfits:?}");

    let configuration = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[apis.a.stages.s]\n[apis.a.routes.\"$default\"]\n\
         integration = \"other\"\n[plugins.other]\ncomponent = {file:?}\n"
    );
    let configuration = write_configuration(folder.path(), &configuration);
    let validated = LOCKGATE
        .run(&["validate", configuration.to_str().unwrap()])
        .await;
    assert_eq!(validated.code, Some(1), "{validated:?}");
    let inspected = inspect(&file).await;
    for said in [
        "on-connect of its lockgate:plugin/handler@0.1.0 is func(u32), and has to be func(record { connection-id: string, ",
        "its lockgate:plugin/handler@0.1.0 has no function on-message",
        "its lockgate:plugin/handler@0.1.0 has no function on-disconnect",
    ] {
        assert!(
            inspected.output.contains(said),
            "{said}: {}",
            inspected.output
        );
        assert!(
            validated.error.contains(said),
            "{said}: {}",
            validated.error
        );
    }
    let remedy = "remedy: export the handler of this version's contract";
    assert!(validated.error.contains(remedy), "{}", validated.error);
}

#[tokio::test]
async fn inspect_describes_a_signature_without_a_key() {
    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let component = folder.path().join("echo.wasm");
    fs::copy(Guest::Echo.path(), &component).unwrap();
    LOCKGATE.run(&["keys", "new", &place("k.pem")]).await;
    let words = [
        "sign",
        &place("echo.wasm"),
        "--key",
        &place("k.pem"),
        "--version",
        "9",
    ];
    assert_eq!(LOCKGATE.run(&words).await.code, Some(0));
    let told = inspect_json(&component).await;
    assert_eq!(told["signature"]["state"], "present");
    assert_eq!(told["signature"]["version"], 9);

    fs::copy(Guest::Probe.path(), &component).unwrap();
    let told = inspect_json(&component).await;
    assert_eq!(told["signature"]["state"], "wrong");
    let ended = inspect(&component).await;
    assert!(
        ended
            .output
            .contains("it is not the component that was signed"),
        "{}",
        ended.output
    );
}

#[tokio::test]
async fn inspect_of_a_file_without_a_component_fails_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("x.wasm");
    let echo = fs::read(Guest::Echo.path()).unwrap();
    for (bytes, said) in [
        (&b"#!/bin/sh\n"[..], "it is no WebAssembly file"),
        (b"", "it is no WebAssembly file"),
        (
            b"\0asm\x01\0\0\0",
            "it is a core module and not a component",
        ),
        (&echo[..echo.len() / 2], "it is damaged, or no component"),
        (b"\0asm\x0d\0\x02\0", "it is damaged, or no component"),
    ] {
        fs::write(&file, bytes).unwrap();
        let ended = inspect(&file).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.error.contains(said), "{said}: {}", ended.error);
        assert!(ended.error.contains("x.wasm"), "{}", ended.error);
        assert!(ended.output.is_empty());
    }
    for path in [folder.path(), Path::new("/nowhere/x.wasm")] {
        let ended = inspect(path).await;
        assert_eq!(ended.code, Some(1));
        let said = format!("{} cannot be read", path.display());
        assert!(ended.error.contains(&said), "{}", ended.error);
    }
    // A sparse file takes no disk space.
    fs::File::create(&file)
        .unwrap()
        .set_len((64 << 20) + 1)
        .unwrap();
    let ended = inspect(&file).await;
    assert!(ended.error.contains("at most 64 MiB"), "{}", ended.error);
}
