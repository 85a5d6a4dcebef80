//! What the operating system gives: files that are read again while the gateway serves.

pub(crate) mod watch;
