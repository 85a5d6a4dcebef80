//! A network in which a client moves: its packets come from another port from then on, and longer ones are lost.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{net::UdpSocket, sync::watch, task::JoinSet};

/// The network of one client, on a port of its own. It ends when this value is dropped.
pub struct MovingNetwork {
    address: SocketAddr,
    longest: Arc<AtomicUsize>,
    limit: watch::Sender<usize>,
    _task: JoinSet<()>,
}

impl MovingNetwork {
    /// A network whose far end is `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = near.local_addr().unwrap();
        let longest = Arc::<AtomicUsize>::default();
        let (limit, moves) = watch::channel(usize::MAX);
        let mut task = JoinSet::new();
        task.spawn(carry(near, target, Arc::clone(&longest), moves));
        Self {
            address,
            longest,
            limit,
            _task: task,
        }
    }

    /// The address that the client connects to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The length of the gateway's longest packet so far.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.longest.load(Ordering::Relaxed)
    }

    /// Moves the client to a network that loses packets which are longer.
    pub fn move_client(&self, limit: usize) {
        self.limit.send_replace(limit);
    }
}

async fn far_end(target: SocketAddr) -> UdpSocket {
    let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    far.connect(target).await.unwrap();
    far
}

async fn carry(
    near: UdpSocket,
    target: SocketAddr,
    longest: Arc<AtomicUsize>,
    mut moves: watch::Receiver<usize>,
) {
    let mut far = far_end(target).await;
    let client = near.peek_from(&mut [0]).await.unwrap().1;
    near.connect(client).await.unwrap();
    let (mut there, mut back) = (vec![0; 65_535], vec![0; 65_535]);
    loop {
        let limit = *moves.borrow();
        tokio::select! {
            // Nobody may listen any more.
            Ok(length) = near.recv(&mut there) => if length <= limit {
                let _ = far.send(&there[..length]).await;
            },
            Ok(length) = far.recv(&mut back) => {
                longest.fetch_max(length, Ordering::Relaxed);
                if length <= limit {
                    let _ = near.send(&back[..length]).await;
                }
            }
            Ok(()) = moves.changed() => far = far_end(target).await,
            else => return,
        }
    }
}
