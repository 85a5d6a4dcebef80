//! A guest that calls the gateway with arbitrary arguments, thousands of times: only the guest breaks.

use lockgate_tests::{Client, within};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    LOCKGATE,
    hostile::{FAILED, configuration, deed},
};

const CLIENTS: u64 = 8;

/// Messages of each client, with a few dozen calls each.
const MESSAGES: usize = 1_000;

/// Pseudo-random numbers with a fixed seed (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = 1 + self.next() % 200;
        // Small numbers more often choose a call or a word.
        let small = self.next().is_multiple_of(3);
        (0..length)
            .map(|_| (self.next() % if small { 24 } else { 256 }) as u8)
            .collect()
    }
}

/// The number of calls that one message made; none where a call broke the guest.
async fn outcome(client: &mut Client) -> Option<usize> {
    loop {
        // Messages that the calls sent come before.
        let message = within("the outcome", client.next()).await;
        let Message::Text(text) = message else {
            continue;
        };
        if let Some(made) = text.strip_prefix("calls made: ") {
            return Some(made.parse().unwrap());
        }
        if text.starts_with("{\"message\": ") {
            assert!(text.contains(FAILED), "{text}");
            return None;
        }
    }
}

#[tokio::test]
async fn arbitrary_arguments_break_only_the_guest() {
    let roomy = "[apis.h.stages.h]\nlimits = { outbox_kib = 65536, outbox_messages = 65536 }\n";
    let configuration = configuration("limits = { cpu_ms = 5000, deadline_ms = 10000 }")
        .replace("[apis.h.stages.h]\n", roomy);
    let mut gateway = LOCKGATE.serve(&configuration).await;
    let mut neighbour = gateway.connect("/s").await;
    let mut clients = JoinSet::new();
    for seed in 1..=CLIENTS {
        let mut client = gateway.connect("/h").await;
        clients.spawn(async move {
            let mut numbers = Numbers(seed);
            let (mut calls, mut broken) = (0, 0);
            for _ in 0..MESSAGES {
                client.send_binary(numbers.bytes()).await;
                match outcome(&mut client).await {
                    Some(made) => calls += made,
                    None => broken += 1,
                }
            }
            (calls, broken)
        });
    }
    let (mut calls, mut broken) = (0, 0);
    while let Some(counted) = clients.join_next().await {
        let counted = counted.unwrap();
        calls += counted.0;
        broken += counted.1;
        assert_eq!(deed(&mut neighbour, "served").await, "served");
    }
    eprintln!(
        "{calls} calls were answered, and {broken} of {} messages broke their guest",
        CLIENTS as usize * MESSAGES
    );
    assert!(calls >= 10_000, "only {calls}");
    assert!(broken > 0, "no text was refused that is none");
    assert!(gateway.is_running());
    for words in ["panicked", "the gateway failed"] {
        assert!(!gateway.log().contains(&[words]), "{words}");
    }
}
