//! Plain TCP in, TLS out: a client that speaks only `ws` can reach a `wss` listener.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};

use crate::tls::Tls;

/// A relay on a port of its own. It ends when this value is dropped.
pub struct Relay {
    address: SocketAddr,
    running: AbortHandle,
}

impl Relay {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let running = tasks.spawn(relay(listener, target));
        tasks.detach_all();
        Self { address, running }
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn relay(listener: TcpListener, target: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((mut plain, _)) = listener.accept().await {
        connections.spawn(async move {
            if let Ok(mut secure) = Tls::default().connect(target).await {
                // Either side may end the connection in any way.
                let _ = copy_bidirectional(&mut plain, &mut secure).await;
            }
        });
    }
}
