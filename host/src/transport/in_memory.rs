//! The transport of a dialogue's client with datagrams: those come and go beside its WebSocket.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::Instant;

use super::{ReadError, Received, Transport};
use crate::clock::now_ms;
use crate::config::StageLimits;
use crate::connections::{Closing, Datagram, DatagramError, DatagramSink, Message, Outbox, Taken};
use crate::counters::DatagramCounters;
use crate::net::LastBytes;

/// Bytes of the longest datagram: those that always fit into a packet.
const LONGEST: usize = 1_100;

/// A transport with datagrams beside it.
pub(crate) struct WithDatagrams<T> {
    messages: T,
    datagrams: Receiver<Vec<u8>>,
    counters: Arc<DatagramCounters>,
    /// Bytes of the longest message.
    longest: usize,
    heard: bool,
    heard_at: u64,
}

impl<T: Transport> WithDatagrams<T> {
    pub(crate) fn new(
        messages: T,
        datagrams: Receiver<Vec<u8>>,
        counters: Arc<DatagramCounters>,
    ) -> Self {
        Self {
            messages,
            datagrams,
            counters,
            longest: 0,
            heard: false,
            heard_at: 0,
        }
    }
}

impl<T: Transport> LastBytes for WithDatagrams<T> {
    fn poll_discard(&mut self, context: &mut Context<'_>, heard: &mut bool) -> Poll<()> {
        self.messages.poll_discard(context, heard)
    }

    fn unacknowledged(&self) -> usize {
        self.messages.unacknowledged()
    }
}

impl<T: Transport> Transport for WithDatagrams<T> {
    fn set_limits(&mut self, limits: &StageLimits) {
        self.longest = limits.message_bytes;
        if !limits.datagrams {
            // A dialogue has one configuration: the client is told that none are taken.
            self.datagrams.close();
        }
        self.messages.set_limits(limits);
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Received, ReadError>> {
        let Poll::Ready(Some(datagram)) = self.datagrams.poll_recv(context) else {
            return self.messages.poll_read(context);
        };
        (self.heard, self.heard_at) = (true, now_ms());
        if datagram.len() > self.longest {
            return Poll::Ready(Err(ReadError::TooLarge));
        }
        self.counters.incoming.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(Received::Datagram(datagram)))
    }

    fn heard(&mut self) -> bool {
        self.messages.heard() | std::mem::take(&mut self.heard)
    }

    fn heard_at(&self) -> u64 {
        self.messages.heard_at().max(self.heard_at)
    }

    fn message_since(&self) -> Option<Instant> {
        self.messages.message_since()
    }

    fn drop_input(&mut self) {
        self.datagrams.close();
        self.messages.drop_input();
    }

    fn take(&mut self, outbox: &Outbox) -> Taken {
        self.messages.take(outbox)
    }

    fn send(&mut self, message: &Message) {
        self.messages.send(message);
    }

    fn ping(&mut self) {
        self.messages.ping();
    }

    fn close(&mut self, closing: Option<&Closing>) {
        self.messages.close(closing);
    }

    fn waiting(&self) -> usize {
        self.messages.waiting()
    }

    fn is_full(&self) -> bool {
        self.messages.is_full()
    }

    fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        self.messages.poll_flush(context, progress)
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.messages.poll_shutdown(context)
    }
}

impl DatagramSink for Sender<Vec<u8>> {
    fn send(&self, payload: &[u8]) -> Result<Datagram, DatagramError> {
        if payload.len() > LONGEST {
            return Err(DatagramError::TooLarge(LONGEST));
        }
        match self.try_send(payload.to_vec()) {
            Ok(()) => Ok(Datagram::Sent),
            Err(TrySendError::Full(_)) => Ok(Datagram::Dropped),
            Err(TrySendError::Closed(_)) => Err(DatagramError::Gone),
        }
    }
}
