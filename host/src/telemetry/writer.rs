//! The log's way out: whoever logs adds a line to a bounded buffer and goes on; a thread of its own writes. A reader that
//! stalls or a disk that is full costs lines, which are counted and told of, and nobody's time.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

/// Bytes that wait to be written, and as many again that are being written: seconds of a busy log, and no more
/// memory than a few clients have.
const BUFFER: usize = 1 << 20;

/// Bytes of a buffer that are kept when it is empty.
const KEPT: usize = 64 << 10;

thread_local! {
    /// This thread is the one that writes: what it has to say itself is always taken, since it is little.
    static WRITES: Cell<bool> = const { Cell::new(false) };
}

/// The lines that wait, and how many found no room.
pub(super) struct Writer {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// All is written.
    idle: Condvar,
    dropped: AtomicU64,
}

struct State {
    waiting: Vec<u8>,
    /// The thread waits for lines.
    idle: bool,
    /// Dropped lines that no line tells of yet.
    unsaid: u64,
}

impl Writer {
    pub(super) const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: Vec::new(),
                idle: false,
                unsaid: 0,
            }),
            filled: Condvar::new(),
            idle: Condvar::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Adds a line, with its end. Never waits: without room the line is dropped.
    pub(super) fn add(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > BUFFER && !WRITES.get() {
            state.unsaid += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(line);
        drop(state);
        self.filled.notify_one();
    }

    /// Lines that were dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes until the process ends. `say` is to log that so many lines were dropped; `tick` runs about so often.
    pub(super) fn run(&self, out: impl Write, every: Duration, say: fn(u64), tick: fn()) {
        WRITES.set(true);
        let mut pen = Pen::new(out);
        loop {
            let dropped = self.turn(&mut pen, every);
            if dropped > 0 {
                say(dropped);
            }
            tick();
        }
    }

    /// Writes what waits, or waits for it. Gives how many lines were dropped that nobody knows of; none while writing
    /// fails.
    fn turn(&self, pen: &mut Pen<impl Write>, patience: Duration) -> u64 {
        let mut state = self.lock();
        if state.waiting.is_empty() {
            state.idle = true;
            self.idle.notify_all();
            let empty = |state: &mut State| state.waiting.is_empty();
            let waited = self.filled.wait_timeout_while(state, patience, empty);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.idle = false;
        }
        std::mem::swap(&mut state.waiting, &mut pen.lines);
        drop(state);
        if pen.lines.is_empty() {
            return 0;
        }
        let lost = pen.write();
        self.dropped.fetch_add(lost, Ordering::Relaxed);
        let mut state = self.lock();
        state.unsaid += lost;
        if lost > 0 {
            0
        } else {
            std::mem::take(&mut state.unsaid)
        }
    }

    /// Waits until all is written, or the time is over.
    pub(super) fn flush(&self, patience: Option<Duration>) {
        if WRITES.get() {
            return;
        }
        let busy = |state: &mut State| !(state.idle && state.waiting.is_empty());
        let state = self.lock();
        match patience {
            Some(patience) => drop(self.idle.wait_timeout_while(state, patience, busy)),
            None => drop(self.idle.wait_while(state, busy)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread has in its hands.
struct Pen<W> {
    out: W,
    lines: Vec<u8>,
    /// The last line was written in part only.
    torn: bool,
}

impl<W: Write> Pen<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            lines: Vec::new(),
            torn: false,
        }
    }

    /// Writes its lines, and gives how many of them were lost to an error.
    fn write(&mut self) -> u64 {
        if self.torn {
            self.torn = write_all(&mut self.out, b"\n") > 0;
        }
        let rest = if self.torn {
            self.lines.len()
        } else {
            write_all(&mut self.out, &self.lines)
        };
        let (written, rest) = self.lines.split_at(self.lines.len() - rest);
        if !rest.is_empty() && !written.is_empty() {
            self.torn = !written.ends_with(b"\n");
        }
        let lost = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.lines.clear();
        self.lines.shrink_to(KEPT);
        lost
    }
}

/// Gives how many bytes could not be written.
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

/// Standard error, without the lock that everyone else who writes there takes.
pub(super) struct Stderr(File);

impl Stderr {
    pub(super) fn new() -> io::Result<Self> {
        let copy = io::stderr().as_fd().try_clone_to_owned()?;
        Ok(Self(File::from(copy)))
    }
}

impl Write for Stderr {
    /// Whoever shares the file may have made it non-blocking; here it never is.
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

    /// A disk with room for so many bytes.
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

    fn disk(room: usize) -> Pen<Disk> {
        let written = Vec::new();
        Pen::new(Disk { written, room })
    }

    #[test]
    fn lines_beyond_the_buffer_are_dropped_and_counted_and_the_others_keep_their_order() {
        let (writer, mut pen) = (Writer::new(), disk(usize::MAX));
        let line = |number: u32| format!("{number:1023}\n");
        for number in 0..1_030 {
            writer.add(line(number).as_bytes());
        }
        assert_eq!(writer.dropped(), 6);
        assert_eq!(writer.turn(&mut pen, NO_TIME), 6);
        writer.add(b"later\n");
        assert_eq!(writer.turn(&mut pen, NO_TIME), 0);
        let expected: String = (0..1_024).map(line).collect();
        assert!(pen.out.written == (expected + "later\n").as_bytes());
    }

    #[test]
    fn lines_that_a_full_disk_loses_are_counted_and_told_of_once_there_is_room() {
        let (writer, mut pen) = (Writer::new(), disk(10));
        writer.add(b"one\ntwo\nthree\nfour\n");
        assert_eq!(writer.turn(&mut pen, NO_TIME), 0);
        writer.add(b"five\n");
        assert_eq!(writer.turn(&mut pen, NO_TIME), 0);
        assert_eq!(writer.dropped(), 3);
        pen.out.room = 100;
        writer.add(b"six\n");
        assert_eq!(writer.turn(&mut pen, NO_TIME), 3);
        assert_eq!(pen.out.written, b"one\ntwo\nth\nsix\n");
    }

    #[test]
    fn a_flush_waits_no_longer_than_it_may() {
        let writer = Writer::new();
        writer.add(b"nobody writes it\n");
        writer.flush(Some(Duration::from_millis(1)));
        let (mut pen, over) = (disk(usize::MAX), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    writer.turn(&mut pen, Duration::from_millis(1));
                }
            });
            writer.flush(None);
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(pen.out.written, b"nobody writes it\n");
    }
}
