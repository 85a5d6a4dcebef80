//! The note of a running gateway: tells commands that know its file where to ask. It is served on an abstract socket,
//! which ends with the process, and stays right if the file has another management address by now.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use crate::net::connect_abstract;
use crate::signature::digest_of;

/// Time limit of one side's wait for the other.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after a failed accept, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Longest note that is read, in bytes.
const MAX_NOTE_BYTES: u64 = 4_096;

/// A gateway's statement of itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Note {
    pub(crate) process: u32,
    /// The address of its management listener, if it has one.
    pub(crate) management: Option<String>,
    /// Whether that listener has TLS.
    #[serde(default)]
    pub(crate) has_tls: bool,
    /// The address of its health listener, if it has one.
    #[serde(default)]
    pub(crate) health: Option<String>,
}

/// The note found for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FoundNote {
    /// A note of the same user, of root, or of the file's owner.
    Trusted(Note),
    /// A note of another user, which may lie.
    Untrusted { note: Note, uid: u32 },
}

/// The name of a file's note socket. A link counts by its own name, wherever it points.
pub(crate) fn note_socket_name(file: &Path) -> io::Result<String> {
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

/// The name of the note socket of a second gateway that runs the file of this name.
pub(crate) fn second_note_socket_name(name: &str) -> String {
    format!("{name}/second")
}

/// Sends the note to every client, one after the other, until it is dropped.
pub(crate) async fn serve_note(socket: UnixListener, note: impl Fn() -> Note) {
    loop {
        let Ok((mut stream, _)) = socket.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let text = serde_json::to_vec(&note()).unwrap_or_default();
        // The note fits into the socket's buffer: no client delays the next one.
        let _ = timeout(TIMEOUT, stream.write_all(&text)).await;
    }
}

/// Asks the gateway that runs a file for its note, if there is one. Of two, that is the older one.
pub(crate) async fn find_note(file: &Path) -> Option<FoundNote> {
    let name = note_socket_name(file).ok()?;
    match find(file, &name).await {
        Some(found) => Some(found),
        None => find(file, &second_note_socket_name(&name)).await,
    }
}

/// Asks a second gateway that runs a file beside the one with this note; none if it may lie.
pub(crate) async fn find_second_note(file: &Path, first: &Note) -> Option<Note> {
    let name = second_note_socket_name(&note_socket_name(file).ok()?);
    match find(file, &name).await? {
        FoundNote::Trusted(note) => (note.process != first.process).then_some(note),
        FoundNote::Untrusted { .. } => None,
    }
}

async fn find(file: &Path, name: &str) -> Option<FoundNote> {
    let connected = || UnixStream::from_std(connect_abstract(name)?);
    let stream = connected().ok()?;
    let uid = stream.peer_cred().ok()?.uid();
    let mut text = Vec::new();
    let mut stream = stream.take(MAX_NOTE_BYTES);
    let read = timeout(TIMEOUT, stream.read_to_end(&mut text)).await;
    read.ok()?.ok()?;
    let note = serde_json::from_slice(&text).ok()?;
    let owner = |path: &Path| path.metadata().ok().map(|metadata| metadata.uid());
    let trusted = [Some(0), owner(Path::new("/proc/self")), owner(file)];
    Some(if trusted.contains(&Some(uid)) {
        FoundNote::Trusted(note)
    } else {
        FoundNote::Untrusted { note, uid }
    })
}
