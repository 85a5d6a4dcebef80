//! A gateway without sockets: its clients speak over streams in memory.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use tokio::io::{DuplexStream, duplex};

use super::{ConfigSource, Gateway};
use crate::config::{AccessLog, AccessLogTarget, Config};
use crate::handover::Sockets;
use crate::listener;
use crate::plugin::Plugins;

/// Bytes that a stream holds while the other end does not read: about what a socket does.
const STREAM_BUFFER: usize = 64 << 10;

impl Gateway {
    /// Starts without listeners, wholly on the caller's runtime: its guests run there too, and all share its clock.
    pub(crate) async fn start_in_memory(config: Config) -> Result<Arc<Self>> {
        let plugins = Plugins::start_to_test(config.compile_cache.clone())?;
        let access_log = AccessLog {
            to: AccessLogTarget::Log,
            ..config.access_log
        };
        let config = Config {
            access_log,
            listeners: Vec::new(),
            management: None,
            health: None,
            ..config
        };
        let source = ConfigSource::Dev(None);
        Self::start_with(plugins, config, source, None, Sockets::default()).await
    }

    /// Connects a client, as if it came from `address`.
    pub(crate) fn connect(&self, address: SocketAddr) -> DuplexStream {
        let (near, far) = duplex(STREAM_BUFFER);
        listener::serve_in_memory(near, address, &self.listeners);
        far
    }
}
