//! A network that loses packets and delays the others, between one client of QUIC and the gateway.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// One packet in so many is lost: 2 %.
const ONE_IN: u64 = 50;

/// The time that a packet is under way.
const DELAY: Duration = Duration::from_millis(50);

/// The longest packet.
const MAX_PACKET: usize = 65_535;

/// The network, on a port of its own. It ends when this value is dropped.
pub struct LossyNetwork {
    address: SocketAddr,
    lost: [Arc<AtomicU64>; 2],
    _tasks: JoinSet<()>,
}

impl LossyNetwork {
    /// A network whose far end is `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        far.connect(target).await.unwrap();
        let address = near.local_addr().unwrap();
        let lost = [Arc::default(), Arc::default()];
        let [lost_there, lost_back] = [&lost[0], &lost[1]].map(Arc::clone);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // The client is the one that speaks first.
            let client = near.peek_from(&mut [0]).await.unwrap().1;
            near.connect(client).await.unwrap();
            tokio::join!(
                carry(&near, &far, &lost_there),
                carry(&far, &near, &lost_back)
            );
        });
        Self {
            address,
            lost,
            _tasks: tasks,
        }
    }

    /// The address that the client connects to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The packets that were lost: of the client, and of the gateway.
    #[must_use]
    pub fn lost(&self) -> [u64; 2] {
        [&self.lost[0], &self.lost[1]].map(|lost| lost.load(Ordering::Relaxed))
    }
}

/// Carries packets in one direction, in order.
async fn carry(from: &UdpSocket, to: &UdpSocket, lost: &AtomicU64) {
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let (mut buffer, mut random) = (vec![0; MAX_PACKET], 1);
    loop {
        let due = under_way.front().map(|(due, _)| *due);
        let arrival = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            received = from.recv(&mut buffer) => {
                // Nobody may listen any more.
                let Ok(length) = received else { continue };
                if next(&mut random).is_multiple_of(ONE_IN) {
                    lost.fetch_add(1, Ordering::Relaxed);
                } else {
                    under_way.push_back((Instant::now() + DELAY, buffer[..length].to_vec()));
                }
            }
            () = arrival => {
                if let Some((_, packet)) = under_way.pop_front() {
                    let _ = to.send(&packet).await;
                }
            }
        }
    }
}

/// The next pseudo-random number (xorshift), the same in every run.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
