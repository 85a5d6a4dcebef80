//! A syslog of this machine: each line is one datagram, as syslog(3) sends it.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;

/// Facility `daemon`, severity `informational` (RFC 5424 §6.2.1).
const PRIORITY: u32 = 3 * 8 + 6;

/// Time limit for the syslog to take a line: it is lost then, and the next has its chance.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Syslog {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Syslog {
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            socket: connect(path)?,
        })
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    socket.connect(path)?;
    Ok(socket)
}

impl Write for Syslog {
    /// Sends the first line.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (line, length) = match end {
            Some(end) => (bytes.get(..end).unwrap_or_default(), end + 1),
            None => (bytes, bytes.len()),
        };
        if line.is_empty() {
            return Ok(length);
        }
        let head = format!(
            "<{PRIORITY}>{} lockgate[{}]: ",
            timestamp(),
            std::process::id()
        );
        let datagram = [head.as_bytes(), line].concat();
        if self.socket.send(&datagram).is_err() {
            // A syslog that was restarted has another socket at the path.
            self.socket = connect(&self.path)?;
            self.socket.send(&datagram)?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The time as BSD's syslog has it (RFC 3164 §4.1.2), in UTC. Syslogs of this machine take their own instead.
fn timestamp() -> String {
    let now = OffsetDateTime::now_utc();
    let (hour, minute, second) = now.to_hms();
    let month = now.month().to_string();
    let (day, time) = (now.day(), format_args!("{hour:02}:{minute:02}:{second:02}"));
    format!("{month:.3} {day:2} {time}")
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::output::write_all;

    #[test]
    fn each_line_is_a_datagram_and_a_restarted_syslog_gets_the_next() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("log");
        let reader = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::connect(&path).unwrap();
        assert_eq!(write_all(&mut syslog, b"one\ntwo\n"), 0);
        let mut buffer = [0; 200];
        let mut next = |reader: &UnixDatagram| {
            let length = reader.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        let first = next(&reader);
        assert!(first.starts_with("<30>"), "{first}");
        assert!(
            first.ends_with(&format!(" lockgate[{}]: one", std::process::id())),
            "{first}"
        );
        assert!(next(&reader).ends_with(": two"));
        drop(reader);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(write_all(&mut syslog, b"lost\n"), 5);
        let reader = UnixDatagram::bind(&path).unwrap();
        assert_eq!(write_all(&mut syslog, b"three\n"), 0);
        assert!(next(&reader).ends_with(": three"));
    }
}
