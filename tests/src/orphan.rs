//! A process that another process has started, and that has no parent to wait for it.

use std::{os::fd::OwnedFd, sync::Arc};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

use crate::PATIENCE;

/// A process that is killed when this value is dropped.
pub struct Orphan {
    id: Pid,
    /// Readable once the process has ended.
    handle: Arc<OwnedFd>,
}

impl Orphan {
    /// Takes charge of a running process.
    #[must_use]
    pub fn new(id: u32) -> Self {
        let id = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        let handle = Arc::new(pidfd_open(id, PidfdFlags::empty()).unwrap());
        Self { id, handle }
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.id.as_raw_nonzero().get().unsigned_abs()
    }

    pub fn terminate(&self) {
        kill_process(self.id, Signal::TERM).unwrap();
    }

    /// Kills the process, and waits until it has ended.
    pub async fn kill(self) {
        let _ = kill_process(self.id, Signal::KILL);
        self.ended().await;
    }

    /// Waits until the process ends.
    ///
    /// # Panics
    ///
    /// When it runs for longer than [`PATIENCE`].
    pub async fn ended(&self) {
        let handle = Arc::clone(&self.handle);
        let ended = tokio::task::spawn_blocking(move || {
            let mut handles = [PollFd::new(&*handle, PollFlags::IN)];
            let patience = Timespec::try_from(PATIENCE).unwrap();
            poll(&mut handles, Some(&patience)).unwrap()
        });
        assert_eq!(ended.await.unwrap(), 1, "{self:?} did not end");
    }
}

impl std::fmt::Debug for Orphan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {}", self.id())
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        // The process may have ended.
        let _ = kill_process(self.id, Signal::KILL);
    }
}
