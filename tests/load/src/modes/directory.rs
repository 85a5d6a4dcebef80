//! The map behind the directory of connections, beside one map under one lock: the cost of a look-up while others
//! connect, and the time for which a change holds a lock while the map grows.

/// The source file itself, since linking the gateway would bring wasmtime into the bench.
#[path = "../../../../host/src/connections/shards.rs"]
#[allow(dead_code, reason = "the bench uses a part of it")]
mod shards;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;

use anyhow::{Result, ensure};
use rustix::time::{ClockId, clock_gettime};

use self::shards::ShardedMap;
use super::Bench;
use crate::measure::Round;
use crate::report::{Row, Target};

/// The number of shards of the directory.
const SHARDS: usize = 256;

/// Threads that connect and post at the same time.
const THREADS: u64 = 2;

/// Posts of a thread for each of its connects.
const POSTS: u64 = 20;

/// A connection's id.
pub(crate) type Id = [u8; 16];

/// An outbox, whose lock a post takes once it has found the connection.
pub(crate) type Outbox = Arc<Mutex<u64>>;

trait Directory: Sync {
    fn insert(&self, id: Id, outbox: Outbox);
    fn remove(&self, id: Id);
    fn get(&self, id: &Id) -> Option<Outbox>;
    fn list(&self) -> Vec<Id>;
}

type Many = ShardedMap<Id, Outbox>;

impl Directory for Many {
    fn insert(&self, id: Id, outbox: Outbox) {
        self.change(id, |slot| *slot = Some(outbox));
    }

    fn remove(&self, id: Id) {
        self.change(id, |slot| *slot = None);
    }

    fn get(&self, id: &Id) -> Option<Outbox> {
        self.get(id)
    }

    fn list(&self) -> Vec<Id> {
        self.keys()
    }
}

type One = RwLock<HashMap<Id, Outbox>>;

impl Directory for One {
    fn insert(&self, id: Id, outbox: Outbox) {
        let mut open = self.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(id, outbox);
    }

    fn remove(&self, id: Id) {
        let mut open = self.write().unwrap_or_else(PoisonError::into_inner);
        open.remove(&id);
    }

    fn get(&self, id: &Id) -> Option<Outbox> {
        let open = self.read().unwrap_or_else(PoisonError::into_inner);
        open.get(id).cloned()
    }

    fn list(&self) -> Vec<Id> {
        let open = self.read().unwrap_or_else(PoisonError::into_inner);
        open.keys().copied().collect()
    }
}

pub(crate) fn directory(bench: &Bench) -> Result<Vec<Row>> {
    let (open, million, posts) = if bench.short {
        (150, 10_000, 10_000)
    } else {
        (bench.clients(15_000, 0), 1_000_000, 1_000_000)
    };
    let mut post = Row::new(
        format!("post by id, {open} connections, {THREADS} threads that connect too"),
        "ns",
        "one map",
    );
    let mut growth = Row {
        target: Some(Target::AtMost(1.0)),
        ..Row::new(
            format!("longest connect while the directory grows to {million}"),
            "ms",
            "one map",
        )
    };
    for _ in 0..bench.rounds {
        post.lockgate
            .push(round(posting(&Many::new(SHARDS), open, posts)?));
        post.reference
            .push(round(posting(&One::default(), open, posts)?));
        growth
            .lockgate
            .push(round(growing(&Many::new(SHARDS), million)?));
        growth
            .reference
            .push(round(growing(&One::default(), million)?));
    }
    Ok(vec![post, growth])
}

pub(crate) fn round(cost: f64) -> Round {
    Round {
        cost,
        ..Round::default()
    }
}

/// Nanoseconds of CPU time for a post, with its share of the connects.
fn posting(directory: &dyn Directory, open: usize, posts: u64) -> Result<f64> {
    let mut numbers = Numbers(1);
    let ids: Vec<_> = (0..open).map(|_| numbers.id()).collect();
    for id in &ids {
        directory.insert(*id, Outbox::default());
    }
    let ids = &ids;
    let spent: f64 = thread::scope(|scope| {
        let threads: Vec<_> = (1..=THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut numbers = Numbers(thread << 32);
                    let begun = cpu_seconds();
                    for post in 0..posts {
                        let to = ids.get(numbers.next() as usize % ids.len());
                        let outbox = to.and_then(|id| directory.get(id));
                        let outbox = outbox.expect("it is open");
                        *outbox.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                        if post % POSTS == 0 {
                            let id = numbers.id();
                            directory.insert(id, Outbox::default());
                            directory.remove(id);
                        }
                    }
                    cpu_seconds() - begun
                })
            })
            .collect();
        let spent = threads.into_iter().map(|thread| thread.join());
        spent.map(|spent| spent.expect("it does not panic")).sum()
    });
    ensure!(
        directory.list().len() == open,
        "a removed connection is still there"
    );
    Ok(spent * 1e9 / (THREADS * posts) as f64)
}

/// Milliseconds of CPU time of the longest of `connects` connects, which holds a lock nearly all the while. CPU time,
/// since waiting for a core is no fault of the map.
fn growing(directory: &dyn Directory, connects: u64) -> Result<f64> {
    let mut numbers = Numbers(1);
    let mut longest = 0.0f64;
    for _ in 0..connects {
        let (id, outbox) = (numbers.id(), Outbox::default());
        let begun = cpu_seconds();
        directory.insert(id, outbox);
        longest = longest.max(cpu_seconds() - begun);
    }
    let open = directory.list().len() as u64;
    ensure!(open == connects, "{open} of {connects} are there");
    Ok(longest * 1e3)
}

pub(crate) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Pseudo-random numbers (xorshift), the same in every round.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn id(&mut self) -> Id {
        let (high, low) = (self.next(), self.next());
        ((u128::from(high) << 64) | u128::from(low)).to_le_bytes()
    }
}
