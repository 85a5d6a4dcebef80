//! A large component is compiled by a process of its own, in the machine's idle time.

use std::fs;
use std::process::{Child, Stdio};
use std::thread::yield_now;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lockgate_tests::{Guest, write_configuration};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::LOCKGATE;

const PATIENCE: Duration = Duration::from_secs(60);

/// Of a process that waits for idle time, in `/proc/ID/stat`.
const SCHED_IDLE: &str = "5";

/// `lockgate validate` with one plugin, and the temporary folder that it is to use.
struct Loading {
    process: Child,
    folder: TempDir,
}

impl Loading {
    /// Begins to load a component, with a compile cache that has nothing in it.
    fn begin(component: &[u8]) -> Self {
        Self::begin_with(component, true, true)
    }

    /// With a compile cache or without, and with a temporary folder or with one that is not there.
    fn begin_with(component: &[u8], with_cache: bool, with_temporary: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("large.wasm");
        fs::write(&file, component).unwrap();
        let mut text = format!(
            "listeners = [{{ address = \"127.0.0.1:0\" }}]\n\
             [plugins.large]\ncomponent = {file:?}\ngrants = [\"connections\", \"groups\"]\n\
             [apis.a.stages.s]\n[apis.a.routes.\"$default\"]\nintegration = \"large\"\n",
        );
        if with_cache {
            let cache = folder.path().join("cache");
            text = format!("compile_cache = {cache:?}\n{text}");
        }
        let temporary = folder.path().join("temporary");
        if with_temporary {
            fs::create_dir(&temporary).unwrap();
        }
        let file = write_configuration(folder.path(), &text);
        let process = LOCKGATE
            .command(&["validate", file.to_str().unwrap()])
            .env("TMPDIR", &temporary)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, folder }
    }

    /// The process that compiles for it, and the words it was started with.
    fn child(&mut self) -> (Pid, String) {
        let give_up = Instant::now() + PATIENCE;
        let tasks = format!("/proc/{}/task", self.process.id());
        loop {
            assert!(Instant::now() < give_up, "it neither ends nor has a child");
            let ended = self.process.try_wait().unwrap();
            assert_eq!(ended, None, "nobody else compiled it");
            for task in fs::read_dir(&tasks).into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children"));
                for id in children.unwrap_or_default().split_whitespace() {
                    let words = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
                    let words = String::from_utf8(words).unwrap().replace('\0', " ");
                    // Until it has become the program, it is a copy of the process.
                    if words.contains("compile-into") {
                        return (Pid::from_raw(id.parse().unwrap()).unwrap(), words);
                    }
                }
            }
            yield_now();
        }
    }

    fn loaded(&mut self) -> bool {
        self.process.wait().unwrap().success()
    }
}

/// Waits until a process that runs is as it should be, by what `/proc/ID/stat` tells after its name: none when it ended.
fn wait_for(id: Pid, what: &str, right: impl Fn(Option<&str>) -> bool) {
    let give_up = Instant::now() + PATIENCE;
    let file = format!("/proc/{}/stat", id.as_raw_nonzero());
    loop {
        let stat = fs::read_to_string(&file).ok();
        if right(stat.as_deref().and_then(|stat| stat.split(") ").nth(1))) {
            return;
        }
        assert!(Instant::now() < give_up, "{what}");
        yield_now();
    }
}

/// A component that is large, and that nobody has compiled before.
fn large() -> Vec<u8> {
    let mut bytes = fs::read(Guest::Probe.path()).unwrap();
    bytes.extend([0, 0x80, 0x80, 0x40, 1, b'x']); // a custom section of 1 MiB, by the name of x
    let end = bytes.len() + (1 << 20) - 2;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    bytes.extend(now.as_nanos().to_le_bytes());
    bytes.resize(end, 0);
    bytes
}

#[test]
fn a_large_component_is_compiled_once_by_a_process_of_its_own() {
    let mut loading = Loading::begin(&large());
    let (_, words) = loading.child();
    let cache = loading.folder.path().join("cache");
    assert!(words.contains(&format!(" {} ", cache.display())), "{words}");
    assert!(loading.loaded());
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
fn it_runs_in_the_machines_idle_time() {
    let mut loading = Loading::begin(&large());
    let (child, _) = loading.child();
    // It is the 41st field, of which two stand before.
    wait_for(child, "it takes the time of others", |stat| {
        stat.expect("it runs").split(' ').nth(38) == Some(SCHED_IDLE)
    });
    assert!(loading.loaded());
}

#[test]
fn a_component_loads_when_the_process_that_compiles_it_ends() {
    let mut loading = Loading::begin(&large());
    kill_process(loading.child().0, Signal::KILL).unwrap();
    assert!(loading.loaded());
}

/// As on a machine that is never idle.
#[test]
fn a_component_loads_when_the_process_that_compiles_it_gets_no_time() {
    let mut loading = Loading::begin(&large());
    let (child, _) = loading.child();
    kill_process(child, Signal::STOP).unwrap();
    assert!(loading.loaded());
    wait_for(child, "it is still there", |stat| stat.is_none());
}

#[test]
fn a_process_that_compiles_ends_with_the_one_that_began_it() {
    let mut loading = Loading::begin(&large());
    let (child, _) = loading.child();
    loading.process.kill().unwrap();
    loading.process.wait().unwrap();
    // Nobody may be there to collect it, but then it is a zombie.
    wait_for(child, "it compiles for nobody", |stat| {
        stat.is_none_or(|stat| stat.starts_with('Z'))
    });
}

#[test]
fn without_a_cache_nothing_is_left() {
    let mut loading = Loading::begin_with(&large(), false, true);
    let (_, words) = loading.child();
    let temporary = loading.folder.path().join("temporary");
    assert!(
        words.contains(&format!(" {}/lockgate-", temporary.display())),
        "{words}"
    );
    assert!(loading.loaded());
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0);
}

#[test]
fn a_component_loads_where_there_is_nowhere_to_write() {
    assert!(Loading::begin_with(&large(), false, false).loaded());
}

#[test]
fn a_large_file_that_is_no_component_is_refused() {
    let mut bytes = large();
    bytes.extend([0xff; 100]);
    let mut loading = Loading::begin(&bytes);
    assert_eq!(loading.process.wait().unwrap().code(), Some(1));
}
