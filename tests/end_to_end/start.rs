//! A stop before the process serves: it ends soon, and leaves no file behind.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use lockgate_tests::{Gateway, Orphan, PATIENCE, within, write_configuration};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::{
    LOCKGATE,
    compile::{child_of, child_with, hard, wait_for},
    probe_configuration,
};

/// Time in which a process with nothing to wait for must end: a fraction of the time that its work would take.
const SOON: Duration = Duration::from_secs(10);

/// A running command with a temporary folder of its own.
struct RunningCommand {
    process: Child,
    folder: TempDir,
}

impl RunningCommand {
    fn new(word: &str, configuration: &str) -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("temporary")).unwrap();
        fs::write(folder.path().join("hard.wasm"), hard(200, 2_000)).unwrap();
        let file = write_configuration(folder.path(), configuration);
        let process = LOCKGATE
            .command(&[word, file.to_str().unwrap()])
            .env("TMPDIR", folder.path().join("temporary"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, folder }
    }

    /// Sends a signal, and checks that the process ends soon with this code and leaves no file.
    #[track_caller]
    fn ends_at(&mut self, signal: Signal, code: i32) {
        let id = Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        let asked = Instant::now();
        kill_process(id, signal).unwrap();
        let status = self.process.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{signal:?}: {status}");
        assert!(asked.elapsed() < SOON, "{signal:?}: {:?}", asked.elapsed());
        assert_eq!(left(&self.folder), <[PathBuf; 0]>::default(), "{signal:?}");
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        let _ = self.process.kill();
    }
}

/// The files in the temporary folder.
fn left(folder: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.path().join("temporary")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

const LISTENER: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";

#[tokio::test]
async fn stop_does_not_wait_for_a_pull() {
    for (word, signal, code) in [
        ("run", Signal::TERM, 0),
        ("run", Signal::INT, 0),
        ("validate", Signal::TERM, 1),
        ("validate", Signal::HUP, 1),
    ] {
        // This registry takes connections, and never answers.
        let registry = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = registry.local_addr().unwrap();
        let configuration = format!(
            "limits = {{ pull_s = 600 }}\n\
             registries.\"{host}\" = {{ plain_http = true }}\n{LISTENER}{}",
            probe_configuration("", "").replace(
                "{probe}",
                &format!("oci://{host}/probe@sha256:{}", "0".repeat(64))
            )
        );
        let mut begun = RunningCommand::new(word, &configuration);
        let _pulling = within("a pull", registry.accept()).await.unwrap();
        begun.ends_at(signal, code);
    }
}

fn with_a_hard_component() -> String {
    let plugin = "limits = { compile_s = 600 }";
    format!(
        "{LISTENER}{}",
        probe_configuration("", plugin).replace("{probe}", "hard.wasm")
    )
}

#[test]
fn stop_during_a_compilation_ends_the_compiling_process() {
    for (word, signal, code) in [("run", Signal::TERM, 0), ("validate", Signal::INT, 1)] {
        let mut begun = RunningCommand::new(word, &with_a_hard_component());
        let (child, _) = child_of(begun.process.id(), || {});
        begun.ends_at(signal, code);
        wait_for(child, "it compiles without its parent", |stat| {
            stat.is_none()
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_while_a_new_process_loads_ends_both_and_leaves_no_file() {
    let folder = TempDir::new().unwrap();
    let temporary = folder.path().join("temporary");
    fs::create_dir(&temporary).unwrap();
    fs::write(folder.path().join("hard.wasm"), hard(200, 2_000)).unwrap();
    let good = format!(
        "limits = {{ upgrade_s = 600 }}\n{LISTENER}{}",
        probe_configuration("", "")
    );
    let file = write_configuration(folder.path(), &good);
    let mut command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    command.env("TMPDIR", &temporary);
    let mut gateway = Gateway::start(command, folder, PATIENCE).await;
    let bad = format!(
        "{}\n[plugins.hard]\ncomponent = \"hard.wasm\"\nlimits = {{ compile_s = 600 }}\n",
        fs::read_to_string(&file).unwrap()
    );
    fs::write(&file, bad).unwrap();
    gateway.upgrade();
    let (successor, compiling) = tokio::task::block_in_place(|| {
        let (successor, _) = child_with(gateway.id(), " run ", || {});
        let id = successor.as_raw_nonzero().get().unsigned_abs();
        (Orphan::new(id), child_of(id, || {}).0)
    });
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
    successor.ended().await;
    wait_for(compiling, "it compiles without its parent", |stat| {
        stat.is_none_or(|stat| stat.starts_with('Z'))
    });
    let left: Vec<_> = fs::read_dir(Path::new(&temporary)).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn error_of_a_failed_start_is_json_where_the_log_is() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("none.wasm"), "none").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    for (address, component, key) in [
        (address.to_string(), "{probe}", "listeners[0].address"),
        ("127.0.0.1:0".into(), "none.wasm", "plugins.probe.component"),
    ] {
        let text = format!(
            "[log]\nformat = \"json\"\n[[listeners]]\naddress = \"{address}\"\n{}",
            probe_configuration("", "").replace("{probe}", component)
        );
        let file = write_configuration(folder.path(), &text);
        let refused = LOCKGATE.run(&["run", file.to_str().unwrap()]).await;
        assert_eq!(refused.code, Some(1));
        let lines: Vec<serde_json::Value> = refused
            .error
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect();
        let error = lines.iter().find(|line| line["level"] == "ERROR").unwrap();
        assert_eq!(error["key"], key, "{error}");
        assert!(error["line"].as_u64().unwrap() > 0, "{error}");
        assert!(
            error["file"].as_str().unwrap().ends_with("gateway.toml"),
            "{error}"
        );
        assert!(!error["remedy"].as_str().unwrap().is_empty(), "{error}");
    }
}
