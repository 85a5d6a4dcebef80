//! The writer of lines: a task adds a line to a bounded buffer and continues; a thread of its own writes. A stalled
//! reader or a full disk costs lines, which are counted and reported, and nobody's time.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::write_all;

/// Size of the buffer in bytes; as many again may be in writing. That is seconds of a busy log, and no more memory than
/// a few clients have.
const BUFFER_BYTES: usize = 1 << 20;

/// The least time between two reports of a loss that lasts: each is a line of a log.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Bytes that an emptied buffer keeps allocated.
const KEPT_BYTES: usize = 64 << 10;

thread_local! {
    /// True in the writing thread: its own lines are never dropped, since they are few.
    static IS_WRITER_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// The buffer of lines, with the count of dropped ones.
pub(crate) struct Writer {
    buffer: Mutex<Buffer>,
    /// Notified when there are lines to write.
    filled: Condvar,
    /// Notified when every line is written.
    idle: Condvar,
    /// The lines in writing that are not written whole yet.
    in_writing: AtomicU64,
    /// The lines dropped so far. It outlives the writer.
    dropped: &'static AtomicU64,
    report: Report,
}

/// How a count of dropped lines is reported.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Report {
    /// By a line of this writer: once lines are written again.
    Own(fn(u64)),
    /// By a line of another writer: also while lines are dropped, at most once in [`REPORT_EVERY`].
    Elsewhere(fn(u64)),
}

struct Buffer {
    waiting: Vec<u8>,
    /// No line comes any more: the writing thread ends after those that wait.
    closed: bool,
    /// The writing thread waits for lines.
    idle: bool,
    /// Dropped lines that are not reported yet.
    unreported: u64,
    /// The time of the last report elsewhere.
    reported: Option<Instant>,
}

impl Writer {
    /// A writer without its thread, which is to call [`Self::run`]. It counts dropped lines in `dropped`.
    pub(crate) const fn new(dropped: &'static AtomicU64, report: Report) -> Self {
        Self {
            buffer: Mutex::new(Buffer {
                waiting: Vec::new(),
                closed: false,
                idle: false,
                unreported: 0,
                reported: None,
            }),
            filled: Condvar::new(),
            idle: Condvar::new(),
            in_writing: AtomicU64::new(0),
            dropped,
            report,
        }
    }

    /// Adds a line with its end. Never waits: without room, or once the writer is closed, it drops the line.
    pub(crate) fn add(&self, line: &[u8]) {
        let mut buffer = self.lock();
        let is_full = buffer.waiting.len() + line.len() > BUFFER_BYTES;
        if buffer.closed || is_full && !IS_WRITER_THREAD.get() {
            buffer.unreported += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            // The writing thread may wait for its reader for ever.
            if let Report::Elsewhere(report) = self.report {
                let unreported = buffer.take_due();
                drop(buffer);
                report_if_any(report, unreported);
            }
            return;
        }
        buffer.waiting.extend_from_slice(line);
        drop(buffer);
        self.filled.notify_one();
    }

    /// Writes until the writer is closed. `tick` runs about once in `every`.
    pub(crate) fn run(&self, out: impl Write, every: Duration, tick: fn()) {
        IS_WRITER_THREAD.set(true);
        let (Report::Own(report) | Report::Elsewhere(report)) = self.report;
        let mut sink = Sink::new(out);
        loop {
            report_if_any(report, self.write_next(&mut sink, every));
            tick();
            let mut buffer = self.lock();
            if buffer.closed && buffer.waiting.is_empty() {
                buffer.idle = true;
                drop(buffer);
                self.idle.notify_all();
                return self.report_rest();
            }
        }
    }

    /// Drops the lines that are not written by now, as the process is about to end, and reports them with the last ones
    /// that were dropped before.
    pub(crate) fn give_up(&self) {
        let mut buffer = self.lock();
        let waiting = std::mem::take(&mut buffer.waiting);
        let lost = lines_in(&waiting) + self.in_writing.load(Ordering::Relaxed);
        buffer.unreported += lost;
        drop(buffer);
        self.dropped.fetch_add(lost, Ordering::Relaxed);
        self.report_rest();
    }

    /// Reports the dropped lines that are not reported yet: the last ones.
    fn report_rest(&self) {
        let (Report::Own(report) | Report::Elsewhere(report)) = self.report;
        let unreported = std::mem::take(&mut self.lock().unreported);
        report_if_any(report, unreported);
    }

    /// Lets the thread end once it has written the lines that wait.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Waits for lines and writes them. Gives how many dropped lines are to be reported now.
    fn write_next(&self, sink: &mut Sink<impl Write>, timeout: Duration) -> u64 {
        let mut buffer = self.lock();
        if buffer.waiting.is_empty() {
            buffer.idle = true;
            self.idle.notify_all();
            let empty = |buffer: &mut Buffer| buffer.waiting.is_empty() && !buffer.closed;
            let waited = self.filled.wait_timeout_while(buffer, timeout, empty);
            buffer = waited.unwrap_or_else(PoisonError::into_inner).0;
            buffer.idle = false;
        }
        std::mem::swap(&mut buffer.waiting, &mut sink.lines);
        let lines = lines_in(&sink.lines);
        self.in_writing.store(lines, Ordering::Relaxed);
        drop(buffer);
        let is_idle = sink.lines.is_empty();
        let lost = if is_idle {
            0
        } else {
            sink.write(&self.in_writing)
        };
        self.dropped.fetch_add(lost, Ordering::Relaxed);
        let mut buffer = self.lock();
        buffer.unreported += lost;
        match self.report {
            Report::Own(_) if is_idle || lost > 0 => 0,
            Report::Own(_) => std::mem::take(&mut buffer.unreported),
            Report::Elsewhere(_) => buffer.take_due(),
        }
    }

    /// Waits until every line is written, or the time is over.
    pub(crate) fn flush(&self, timeout: Option<Duration>) {
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

impl Buffer {
    /// Takes the count of unreported lines, if it may be reported elsewhere now.
    fn take_due(&mut self) -> u64 {
        let is_early = |last: Instant| last.elapsed() < REPORT_EVERY;
        if self.unreported == 0 || self.reported.is_some_and(is_early) {
            return 0;
        }
        self.reported = Some(Instant::now());
        std::mem::take(&mut self.unreported)
    }
}

fn lines_in(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn report_if_any(report: fn(u64), lines: u64) {
    if lines > 0 {
        report(lines);
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

    /// Writes its lines, and takes each off the count of those that are `left`. Gives how many were lost to an error.
    fn write(&mut self, left: &AtomicU64) -> u64 {
        if self.is_partial {
            self.is_partial = write_all(&mut self.out, b"\n") > 0;
        }
        let rest = if self.is_partial {
            self.lines.len()
        } else {
            let out = &mut self.out;
            write_all(&mut Counted { out, left }, &self.lines)
        };
        let (written, rest) = self.lines.split_at(self.lines.len() - rest);
        if !rest.is_empty() && !written.is_empty() {
            self.is_partial = !written.ends_with(b"\n");
        }
        let lost = lines_in(rest);
        left.store(0, Ordering::Relaxed);
        self.lines.clear();
        self.lines.shrink_to(KEPT_BYTES);
        lost
    }
}

/// An output that takes each line written off a count.
struct Counted<'a, W> {
    out: &'a mut W,
    left: &'a AtomicU64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        let lines = lines_in(bytes.get(..written).unwrap_or_default());
        self.left.fetch_sub(lines, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;

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

    fn writer() -> Writer {
        Writer::new(Box::leak(Box::default()), Report::Own(|_| {}))
    }

    fn dropped(writer: &Writer) -> u64 {
        writer.dropped.load(Ordering::Relaxed)
    }

    fn disk(room: usize) -> Sink<Disk> {
        let written = Vec::new();
        Sink::new(Disk { written, room })
    }

    #[test]
    fn lines_beyond_the_buffer_are_dropped_and_counted_and_the_others_keep_their_order() {
        let (writer, mut sink) = (writer(), disk(usize::MAX));
        let line = |number: u32| format!("{number:1023}\n");
        for number in 0..1_030 {
            writer.add(line(number).as_bytes());
        }
        assert_eq!(dropped(&writer), 6);
        assert_eq!(writer.write_next(&mut sink, NO_TIME), 6);
        writer.add(b"later\n");
        assert_eq!(writer.write_next(&mut sink, NO_TIME), 0);
        let expected: String = (0..1_024).map(line).collect();
        assert!(sink.out.written == (expected + "later\n").as_bytes());
    }

    #[test]
    fn lines_lost_to_a_full_disk_are_counted_and_reported_once_there_is_room() {
        let (writer, mut sink) = (writer(), disk(10));
        writer.add(b"one\ntwo\nthree\nfour\n");
        assert_eq!(writer.write_next(&mut sink, NO_TIME), 0);
        writer.add(b"five\n");
        assert_eq!(writer.write_next(&mut sink, NO_TIME), 0);
        assert_eq!(dropped(&writer), 3);
        sink.out.room = 100;
        writer.add(b"six\n");
        assert_eq!(writer.write_next(&mut sink, NO_TIME), 3);
        assert_eq!(sink.out.written, b"one\ntwo\nth\nsix\n");
    }

    #[test]
    fn loss_is_reported_elsewhere_while_it_lasts_and_once_a_minute() {
        static REPORTED: AtomicU64 = AtomicU64::new(0);
        let count = |lines| {
            REPORTED.fetch_add(lines, Ordering::Relaxed);
        };
        let writer = Writer::new(Box::leak(Box::default()), Report::Elsewhere(count));
        let a_minute_passes = || {
            let last = writer.lock().reported;
            writer.lock().reported = last.and_then(|last| last.checked_sub(REPORT_EVERY));
        };
        let mut sink = disk(0);
        let mut lose = |line: &str| {
            writer.add(line.as_bytes());
            writer.write_next(&mut sink, NO_TIME)
        };
        assert_eq!(lose("one\n"), 1);
        assert_eq!(lose("two\n"), 0);
        a_minute_passes();
        assert_eq!(lose("three\n"), 2);
        assert_eq!(lose("four\n"), 0);
        // The last of them, without another line.
        a_minute_passes();
        assert_eq!(writer.write_next(&mut sink, NO_TIME), 1);
        // Of a reader that takes nothing, whoever adds a line tells.
        a_minute_passes();
        writer.add(&[b' '; BUFFER_BYTES]);
        for expected in [1, 1] {
            writer.add(b"five\n");
            assert_eq!(REPORTED.load(Ordering::Relaxed), expected);
        }
        a_minute_passes();
        writer.add(b"six\n");
        assert_eq!(REPORTED.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn flush_ends_at_its_time_limit() {
        let writer = writer();
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

    #[test]
    fn closed_writer_writes_what_waits_and_ends() {
        let (writer, mut written) = (writer(), Vec::new());
        writer.add(b"last\n");
        writer.close();
        writer.run(&mut written, Duration::from_secs(60), || {});
        writer.add(b"too late\n");
        writer.flush(None);
        assert_eq!((&*written, dropped(&writer)), (&b"last\n"[..], 1));
    }

    /// A pipe that takes one byte less than its first two lines have, and whose reader has stopped then.
    struct Stalled {
        room: usize,
        forever: mpsc::Receiver<()>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                let _ = self.forever.recv();
            }
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_a_stalled_reader_leaves_are_counted_and_reported_at_the_end() {
        static REPORTED: AtomicU64 = AtomicU64::new(0);
        let report = |lines| {
            REPORTED.fetch_add(lines, Ordering::Relaxed);
        };
        let writer = Writer::new(Box::leak(Box::default()), Report::Elsewhere(report));
        let (end, forever) = mpsc::channel();
        let room = "one\ntwo\n".len() - 1;
        std::thread::scope(|threads| {
            writer.add(b"one\ntwo\nthree\n");
            threads.spawn(|| writer.run(Stalled { room, forever }, Duration::from_secs(60), || {}));
            while writer.in_writing.load(Ordering::Relaxed) != 2 {
                std::thread::yield_now();
            }
            writer.add(b"four\n");
            writer.flush(Some(NO_TIME));
            writer.give_up();
            assert_eq!(REPORTED.load(Ordering::Relaxed), 3);
            assert_eq!(dropped(&writer), 3);
            writer.close();
            drop(end);
        });
    }
}
