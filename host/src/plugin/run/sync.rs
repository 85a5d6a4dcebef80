//! The synchronisation that the barrier, the epochs and the pool use. `tests/loom` compiles the same files over the types of
//! loom.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, fence};
pub(super) use std::sync::{Mutex, MutexGuard};

pub(super) use tokio::sync::{Notify, oneshot};

pub(super) use crate::sharded::Sharded;
