//! Large components are compiled by a process of its own, in the machine's idle time.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::yield_now;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lockgate_tests::{Guest, write_configuration};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::LOCKGATE;

const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration whose plugin is a component that is large, and that nobody has compiled before.
fn configuration(folder: &TempDir, component: &[u8]) -> PathBuf {
    let file = folder.path().join("large.wasm");
    fs::write(&file, component).unwrap();
    let text = format!(
        "compile_cache = {:?}\nlisteners = [{{ address = \"127.0.0.1:0\" }}]\n\
         [plugins.large]\ncomponent = {file:?}\ngrants = [\"connections\", \"groups\"]\n\
         [apis.a.stages.s]\n[apis.a.routes.\"$default\"]\nintegration = \"large\"\n",
        folder.path().join("cache"),
    );
    write_configuration(folder.path(), &text)
}

fn large() -> Vec<u8> {
    let mut bytes = fs::read(Guest::Probe.path()).unwrap();
    bytes.extend([0, 0x80, 0x80, 0x40, 1, b'x']); // a custom section of 1 MiB, by the name of x
    let end = bytes.len() + (1 << 20) - 2;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    bytes.extend(now.as_nanos().to_le_bytes());
    bytes.resize(end, 0);
    bytes
}

/// The first child of a process that runs: its id, and what it was started with. None when it ended without one.
fn child_of(process: &mut Child) -> Option<(Pid, String)> {
    let give_up = Instant::now() + PATIENCE;
    let tasks = format!("/proc/{}/task", process.id());
    while process.try_wait().unwrap().is_none() {
        assert!(Instant::now() < give_up, "it neither ends nor has a child");
        for task in fs::read_dir(&tasks).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for id in children.split_whitespace() {
                let words = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
                let words = String::from_utf8(words).unwrap().replace('\0', " ");
                // Until it has become the program, it is a copy of the process.
                if words.contains("compile-into") {
                    return Some((Pid::from_raw(id.parse().unwrap()).unwrap(), words));
                }
            }
        }
        yield_now();
    }
    None
}

fn validate(file: &std::path::Path) -> Child {
    LOCKGATE
        .command(&["validate", file.to_str().unwrap()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_large_component_is_compiled_once_by_a_process_of_its_own() {
    let folder = TempDir::new().unwrap();
    let file = configuration(&folder, &large());
    let mut process = validate(&file);
    let (_, words) = child_of(&mut process).expect("nobody else compiled it");
    let cache = folder.path().join("cache");
    assert!(words.contains(&format!(" {} ", cache.display())), "{words}");
    assert!(process.wait().unwrap().success());
    // Two would tell that the gateway did not find what was compiled for it.
    let modules = fs::read_dir(cache.join("modules")).unwrap();
    let compiled: Vec<_> = modules
        .flat_map(|version| fs::read_dir(version.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none())
        .collect();
    assert_eq!(compiled.len(), 1, "{compiled:?}");
}

#[test]
fn a_component_loads_when_the_process_that_compiles_it_ends() {
    let folder = TempDir::new().unwrap();
    let file = configuration(&folder, &large());
    let mut process = validate(&file);
    let (child, _) = child_of(&mut process).expect("nobody else compiled it");
    kill_process(child, Signal::KILL).unwrap();
    assert!(process.wait().unwrap().success());
}

#[test]
fn a_large_file_that_is_no_component_is_refused() {
    let folder = TempDir::new().unwrap();
    let mut bytes = large();
    bytes.extend([0xff; 100]);
    let file = configuration(&folder, &bytes);
    assert_eq!(validate(&file).wait().unwrap().code(), Some(1));
}

#[test]
fn a_process_that_compiles_ends_with_the_one_that_began_it() {
    let folder = TempDir::new().unwrap();
    let file = configuration(&folder, &large());
    let mut process = validate(&file);
    let (child, _) = child_of(&mut process).expect("nobody else compiled it");
    process.kill().unwrap();
    process.wait().unwrap();
    let give_up = Instant::now() + PATIENCE;
    let stat = format!("/proc/{}/stat", child.as_raw_nonzero());
    // Nobody may be there to collect it, but then it is a zombie.
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < give_up, "it compiles for nobody");
        yield_now();
    }
}
