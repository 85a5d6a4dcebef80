//! The modes of the bench, one file a topic.

mod beside;
pub(crate) mod calls;
pub(crate) mod compile;
pub(crate) mod directory;
pub(crate) mod echo;
pub(crate) mod floods;
pub(crate) mod groups;
pub(crate) mod handshakes;
pub(crate) mod hostile;
pub(crate) mod idle;
pub(crate) mod languages;
pub(crate) mod peers;
pub(crate) mod publish;
pub(crate) mod quic;
pub(crate) mod saves;
pub(crate) mod scale;
pub(crate) mod start;
pub(crate) mod swap;
pub(crate) mod verify;
pub(crate) mod watching;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::client::Scheme;
use crate::measure::Pace;
use crate::server::{Lockgate, Server, Setup};

/// The unit of the cost of a message or handshake.
const US: &str = "µs";

/// The inputs of every mode.
pub(crate) struct Bench {
    pub(crate) lockgate: Lockgate,
    /// Components: `plugins/echo` and `tests/load/guest`.
    pub(crate) echo: PathBuf,
    pub(crate) load: PathBuf,
    pub(crate) pace: Pace,
    pub(crate) rounds: usize,
    /// Only check that the mode works, and measure no speed.
    pub(crate) short: bool,
    pub(crate) wishes: Wishes,
}

/// The numbers of the command line that replace a mode's own.
pub(crate) struct Wishes {
    pub(crate) connections: Option<usize>,
    pub(crate) window: Option<u64>,
    pub(crate) bytes: Option<usize>,
    pub(crate) scheme: Option<Scheme>,
}

impl Bench {
    /// The number of clients: that of the command line, a few for a short run, or the mode's own.
    fn clients(&self, own: usize, short: usize) -> usize {
        let usual = if self.short { short } else { own };
        self.wishes.connections.unwrap_or(usual)
    }

    async fn gateway(&self, component: &Path, routes: &'static [&'static str]) -> Result<Server> {
        self.gateway_with(component, routes, "").await
    }

    /// As [`Self::gateway`], with these tables added to its configuration.
    async fn gateway_with(
        &self,
        component: &Path,
        routes: &'static [&'static str],
        tables: &str,
    ) -> Result<Server> {
        let setup = Setup {
            component,
            isolation: "reused",
            routes,
            quic: false,
        };
        let text = self.lockgate.configuration(&setup) + tables;
        self.lockgate.serve_text(&text).await
    }
}
