//! The files of the pool, with mock instances that detect a second user.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::cell::UnsafeCell;

use super::barrier::Barrier;
use super::sync;
use crate::config::Isolation;

mod models;

macro_rules! over_loom {
    ($($name:ident: $path:literal,)*) => {$(
        #[path = $path]
        #[expect(clippy::duplicate_mod, reason = "the same protocol over other locks and atomics")]
        #[allow(dead_code, reason = "loom waits without a clock")]
        mod $name;
    )*};
}

over_loom! {
    acquire: "../../../pool/acquire.rs",
    idle: "../../../pool/idle.rs",
    permit: "../../../pool/permit.rs",
    room: "../../../pool/room.rs",
    waiting: "../../../pool/waiting.rs",
}

/// A mock instance, for one thread at a time.
struct Instance {
    used: UnsafeCell<()>,
    alive: Arc<AtomicUsize>,
}

struct Maker {
    isolation: Isolation,
    limits: Limits,
    /// Instances that have not ended.
    alive: Arc<AtomicUsize>,
}

struct Limits {
    instances: u32,
    waiting: u32,
}

impl Maker {
    fn new(instances: u32) -> Self {
        Self {
            isolation: Isolation::Reused,
            limits: Limits {
                instances,
                waiting: 10,
            },
            alive: Arc::default(),
        }
    }

    fn units(&self) -> u32 {
        1
    }

    fn instance(&self) -> Box<Instance> {
        self.alive.fetch_add(1, Ordering::Relaxed);
        Box::new(Instance {
            used: UnsafeCell::new(()),
            alive: Arc::clone(&self.alive),
        })
    }
}

impl Instance {
    /// Fails when another thread may use it at the same time, or when its earlier use is not visible to this thread.
    fn call(&self) {
        self.used.with_mut(|_| ());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

impl permit::Permit {
    /// Makes a call, from its permit to its answer.
    fn call(mut self) {
        let maker = &self.shard.shared().maker;
        let instance = self.instance.take().unwrap_or_else(|| maker.instance());
        instance.call();
        self.instance = Some(instance);
    }
}
