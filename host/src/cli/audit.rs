//! `lockgate audit`: verifies the audit file.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Subcommand;

use crate::management;
use crate::words::count_of;

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Check that no line of an audit file was changed or taken out
    ///
    /// Each line has the digest of the line before. Lines that are missing at the end, and a file that was made anew, show
    /// only by a digest from elsewhere: each line's is in the gateway's log, in the field `digest`.
    Verify {
        /// The file of management.audit, or one that it was renamed to
        file: PathBuf,
        /// The digest of a line that must be there; may be repeated
        #[arg(long = "digest", value_name = "HEX")]
        digests: Vec<String>,
    },
}

pub(super) fn audit(command: &AuditCommand) -> Result<()> {
    let AuditCommand::Verify { file, digests } = command;
    let name = file.display();
    let verified = management::verify_audit(file, digests);
    let verified = verified.map_err(|broken| anyhow!("{name}: {broken}"))?;
    super::print(&match (verified.lines, verified.last) {
        (lines, Some(last)) => {
            format!(
                "{name}: {} in order, none before the last changed; the digest of the last is {last}",
                count_of(lines, "line")
            )
        }
        (_, None) => format!("{name}: no lines"),
    })
}
