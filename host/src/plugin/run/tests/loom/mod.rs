//! Loom runs the barrier, the epochs and the pool in every interleaving of a few threads, and with every value that a weaker
//! memory model lets a thread read.
//!
//! Their files are compiled here once more, over loom's locks and atomics ([`sync`]) and mock instances
//! ([`pool`]). Loom switches threads only at these locks and atomics. The types of libraries (`Arc`, `oneshot`,
//! `Notify`) are assumed correct, each operation one step.
//!
//! A failure names its cause: a deadlock is a lost wakeup, "without an epoch" a guest that nothing interrupts, "Causality violation" means two threads in one instance,
//! or a call that begins after `shut`. `LOOM_LOG=trace LOOM_LOCATION=1` shows the interleaving.

mod barrier;
mod epochs;
mod pool;
mod sync;

/// Runs a model in every interleaving with at most this many preemptions: a few find nearly all races, and each more
/// takes many times as long.
fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

/// A thread of a model, with the shard that it uses.
fn spawn<T: 'static>(
    shard: usize,
    run: impl FnOnce() -> T + 'static,
) -> loom::thread::JoinHandle<T> {
    loom::thread::spawn(move || {
        sync::use_shard(shard);
        run()
    })
}
