//! What the operating system gives: connections, and files that are read again while the gateway serves.

mod stream;
pub(crate) mod watch;

pub(crate) use stream::Stream;
