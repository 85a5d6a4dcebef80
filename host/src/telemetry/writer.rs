//! The writer of the log: a task that logs adds a line to a bounded buffer and continues; a thread of its own writes. A
//! stalled reader or a full disk costs lines, which are counted and reported, and nobody's time.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

/// Size of the buffer in bytes; as many again may be in writing. That is seconds of a busy log, and no more memory than
/// a few clients have.
const BUFFER_BYTES: usize = 1 << 20;

/// Bytes that an emptied buffer keeps allocated.
const KEPT_BYTES: usize = 64 << 10;

thread_local! {
    /// True in the writing thread: its own lines are never dropped, since they are few.
    static IS_WRITER_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// The buffer of lines, with the count of dropped ones.
pub(super) struct Writer {
    buffer: Mutex<Buffer>,
    /// Notified when there are lines to write.
    filled: Condvar,
    /// Notified when every line is written.
    idle: Condvar,
    dropped: AtomicU64,
}

struct Buffer {
    waiting: Vec<u8>,
    /// The writing thread waits for lines.
    idle: bool,
    /// Dropped lines that are not reported yet.
    unreported: u64,
}

impl Writer {
    pub(super) const fn new() -> Self {
        Self {
            buffer: Mutex::new(Buffer {
                waiting: Vec::new(),
                idle: false,
                unreported: 0,
            }),
            filled: Condvar::new(),
            idle: Condvar::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Adds a line with its end. Never waits: without room it drops the line.
    pub(super) fn add(&self, line: &[u8]) {
        let mut buffer = self.lock();
        if buffer.waiting.len() + line.len() > BUFFER_BYTES && !IS_WRITER_THREAD.get() {
            buffer.unreported += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        buffer.waiting.extend_from_slice(line);
        drop(buffer);
        self.filled.notify_one();
    }

    /// Count of lines dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes until the process ends. `report` logs a count of dropped lines; `tick` runs about once in `every`.
    pub(super) fn run(&self, out: impl Write, every: Duration, report: fn(u64), tick: fn()) {
        IS_WRITER_THREAD.set(true);
        let mut sink = Sink::new(out);
        loop {
            let dropped = self.write_next(&mut sink, every);
            if dropped > 0 {
                report(dropped);
            }
            tick();
        }
    }

    /// Waits for lines and writes them. Gives how many dropped lines are unreported; zero while writing fails.
    fn write_next(&self, sink: &mut Sink<impl Write>, timeout: Duration) -> u64 {
        let mut buffer = self.lock();
        if buffer.waiting.is_empty() {
            buffer.idle = true;
            self.idle.notify_all();
            let empty = |buffer: &mut Buffer| buffer.waiting.is_empty();
            let waited = self.filled.wait_timeout_while(buffer, timeout, empty);
            buffer = waited.unwrap_or_else(PoisonError::into_inner).0;
            buffer.idle = false;
        }
        std::mem::swap(&mut buffer.waiting, &mut sink.lines);
        drop(buffer);
        if sink.lines.is_empty() {
            return 0;
        }
        let lost = sink.write();
        self.dropped.fetch_add(lost, Ordering::Relaxed);
        let mut buffer = self.lock();
        buffer.unreported += lost;
        if lost > 0 {
            0
        } else {
            std::mem::take(&mut buffer.unreported)
        }
    }

    /// Waits until every line is written, or the time is over.
    pub(super) fn flush(&self, timeout: Option<Duration>) {
        if IS_WRITER_THREAD.get() {
            return;
        }
        let busy = |buffer: &mut Buffer| !(buffer.idle && buffer.waiting.is_empty());
        let buffer = self.lock();
        match timeout {
            Some(timeout) => drop(self.idle.wait_timeout_while(buffer, timeout, busy)),
            None => drop(self.idle.wait_while(buffer, busy)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing thread's own state: the output, and the lines being written.
struct Sink<W> {
    out: W,
    lines: Vec<u8>,
    /// The last line was written only in part.
    is_partial: bool,
}

impl<W: Write> Sink<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            lines: Vec::new(),
            is_partial: false,
        }
    }

    /// Writes its lines. Gives how many were lost to an error.
    fn write(&mut self) -> u64 {
        if self.is_partial {
            self.is_partial = write_all(&mut self.out, b"\n") > 0;
        }
        let rest = if self.is_partial {
            self.lines.len()
        } else {
            write_all(&mut self.out, &self.lines)
        };
        let (written, rest) = self.lines.split_at(self.lines.len() - rest);
        if !rest.is_empty() && !written.is_empty() {
            self.is_partial = !written.ends_with(b"\n");
        }
        let lost = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.lines.clear();
        self.lines.shrink_to(KEPT_BYTES);
        lost
    }
}

/// Writes bytes. Gives how many could not be written.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> usize {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => break,
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    bytes.len()
}

/// Standard error, without the lock that other writers take.
pub(super) struct Stderr(File);

impl Stderr {
    pub(super) fn new() -> io::Result<Self> {
        let copy = io::stderr().as_fd().try_clone_to_owned()?;
        Ok(Self(File::from(copy)))
    }
}

impl Write for Stderr {
    /// Waits if the file is non-blocking, which another process that shares it may set.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut room = [PollFd::new(&self.0, PollFlags::OUT)];
                    rustix::io::retry_on_intr(|| poll(&mut room, None))?;
                }
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    const NO_TIME: Duration = Duration::ZERO;

    /// A disk with limited room.
    struct Disk {
        written: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.room -= taken;
            self.written.extend(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn disk(room: usize) -> Sink<Disk> {
        let written = Vec::new();
        Sink::new(Disk { written, room })
    }

    #[test]
    fn lines_beyond_the_buffer_are_dropped_and_counted_and_the_others_keep_their_order() {
        let (writer, mut sink) = (Writer::new(), disk(usize::MAX));
        let line = |number: u32| format!("{number:1023}\n");
        for number in 0..1_030 {
            writer.add(line(number).as_bytes());
        }
        assert_eq!(writer.dropped(), 6);
        assert_eq!(writer.write_next(&mut sink, NO_TIME), 6);
        writer.add(b"later\n");
        assert_eq!(writer.write_next(&mut sink, NO_TIME), 0);
        let expected: String = (0..1_024).map(line).collect();
        assert!(sink.out.written == (expected + "later\n").as_bytes());
    }

    #[test]
    fn lines_lost_to_a_full_disk_are_counted_and_reported_once_there_is_room() {
        let (writer, mut sink) = (Writer::new(), disk(10));
        writer.add(b"one\ntwo\nthree\nfour\n");
        assert_eq!(writer.write_next(&mut sink, NO_TIME), 0);
        writer.add(b"five\n");
        assert_eq!(writer.write_next(&mut sink, NO_TIME), 0);
        assert_eq!(writer.dropped(), 3);
        sink.out.room = 100;
        writer.add(b"six\n");
        assert_eq!(writer.write_next(&mut sink, NO_TIME), 3);
        assert_eq!(sink.out.written, b"one\ntwo\nth\nsix\n");
    }

    #[test]
    fn flush_ends_at_its_time_limit() {
        let writer = Writer::new();
        writer.add(b"nobody writes it\n");
        writer.flush(Some(Duration::from_millis(1)));
        let (mut sink, over) = (disk(usize::MAX), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    writer.write_next(&mut sink, Duration::from_millis(1));
                }
            });
            writer.flush(None);
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(sink.out.written, b"nobody writes it\n");
    }
}
