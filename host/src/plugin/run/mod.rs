//! Runs components: instances, their pool, and the threads for long calls.

pub(crate) mod address_space;
pub(crate) mod barrier;
pub(crate) mod bindings;
pub(crate) mod bounds;
mod clocks;
pub(super) mod cpu_time;
pub(crate) mod engine;
pub(crate) mod epoch_thread;
mod epochs;
pub(crate) mod exports;
pub(crate) mod fault;
mod first_ticks;
pub(crate) mod guest_output;
pub(crate) mod guest_threads;
pub(crate) mod instance;
pub(crate) mod limit;
pub(crate) mod pool;
mod sync;
#[cfg(test)]
mod tests;
