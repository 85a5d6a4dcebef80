//! Where a gateway is asked, for who knows the file that it runs: a socket with a name and no file, which ends with the
//! process. A file that has another management address by now is no hindrance then.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use crate::signature::digest_of;

/// How long one side waits for the other.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long telling rests when the process has no file descriptor left.
const REST: Duration = Duration::from_millis(50);

/// Bytes of the longest note that is read.
const LONGEST: u64 = 4_096;

/// What a gateway says of itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Note {
    pub(crate) process: u32,
    /// Of its management listener; none when it has none.
    pub(crate) management: Option<String>,
    /// Of its health listener, likewise.
    #[serde(default)]
    pub(crate) health: Option<String>,
}

/// What was found of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Note(Note),
    /// Of a user who could say anything.
    Strangers {
        note: Note,
        uid: u32,
    },
}

/// The name of the socket for a file. A link is known by its own name, wherever it points.
pub(crate) fn name(file: &Path) -> io::Result<String> {
    let file = std::path::absolute(file)?;
    let folder = file
        .parent()
        .unwrap_or_else(|| Path::new("/"))
        .canonicalize()?;
    let file: PathBuf = folder.join(file.file_name().unwrap_or_default());
    Ok(format!(
        "lockgate/{}",
        digest_of(file.as_os_str().as_encoded_bytes())
    ))
}

/// Tells everyone who connects, one after the other, until it is dropped.
pub(crate) async fn tell(socket: UnixListener, note: impl Fn() -> Note) {
    loop {
        let Ok((mut stream, _)) = socket.accept().await else {
            sleep(REST).await;
            continue;
        };
        let text = serde_json::to_vec(&note()).unwrap_or_default();
        // Less than the socket's buffer: nobody can keep the next one waiting.
        let _ = timeout(PATIENCE, stream.write_all(&text)).await;
    }
}

/// Asks the gateway that runs a file, if one does.
pub(crate) async fn find(file: &Path) -> Option<Found> {
    let connected = || {
        let address = SocketAddr::from_abstract_name(name(file)?)?;
        let stream = StdStream::connect_addr(&address)?;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    };
    let stream = connected().ok()?;
    let uid = stream.peer_cred().ok()?.uid();
    let mut text = Vec::new();
    let mut stream = stream.take(LONGEST);
    let read = timeout(PATIENCE, stream.read_to_end(&mut text)).await;
    read.ok()?.ok()?;
    let note = serde_json::from_slice(&text).ok()?;
    let owner = |path: &Path| path.metadata().ok().map(|metadata| metadata.uid());
    let trusted = [Some(0), owner(Path::new("/proc/self")), owner(file)];
    Some(if trusted.contains(&Some(uid)) {
        Found::Note(note)
    } else {
        Found::Strangers { note, uid }
    })
}
