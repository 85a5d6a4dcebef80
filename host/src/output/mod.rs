//! Lines for a reader that nobody waits for: a bounded buffer, a thread that writes, and the places that lines go to.

mod file;
mod standard;
mod syslog;
mod writer;

use std::io::{self, Write};

use anyhow::{Context as _, Result};

pub(crate) use standard::Standard;
pub(crate) use writer::{Report, Writer};

use crate::config::AccessLogTarget;

/// Opens the place of an access log; none if its lines go elsewhere or nowhere.
pub(crate) fn open(target: &AccessLogTarget) -> Result<Option<Box<dyn Write + Send>>> {
    Ok(Some(match target {
        AccessLogTarget::Log | AccessLogTarget::Nowhere => return Ok(None),
        AccessLogTarget::Stdout => Box::new(Standard::output().context("standard output")?),
        AccessLogTarget::File(file) => Box::new(file::RotatedFile::open(file)?),
        AccessLogTarget::Syslog(path) => {
            let socket = syslog::Syslog::connect(path);
            Box::new(socket.with_context(|| path.display().to_string())?)
        }
    }))
}

/// Writes the whole of `bytes`, or gives how many could not be written.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> usize {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => break,
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    bytes.len()
}
