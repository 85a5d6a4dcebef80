//! The binary under test, and one running process of it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Child,
};

use crate::{
    Client, Guest, Http2, Http3, LONG_PATIENCE, Log, PATIENCE, Request, copy_of_plugin, tls::Tls,
    within, write_private,
};

/// The gateway's binary.
#[derive(Clone, Copy)]
pub struct Lockgate {
    binary: &'static str,
    /// A folder that outlives a test run, so that a component is compiled once.
    scratch: &'static str,
}

/// The exit code and the output of a command.
#[derive(Debug)]
pub struct CommandResult {
    pub code: Option<i32>,
    pub output: String,
    pub error: String,
}

impl Lockgate {
    #[must_use]
    pub const fn new(binary: &'static str, scratch: &'static str) -> Self {
        Self { binary, scratch }
    }

    /// The target folder of cargo.
    #[must_use]
    pub fn target(&self) -> &'static Path {
        Path::new(self.scratch).parent().unwrap()
    }

    /// Runs a command to its end.
    pub async fn run(&self, words: &[&str]) -> CommandResult {
        Self::run_to_end(self.command(words), PATIENCE).await
    }

    /// As [`Self::run`], for a command that the test has prepared.
    pub async fn end(&self, command: Command) -> CommandResult {
        Self::run_to_end(command, PATIENCE).await
    }

    /// As [`Self::end`], with another deadline.
    pub async fn end_within(&self, patience: Duration, command: Command) -> CommandResult {
        Self::run_to_end(command, patience).await
    }

    /// As [`Self::run`], with another deadline.
    pub async fn run_within(&self, patience: Duration, words: &[&str]) -> CommandResult {
        Self::run_to_end(self.command(words), patience).await
    }

    /// Runs a command to its end, inside a folder.
    pub async fn run_in(&self, folder: &Path, words: &[&str]) -> CommandResult {
        let mut command = self.command(words);
        command.current_dir(folder);
        Self::run_to_end(command, PATIENCE).await
    }

    async fn run_to_end(command: Command, patience: Duration) -> CommandResult {
        let (mut child, output, error) = spawn(command, Stdio::null());
        let status = exit(&mut child, patience).await;
        CommandResult {
            code: status.code(),
            output: output.whole().await,
            error: error.whole().await,
        }
    }

    /// A copy of an example plugin, in a folder that outlives the test run. Each test needs another name for its copy.
    #[must_use]
    pub fn copy_of(&self, plugin: &str, copy: &str) -> PathBuf {
        copy_of_plugin(plugin, &Path::new(self.scratch).join(copy), self.target())
    }

    /// `lockgate dev` on free ports.
    #[must_use]
    pub fn dev(&self, what: &Path, more: &[&str]) -> Command {
        let mut command = self.command(&["dev", what.to_str().unwrap()]);
        command
            .args(["--wss-port", "0", "--ws-port", "0"])
            .args(more);
        command
    }

    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.binary);
        command.args(words).env_remove("LOCKGATE_LOG");
        command
    }

    /// Serves this configuration, with the common settings in front: one listener without TLS and one with, the
    /// management listener, a compile cache and a log at the level debug.
    ///
    /// The name of a [`Guest`] in braces stands for its path.
    pub async fn serve(&self, configuration: &str) -> Gateway {
        let configuration = self.with_all(configuration);
        self.serve_as_written(&configuration).await
    }

    /// As [`Self::serve`], with QUIC beside TLS.
    pub async fn serve_quic(&self, configuration: &str) -> Gateway {
        let tls = "tls = \"self-signed\"\n";
        let configuration = self.with_all(configuration);
        let configuration = configuration.replacen(tls, &format!("{tls}quic = true\n"), 1);
        self.serve_as_written(&configuration).await
    }

    /// As [`Self::serve`], after a shell has run `words` in the process, such as `ulimit -v 1000000`.
    pub async fn serve_after(&self, words: &str, configuration: &str) -> Gateway {
        let folder = TempDir::new().unwrap();
        let file = write_configuration(folder.path(), &self.with_all(configuration));
        let command = self.command_after(words, &["run", file.to_str().unwrap()]);
        Gateway::start(command, folder, PATIENCE).await
    }

    /// As [`Self::run`], after a shell has run `before` in the process.
    pub async fn run_after(&self, before: &str, words: &[&str]) -> CommandResult {
        Self::run_to_end(self.command_after(before, words), PATIENCE).await
    }

    fn command_after(&self, before: &str, words: &[&str]) -> Command {
        let mut command = Command::new("sh");
        let script = format!("{before}; exec \"$0\" \"$@\"");
        command.args(["-c", &script, self.binary]).args(words);
        command.env_remove("LOCKGATE_LOG");
        command
    }

    fn with_all(&self, configuration: &str) -> String {
        let cache = Path::new(self.scratch).join("compiled");
        let before = format!(
            r#"
compile_cache = "{}"

[log]
level = "info,lockgate=debug"
format = "json"

[[listeners]]
address = "127.0.0.1:0"
tls = "off"

[[listeners]]
address = "127.0.0.1:0"
tls = "self-signed"

[management]
address = "127.0.0.1:0"

"#,
            cache.display()
        );
        before + configuration
    }

    /// Serves this configuration as it is, except for the names of guests.
    pub async fn serve_as_written(&self, configuration: &str) -> Gateway {
        let folder = TempDir::new().unwrap();
        let file = write_configuration(folder.path(), configuration);
        Gateway::start(
            self.command(&["run", file.to_str().unwrap()]),
            folder,
            PATIENCE,
        )
        .await
    }
}

/// Writes `gateway.toml` into `folder`, with the guests' paths in place of their names.
#[must_use]
pub fn write_configuration(folder: &Path, configuration: &str) -> PathBuf {
    let mut text = configuration.to_owned();
    for guest in Guest::ALL {
        text = text.replace(
            &format!("{{{}}}", guest.name()),
            guest.path().to_str().unwrap(),
        );
    }
    let file = folder.join("gateway.toml");
    write_private(&file, text);
    file
}

/// A running gateway. Its process is killed when this value is dropped.
pub struct Gateway {
    process: Child,
    log: Log,
    output: Log,
    plain: Option<SocketAddr>,
    secure: Option<SocketAddr>,
    management: Option<SocketAddr>,
    health: Option<SocketAddr>,
    folder: TempDir,
}

impl Gateway {
    /// Starts `command`, and waits until it serves. The folder is removed with the gateway.
    ///
    /// # Panics
    ///
    /// When the process ends first; the message has its output.
    pub async fn start(command: Command, folder: TempDir, patience: Duration) -> Self {
        Self::start_with(Stdio::null(), command, folder, patience).await
    }

    /// As [`Self::start`], with this standard input.
    pub async fn start_with(
        input: Stdio,
        command: Command,
        folder: TempDir,
        patience: Duration,
    ) -> Self {
        let (process, output, log) = spawn(command, input);
        let mut gateway = Self {
            process,
            log,
            output,
            plain: None,
            secure: None,
            management: None,
            health: None,
            folder,
        };
        gateway
            .log
            .line_within(patience, &["ready", "connections"])
            .await;
        for line in gateway.log.lines() {
            let line = line.replace(
                "management listening on https://",
                "management listening on http://",
            );
            for (place, words) in [
                (&mut gateway.plain, "listening on ws://"),
                (&mut gateway.secure, "listening on wss://"),
                (&mut gateway.management, "management listening on http://"),
                (&mut gateway.health, "health listening on http://"),
            ] {
                if let Some((_, rest)) = line.split_once(words) {
                    let end = rest.find(|character| !matches!(character, '0'..='9' | '.' | ':'));
                    // An IPv6 address is skipped: the tests use the IPv4 one.
                    let Ok(address) = rest[..end.unwrap_or(rest.len())].parse() else {
                        continue;
                    };
                    place.get_or_insert(address);
                }
            }
        }
        gateway
    }

    /// Starts `lockgate dev`, and waits until the first build serves.
    pub async fn start_dev(command: Command) -> Self {
        Self::start(command, TempDir::new().unwrap(), LONG_PATIENCE).await
    }

    /// The gateway's standard error.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The gateway's standard output.
    #[must_use]
    pub fn output(&self) -> &Log {
        &self.output
    }

    /// The folder of the configuration file.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The address of the first listener without TLS.
    #[must_use]
    pub fn plain(&self) -> SocketAddr {
        self.plain.expect("there is a listener without TLS")
    }

    /// The address of the first listener with TLS.
    #[must_use]
    pub fn secure(&self) -> SocketAddr {
        self.secure.expect("there is a listener with TLS")
    }

    #[must_use]
    pub fn management(&self) -> SocketAddr {
        self.management.expect("there is a management listener")
    }

    /// The address of the health listener.
    #[must_use]
    pub fn health(&self) -> SocketAddr {
        self.health.expect("there is a health listener")
    }

    /// A request over plain TCP.
    #[must_use]
    pub fn ws(&self, target: &str) -> Request {
        Request::new(self.plain(), target)
    }

    /// A request over TLS.
    #[must_use]
    pub fn wss(&self, target: &str) -> Request {
        Request::new(self.secure(), target).over(Tls::default())
    }

    /// An HTTP/2 connection over TLS.
    pub async fn http2(&self) -> Http2 {
        Http2::connect(self.secure()).await
    }

    /// An HTTP/3 connection to the listener with TLS, which serves QUIC.
    pub async fn http3(&self) -> Http3 {
        Http3::connect(self.secure()).await
    }

    /// A client that has been let in, over plain TCP.
    pub async fn connect(&self, target: &str) -> Client {
        self.ws(target).open().await
    }

    /// The status and the body of a page of the management listener.
    pub async fn page(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "Host: localhost\r\n").await
    }

    /// The status and the body of the answer to a request without a body at the management listener. Each header ends
    /// with CR and LF.
    pub async fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        self.request(&format!("{method} {path}"), headers, "").await
    }

    /// The status and the body of the answer to a `POST` of JSON to the management listener.
    pub async fn post(&self, path: &str, body: &str) -> (u16, String) {
        let headers = "Host: localhost\r\nContent-Type: application/json\r\n";
        self.request(&format!("POST {path}"), headers, body).await
    }

    /// Changes the configuration file by these edits, each the first place of a text and another one, and reloads it, which
    /// must succeed. Gives the answer.
    pub async fn change(&self, edits: &[(&str, &str)]) -> String {
        let file = self.folder().join("gateway.toml");
        let mut text = fs::read_to_string(&file).unwrap();
        for (from, to) in edits {
            assert!(text.contains(from), "{from} is not in {text}");
            text = text.replacen(from, to, 1);
        }
        fs::write(&file, text).unwrap();
        let (status, body) = self.post("/reload", "{}").await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Sends a request to the management listener as it is given. Each header ends with CR and LF.
    pub async fn request(&self, line: &str, headers: &str, body: &str) -> (u16, String) {
        request_at(self.management(), line, headers, body).await
    }

    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// SIGUSR2.
    pub fn upgrade(&self) {
        self.signal(Signal::USR2);
    }

    /// Stops the process until [`Self::resume`]: clients that connect meanwhile wait in the accept queues.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// The id of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id().expect("the process runs")
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Waits until the process ends by itself, and returns its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        self.ended_within(PATIENCE).await
    }

    /// As [`Self::ended`], with another deadline.
    pub async fn ended_within(&mut self, patience: Duration) -> Option<i32> {
        exit(&mut self.process, patience).await.code()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "--- the gateway wrote:\n{}\n---",
                self.log.lines().join("\n")
            );
        }
    }
}

/// The status and the body of the answer to an HTTP/1.1 request. Each header ends with CR and LF.
pub async fn request_at(
    address: SocketAddr,
    line: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let read = async {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = within(&format!("the answer to {line}"), read)
        .await
        .unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

/// Starts a process that is killed when its value is dropped, and collects its standard output and error.
fn spawn(command: Command, input: Stdio) -> (Child, Log, Log) {
    let mut child = tokio::process::Command::from(command)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap().into_owned_fd().unwrap();
    let error = child.stderr.take().unwrap().into_owned_fd().unwrap();
    (
        child,
        Log::of(fs::File::from(output)),
        Log::of(fs::File::from(error)),
    )
}

/// Waits for the end of a process.
async fn exit(process: &mut Child, patience: Duration) -> ExitStatus {
    match tokio::time::timeout(patience, process.wait()).await {
        Ok(status) => status.unwrap(),
        Err(_) => panic!("the process did not end within {patience:?}"),
    }
}
