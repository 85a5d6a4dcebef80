//! Plain TCP in, TLS or HTTP/3 out: a client that speaks only `ws` can reach a `wss` listener, and one with QUIC.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{Http3, Http3Options, tls::Tls};

/// A relay on a port of its own. It ends when this value is dropped.
pub struct Relay {
    address: SocketAddr,
    running: AbortHandle,
}

impl Relay {
    /// A relay to a listener with TLS.
    pub async fn to(target: SocketAddr) -> Self {
        Self::start(move |mut plain| async move {
            if let Ok(mut secure) = Tls::default().connect(target).await {
                // Either side may end the connection in any way.
                let _ = copy_bidirectional(&mut plain, &mut secure).await;
            }
        })
        .await
    }

    /// A relay to a listener with QUIC: the upgrade of HTTP/1.1 becomes an extended CONNECT of HTTP/3, on a connection of
    /// its own.
    pub async fn to_http3(target: SocketAddr) -> Self {
        Self::start(move |mut plain| async move {
            let (path, key) = read_upgrade(&mut plain).await;
            let http3 = Http3::try_connect(target, Http3Options::default()).await;
            let http3 = http3.expect("the gateway serves HTTP/3");
            let mut asked = http3.ask(&path, &[]).await;
            assert_eq!(asked.head().await.status, 200);
            let accepted = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {}\r\n\r\n",
                derive_accept_key(key.as_bytes())
            );
            plain.write_all(accepted.as_bytes()).await.unwrap();
            let _ = copy_bidirectional(&mut plain, &mut asked.bytes()).await;
        })
        .await
    }

    async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let running = tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((plain, _)) = listener.accept().await {
                connections.spawn(serve(plain));
            }
        });
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

/// Reads the head of a request to open a WebSocket, and gives its path and its key.
async fn read_upgrade(plain: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(plain.read_u8().await.expect("a request"));
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).expect("a path");
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let key = fields.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    (path.to_owned(), key.expect("a key").1.to_owned())
}
