//! Sockets in the file system. The permissions of a socket's file say who may connect; the file is removed with its
//! socket.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, listen, socket_with};

use super::socket::BACKLOG;
use crate::config::Mode;
use crate::net::connect_unix;

/// The file of a socket. It is removed with this value if it is this process's own by then.
pub(crate) struct SocketFile {
    inode: SocketInode,
    owner: Owner,
}

/// The owner of a socket's file.
pub(super) enum Owner {
    Systemd,
    /// This process, unless another has the socket: the one before it, which serves still, or the one after it.
    Gateway {
        elsewhere: Arc<AtomicBool>,
    },
}

/// The path of a socket's file, and the device and inode of the file that was there.
#[derive(Clone)]
pub(super) struct SocketInode {
    path: PathBuf,
    identity: (u64, u64),
}

/// Binds and listens at a path, in place of a stale socket file.
pub(super) fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    remove_stale(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Set before `listen`: until then nobody can connect.
    set_mode(path, mode)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Whether there is a socket at a path. Fails if something else is there, or the path cannot be read.
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

/// Removes a socket file that a killed process has left, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    match is_stale(path)? {
        true => fs::remove_file(path),
        false => Ok(()),
    }
}

/// Whether there is a socket in a place that nobody listens on; an error if there is anything else.
fn is_stale(path: &Path) -> io::Result<bool> {
    if !find(path)? {
        return Ok(false);
    }
    match connect_unix(&SocketAddrUnix::new(path)?) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        // A process listens, and does not accept.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::ErrorKind::AddrInUse.into())
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        Err(error) => Err(error),
    }
}

/// Reports that a path is taken.
pub(super) fn check(path: &Path) -> io::Result<()> {
    is_stale(path).map(drop)
}

impl SocketInode {
    /// Identifies the file at a path; none if there is none.
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

    /// Whether the file is still there and still the same.
    pub(super) fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|metadata| identity(&metadata) == self.identity)
    }

    /// Removes the file, unless another is there by now.
    pub(super) fn remove(&self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl SocketFile {
    pub(super) fn at(inode: SocketInode, owner: Owner) -> Self {
        Self { inode, owner }
    }

    pub(super) fn is_there(&self) -> bool {
        self.inode.is_there()
    }

    /// Sets the permissions. Those of systemd's sockets are set in their unit: a difference from what is meant is an error.
    pub(super) fn set_mode(&self, mode: Mode) -> io::Result<()> {
        let path = self.inode.path();
        if let Owner::Gateway { .. } = self.owner {
            return set_mode(path, mode.bits);
        }
        let own = fs::symlink_metadata(path)?.permissions().mode() & 0o777;
        if own == mode.bits || !mode.is_meant {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "systemd has made the socket with {own:04o}; write SocketMode={:04o} in the socket unit",
            mode.bits
        )))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        match &self.owner {
            Owner::Gateway { elsewhere } if !elsewhere.load(Ordering::Relaxed) => {
                self.inode.remove();
            }
            Owner::Gateway { .. } | Owner::Systemd => {}
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
