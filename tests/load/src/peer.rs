//! The servers that others use, each a folder of `tests/load/peers`: installed and started as their users do it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::server::{Server, leashed};

/// The longest reason of a failed command, in characters: it stands in a cell of a table.
const MAX_REASON: usize = 300;

/// A server whose handler parses each message's JSON and picks one of five actions. The commands are a shell's, in the
/// folder of the installed server.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    folder: &'static str,
    install: &'static str,
    /// Prints the versions in a line.
    version: &'static str,
    /// Becomes the server, which listens on `$PORT`. It has no child processes, since they would not be measured.
    start: &'static str,
    /// Whether a message can reach the other clients.
    pub(crate) publishes: bool,
}

/// What is fetched runs no script of its own.
const NPM: &str = "npm ci --ignore-scripts --prefer-offline --no-audit --no-fund --loglevel=error";

pub(crate) const PEERS: [Peer; 6] = [
    Peer {
        name: "uWebSockets.js",
        folder: "uws",
        install: NPM,
        version: r#"node -p '"uWebSockets.js "
            + require("@trufflesuite/uws-js-unofficial/package.json").version.split("-")[0]
            + " on Node " + process.versions.node'"#,
        start: "exec node server.mjs",
        publishes: true,
    },
    Peer {
        name: "Bun",
        folder: "bun",
        install: NPM,
        version: r#"node_modules/@oven/bun-*/bin/bun -p '"Bun " + Bun.version'"#,
        start: "exec node_modules/@oven/bun-*/bin/bun server.js",
        publishes: true,
    },
    Peer {
        name: "ws",
        folder: "ws",
        install: NPM,
        version: r#"node -p '"ws " + require("ws/package.json").version + " on Node " + process.versions.node'"#,
        start: "exec node server.mjs",
        publishes: true,
    },
    Peer {
        name: "workerd",
        folder: "workerd",
        install: NPM,
        version: "node_modules/@cloudflare/workerd-*/bin/workerd --version",
        start: "exec node_modules/@cloudflare/workerd-*/bin/workerd serve config.capnp --socket-addr=http=127.0.0.1:$PORT",
        publishes: false,
    },
    Peer {
        name: "gorilla/websocket",
        folder: "gorilla",
        install: "go build -o server",
        version: "echo gorilla/websocket $(go list -m -f '{{.Version}}' github.com/gorilla/websocket), $(go env GOVERSION)",
        start: "exec ./server",
        publishes: true,
    },
    Peer {
        name: "Python's websockets",
        folder: "websockets",
        install: "python3 -m pip install --quiet --disable-pip-version-check --only-binary :all: --upgrade --target . \
            --requirement requirements.txt",
        version: "python3 -c 'import platform, websockets as w; \
            print(\"websockets\", w.__version__, \"on Python\", platform.python_version())'",
        start: "exec python3 server.py",
        publishes: true,
    },
];

/// A peer that can be started.
pub(crate) struct Installed {
    pub(crate) peer: &'static Peer,
    /// Its versions.
    pub(crate) version: String,
    folder: PathBuf,
}

impl Peer {
    /// Copies the peer's files into a folder of this one, and installs there what they need.
    ///
    /// Fails with the reason of the command that failed, in a line.
    pub(crate) fn install(&'static self, folder: &Path) -> Result<Installed> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let sources = sources.join(self.folder);
        let folder = folder.join(self.folder);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        for file in fs::read_dir(&sources).with_context(|| sources.display().to_string())? {
            let file = file?;
            if file.file_type()?.is_file() {
                fs::copy(file.path(), folder.join(file.file_name()))?;
            }
        }
        run(self.install, &folder)?;
        Ok(Installed {
            peer: self,
            version: run(self.version, &folder)?,
            folder,
        })
    }
}

impl Installed {
    pub(crate) async fn serve(&self) -> Result<Server> {
        // The kernel does not give a port again soon after it was free.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let address: SocketAddr = free.context("no port is free")?;
        let mut command = leashed(Path::new("sh"))?;
        command.args(["-c", self.peer.start]);
        command.current_dir(&self.folder);
        command.env("PORT", address.port().to_string());
        Server::start_at(self.peer.name, address, command).await
    }
}

/// The output of a command of the shell. Fails with what it wrote, in a line.
fn run(command: &str, folder: &Path) -> Result<String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder);
    let ended = shell.stdin(Stdio::null()).output().context("sh")?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let said: Vec<_> = said.split_whitespace().collect();
    let said: String = said.join(" ").chars().take(MAX_REASON).collect();
    bail!("{said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_that_cannot_be_installed_says_why() {
        static MISSING: Peer = Peer {
            name: "ws",
            folder: "ws",
            install: "test -f server.mjs && no-such-installer",
            version: "",
            start: "",
            publishes: false,
        };
        let folder = std::env::temp_dir().join(format!("lockgate-load-{}", std::process::id()));
        let error = MISSING.install(&folder).err().unwrap().to_string();
        fs::remove_dir_all(&folder).unwrap();
        assert!(error.contains("no-such-installer"), "{error}");
        assert!(error.contains("not found"), "{error}");
    }

    #[test]
    fn every_peer_has_its_files() {
        for peer in &PEERS {
            let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
            let files = fs::read_dir(sources.join(peer.folder)).unwrap();
            assert!(files.count() > 1, "{}", peer.name);
        }
    }
}
