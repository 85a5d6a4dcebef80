//! Logs: one line an event on standard error, for a person or for a machine.

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Sends everything that is logged from now on to standard error. `LOCKGATE_LOG`, if set, counts for the
/// level and not the configuration.
pub(crate) fn start(log: &Log) {
    let filter = std::env::var("LOCKGATE_LOG").unwrap_or_else(|_| log.level.clone());
    let filter = EnvFilter::builder().parse_lossy(filter);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Set once a process; a test that starts two gateways keeps the first.
    let _ = match log.format {
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_target(false).with_ansi(colour).try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
