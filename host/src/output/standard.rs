//! The streams of the process, without the locks that other writers take.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};

/// Bytes that a pipe takes whole or not at all (pipe(7), `PIPE_BUF`). A longer write returns once the last byte is taken, so
/// that nobody would know how much of it a stalled reader gets.
const PIECE: usize = 4 << 10;

/// Standard output or standard error.
pub(crate) struct Standard(File);

impl Standard {
    pub(crate) fn output() -> io::Result<Self> {
        Self::copy(&io::stdout())
    }

    pub(crate) fn error() -> io::Result<Self> {
        Self::copy(&io::stderr())
    }

    fn copy(stream: &impl AsFd) -> io::Result<Self> {
        let copy = stream.as_fd().try_clone_to_owned()?;
        Ok(Self(File::from(copy)))
    }
}

impl Write for Standard {
    /// Writes a piece. Waits if the file is non-blocking, which another process that shares it may set.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = bytes.get(..PIECE).unwrap_or(bytes);
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut room = [PollFd::new(&self.0, PollFlags::OUT)];
                    rustix::io::retry_on_intr(|| poll(&mut room, None))?;
                }
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
