//! A gateway without sockets: its clients speak over streams in memory.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use tokio::io::{DuplexStream, duplex};

use super::{ConfigSource, Gateway};
use crate::auth::Identity;
use crate::config::{AccessLog, AccessLogTarget, Authorizer, Config};
use crate::handover::Sockets;
use crate::listener;
use crate::net::{MemoryDatagrams, MemoryStream};
use crate::plugin::Plugins;

/// Bytes that a stream holds while the other end does not read: about what a socket does.
const STREAM_BUFFER: usize = 64 << 10;

impl Gateway {
    /// Starts without listeners, wholly on the caller's runtime: its guests run there too, and all share its clock. Authorizers that
    /// need more than memory are left out: their clients come with an identity ([`Self::connect`]).
    pub(crate) async fn start_in_memory(config: Config) -> Result<Arc<Self>> {
        let plugins = Plugins::start_to_test(config.compile_cache.clone())?;
        let access_log = AccessLog {
            to: AccessLogTarget::Log,
            ..config.access_log
        };
        let mut config = Config {
            access_log,
            listeners: Vec::new(),
            management: None,
            health: None,
            ..config
        };
        config.authorizers.retain(Authorizer::decides_in_memory);
        for stage in config.apis.iter_mut().flat_map(|api| &mut api.stages) {
            let mut authorizers = config.authorizers.iter();
            let is_left = |name: &String| authorizers.any(|authorizer| authorizer.name == *name);
            stage.authorizer = stage.authorizer.take().filter(is_left);
            stage.api_key = None;
        }
        let source = ConfigSource::Dev(None);
        Self::start_with(plugins, config, source, None, Sockets::default()).await
    }

    /// Connects a client, as if it came from `address`. If `identity` says who it is, no authorizer is asked. It takes datagrams, and
    /// may send some, if it has them.
    pub(crate) fn connect(
        &self,
        address: SocketAddr,
        identity: Option<Arc<Identity>>,
        datagrams: Option<MemoryDatagrams>,
    ) -> DuplexStream {
        let (near, far) = duplex(STREAM_BUFFER);
        let near = MemoryStream::new(near, datagrams);
        listener::serve_in_memory(near, address, identity, &self.listeners);
        far
    }
}
