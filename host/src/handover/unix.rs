//! Sockets in the file system: who may connect is said by their file, which goes with them.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, listen, socket_with};

use super::socket::BACKLOG;

/// The file of a socket. It is removed with this value, unless another process has the socket by then, as systemd has its
/// own from the beginning.
pub(crate) struct SocketFile {
    place: Place,
    handed_over: Arc<AtomicBool>,
}

/// Where a socket's file is, and which file that is.
#[derive(Clone)]
pub(super) struct Place {
    path: PathBuf,
    identity: (u64, u64),
}

/// A socket that listens, in the place of one that nobody listens on any more.
pub(super) fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    remove_stale(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Nobody can connect before it listens.
    set_mode(path, mode)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Whether there is a socket in a place; not when it is taken by anything else, or cannot be looked at.
pub(crate) fn find(path: &Path) -> io::Result<bool> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    if metadata.file_type().is_socket() {
        return Ok(true);
    }
    let what = match metadata.is_dir() {
        true => "there is a folder",
        false => "there is a file that is no socket",
    };
    Err(io::Error::new(io::ErrorKind::AlreadyExists, what))
}

/// Removes a socket that a process which was killed has left, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !find(path)? {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

impl Place {
    /// None when there is no file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok()?;
        Some(Self {
            path: path.to_owned(),
            identity: identity(&metadata),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.identity == other.identity
    }

    /// False once the file is gone, or is another's.
    pub(super) fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|metadata| identity(&metadata) == self.identity)
    }

    /// Removes the file, unless it is another's by now.
    pub(super) fn remove(&self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl SocketFile {
    pub(super) fn at(place: Place, handed_over: Arc<AtomicBool>) -> Self {
        Self { place, handed_over }
    }

    pub(super) fn is_there(&self) -> bool {
        self.place.is_there()
    }

    /// Has those connect from now on who may by these permissions. Those of systemd's are its unit's to say.
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        let path = self.place.path();
        if !self.handed_over.load(Ordering::Relaxed) {
            return set_mode(path, mode);
        }
        let own = fs::symlink_metadata(path)?.permissions().mode() & 0o777;
        if own == mode {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "systemd has made the socket with {own:04o}; write SocketMode={mode:04o} in the socket unit"
        )))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.handed_over.load(Ordering::Relaxed) {
            self.place.remove();
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
