//! The operating system's part: connections, sockets for datagrams, and files that are read again while the gateway serves.

mod asker;
mod authorities;
mod datagrams;
mod file;
mod http2_stream;
mod last_bytes;
mod link;
mod memory;
mod patience;
mod secrecy;
mod shared;
mod stream;
mod tls;
mod turns;
mod url;
pub(crate) mod watch;

pub(crate) use asker::Asker;
pub(crate) use authorities::Authorities;
pub(crate) use datagrams::{bind_datagrams, raise_buffers};
pub(crate) use file::{
    followed, keep_room, lock, lock_opened, open_to_add, write_private, write_whole,
};
pub(crate) use http2_stream::Http2Stream;
pub(crate) use last_bytes::{
    ASK_AGAIN, Acknowledged, LAST_WRITES, LastBytes, Progress, let_arrive, poll_discard,
};
pub(crate) use link::{Link, Ping, PingTimer, Written};
pub(crate) use memory::{MemoryDatagrams, MemoryStream};
pub(crate) use patience::{Patience, PatientTimer};
pub(crate) use secrecy::{Exposed, Secrecy};
pub(crate) use shared::Shared;
pub(crate) use stream::{Stream, connect_abstract, connect_unix};
pub(crate) use tls::{BoxedStream, ExpectedCertificate, distrust_remedy};
pub(crate) use turns::Turns;
pub(crate) use url::{has_password, has_user, shown, told};
