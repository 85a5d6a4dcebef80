//! The members of a group beside one map that a change copies while a publish reads it: what a join waits while others
//! publish, and the cost of a publish for each member.

/// The source file itself, since linking the gateway would bring wasmtime into the bench.
#[path = "../../../../host/src/connections/members.rs"]
mod members;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Result, ensure};

use self::members::Members;
use super::Bench;
use super::directory::{Id, Numbers, Outbox, cpu_seconds, round};
use crate::measure::Round;
use crate::report::{Row, Target};

trait Group: Default + Sync {
    fn join(&self, id: Id, outbox: Outbox);
    fn leave(&self, id: &Id);
    fn count(&self) -> usize;
    /// Adds one to each outbox.
    fn publish(&self);
}

#[derive(Default)]
struct Chunked(Mutex<Members<Id, Outbox>>);

impl Group for Chunked {
    fn join(&self, id: Id, outbox: Outbox) {
        lock(&self.0).insert(id, outbox);
    }

    fn leave(&self, id: &Id) {
        lock(&self.0).remove(id);
    }

    fn count(&self) -> usize {
        lock(&self.0).len()
    }

    fn publish(&self) {
        let mut after = None;
        loop {
            let Some(rest) = lock(&self.0).after(after.as_ref()) else {
                return;
            };
            for (id, outbox) in rest.entries() {
                *lock(outbox) += 1;
                after = Some(*id);
            }
        }
    }
}

#[derive(Default)]
struct Copied(Mutex<Arc<BTreeMap<Id, Outbox>>>);

impl Group for Copied {
    fn join(&self, id: Id, outbox: Outbox) {
        Arc::make_mut(&mut lock(&self.0)).insert(id, outbox);
    }

    fn leave(&self, id: &Id) {
        Arc::make_mut(&mut lock(&self.0)).remove(id);
    }

    fn count(&self) -> usize {
        lock(&self.0).len()
    }

    fn publish(&self) {
        let members = Arc::clone(&lock(&self.0));
        for outbox in members.values() {
            *lock(outbox) += 1;
        }
    }
}

pub(crate) fn groups(bench: &Bench) -> Result<Vec<Row>> {
    let (members, joins) = if bench.short {
        (500, 20)
    } else {
        (50_000, 500)
    };
    let mut join = Row {
        target: Some(Target::AtMost(0.2)),
        ..Row::new(
            format!("p99 of a join beside publishes to {members}"),
            "ms",
            "one map",
        )
    };
    let mut publish = Row::new(
        format!("publish to {members}, each member"),
        "ns",
        "one map",
    );
    for _ in 0..bench.rounds {
        for (row, measured) in [
            (&mut join, joining::<Chunked>(members, joins)?),
            (&mut publish, publishing::<Chunked>(members)),
        ] {
            row.lockgate.push(measured);
        }
        for (row, measured) in [
            (&mut join, joining::<Copied>(members, joins)?),
            (&mut publish, publishing::<Copied>(members)),
        ] {
            row.reference.push(measured);
        }
    }
    Ok(vec![join, publish])
}

fn full<G: Group>(members: u64) -> (G, Vec<Outbox>) {
    let (group, mut numbers, mut outboxes) = (G::default(), Numbers(1), Vec::new());
    for _ in 0..members {
        let outbox = Outbox::default();
        outboxes.push(Arc::clone(&outbox));
        group.join(numbers.id(), outbox);
    }
    (group, outboxes)
}

/// Milliseconds of the 99th of 100 joins, each during another publish. Each member leaves again.
fn joining<G: Group>(members: u64, joins: u64) -> Result<Round> {
    let (group, outboxes) = full::<G>(members);
    let (begun, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut took = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                begun.fetch_add(1, Ordering::Relaxed);
                group.publish();
            }
        });
        let (mut numbers, mut publish) = (Numbers(1 << 32), 0);
        let joins = (0..joins).map(|_| {
            while begun.load(Ordering::Relaxed) == publish {
                thread::yield_now();
            }
            publish = begun.load(Ordering::Relaxed);
            let (id, outbox) = (numbers.id(), Outbox::default());
            let asked = Instant::now();
            group.join(id, outbox);
            let took = asked.elapsed().as_secs_f64();
            group.leave(&id);
            took
        });
        let took: Vec<_> = joins.collect();
        over.store(true, Ordering::Relaxed);
        took
    });
    let published = begun.into_inner();
    ensure!(
        group.count() == outboxes.len(),
        "{} of {} members are left",
        group.count(),
        outboxes.len()
    );
    ensure!(
        outboxes.iter().all(|outbox| *lock(outbox) == published),
        "a member missed a publish, or had it twice"
    );
    took.sort_by(f64::total_cmp);
    let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or_default();
    Ok(round(p99 * 1e3))
}

/// Nanoseconds of CPU time for each member.
fn publishing<G: Group>(members: u64) -> Round {
    const PUBLISHES: u64 = 20;
    let (group, _outboxes) = full::<G>(members);
    let begun = cpu_seconds();
    for _ in 0..PUBLISHES {
        group.publish();
    }
    round((cpu_seconds() - begun) * 1e9 / (PUBLISHES * members) as f64)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
