//! What the threads of the barrier and the pool meet in. `tests/loom` has loom's in their place, and compiles the same files
//! over them.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32};
pub(super) use std::sync::{Mutex, MutexGuard};

pub(super) use tokio::sync::{Notify, oneshot};

pub(super) use super::sharded::Sharded;
