//! A project as a newcomer makes it: by `lockgate new`, outside any checkout, with the tools of its language alone.

use std::{
    env,
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
};

use lockgate_tests::{Client, CommandResult, Gateway, LONG_PATIENCE};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet};

use crate::LOCKGATE;

/// A ticket for the projects of the template `authorizer`, signed by openssl with their secret. It expires in 2100.
const TICKET: &str =
    "ada.gold.4102444800.583c998dea4bfd36050b1eb57ab0175e410b8d1b716e4e39b0a484914ee1b129";

/// Clients that talk while builds are replaced.
const TALKERS: usize = 8;

/// What differs from language to language in the life of a project.
pub(crate) struct Language {
    /// The word of `--language`.
    pub(crate) name: &'static str,
    /// The file of the handler.
    pub(crate) source: &'static str,
    /// A part of the template `echo` that answers with the message, and another that puts `new ` before it.
    pub(crate) answer: [&'static str; 2],
    /// What takes the place of the handler's first line, so that it cannot be built, and what the tools then say.
    pub(crate) mistake: [&'static str; 2],
    /// The commands that check the project: its tests, and what else its author's editor would say.
    pub(crate) checks: &'static [&'static [&'static str]],
}

/// The beginning of the names of [`all`].
const PREFIX: &str = "lockgate-languages-";

/// The name of the file whose lock a run holds on its folder.
const LOCK: &str = "lock";

/// The folder of this checkout's projects. Its path is the same in each run, so that what cargo keeps in the target folder counts
/// again; nothing in it is kept.
fn all() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    LOCKGATE.target().hash(&mut hasher);
    env::temp_dir().join(format!("{PREFIX}{:x}", hasher.finish()))
}

/// Takes the place of the projects for this run, and removes those that runs which were killed have left behind, of any
/// checkout. Dropped, it removes its own.
pub(crate) struct Place {
    lock: Option<File>,
}

impl Place {
    pub(crate) fn take() -> Self {
        for entry in fs::read_dir(env::temp_dir()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                remove_unused(&entry.path());
            }
        }
        fs::create_dir_all(all()).unwrap();
        let lock = File::create(all().join(LOCK)).unwrap();
        lock.lock_shared().unwrap();
        Self { lock: Some(lock) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lock = None;
        remove_unused(&all());
    }
}

/// Removes a folder of projects unless a run holds it.
fn remove_unused(folder: &Path) {
    if let Ok(lock) = File::create(folder.join(LOCK))
        && lock.try_lock().is_ok()
    {
        let _ = fs::remove_dir_all(folder); // another user's stays
    }
}

/// A folder outside any checkout, with the program in its `bin`. It is removed when it is dropped, and so lives longer than the
/// processes in it.
pub(crate) struct Outside(PathBuf);

impl Deref for Outside {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes the folder with this name.
pub(crate) fn outside(name: &str) -> Outside {
    let folder = all().join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("bin")).unwrap();
    let program = PathBuf::from(LOCKGATE.command(&[]).get_program());
    std::os::unix::fs::symlink(program, folder.join("bin/lockgate")).unwrap();
    // Rust has no other toolchain on some machines.
    let toolchain = concat!(env!("CARGO_MANIFEST_DIR"), "/../rust-toolchain.toml");
    fs::copy(toolchain, folder.join("rust-toolchain.toml")).unwrap();
    Outside(folder)
}

/// Prepares a command of a user: `lockgate` is in the `PATH`, and cargo takes what this machine has.
pub(crate) fn as_user(command: &mut Command, outside: &Path) {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [outside.join("bin")]
        .into_iter()
        .chain(env::split_paths(&path));
    command
        .env("PATH", env::join_paths(folders).unwrap())
        .env("CARGO_TARGET_DIR", LOCKGATE.target().join("guests"))
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("LOCKGATE_LOG");
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
}

/// A project of a test.
pub(crate) struct Project {
    name: String,
    outside: Outside,
    pub(crate) folder: PathBuf,
}

impl Project {
    /// Makes a project from a template. Its name is its own: projects in Rust share a target folder.
    pub(crate) async fn new(language: &str, template: &str) -> Self {
        Self::named(&format!("{language}-{template}"), language, template).await
    }

    /// As [`Self::new`], for tests that share a template.
    pub(crate) async fn named(name: &str, language: &str, template: &str) -> Self {
        let outside = outside(name);
        let words = ["new", name, "--language", language, "--template", template];
        let made = LOCKGATE.run_in(&outside, &words).await;
        assert_eq!(made.code, Some(0), "{}", made.error);
        let next = format!("cd {name}");
        assert!(made.output.contains(&next), "{}", made.output);
        Self {
            folder: outside.join(name),
            name: name.to_owned(),
            outside,
        }
    }

    /// Runs `lockgate` in the project to its end.
    pub(crate) async fn lockgate(&self, words: &[&str]) -> CommandResult {
        self.end(LOCKGATE.command(words)).await
    }

    /// Runs the commands that check the project.
    pub(crate) async fn check(&self, commands: &[&[&str]]) {
        for words in commands {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            let CommandResult {
                code,
                output,
                error,
            } = self.end(command).await;
            assert_eq!(code, Some(0), "{words:?}: {output}{error}");
        }
    }

    /// Runs the project's dialogue.
    async fn talk(&self) {
        let CommandResult {
            code,
            output,
            error,
        } = self.lockgate(&["test", "."]).await;
        assert_eq!(code, Some(0), "{output}{error}");
        assert!(output.contains("1 dialogue passed"), "{output}{error}");
    }

    async fn end(&self, mut command: Command) -> CommandResult {
        command.current_dir(&self.folder);
        as_user(&mut command, &self.outside);
        LOCKGATE.end_within(LONG_PATIENCE, command).await
    }

    /// Runs `lockgate dev` on what is named, on free ports, and waits until it serves.
    pub(crate) async fn dev(&self, what: &str) -> Gateway {
        let mut command = LOCKGATE.dev(Path::new(what), &[]);
        command.current_dir(&self.folder);
        as_user(&mut command, &self.outside);
        Gateway::start(command, TempDir::new().unwrap(), LONG_PATIENCE).await
    }

    pub(crate) fn save(&self, file: &str, text: &str) {
        fs::write(self.folder.join(file), text).unwrap();
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap()
    }
}

/// A newcomer's first minutes: makes a project, builds it, serves it, connects, saves a change, a mistake and its mend.
/// The client stays connected.
pub(crate) async fn is_built_served_and_saved(language: &Language) {
    let project = Project::new(language.name, "echo").await;
    let built = project.lockgate(&["build", "."]).await;
    assert_eq!(built.code, Some(0), "{}", built.error);
    let component = built.output.lines().last().unwrap();
    assert!(Path::new(component).is_file(), "{component}");

    // What the README of the project says.
    fs::copy(
        component,
        project.folder.join(format!("{}.wasm", project.name)),
    )
    .unwrap();
    let valid = project.lockgate(&["validate", "gateway.toml"]).await;
    assert_eq!(valid.code, Some(0), "{}", valid.error);
    assert_eq!(valid.error, "", "there is no warning");

    let gateway = project.dev(".").await;
    let other = gateway.output();
    other.line(&["lockgate dev ./gateway.toml"]).await;
    let mut client = gateway.connect("/dev").await;
    client.send("hello").await;
    client.expect("hello").await;

    let first = project.read(language.source);
    let [before, after] = language.answer;
    assert!(first.contains(before), "{first}");
    let changed = first.replacen(before, after, 1);
    project.save(language.source, &changed);
    let serving = ["serving the new build"];
    let log = gateway.log();
    client
        .idle_until(log.line_within(LONG_PATIENCE, &serving))
        .await;
    client.send("hello").await;
    client.expect("new hello").await;

    let [mistake, said] = language.mistake;
    project.save(language.source, &format!("{mistake}\n{changed}"));
    let kept = ["still serving the last good build"];
    client
        .idle_until(log.line_within(LONG_PATIENCE, &kept))
        .await;
    let log = gateway.log().lines();
    let named = |line: &String| line.contains(language.source);
    assert!(log.iter().any(named), "the tools name the file: {log:#?}");
    assert!(gateway.log().contains(&[said]), "{said}: {log:#?}");
    client.send("hello").await;
    client.expect("new hello").await;

    // Each message has its answer while new builds take the place of old ones.
    let (stop, stopped) = watch::channel(false);
    let mut talks = JoinSet::new();
    for _ in 0..TALKERS {
        talks.spawn(talk(gateway.connect("/dev").await, stopped.clone()));
    }
    let log = gateway.log();
    for (place, source) in [(1, &first), (2, &changed), (3, &first)] {
        project.save(language.source, source);
        let served = log.nth_line_within(LONG_PATIENCE, place, &serving);
        client.idle_until(served).await;
    }
    client.send("hello").await;
    client.expect("hello").await;
    stop.send_replace(true);
    for answered in talks.join_all().await {
        assert!(answered > 0, "every client talks");
    }
    drop((client, gateway));

    // The same by the project's configuration.
    let gateway = project.dev("gateway.toml").await;
    let mut client = gateway.connect("/dev").await;
    client.send("again").await;
    client.expect("again").await;
    drop(gateway);

    project.talk().await;
    project.check(language.checks).await;
}

/// The chat of a language serves its page, and passes what one client says to the others.
pub(crate) async fn chat_serves_its_page_and_its_clients(language: &Language) {
    let project = Project::new(language.name, "chat").await;
    let gateway = project.dev(".").await;
    let (status, page) =
        lockgate_tests::request_at(gateway.plain(), "GET /", "Host: localhost\r\n", "").await;
    assert_eq!(status, 200);
    assert!(page.contains("chat.js"), "{page}");
    let (mut ada, mut bob) = (
        gateway.connect("/dev?name=ada").await,
        gateway.connect("/dev?name=bob").await,
    );
    for (client, name) in [(&mut ada, "ada"), (&mut bob, "bob")] {
        assert_eq!(told(client, "welcome").await["name"], name);
        client.send(r#"{"action":"join","room":"lobby"}"#).await;
        told(client, "members").await;
    }
    let say = r#"{"action":"say","room":"lobby","text":"hi"}"#;
    bob.send(say).await;
    let said = told(&mut ada, "said").await;
    assert_eq!(
        (&said["name"], &said["text"]),
        (&"bob".into(), &"hi".into())
    );
    drop(gateway);
    project.talk().await;
    project.check(language.checks).await;
}

/// The authorizer of a language lets in whoever has a ticket, says who it is, and has passed its own tests.
pub(crate) async fn authorizer_decides_who_may_connect(language: &Language) {
    let project = Project::new(language.name, "authorizer").await;
    project.talk().await;
    let gateway = project.dev("gateway.toml").await;
    // The command wants a ticket, and the project says how one is made.
    let output = gateway.output();
    output.line(&["npx wscat", "/dev?ticket=…\""]).await;
    output
        .line(&[
            "what a client shows to [authorizers.tickets]; see",
            "README.md",
        ])
        .await;
    let refused = gateway.ws("/dev").refused().await;
    assert_eq!(refused.status, 401, "{}", refused.text());
    let forged = "/dev?ticket=ada.gold.4102444800.00";
    let refused = gateway.ws(forged).refused().await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    let mut client = gateway.connect(&format!("/dev?ticket={TICKET}")).await;
    client.send("who am I?").await;
    client.expect("ada (gold)").await;
    assert!(!gateway.log().contains(&[TICKET]), "no ticket is logged");
    drop((client, gateway));
    project.check(language.checks).await;
    let valid = project.lockgate(&["build", "."]).await;
    let component = valid.output.lines().last().unwrap();
    let inspected = project.lockgate(&["inspect", component]).await;
    assert!(
        inspected
            .output
            .contains("lockgate:plugin/authorizer@0.1.0"),
        "{}",
        inspected.output
    );
    // The secret of `dev` serves nobody else.
    let refused = project.lockgate(&["validate", "gateway.toml"]).await;
    let said = "the environment variable TICKET_SECRET is not set";
    assert!(refused.error.contains(said), "{}", refused.error);
}

/// The resident memory of the gateway's process, in KiB.
pub(crate) fn resident(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// Sends one message after the other, and awaits the answer to each. Gives their number.
async fn talk(mut client: Client, stopped: watch::Receiver<bool>) -> usize {
    let mut answered = 0;
    while !*stopped.borrow() {
        let sent = format!("message {answered}");
        client.send(sent.clone()).await;
        let answer = client.text().await;
        let came = answer.strip_prefix("new ").unwrap_or(&answer);
        assert_eq!(came, sent);
        answered += 1;
    }
    answered
}

/// The next event of this kind that a client is told.
async fn told(client: &mut Client, event: &str) -> Value {
    loop {
        let told = client.json().await;
        if told["event"] == event {
            return told;
        }
    }
}
