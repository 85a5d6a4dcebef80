//! The compile cache: its files, their owners, and a cache that cannot be written.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use lockgate_tests::{Gateway, Guest, replace, write_configuration};
use tempfile::TempDir;

use crate::compile::{child_of, large, new};
use crate::{LOCKGATE, probe_configuration};

/// A file of root's in the cache could not be replaced by the gateway's own user.
#[tokio::test]
async fn validate_makes_no_cache_and_leaves_another_users_untouched() {
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    let file = write_configuration(
        folder.path(),
        &format!(
            "compile_cache = {cache:?}\n[[listeners]]\naddress = \"127.0.0.1:0\"\n{}",
            probe_configuration("", "")
        ),
    );
    let words = ["validate", file.to_str().unwrap()];
    assert_eq!(LOCKGATE.run(&words).await.code, Some(0));
    assert!(!cache.exists());
    fs::create_dir(&cache).unwrap();
    // Only root can give a folder away.
    if chown(&cache, Some(65_534), None).is_ok() {
        assert_eq!(LOCKGATE.run(&words).await.code, Some(0));
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 0);
    }
}

/// The cache only saves compilations: a gateway serves without it.
#[tokio::test]
async fn cache_that_cannot_be_made_is_warned_of_and_the_gateway_serves() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("cache"), "a file").unwrap();
    let (gateway, _) = serve_with_cache(folder).await;
    let line = gateway.log().line(&["WARN", "cannot be made"]).await;
    assert!(line.contains("CacheDirectory="), "{line}");
    let mut client = gateway.connect("/s").await;
    client.id().await;
    let file = gateway.folder().join("gateway.toml");
    let checked = LOCKGATE.run(&["validate", file.to_str().unwrap()]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.error);
    assert!(
        checked.error.contains("cannot be made"),
        "{}",
        checked.error
    );
}

/// A gateway that serves a copy of the probe, with a cache in this folder. Returns the copy's path, too.
async fn serve_with_cache(folder: TempDir) -> (Gateway, PathBuf) {
    let component = folder.path().join("component.wasm");
    fs::copy(Guest::Probe.path(), &component).unwrap();
    let configuration = format!(
        "compile_cache = {:?}\n[[listeners]]\naddress = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n{}",
        folder.path().join("cache"),
        probe_configuration("", "").replace("{probe}", component.to_str().unwrap())
    );
    let file = write_configuration(folder.path(), &configuration);
    let command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    let gateway = Gateway::start(command, folder, lockgate_tests::PATIENCE).await;
    (gateway, component)
}

#[tokio::test]
async fn unwritable_cache_is_warned_of_and_another_process_still_compiles() {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("cache/wasmtime")).unwrap();
    // Root may write to every folder, but not below a file.
    let modules = folder.path().join("cache/wasmtime/modules");
    fs::write(&modules, "in the way").unwrap();
    let (gateway, component) = serve_with_cache(folder).await;
    let line = gateway.log().line(&["nothing is kept in"]).await;
    assert!(line.contains("WARN") && line.contains("remedy: "), "{line}");
    assert!(line.contains(modules.to_str().unwrap()), "{line}");
    replace(&component, &large());
    let (_, words) = child_of(gateway.id(), || {});
    assert!(words.contains("/lockgate-compiled-"), "{words}");
    gateway.log().line(&["reloaded: plugin probe"]).await;
    assert!(!gateway.log().contains(&["by the gateway itself"]));
}

/// The gateway that serves would have to compile it itself.
#[tokio::test]
async fn component_that_the_cache_cannot_store_is_refused_and_serving_continues() {
    let (gateway, component) = serve_with_cache(TempDir::new().unwrap()).await;
    let modules = gateway.folder().join("cache/wasmtime/modules");
    let aside = modules.with_file_name("aside");
    fs::rename(&modules, &aside).unwrap();
    fs::write(&modules, "in the way").unwrap();
    replace(&component, &new());
    let line = gateway
        .log()
        .line(&["did not take what was compiled"])
        .await;
    let why = format!("{} cannot be written: ", modules.display());
    assert!(line.contains("WARN") && line.contains(&why), "{line}");
    assert!(!gateway.log().contains(&["by the gateway itself"]));
    let mut client = gateway.connect("/s").await;
    client.id().await;

    // Once the cache is writable again, a reload is enough.
    fs::remove_file(&modules).unwrap();
    fs::rename(&aside, &modules).unwrap();
    gateway.hang_up();
    gateway.log().line(&["reloaded: plugin probe"]).await;
}

/// A limit of one MiB on the length of a file stands for a full disk.
#[tokio::test]
async fn start_with_a_full_disk_compiles_once_and_serves() {
    let before = "trap '' XFSZ; ulimit -f 2048";
    let configuration = probe_configuration("", "");
    let gateway = LOCKGATE.serve_after(before, &configuration).await;
    let line = gateway.log().line(&["nothing is kept in"]).await;
    assert!(
        line.contains("File too large") && line.contains("remedy: "),
        "{line}"
    );
    gateway.log().line(&["by the gateway itself"]).await;
    let mut client = gateway.connect("/s").await;
    client.id().await;
}
