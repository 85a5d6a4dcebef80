//! The thread that begins the epochs of an engine. It sleeps while no guest runs.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use wasmtime::error::{Context as _, Result};
use wasmtime::{Engine, EngineWeak};

use super::epochs::{self, Timer};

/// The time between two epochs: a shorter call is never interrupted, a longer one yields.
pub(crate) const TICK: Duration = Duration::from_millis(2);

/// The epochs of an engine. Their thread ends with them.
pub(crate) struct Epochs(epochs::Epochs<Arc<KernelTimer>>);

/// Ticks go on until this is dropped.
pub(crate) type Kept<'epochs> = epochs::Kept<'epochs, Arc<KernelTimer>>;

/// A timer of the kernel: starting it wakes nobody, unlike a thread that sleeps by itself and must be woken to do so.
pub(crate) struct KernelTimer(OwnedFd);

impl KernelTimer {
    fn new() -> rustix::io::Result<Self> {
        timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).map(Self)
    }

    /// Waits until the timer ends.
    fn wait(&self) -> rustix::io::Result<()> {
        let mut ends = [0; 8];
        retry_on_intr(|| rustix::io::read(&self.0, &mut ends)).map(drop)
    }
}

impl Timer for Arc<KernelTimer> {
    fn start(&self) {
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(TICK.subsec_nanos()),
            },
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once).expect("the time is valid");
    }
}

impl Epochs {
    /// Starts the thread. It holds the engine weakly.
    pub(crate) fn start(engine: &Engine) -> Result<Arc<Self>> {
        let timer = Arc::new(KernelTimer::new().context("epoch timer")?);
        let epochs = Arc::new(Self(epochs::Epochs::new(Arc::clone(&timer))));
        let (shared, engine) = (Arc::downgrade(&epochs), engine.weak());
        std::thread::Builder::new()
            .name("epochs".into())
            .spawn(move || advance(&timer, &shared, &engine))
            .context("epoch thread")?;
        Ok(epochs)
    }

    /// Has an epoch begin within a tick. To be called once the deadline of a store is set.
    pub(crate) fn want(&self) {
        self.0.want();
    }

    /// Has one epoch begin after the other, a tick apart. To be called before each poll of a call but its first.
    pub(crate) fn keep(&self) -> Kept<'_> {
        self.0.keep()
    }
}

impl Drop for Epochs {
    /// Wakes the thread, which finds that it is over.
    fn drop(&mut self) {
        self.0.timer.start();
    }
}

fn advance(timer: &KernelTimer, epochs: &Weak<Epochs>, engine: &EngineWeak) {
    while timer.wait().is_ok()
        && let (Some(epochs), Some(engine)) = (epochs.upgrade(), engine.upgrade())
    {
        epochs.0.tick(|| engine.increment_epoch());
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use wasmtime::{Config, Module, Store, Trap, TypedFunc, UpdateDeadline};

    use super::*;

    /// Longer than any test waits for a tick on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    const SPIN: &str = r#"(module (func (export "spin") (loop br 0)))"#;

    fn engine() -> Engine {
        Engine::new(Config::new().epoch_interruption(true)).unwrap()
    }

    /// A guest that never returns, and the function that runs it.
    fn spinning(engine: &Engine) -> (Store<()>, TypedFunc<(), ()>) {
        let module = Module::new(engine, wat::parse_str(SPIN).unwrap()).unwrap();
        let mut store = Store::new(engine, ());
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let spin = instance.get_typed_func(&mut store, "spin").unwrap();
        (store, spin)
    }

    /// Waits until no tick is due any more.
    fn fall_asleep(epochs: &Epochs) {
        let give_up = Instant::now() + PATIENCE;
        while epochs.0.is_armed() {
            assert!(Instant::now() < give_up, "the ticks go on");
            thread::yield_now();
        }
    }

    #[test]
    fn guest_that_loops_is_interrupted_each_time_after_the_thread_slept() {
        let engine = engine();
        let epochs = Epochs::start(&engine).unwrap();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let (mut store, spin) = spinning(&engine);
                    for _ in 0..100 {
                        store.set_epoch_deadline(1);
                        epochs.want();
                        let ended = spin.call(&mut store, ()).unwrap_err();
                        assert_eq!(ended.downcast_ref(), Some(&Trap::Interrupt));
                    }
                });
            }
        });
        let (mut store, spin) = spinning(&engine);
        for _ in 0..100 {
            fall_asleep(&epochs);
            store.set_epoch_deadline(1);
            epochs.want();
            assert!(spin.call(&mut store, ()).is_err());
        }
    }

    #[test]
    fn ticks_go_on_as_long_as_they_are_kept() {
        let engine = engine();
        let epochs = Epochs::start(&engine).unwrap();
        let (mut store, spin) = spinning(&engine);
        let mut ticks = 0;
        store.epoch_deadline_callback(move |_| {
            ticks += 1;
            let go_on = UpdateDeadline::Continue(1);
            Ok(if ticks < 20 {
                go_on
            } else {
                UpdateDeadline::Interrupt
            })
        });
        store.set_epoch_deadline(1);
        let kept = epochs.keep();
        assert!(spin.call(&mut store, ()).is_err());
        drop(kept);
        fall_asleep(&epochs);
    }

    #[test]
    fn thread_ends_with_its_epochs() {
        let engine = engine();
        let epochs = Epochs::start(&engine).unwrap();
        let timer = Arc::downgrade(&epochs.0.timer);
        drop(epochs);
        let give_up = Instant::now() + PATIENCE;
        while timer.strong_count() > 0 {
            assert!(Instant::now() < give_up, "the thread goes on");
            thread::yield_now();
        }
    }
}
