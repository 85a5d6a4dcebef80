//! `stub_wasi`: imports of a standard library are there, with nothing behind them.

use std::{fs, net::TcpListener};

use lockgate_tests::{Guest, write_configuration};
use serde_json::Value;
use tempfile::TempDir;

use crate::LOCKGATE;

/// A configuration with the guest that tries everything, and these lines in the plugin's table.
fn configuration(plugin: &str) -> String {
    format!(
        r#"
[apis.a.stages.s]

[apis.a.routes."$default"]
integration = "ambient"
two_way = true

[plugins.ambient]
component = "{{ambient}}"
{plugin}
"#
    )
}

#[tokio::test]
pub(crate) async fn plugin_with_stubs_reaches_nothing_and_its_attempts_are_logged() {
    let gateway = LOCKGATE.serve(&configuration("stub_wasi = true")).await;
    let mut client = gateway.connect("/s").await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "secret").unwrap();
    let new = folder.path().join("new");
    for (attempt, refused) in [
        (format!("read {}", file.display()), true),
        ("read /etc/hostname".into(), true),
        ("read relative".into(), true),
        (format!("write {}", new.display()), true),
        (format!("list {}", folder.path().display()), true),
        ("list /".into(), true),
        (format!("connect {address}"), true),
        ("listen 127.0.0.1:0".into(), true),
        ("datagram 127.0.0.1:0".into(), true),
        ("resolve localhost:80".into(), true),
        ("environment".into(), false),
    ] {
        client.send(&*attempt).await;
        let told = client.text().await;
        assert_ne!(told, "done", "{attempt}");
        if refused {
            let words = [
                "PermissionDenied",
                "Uncategorized",
                "Unsupported",
                "NotFound",
            ];
            assert!(
                words.iter().any(|word| told.contains(word)),
                "{attempt}: {told}"
            );
        } else {
            assert_eq!(told, "0 0", "{attempt}");
        }
    }
    client.send(format!("connect {address}")).await;
    assert!(
        client.text().await.starts_with("PermissionDenied"),
        "an error that says so"
    );
    assert!(!new.exists());
    let accepted = listener.accept().map(|(_, from)| from);
    assert!(accepted.is_err(), "{accepted:?}");

    // Each interface is logged once, however often it is called.
    for _ in 0..20 {
        client.send(format!("connect {address}")).await;
        client.text().await;
    }
    let interface = "wasi:sockets/tcp-create-socket@0.2.";
    let line = gateway.log().line(&["refused: stub_wasi", interface]).await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["plugin"], "ambient");
    assert_eq!(line["level"], "WARN");
    assert_eq!(
        (&line["stage"], &line["route"]),
        (&"a/s".into(), &"$default".into())
    );
    assert!(
        line["connection"].is_string() && line["request_id"].is_string(),
        "{line}"
    );
    let lines = gateway.log().lines();
    let said: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("stub_wasi"))
        .collect();
    for interface in [
        interface,
        "wasi:sockets/ip-name-lookup@",
        "wasi:filesystem/preopens@",
    ] {
        let count = said.iter().filter(|line| line.contains(interface)).count();
        assert_eq!(count, 1, "{interface}: {said:#?}");
    }
}

/// A handle costs the gateway memory, whatever it is a handle to.
#[tokio::test]
async fn stub_handles_beyond_their_bound_are_refused() {
    let limits = "stub_wasi = true\nlimits = { cpu_ms = 5000, deadline_ms = 20000, instances = 1 }";
    let gateway = LOCKGATE.serve(&configuration(limits)).await;
    let mut client = gateway.connect("/s").await;
    for sound in ["hold fields 900", "take fields 20000"] {
        client.send(sound).await;
        let count = sound.rsplit(' ').next().unwrap();
        assert_eq!(client.text().await, count, "{sound}");
    }
    // An instance keeps its handles across calls.
    client.send("hold fields 200").await;
    client.expect_error("Internal server error").await;
    client.send("hold fields 900").await;
    assert_eq!(client.text().await, "900", "a fresh instance");
}

/// `validate` and `run` name the key in their refusal, and `inspect` names it before.
#[tokio::test]
async fn component_that_needs_stubs_is_refused_with_their_key() {
    let folder = TempDir::new().unwrap();
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    let file = write_configuration(folder.path(), &format!("{listener}{}", configuration("")));
    for command in ["validate", "run"] {
        let ended = LOCKGATE.run(&[command, file.to_str().unwrap()]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for said in [
            "wasi:filesystem/types@0.2.",
            "wasi:sockets/tcp@0.2.",
            "which no plugin is given",
            "write stub_wasi = true",
        ] {
            assert!(ended.error.contains(said), "{said}: {}", ended.error);
        }
        // No grant gives these imports, and so the error does not speak of grants.
        assert!(!ended.error.contains("granted"), "{}", ended.error);
        assert!(!ended.error.contains("wasi:io/"), "{}", ended.error);
    }
    let file = write_configuration(
        folder.path(),
        &format!("{listener}{}", configuration("stub_wasi = true")),
    );
    let ended = LOCKGATE.run(&["validate", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);

    let component = Guest::Ambient.path().to_str().unwrap();
    let ended = LOCKGATE.run(&["inspect", component]).await;
    for said in [
        "given to no plugin; stub_wasi = true puts a stub in its place\n",
        "  stubs      stub_wasi = true: stubs take the place of the interfaces that no plugin has",
        "given to every plugin\n",
    ] {
        assert!(ended.output.contains(said), "{said}: {}", ended.output);
    }
    let ended = LOCKGATE.run(&["inspect", "--json", component]).await;
    let told: Value = serde_json::from_str(&ended.output).unwrap();
    assert_eq!(told["stub_wasi"], true, "{told}");
    assert_eq!(told["grants"], serde_json::json!([]));
    let ended = LOCKGATE
        .run(&["inspect", Guest::Echo.path().to_str().unwrap()])
        .await;
    assert!(!ended.output.contains("stub"), "{}", ended.output);
}

/// One table serves both: an import that `inspect` calls available is linked, and none of another release of WASI is.
#[tokio::test]
async fn inspect_and_the_loader_agree_on_a_later_release_of_wasi() {
    let folder = TempDir::new().unwrap();
    let component = folder.path().join("later.wasm");
    let mut bytes = fs::read(Guest::Echo.path()).unwrap();
    let mut later = 0;
    for at in 0..bytes.len() - 6 {
        if &bytes[at..at + 3] == b"@0." && bytes[at + 3] == b'2' && bytes[at + 4] == b'.' {
            bytes[at + 3] = b'3';
            later += 1;
        }
    }
    assert!(later > 5);
    fs::write(&component, bytes).unwrap();
    let ended = LOCKGATE
        .run(&["inspect", component.to_str().unwrap()])
        .await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    let refused: Vec<_> = ended
        .output
        .lines()
        .filter(|line| line.contains("@0.3."))
        .collect();
    assert!(!refused.is_empty());
    for line in &refused {
        assert!(line.ends_with("the gateway does not have it"), "{line}");
    }
    let text = configuration("stub_wasi = true").replace("{ambient}", component.to_str().unwrap());
    let text = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{text}");
    let file = write_configuration(folder.path(), &text);
    let ended = LOCKGATE.run(&["validate", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.error.contains("which the gateway does not have"),
        "{}",
        ended.error
    );
    let told = ended.error.matches("@0.3.").count();
    assert_eq!(told, refused.len(), "{}", ended.error);
}
