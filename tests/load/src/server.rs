//! The servers under measurement, each a child process: the real gateway, from this same binary the bare server, and the
//! peers. A child ends with its [`Server`], or with the bench, even if that is killed.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// The deadline for a server to listen, its first compilation included.
const START: Duration = Duration::from_secs(120);

/// The interval of asking whether a server listens.
const PAUSE: Duration = Duration::from_millis(10);

/// The number of log lines that are kept for an error message.
const KEPT_LINES: usize = 20;

/// The gateway's binary, and the folder for its files.
pub(crate) struct Lockgate {
    binary: PathBuf,
    /// A folder that outlives a run, so that a component is compiled once.
    scratch: PathBuf,
}

/// The settings of the plugin for one measurement.
pub(crate) struct Setup<'a> {
    pub(crate) component: &'a Path,
    /// `reused` or `per-message`.
    pub(crate) isolation: &'static str,
    /// Route keys beside `$default`.
    pub(crate) routes: &'static [&'static str],
    /// Whether the listener with TLS serves QUIC too.
    pub(crate) quic: bool,
}

/// A running server. Its process is killed when this value is dropped.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    process: Child,
    pub(crate) plain: SocketAddr,
    pub(crate) secure: SocketAddr,
    /// The address for HTTP, which only the bare server has.
    pub(crate) http: Option<SocketAddr>,
    /// The time from the start of the process until it listens.
    pub(crate) took: Duration,
    log: Log,
}

type Log = Arc<Mutex<VecDeque<String>>>;

impl Lockgate {
    /// Finds the gateway beside this executable.
    pub(crate) fn find() -> Result<Self> {
        let here = std::env::current_exe().context("where this executable lies")?;
        let folder = here.parent().context("an executable lies in a folder")?;
        let binary = folder.join("lockgate");
        if !binary.is_file() {
            let release = if cfg!(debug_assertions) {
                ""
            } else {
                "--release "
            };
            bail!(
                "{}: there is no gateway to measure; build it first: cargo build {release}-p lockgate",
                binary.display()
            );
        }
        let scratch = folder.join("lockgate-load.files");
        fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
        Ok(Self { binary, scratch })
    }

    /// Builds the plugin in a folder of this repository, and returns the path of its component.
    pub(crate) fn build(&self, folder: &str) -> Result<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let built = Command::new(&self.binary)
            .arg("build")
            .arg(root.join(folder))
            .stderr(Stdio::inherit())
            .output()
            .context("lockgate build")?;
        let output = String::from_utf8_lossy(&built.stdout);
        match output.lines().last() {
            Some(path) if built.status.success() => Ok(path.into()),
            _ => bail!("lockgate build {folder} failed, see above"),
        }
    }

    /// The output of `lockgate version`.
    pub(crate) fn version(&self) -> Result<String> {
        let said = Command::new(&self.binary).arg("version").output()?;
        Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
    }

    /// Starts a gateway with one stage, `load`, and waits until it listens.
    pub(crate) async fn serve(&self, setup: &Setup<'_>) -> Result<Server> {
        self.serve_text(&self.configuration(setup)).await
    }

    /// Starts a gateway with this configuration, which begins with [`Self::preamble`].
    pub(crate) async fn serve_text(&self, text: &str) -> Result<Server> {
        let file = self.write(text)?;
        let mut command = self.command(&["run"])?;
        command.arg(&file);
        Server::start("the gateway", command).await
    }

    /// The reason why this configuration is refused, in one line.
    pub(crate) fn refusal(&self, text: &str) -> Result<String> {
        let file = self.write(text)?;
        let said = Command::new(&self.binary)
            .arg("validate")
            .arg(&file)
            .output()?;
        ensure!(!said.status.success(), "it was not refused");
        let said = String::from_utf8_lossy(&said.stderr);
        let line = said
            .lines()
            .find_map(|line| line.split_once(".component: "));
        Ok(line.map_or_else(|| said.trim(), |(_, why)| why).to_owned())
    }

    /// A command of the gateway's program, which is killed with this process.
    pub(crate) fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = leashed(&self.binary)?;
        command.args(words).env_remove("LOCKGATE_LOG");
        Ok(command)
    }

    /// A file that a measurement may write.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    fn write(&self, text: &str) -> Result<PathBuf> {
        let file = self.file("gateway.toml");
        fs::write(&file, text).with_context(|| file.display().to_string())?;
        // It may have a secret.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        Ok(file)
    }

    /// The start of every configuration.
    pub(crate) fn preamble(&self) -> String {
        self.listeners("")
    }

    fn listeners(&self, quic: &str) -> String {
        let compiled = self.scratch.join("compiled");
        format!(
            r#"
compile_cache = {compiled:?}
listeners = [
    {{ address = "127.0.0.1:0", tls = "off" }},
    {{ address = "127.0.0.1:0", tls = "self-signed"{quic} }},
]
"#
        )
    }

    /// The default settings, except those that would disturb a measurement. Tables may be added at the end.
    pub(crate) fn configuration(&self, setup: &Setup<'_>) -> String {
        let mut text = self.listeners(if setup.quic { ", quic = true" } else { "" });
        text += &format!(
            r#"
[plugins.load]
component = {:?}
grants = ["connections", "groups"]
isolation = "{}"

[apis.load.stages.load]
# A client that waits for its turn does not answer pings.
limits = {{ ping_interval_s = 0 }}

[apis.load.routes."$default"]
integration = "load"
two_way = true
"#,
            setup.component, setup.isolation,
        );
        for route in setup.routes {
            let two_way = *route != "$connect";
            text += &format!(
                "\n[apis.load.routes.{route:?}]\nintegration = \"load\"\ntwo_way = {two_way}\n"
            );
        }
        text
    }
}

impl Server {
    /// Starts the bare server, from this executable.
    pub(crate) async fn bare() -> Result<Self> {
        let mut command = leashed(&std::env::current_exe()?)?;
        command.arg("bare");
        Self::start("the bare server", command).await
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The server's name and its last log lines, for an error.
    pub(crate) fn log(&self) -> String {
        let lines = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: String = lines.iter().map(|line| format!("\n  {line}")).collect();
        format!("{} wrote:{lines}", self.name)
    }

    /// Starts a server, and waits until its log tells the addresses where it listens.
    pub(crate) async fn start(name: &'static str, command: Command) -> Result<Self> {
        let started = Instant::now();
        let (mut server, heard) = Self::spawn(name, command)?;
        match tokio::time::timeout(START, heard).await {
            Ok(Ok(listening)) => {
                server.plain = listening.plain;
                server.secure = listening.secure;
                server.http = listening.http;
                server.took = listening.at - started;
                Ok(server)
            }
            Ok(Err(_)) => bail!("{name} ended before it listened\n{}", server.log()),
            Err(_) => bail!("{name} did not listen within {START:?}\n{}", server.log()),
        }
    }

    /// Starts a server, and waits until it listens on this address, without TLS.
    pub(crate) async fn start_at(
        name: &'static str,
        address: SocketAddr,
        command: Command,
    ) -> Result<Self> {
        let (mut server, heard) = Self::spawn(name, command)?;
        server.plain = address;
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = listens => Ok(server),
            _ = heard => bail!("{name} ended before it listened\n{}", server.log()),
            () = tokio::time::sleep(START) => {
                bail!("{name} did not listen within {START:?}\n{}", server.log())
            }
        }
    }

    /// Starts the process, whose log will tell the addresses.
    fn spawn(
        name: &'static str,
        mut command: Command,
    ) -> Result<(Self, oneshot::Receiver<Listening>)> {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start")?;
        let stderr = process.stderr.take().context("it is piped")?;
        let unset = SocketAddr::from(([0, 0, 0, 0], 0));
        // From here on every return kills the process.
        let server = Self {
            name,
            process,
            plain: unset,
            secure: unset,
            http: None,
            took: Duration::ZERO,
            log: Log::default(),
        };
        let (listening, heard) = oneshot::channel();
        let log = Arc::clone(&server.log);
        std::thread::spawn(move || read_log(stderr, &log, listening));
        Ok((server, heard))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The addresses that a server's log names, and when it did.
struct Listening {
    plain: SocketAddr,
    secure: SocketAddr,
    http: Option<SocketAddr>,
    at: Instant,
}

/// Reads a server's log to its end, so that the server never blocks on it, and signals once it listens on both
/// addresses.
fn read_log(stderr: ChildStderr, log: &Log, listening: oneshot::Sender<Listening>) {
    let mut listening = Some(listening);
    let (mut plain, mut secure, mut http) = (None, None, None);
    for line in BufReader::new(stderr).lines() {
        let Ok(line) = line else { return };
        let address = |scheme: &str| {
            let (_, address) = line.split_once(&format!(" listening on {scheme}://"))?;
            address.trim().parse::<SocketAddr>().ok()
        };
        plain = plain.or_else(|| address("ws"));
        secure = secure.or_else(|| address("wss"));
        http = http.or_else(|| address("http"));
        if let (Some(plain), Some(secure)) = (plain, secure)
            && let Some(listening) = listening.take()
        {
            let _ = listening.send(Listening {
                plain,
                secure,
                http,
                at: Instant::now(),
            });
        }
        let mut lines = log.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// A command that starts `program` so that the kernel ends it with this process, even if that is killed.
pub(crate) fn leashed(program: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("leashed").arg(program);
    Ok(command)
}

/// Replaces this process by another program, which is killed when the thread that started this process ends.
pub(crate) fn become_leashed(words: &[String]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("prctl")?;
    let (program, words) = words.split_first().context("no program to run")?;
    Err(Command::new(program).args(words).exec()).context(program.clone())
}
