//! The channel between two processes: messages, each with or without a socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Longest message in bytes; a longer one is cut.
const MAX_MESSAGE_BYTES: usize = 4_096;

pub(super) struct ReceivedMessage {
    /// Empty if the other process is gone.
    pub(super) text: String,
    pub(super) socket: Option<OwnedFd>,
}

/// Sends one message over a socket that keeps messages apart.
pub(super) fn send(
    channel: BorrowedFd<'_>,
    text: &str,
    socket: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets: Vec<_> = socket.into_iter().collect();
    if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("no room for a socket"));
    }
    let text = text.as_bytes();
    let text = text.get(..MAX_MESSAGE_BYTES).unwrap_or(text);
    sendmsg(
        channel,
        &[IoSlice::new(text)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives one message.
pub(super) fn receive(channel: BorrowedFd<'_>) -> io::Result<ReceivedMessage> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; MAX_MESSAGE_BYTES];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(channel, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let socket = control.drain().find_map(|message| {
        if let RecvAncillaryMessage::ScmRights(mut sockets) = message {
            sockets.next()
        } else {
            None
        }
    });
    let text = bytes.get(..received.bytes).unwrap_or_default();
    Ok(ReceivedMessage {
        text: String::from_utf8_lossy(text).into_owned(),
        socket,
    })
}
