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
pub(crate) const NOTE_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// The process of the older gateway of two does not answer; the note is the other one's.
    Silent { process: u32, second: Note },
}

/// What a note's socket gives.
enum Found {
    Note(FoundNote),
    /// A process that may be believed holds the socket, and does not answer in time.
    Silent(u32),
    Nothing,
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
        let _ = timeout(NOTE_TIMEOUT, stream.write_all(&text)).await;
    }
}

/// Asks the gateway that runs a file for its note, if there is one, and waits `limit` for each of two. Of two, the older one
/// counts; that it does not answer is told, too, since the other one is not meant then.
pub(crate) async fn find_note(file: &Path, limit: Duration) -> Option<FoundNote> {
    let name = note_socket_name(file).ok()?;
    let first = find(file, &name, limit).await;
    if let Found::Note(found) = first {
        return Some(found);
    }
    match (
        first,
        find(file, &second_note_socket_name(&name), limit).await,
    ) {
        (Found::Silent(process), Found::Note(FoundNote::Trusted(second))) => {
            Some(FoundNote::Silent { process, second })
        }
        (_, Found::Note(found)) => Some(found),
        (_, Found::Silent(_) | Found::Nothing) => None,
    }
}

/// Asks a second gateway that runs a file beside the one with this note; none if it may lie.
pub(crate) async fn find_second_note(file: &Path, first: &Note) -> Option<Note> {
    let name = second_note_socket_name(&note_socket_name(file).ok()?);
    match find(file, &name, NOTE_TIMEOUT).await {
        Found::Note(FoundNote::Trusted(note)) => (note.process != first.process).then_some(note),
        Found::Note(_) | Found::Silent(_) | Found::Nothing => None,
    }
}

async fn find(file: &Path, name: &str, limit: Duration) -> Found {
    read(file, name, limit).await.unwrap_or(Found::Nothing)
}

async fn read(file: &Path, name: &str, limit: Duration) -> Option<Found> {
    let connected = || UnixStream::from_std(connect_abstract(name)?);
    let stream = connected().ok()?;
    let peer = stream.peer_cred().ok()?;
    let owner = |path: &Path| path.metadata().ok().map(|metadata| metadata.uid());
    let trusted = [Some(0), owner(Path::new("/proc/self")), owner(file)];
    let is_trusted = trusted.contains(&Some(peer.uid()));
    let mut text = Vec::new();
    let mut stream = stream.take(MAX_NOTE_BYTES);
    let Ok(read) = timeout(limit, stream.read_to_end(&mut text)).await else {
        let process = peer.pid().and_then(|id| id.try_into().ok())?;
        return is_trusted.then_some(Found::Silent(process));
    };
    read.ok()?;
    let note = serde_json::from_slice(&text).ok()?;
    Some(Found::Note(match is_trusted {
        true => FoundNote::Trusted(note),
        false => FoundNote::Untrusted {
            note,
            uid: peer.uid(),
        },
    }))
}
