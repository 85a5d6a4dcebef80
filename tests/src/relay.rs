//! Plain TCP in, TLS or HTTP/3 out: a client that speaks only `ws` can reach a `wss` listener, and one with QUIC. And a
//! slow link, whatever is spoken on it.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, copy_bidirectional},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::interval,
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

    /// A link to any listener of this machine. It brings this many bytes from there every 50 ms, and few wait on it. What
    /// a client sends is there at once.
    pub async fn slow(target: SocketAddr, bytes: usize) -> Self {
        Self::start(move |client| async move {
            let _ = bring_slowly(client, target, bytes).await;
        })
        .await
    }

    /// A proxy before a slow client. It takes everything that the gateway sends at once and brings this many bytes of it every
    /// 50 ms. It drops the rest when the gateway's half ends, as nginx does if the client sends anything then.
    pub async fn proxy(target: SocketAddr, bytes: usize) -> Self {
        Self::start(move |client| async move {
            let _ = hold_for_a_slow_client(client, target, bytes).await;
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

/// Ends in order when both sides have, and at once when either is reset.
async fn bring_slowly(client: TcpStream, target: SocketAddr, bytes: usize) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4_096)?;
    let (mut from_server, mut to_server) = socket.connect(target).await?.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    let up = async {
        copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    let down = async {
        let (mut times, mut buffer) = (interval(Duration::from_millis(50)), vec![0; bytes]);
        loop {
            times.tick().await;
            match from_server.read(&mut buffer).await? {
                0 => return to_client.shutdown().await,
                length => to_client.write_all(&buffer[..length]).await?,
            }
        }
    };
    tokio::try_join!(up, down).map(drop)
}

/// Parts that a relay holds for a client: more than any test has.
const HELD: usize = 100_000;

async fn hold_for_a_slow_client(
    client: TcpStream,
    target: SocketAddr,
    bytes: usize,
) -> io::Result<()> {
    let (mut from_server, mut to_server) = TcpStream::connect(target).await?.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    let (hold, mut held) = mpsc::channel(HELD);
    let up = async {
        copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    let take = async {
        let (hold, mut buffer) = (hold, vec![0; bytes]);
        loop {
            match from_server.read(&mut buffer).await? {
                0 => return Err::<(), io::Error>(io::ErrorKind::UnexpectedEof.into()),
                length => hold.try_send(buffer[..length].to_vec()).expect("room"),
            }
        }
    };
    let bring = async {
        let mut times = interval(Duration::from_millis(50));
        while let Some(part) = held.recv().await {
            times.tick().await;
            to_client.write_all(&part).await?;
        }
        to_client.shutdown().await
    };
    tokio::try_join!(up, take, bring).map(drop)
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
