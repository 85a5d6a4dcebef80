//! Loom runs the barrier and the pool in every interleaving of a few threads, and with every value that a weaker memory
//! may let a thread read.
//!
//! The files of both are compiled here once more, over loom's locks and atomics ([`sync`]) and instances that are not
//! wasm's ([`pool`]). Loom switches threads at those alone: what comes from libraries (`Arc`, `oneshot`, `Notify`) is
//! taken to do what it says, in one step.
//!
//! A failure names what is wrong: a deadlock is a wakeup that was lost, "Causality violation" two threads in one instance, or a
//! call that begins after `shut`. `LOOM_LOG=trace LOOM_LOCATION=1` shows the interleaving.

mod barrier;
mod pool;
mod sync;

/// Runs a model in every interleaving with so many preemptions at most: few are enough for nearly all races, and each
/// more takes many times as long.
fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

/// A thread of a model, whose own shard is `shard`.
fn spawn<T: 'static>(
    shard: usize,
    run: impl FnOnce() -> T + 'static,
) -> loom::thread::JoinHandle<T> {
    loom::thread::spawn(move || {
        sync::use_shard(shard);
        run()
    })
}
