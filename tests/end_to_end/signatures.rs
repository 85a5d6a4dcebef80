//! Only a component that is signed as the configuration demands is loaded.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use lockgate_tests::{
    CommandResult, Gateway, Guest, PATIENCE, replace, version, write_configuration,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::LOCKGATE;
use crate::reload::{Served, expect};
use crate::upgrade::upgrade;

/// A folder with two key pairs, `mine` and `other`, and a component.
struct Workshop(TempDir);

impl Workshop {
    async fn new() -> Self {
        let workshop = Self(TempDir::new().unwrap());
        fs::copy(Guest::Echo.path(), workshop.path("echo.wasm")).unwrap();
        for key in ["mine.pem", "other.pem"] {
            let made = workshop.run(&["keys", "new", key]).await;
            assert_eq!(made.code, Some(0), "{}", made.error);
        }
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    async fn run(&self, words: &[&str]) -> CommandResult {
        LOCKGATE.run_in(self.0.path(), words).await
    }

    async fn sign(&self, key: &str, version: &str) {
        let words = ["sign", "echo.wasm", "--key", key, "--version", version];
        let ended = self.run(&words).await;
        assert_eq!(ended.code, Some(0), "{}", ended.error);
    }

    /// Writes a configuration with the lines `before` at its start and `plugin` in the plugin's table.
    fn configure(&self, before: &str, plugin: &str) {
        let configuration = format!(
            r#"{before}
[[listeners]]
address = "127.0.0.1:0"
tls = "off"
[log]
format = "json"
[apis.a.stages.s]
[apis.a.routes."$default"]
integration = "echo"
two_way = true
[plugins.echo]
component = "echo.wasm"
{plugin}
"#
        );
        let _ = write_configuration(self.0.path(), &configuration);
    }

    /// Checks that `validate` and `run` refuse the configuration, at this key and with these words.
    async fn refused(&self, key: &str, said: &str) {
        let validated = self.run(&["validate", "gateway.toml"]).await;
        assert_eq!(validated.code, Some(1), "{validated:?}");
        for part in [
            "gateway.toml:",
            &format!(" plugins.echo.{key}: "),
            said,
            "\n  remedy: ",
        ] {
            assert!(
                validated.error.contains(part),
                "{part}: {}",
                validated.error
            );
        }
        let run = self.run(&["run", "gateway.toml"]).await;
        assert_eq!(run.code, Some(1), "{run:?}");
        // A line of the log in JSON; plain text where the configuration itself has the mistake.
        let mut lines = run.error.lines().map(serde_json::from_str);
        let told = lines.any(|line| {
            let Ok::<Value, _>(line) = line else {
                return run.error == validated.error;
            };
            let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            text("key") == format!("plugins.echo.{key}")
                && text("message").contains(said)
                && !text("remedy").is_empty()
        });
        assert!(told, "{said}: {}", run.error);
    }

    async fn accepted(&self) {
        let ended = self.run(&["validate", "gateway.toml"]).await;
        assert_eq!(ended.code, Some(0), "{}", ended.error);
    }
}

const SIGNED: &str = "signature = { keys = [\"mine.pub.pem\"], min_version = 3 }";

#[tokio::test]
async fn signed_component_is_served() {
    let workshop = Workshop::new().await;
    workshop.sign("mine.pem", "3").await;
    workshop.configure("require_signatures = true", SIGNED);
    let file = workshop.path("gateway.toml");
    let command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    let gateway = Gateway::start(command, workshop.0, PATIENCE).await;
    let mut client = gateway.connect("/s").await;
    client.send("hello").await;
    client.expect("hello").await;
}

#[tokio::test]
async fn component_without_a_valid_signature_is_refused() {
    let workshop = Workshop::new().await;
    workshop.configure("", SIGNED);
    workshop
        .refused(
            "signature",
            "it is not signed: there is no file echo.wasm.sig",
        )
        .await;

    workshop.sign("other.pem", "3").await;
    workshop
        .refused("signature.keys", "which is none of those that count")
        .await;

    workshop.sign("mine.pem", "2").await;
    let said = "it is version 2, and the oldest that may run is 3";
    workshop.refused("signature.min_version", said).await;

    workshop.sign("mine.pem", "3").await;
    workshop.accepted().await;
    let signature = fs::read_to_string(workshop.path("echo.wasm.sig")).unwrap();
    let forged = signature.replace("version = 3", "version = 4");
    fs::write(workshop.path("echo.wasm.sig"), forged).unwrap();
    workshop
        .refused("signature", "its signature file was tampered with")
        .await;
    fs::write(workshop.path("echo.wasm.sig"), signature.to_lowercase()).unwrap();
    workshop.refused("signature", "its signature file ").await;
    fs::write(workshop.path("echo.wasm.sig"), vec![b'#'; 5_000]).unwrap();
    workshop
        .refused("signature", "it is longer than 4096 bytes")
        .await;
    fs::write(workshop.path("echo.wasm.sig"), &signature).unwrap();

    // The signature is checked before the file is read as a component, which this is not.
    fs::write(workshop.path("echo.wasm"), b"nothing").unwrap();
    workshop
        .refused("signature", "it is not the component that was signed")
        .await;
    let mut component = fs::read(Guest::Echo.path()).unwrap();
    for byte in [100, component.len() / 2, component.len() - 1] {
        component[byte] ^= 1;
        fs::write(workshop.path("echo.wasm"), &component).unwrap();
        workshop
            .refused("signature", "it is not the component that was signed")
            .await;
        component[byte] ^= 1;
    }
    fs::write(workshop.path("echo.wasm"), &component).unwrap();
    workshop.accepted().await;
}

#[tokio::test]
async fn invalid_key_file_is_refused_by_name() {
    let workshop = Workshop::new().await;
    workshop.sign("mine.pem", "1").await;
    workshop.configure(
        "",
        "signature = { keys = [\"mine.pub.pem\", \"other.pem\"] }",
    );
    workshop
        .refused(
            "signature.keys[1]",
            "other.pem holds no public key in PEM, but a private one",
        )
        .await;
    workshop.configure(
        "",
        "signature = { keys = [\"other.pub.pem\", \"mine.pub.pem\"] }",
    );
    workshop.accepted().await;
}

#[tokio::test]
async fn required_signatures_are_demanded_of_every_plugin() {
    let workshop = Workshop::new().await;
    workshop.configure("require_signatures = true", "");
    workshop
        .refused("signature", "require_signatures is true")
        .await;
}

#[tokio::test]
async fn verify_names_the_key_and_the_component() {
    let workshop = Workshop::new().await;
    workshop.sign("mine.pem", "12").await;
    let words = [
        "verify",
        "echo.wasm",
        "--key",
        "other.pub.pem",
        "--key",
        "mine.pub.pem",
    ];
    let ended = workshop.run(&words).await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    assert!(
        ended.output.contains("as version 12 with the key sha256:"),
        "{}",
        ended.output
    );

    for (words, said) in [
        (
            &["--key", "other.pub.pem"][..],
            "which is none of those that count",
        ),
        (
            &["--key", "mine.pub.pem", "--min-version", "13"],
            "the oldest that may run is 13",
        ),
        (&["--key", "mine.pem"], "holds no public key"),
        (&["--key", "none.pem"], "none.pem cannot be read"),
    ] {
        let ended = workshop
            .run(&[&["verify", "echo.wasm"], words].concat())
            .await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.error.contains(said), "{said}: {}", ended.error);
    }
    fs::remove_file(workshop.path("echo.wasm.sig")).unwrap();
    let ended = workshop
        .run(&["verify", "echo.wasm", "--key", "mine.pub.pem"])
        .await;
    assert!(ended.error.contains("it is not signed"), "{}", ended.error);
}

#[tokio::test]
async fn key_file_is_private_and_never_overwritten() {
    let workshop = Workshop::new().await;
    let mode = |name: &str| {
        fs::metadata(workshop.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("mine.pem"), 0o600);
    let before = fs::read(workshop.path("mine.pem")).unwrap();
    let ended = workshop.run(&["keys", "new", "mine.pem"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.error.contains("mine.pem cannot be written"),
        "{}",
        ended.error
    );
    assert_eq!(fs::read(workshop.path("mine.pem")).unwrap(), before);

    let ended = workshop.run(&["keys", "new", "."]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    assert!(workshop.path("lockgate.pub.pem").is_file());
    let ended = workshop
        .run(&["sign", "echo.wasm", "--key", "lockgate.pub.pem"])
        .await;
    assert!(
        ended.error.contains("holds no private key"),
        "{}",
        ended.error
    );
}

/// Replaces the component by this version of the guest, signed with the same version number.
async fn deploy(served: &Served, number: u32, fault: char) {
    let folder = served.component.parent().unwrap();
    fs::write(folder.join("next.wasm"), version(number, fault)).unwrap();
    let signed = number.to_string();
    let words = ["sign", "next.wasm", "--key", "k.pem", "--version", &signed];
    let ended = LOCKGATE.run_in(folder, &words).await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    let beside = folder.join("versions.wasm.sig");
    fs::rename(folder.join("next.wasm.sig"), beside).unwrap();
    replace(&served.component, &version(number, fault));
}

/// A version with an older signature serves again only if a rollback names it, and never below `min_version`.
#[tokio::test]
async fn rollback_does_not_go_below_the_floor() {
    let served = Served::with("rollback = { calls = 4 }").await;
    let folder = served.component.parent().unwrap();
    let made = LOCKGATE.run_in(folder, &["keys", "new", "k.pem"]).await;
    assert_eq!(made.code, Some(0), "{}", made.error);
    let back = async |body: &str| served.gateway.post("/plugins/v/rollback", body).await;
    let mut client = served.connect().await;

    // Version 1 was loaded when no signature was asked for; 2 and 3 are signed.
    deploy(&served, 2, '-').await;
    let key = folder.join("k.pub.pem");
    let signature = format!("signature = {{ keys = [{key:?}] }}");
    served.edit("rollback =", &format!("{signature}\nrollback ="));
    served.reload().await;
    expect(&mut client, 2).await;
    let (status, said) = back("{}").await;
    assert!(
        status == 409 && said.contains("no signature was asked for"),
        "{said}"
    );
    deploy(&served, 3, '-').await;
    served.reload().await;
    let (status, said) = back("{}").await;
    assert!(
        status == 409 && said.contains("lockgate plugins rollback v --to 2"),
        "{said}"
    );
    expect(&mut client, 3).await;
    let (status, said) = back("{\"version\": 2}").await;
    assert_eq!(status, 200, "{said}");
    expect(&mut client, 2).await;

    // The serving version would be below the floor; and then the target of the rollback.
    served.edit("] }", "], min_version = 3 }");
    let said = served.refused().await;
    assert!(said.contains("of what serves"), "{said}");
    let (status, said) = back("{\"version\": 3}").await;
    assert_eq!(status, 200, "{said}");
    served.reload().await;
    let (status, said) = back("{\"version\": 2}").await;
    assert!(status == 409 && said.contains("min_version = 2"), "{said}");
    expect(&mut client, 3).await;

    // An automatic rollback does not go below it either.
    served.edit("min_version = 3", "min_version = 4");
    deploy(&served, 4, 't').await;
    served.reload().await;
    for _ in 0..4 {
        client.send("x").await;
        client.expect_error("Internal server error").await;
    }
    let log = served.gateway.log();
    log.line(&["ERROR", "goes on serving", "min_version"]).await;
    served.edit("min_version = 4", "min_version = 3");
    served.reload().await;
    for _ in 0..4 {
        client.send("x").await;
        client.expect_error("Internal server error").await;
    }
    log.line(&["ERROR", "rolled itself back"]).await;
    expect(&mut client, 3).await;
}

/// A prepared version that never serves is no floor for others.
#[tokio::test]
async fn failed_reload_raises_no_floor() {
    let served = Served::new().await;
    let folder = served.component.parent().unwrap();
    let made = LOCKGATE.run_in(folder, &["keys", "new", "k.pem"]).await;
    assert_eq!(made.code, Some(0), "{}", made.error);
    for (number, signed) in [(4, "4"), (5, "5"), (6, "4")] {
        let file = format!("{number}.wasm");
        fs::write(folder.join(&file), version(number, '-')).unwrap();
        let words = ["sign", &file, "--key", "k.pem", "--version", signed];
        let ended = LOCKGATE.run_in(folder, &words).await;
        assert_eq!(ended.code, Some(0), "{}", ended.error);
    }
    let mut client = served.connect().await;
    let key = folder.join("k.pub.pem");
    let signature = format!("\nsignature = {{ keys = [{key:?}] }}");
    served.edit("versions.wasm\"", &format!("4.wasm\"{signature}"));
    served.reload().await;
    expect(&mut client, 4).await;

    fs::write(folder.join("none.wasm"), "none").unwrap();
    let none = folder.join("none.wasm");
    let broken = format!("[plugins.none]\ncomponent = {none:?}\n");
    served.edit("4.wasm", "5.wasm");
    served.edit("[plugins.v]", &format!("{broken}[plugins.v]"));
    let said = served.refused().await;
    assert!(said.contains("plugins.none.component"), "{said}");
    expect(&mut client, 4).await;

    // This component has the version number of the serving one.
    served.edit(&broken, "");
    served.edit("5.wasm", "6.wasm");
    served.reload().await;
    expect(&mut client, 6).await;
    served.edit("6.wasm", "5.wasm");
    served.reload().await;
    served.edit("5.wasm", "4.wasm");
    let said = served.refused().await;
    assert!(said.contains("min_version = 4"), "{said}");
}

/// The floor belongs to the gateway, whichever of its processes serves; and the serving version keeps its signature.
#[tokio::test]
async fn upgrade_keeps_the_floor_and_the_rollback() {
    let mut served = Served::new().await;
    let folder = served.component.parent().unwrap().to_owned();
    let made = LOCKGATE.run_in(&folder, &["keys", "new", "k.pem"]).await;
    assert_eq!(made.code, Some(0), "{}", made.error);
    deploy(&served, 4, '-').await;
    let key = folder.join("k.pub.pem");
    served.edit(
        "[plugins.v]",
        &format!("[plugins.v]\nsignature = {{ keys = [{key:?}] }}"),
    );
    served.edit(
        "[apis.a.stages.s]",
        "[limits]\ndrain_s = 0\n[apis.a.stages.s]",
    );
    served.reload().await;
    deploy(&served, 5, '-').await;
    served.reload().await;
    let mut client = served.connect().await;
    expect(&mut client, 5).await;
    let back = "{\"version\": 2}";
    let (status, said) = served.gateway.post("/plugins/v/rollback", back).await;
    assert_eq!(status, 200, "{said}");
    expect(&mut client, 4).await;

    let _serving = upgrade(&served.gateway).await;
    assert_eq!(served.gateway.ended().await, Some(0));
    expect(&mut served.connect().await, 4).await;
    fs::write(folder.join("6.wasm"), version(6, '-')).unwrap();
    let words = ["sign", "6.wasm", "--key", "k.pem", "--version", "4"];
    let ended = LOCKGATE.run_in(&folder, &words).await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    served.edit("versions.wasm", "6.wasm");
    let said = served.refused().await;
    assert!(said.contains("min_version = 4"), "{said}");
}

#[tokio::test]
async fn new_key_with_an_unwritable_public_half_leaves_no_file() {
    let folder = TempDir::new().unwrap();
    let (private, public) = (folder.path().join("k.pem"), folder.path().join("k.pub.pem"));
    fs::write(&public, "another's").unwrap();
    let ended = LOCKGATE
        .run(&["keys", "new", private.to_str().unwrap()])
        .await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.error.contains("k.pub.pem cannot be written"),
        "{}",
        ended.error
    );
    assert!(!private.exists());
    assert_eq!(fs::read(&public).unwrap(), b"another's");
}
