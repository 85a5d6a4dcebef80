//! A component is compiled in a process of its own, within bounds; a large one in the machine's idle time.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::yield_now;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lockgate_tests::{Gateway, Guest, digest, replace, write_configuration};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{LOCKGATE, probe_configuration};

const PATIENCE: Duration = Duration::from_secs(60);

/// The scheduling policy in `/proc/ID/stat` of a process that runs in idle time.
const SCHED_IDLE: &str = "5";

/// The folder through which compiled code is handed over.
enum HandoverFolder {
    /// A compile cache in this folder.
    Cache(TempDir),
    Temporary,
    None,
}

/// A run of `lockgate validate` with one plugin, and its temporary folder.
struct Loading {
    process: Child,
    folder: TempDir,
}

impl Loading {
    /// Begins to load a component, with an empty compile cache.
    fn begin(component: &[u8]) -> Self {
        Self::begin_in(HandoverFolder::Cache(TempDir::new().unwrap()), component)
    }

    fn begin_in(handover: HandoverFolder, component: &[u8]) -> Self {
        let (folder, with_cache, with_temporary) = match handover {
            HandoverFolder::Cache(folder) => (folder, true, true),
            HandoverFolder::Temporary => (TempDir::new().unwrap(), false, true),
            HandoverFolder::None => (TempDir::new().unwrap(), false, false),
        };
        let file = folder.path().join("large.wasm");
        fs::write(&file, component).unwrap();
        let mut text = format!(
            "listeners = [{{ address = \"127.0.0.1:0\" }}]\n\
             [plugins.large]\ncomponent = {file:?}\ngrants = [\"connections\", \"groups\"]\n\
             limits = {{ compile_s = 5 }}\n\
             [apis.a.stages.s]\n[apis.a.routes.\"$default\"]\nintegration = \"large\"\n",
        );
        if with_cache {
            let cache = folder.path().join("cache");
            fs::create_dir_all(&cache).unwrap();
            text = format!("compile_cache = {cache:?}\n{text}");
        }
        let temporary = folder.path().join("temporary");
        if with_temporary {
            fs::create_dir_all(&temporary).unwrap();
        }
        let file = write_configuration(folder.path(), &text);
        let process = LOCKGATE
            .command(&["validate", file.to_str().unwrap()])
            .env("TMPDIR", &temporary)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { process, folder }
    }

    /// The process that compiles for this one, and its command line.
    fn child(&mut self) -> (Pid, String) {
        child_of(self.process.id(), || {
            let ended = self.process.try_wait().unwrap();
            assert_eq!(ended, None, "no other process compiled it");
        })
    }

    /// Checks that the component loads, and returns the folder.
    fn loaded(self) -> TempDir {
        let ended = self.process.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.success(), "{said}");
        self.folder
    }

    /// Checks that the component is refused, and returns the error.
    fn refused(self) -> String {
        let ended = self.process.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        String::from_utf8(ended.stderr).unwrap()
    }
}

/// The process that compiles for `parent`, once it has started, and its command line.
pub(crate) fn child_of(parent: u32, meanwhile: impl FnMut()) -> (Pid, String) {
    child_with(parent, "compile-into", meanwhile)
}

/// The child of `parent` with `word` in its command line, once it has started, and that command line.
pub(crate) fn child_with(parent: u32, word: &str, mut meanwhile: impl FnMut()) -> (Pid, String) {
    let give_up = Instant::now() + PATIENCE;
    let tasks = format!("/proc/{parent}/task");
    loop {
        assert!(Instant::now() < give_up, "it has no child");
        meanwhile();
        for task in fs::read_dir(&tasks).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children"));
            for id in children.unwrap_or_default().split_whitespace() {
                let words = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
                let words = String::from_utf8(words).unwrap().replace('\0', " ");
                // Between fork and exec a child has the command line of its parent.
                if words.contains(word) {
                    return (Pid::from_raw(id.parse().unwrap()).unwrap(), words);
                }
            }
        }
        yield_now();
    }
}

/// Waits until `right` accepts the fields of `/proc/ID/stat` after the name, which are none once the process has ended.
/// `what` describes the state until then.
pub(crate) fn wait_for(id: Pid, what: &str, right: impl Fn(Option<&str>) -> bool) {
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

/// A component that has never been compiled.
pub(crate) fn new() -> Vec<u8> {
    padded(32)
}

/// A large component that has never been compiled.
pub(crate) fn large() -> Vec<u8> {
    padded(1 << 20)
}

/// The probe with a custom section of `bytes` bytes, some of them unique.
fn padded(bytes: usize) -> Vec<u8> {
    let mut component = fs::read(Guest::Probe.path()).unwrap();
    pad(&mut component, bytes);
    component
}

fn pad(component: &mut Vec<u8>, bytes: usize) {
    component.push(0);
    component.extend(leb128(bytes));
    // The length of the name, and the name.
    component.extend([1, b'x']);
    let end = component.len() + bytes - 2;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    component.extend(now.as_nanos().to_le_bytes());
    component.resize(end, 0);
}

/// The echo with an extra module: one small function that is hard to compile, since each loop passes each local on.
pub(crate) fn hard(loops: usize, locals: usize) -> Vec<u8> {
    let counted: String = (0..locals)
        .map(|local| format!("(local.set {local} (i32.add (local.get {local}) (i32.const 1)))"))
        .collect();
    let text = format!(
        "(module (func (local {}) {} {counted} {}))",
        "i32 ".repeat(locals),
        "loop ".repeat(loops),
        "local.get 0 br_if 0 end ".repeat(loops),
    );
    // The error itself would print the whole text.
    let module = wat::parse_str(text).unwrap_or_else(|_| panic!("it is no WebAssembly"));
    let mut component = fs::read(Guest::Echo.path()).unwrap();
    component.push(1);
    component.extend(leb128(module.len()));
    component.extend(module);
    component
}

/// A length as LEB128, padded to five bytes.
fn leb128(length: usize) -> [u8; 5] {
    let length = u32::try_from(length).unwrap();
    let seven = |shift: u32| u8::try_from((length >> shift) & 0x7f).unwrap();
    [
        seven(0) | 0x80,
        seven(7) | 0x80,
        seven(14) | 0x80,
        seven(21) | 0x80,
        seven(28),
    ]
}

/// The files of the compiled components in the cache.
fn compiled(folder: &TempDir) -> Vec<PathBuf> {
    let modules = fs::read_dir(folder.path().join("cache/wasmtime/modules")).unwrap();
    modules
        .flat_map(|version| fs::read_dir(version.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none())
        .collect()
}

#[test]
fn component_is_compiled_once_in_a_process_of_its_own() {
    for component in [new(), large()] {
        let mut loading = Loading::begin(&component);
        let (_, words) = loading.child();
        let cache = loading.folder.path().join("cache");
        assert!(words.contains(&format!(" {} ", cache.display())), "{words}");
        // Two files would mean that the gateway did not find the code that was compiled for it.
        let found = compiled(&loading.loaded());
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

/// Two gateways share a cache, and load the same component.
#[test]
fn component_that_another_process_stores_at_the_same_moment_is_loaded() {
    let component = new();
    let folder = Loading::begin(&component).loaded();
    let stored = compiled(&folder).pop().expect("it is stored");
    let unfinished = stored.with_extension("wip-atomic-write-mod");
    fs::rename(&stored, &unfinished).unwrap();
    let mut loading = Loading::begin_in(HandoverFolder::Cache(folder), &component);
    let (child, _) = loading.child();
    wait_for(child, "it stores nothing, and goes on", |stat| {
        stat.is_none()
    });
    fs::rename(&unfinished, &stored).unwrap();
    loading.loaded();
}

#[test]
fn large_component_is_compiled_in_idle_time() {
    let mut loading = Loading::begin(&large());
    let (child, _) = loading.child();
    // The policy is the 41st field, and two fields are cut off.
    wait_for(child, "it takes the time of others", |stat| {
        stat.expect("it runs").split(' ').nth(38) == Some(SCHED_IDLE)
    });
    loading.loaded();
}

#[tokio::test]
async fn component_is_compiled_at_full_speed_until_the_gateway_serves() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("large.wasm");
    fs::write(&file, large()).unwrap();
    let text = probe_configuration("", "").replace("{probe}", file.to_str().unwrap());
    let listener = "listeners = [{ address = \"127.0.0.1:0\", tls = \"off\" }]\n";
    let written = write_configuration(folder.path(), &format!("{listener}{text}"));
    let mut starting = LOCKGATE
        .command(&["run", written.to_str().unwrap()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (_, words) = child_of(starting.id(), || {
        assert_eq!(starting.try_wait().unwrap(), None, "it ended");
    });
    starting.kill().unwrap();
    starting.wait().unwrap();
    assert!(words.contains(" full "), "{words}");

    let gateway = LOCKGATE.serve(&text).await;
    replace(&file, &large());
    let (_, words) = child_of(gateway.id(), || ());
    assert!(words.contains(" idle "), "{words}");
}

/// Where the machine lets the process leave the idle time, which takes a privilege, it goes on. Else another begins.
#[test]
fn component_for_which_the_machine_is_never_idle_is_compiled_nonetheless() {
    let mut component = hard(200, 2_000);
    pad(&mut component, 600 << 10);
    let mut loading = Loading::begin(&component);
    let (child, _) = loading.child();
    let is_nice = |stat: &str| {
        let field = |at| stat.split(' ').nth(at);
        // The niceness and the policy.
        field(16) == Some("10") && field(38) == Some("0")
    };
    let kept = std::cell::Cell::new(true);
    let idle = std::cell::Cell::new(false);
    wait_for(child, "it stays idle", |stat| match stat {
        Some(stat) if stat.split(' ').nth(38) == Some(SCHED_IDLE) => {
            idle.set(true);
            false
        }
        Some(stat) => idle.get() && is_nice(stat),
        None => {
            kept.set(false);
            true
        }
    });
    if !kept.get() {
        let (child, words) = loading.child();
        assert!(words.contains(" nice "), "{words}");
        wait_for(child, "it is idle", |stat| stat.is_some_and(is_nice));
    }
    let said = loading.refused();
    assert!(said.contains("compiling it takes more than 5 s"), "{said}");
}

/// The kernel kills the process with the highest score first.
#[test]
fn compiling_process_is_killed_first_when_memory_runs_out() {
    let mut loading = Loading::begin(&large());
    let (child, _) = loading.child();
    let file = format!("/proc/{}/oom_score_adj", child.as_raw_nonzero());
    wait_for(child, "the kernel would kill the gateway first", |_| {
        fs::read_to_string(&file).expect("it runs").trim() == "1000"
    });
    loading.loaded();
}

#[test]
fn component_that_compiles_too_long_is_refused() {
    let mut loading = Loading::begin(&hard(200, 2_000));
    let (child, _) = loading.child();
    let said = loading.refused();
    let remedy = "raise limits.compile_s of the plugin if the machine is slow";
    assert!(
        said.contains("plugins.large.component: compiling it takes more than 5 s"),
        "{said}"
    );
    assert!(said.contains(remedy), "{said}");
    wait_for(child, "it is still there", |stat| stat.is_none());
}

#[test]
fn component_that_compiles_with_too_much_memory_is_refused() {
    let said = Loading::begin(&hard(3_000, 40_000)).refused();
    let fault = "plugins.large.component: compiling it takes more than 1024 MiB of memory";
    assert!(said.contains(fault), "{said}");
}

/// The kernel kills it so when memory runs out: the gateway must not compile it then.
#[test]
fn component_whose_compiling_process_is_killed_is_refused() {
    for component in [new(), large()] {
        let mut loading = Loading::begin(&component);
        kill_process(loading.child().0, Signal::KILL).unwrap();
        let said = loading.refused();
        assert!(said.contains("ended with signal: 9 (SIGKILL)"), "{said}");
    }
}

/// A machine that is never idle gives it no time.
#[test]
fn component_whose_compiling_process_gets_no_time_loads() {
    let mut loading = Loading::begin(&large());
    let (child, _) = loading.child();
    kill_process(child, Signal::STOP).unwrap();
    loading.loaded();
    wait_for(child, "it is still there", |stat| stat.is_none());
}

#[test]
fn compiling_process_ends_with_its_parent() {
    let mut loading = Loading::begin(&large());
    let (child, _) = loading.child();
    loading.process.kill().unwrap();
    loading.process.wait().unwrap();
    // Where no process reaps it, it stays a zombie.
    wait_for(child, "it compiles without its parent", |stat| {
        stat.is_none_or(|stat| stat.starts_with('Z'))
    });
}

#[tokio::test]
async fn stop_does_not_wait_for_a_compilation() {
    let folder = TempDir::new().unwrap();
    let component = folder.path().join("component.wasm");
    fs::copy(Guest::Probe.path(), &component).unwrap();
    let plugin = "limits = { compile_s = 600 }";
    let configuration = format!(
        "compile_cache = {:?}\n[[listeners]]\naddress = \"127.0.0.1:0\"\n{}",
        folder.path().join("cache"),
        probe_configuration("", plugin).replace("{probe}", component.to_str().unwrap())
    );
    let file = write_configuration(folder.path(), &configuration);
    let command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    let mut gateway = Gateway::start(command, folder, lockgate_tests::PATIENCE).await;
    replace(&component, &hard(200, 2_000));
    let (child, _) = child_of(gateway.id(), || {});
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
    wait_for(child, "it compiles without its parent", |stat| {
        stat.is_none_or(|stat| stat.starts_with('Z'))
    });
}

/// A large component compiles for half a minute, and a silent log would look like a gateway that hangs.
#[tokio::test]
async fn component_that_compiles_slowly_is_named_in_the_log() {
    let folder = TempDir::new().unwrap();
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
    let new = new();
    let digest = digest(&new);
    replace(&component, &new);
    let (child, _) = child_of(gateway.id(), || {});
    kill_process(child, Signal::STOP).unwrap();
    let line = gateway
        .log()
        .line(&["compiling a component", &digest])
        .await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["plugin"], "probe", "{line}");
    assert!(line["kib"].as_u64().unwrap() > 0, "{line}");
    kill_process(child, Signal::CONT).unwrap();
    let line = gateway
        .log()
        .line(&["compiled the component", &digest])
        .await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(line["took_ms"].as_u64().unwrap() >= 500, "{line}");
}

/// Imports, world and sizes are checked before the compilation, which could take half a minute.
#[test]
fn component_with_refused_imports_world_or_size_is_not_compiled() {
    let mut probe = fs::read(Guest::Probe.path()).unwrap();
    let module = wat::parse_str("(module (memory 2048) (table 30000 funcref))").unwrap();
    probe.push(1);
    probe.extend(leb128(module.len()));
    probe.extend(module);
    let command = fs::read(Guest::Command.path()).unwrap();
    let network = fs::read(Guest::Sockets.path()).unwrap();
    for (component, said) in [
        (
            &probe,
            &[
                "its memory begins with 128 MiB, and limits.memory_mib gives it 64",
                "it has a table of 30000 elements, and limits.table_elements allows 20000",
                "raise limits.memory_mib of the plugin to 128",
            ][..],
        ),
        (
            &command,
            &["it exports neither lockgate:plugin/handler@0.1.0"],
        ),
        (&network, &["it imports wasi:", "which no plugin is given"]),
    ] {
        let loading = Loading::begin(component);
        let cache = loading.folder.path().join("cache/wasmtime");
        let ended = loading.process.wait_with_output().unwrap();
        let error = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{error}");
        for said in said {
            assert!(error.contains(said), "{said}: {error}");
        }
        let compiled = files_below(&cache);
        assert!(compiled.is_empty(), "{compiled:?}");
    }
}

/// The files in a folder and those below; none where there is no folder.
pub(crate) fn files_below(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn compilation_without_a_cache_leaves_no_file() {
    for component in [new(), large()] {
        let mut loading = Loading::begin_in(HandoverFolder::Temporary, &component);
        let (_, words) = loading.child();
        let temporary = loading.folder.path().join("temporary");
        assert!(
            words.contains(&format!(" {}/lockgate-", temporary.display())),
            "{words}"
        );
        let folder = loading.loaded();
        assert_eq!(fs::read_dir(temporary).unwrap().count(), 0, "{folder:?}");
    }
}

#[tokio::test]
async fn leftovers_of_a_killed_gateway_are_removed_and_other_files_stay() {
    let temporary = TempDir::new().unwrap();
    let start = async || {
        let folder = TempDir::new().unwrap();
        let text = format!(
            "[[listeners]]\naddress = \"127.0.0.1:0\"\n{}",
            probe_configuration("", "")
        );
        let file = write_configuration(folder.path(), &text);
        let mut command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
        command.env("TMPDIR", temporary.path());
        Gateway::start(command, folder, lockgate_tests::PATIENCE).await
    };
    let folders = || -> BTreeSet<PathBuf> {
        let entries = fs::read_dir(temporary.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let (mut killed, living) = (start().await, start().await);
    let two = folders();
    assert_eq!(two.len(), 2);
    let id = Pid::from_raw(i32::try_from(killed.id()).unwrap()).unwrap();
    kill_process(id, Signal::KILL).unwrap();
    assert_eq!(killed.ended().await, None);
    // The name of this folder looks like that of a gateway's.
    let other = temporary.path().join("lockgate-compiled-notes");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes"), "").unwrap();
    // A new folder may not be locked yet, and so only old ones are removed.
    for folder in &folders() {
        let yesterday = SystemTime::now() - Duration::from_secs(86_400);
        File::open(folder).unwrap().set_modified(yesterday).unwrap();
    }
    let third = start().await;
    let left = folders();
    assert_eq!(two.intersection(&left).count(), 1);
    for mut gateway in [living, third] {
        gateway.terminate();
        assert_eq!(gateway.ended().await, Some(0));
    }
    assert_eq!(folders(), BTreeSet::from([other.clone()]));
    assert!(other.join("notes").exists());
}

#[test]
fn component_loads_where_no_folder_is_writable() {
    Loading::begin_in(HandoverFolder::None, &new()).loaded();
}

/// The cache keeps half a GiB. A sparse file of that length takes no disk space.
#[test]
fn files_beyond_the_size_of_the_cache_are_removed() {
    let folder = Loading::begin(&new()).loaded();
    let first = compiled(&folder);
    // A file that is not the cache's stays.
    let other = folder.path().join("cache/other");
    fs::write(&other, "").unwrap();
    // The next compilation cleans up, which the cache does once an hour.
    for file in fs::read_dir(folder.path().join("cache/wasmtime")).unwrap() {
        let file = file.unwrap().path();
        if !file.is_dir() {
            fs::remove_file(file).unwrap();
        }
    }
    let old = |name: usize| first.first().unwrap().with_file_name(name.to_string());
    // Reading so many files takes longer than the process takes to end.
    for name in 1..3_000 {
        File::create(old(name)).unwrap();
    }
    File::create(old(0)).unwrap().set_len(1 << 30).unwrap();
    let folder = Loading::begin_in(HandoverFolder::Cache(folder), &new()).loaded();
    assert!(!compiled(&folder).contains(&old(0)));
    assert!(other.exists());
}

#[test]
fn large_file_without_a_component_is_refused() {
    let mut bytes = large();
    bytes.extend([0xff; 100]);
    let said = Loading::begin(&bytes).refused();
    let fault = "plugins.large.component: it is no component that can be compiled: ";
    assert!(said.contains(fault), "{said}");
    assert!(!said.contains("error: "), "{said}");
}
