//! A guest's standard output and error: each line becomes a line of the gateway's log.
//!
//! A line's level is that of its stream, info or warn, unless the line begins with a level as sd-daemon(3) writes it, such
//! as `<3>` for an error.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::invocation::Invocation;

/// Bytes of the longest line; a longer one is broken.
const MAX_LINE: usize = 8 << 10;

/// Bytes that a line counts in addition to its own: the time, the plugin, the connection, the request id.
const LINE_OVERHEAD: usize = 128;

/// The beginning and the end of what the adapter of WASI preview 1 says of `proc_exit`: a program in Go has called `os.Exit` or
/// `log.Fatal`, or its runtime has ended it. Between them stands a line of the adapter's own source.
const ADAPTER_EXIT: (&str, &str) = (
    "unreachable executed at adapter line ",
    ": no other implementation available in proxy world",
);

/// What is logged instead.
const EXITED: &str = "the program exited (os.Exit, log.Fatal or a fatal error), and a plugin cannot exit: return an error instead";

/// One of the two streams of an instance.
#[derive(Clone)]
pub(crate) struct GuestOutput {
    stream: GuestStream,
    lines: Arc<Mutex<GuestLines>>,
}

#[derive(Clone, Copy, Debug)]
enum GuestStream {
    Stdout,
    Stderr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// The lines of both streams of an instance, and their budget.
struct GuestLines {
    plugin: Arc<str>,
    invocation: Option<Arc<Invocation>>,
    /// Unfinished lines.
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Bytes that one invocation may write.
    max: usize,
    /// Bytes that the current invocation may still write.
    budget: usize,
    /// Whether the note that no more is logged was written.
    noted: bool,
    panic: Panic,
}

/// The panic of a Rust guest, as its standard error reports it: the place on a line of its own, the reason on the
/// next.
#[derive(Default)]
enum Panic {
    #[default]
    None,
    /// The place has come.
    At(String),
    /// The place and the reason have come. The reason may have further lines, of any content.
    Said(String),
    /// The advice behind the reason has come.
    Over(String),
}

impl GuestOutput {
    /// Standard output and standard error.
    ///
    /// Output from before the first invocation, when an instance is made or tested, is logged too.
    pub(crate) fn pair(plugin: &Arc<str>, log_bytes: usize) -> [Self; 2] {
        let lines = Arc::new(Mutex::new(GuestLines {
            plugin: Arc::clone(plugin),
            invocation: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            max: log_bytes,
            budget: log_bytes,
            noted: false,
            panic: Panic::None,
        }));
        [GuestStream::Stdout, GuestStream::Stderr].map(|stream| Self {
            stream,
            lines: Arc::clone(&lines),
        })
    }

    /// Attributes the output of both streams to `invocation`.
    pub(crate) fn begin(&self, invocation: &Arc<Invocation>) {
        let mut lines = self.lock();
        lines.invocation = Some(Arc::clone(invocation));
        lines.budget = lines.max;
        lines.noted = false;
    }

    pub(crate) fn plugin(&self) -> Arc<str> {
        Arc::clone(&self.lock().plugin)
    }

    /// The panic that the guest has reported, if it is a Rust guest.
    pub(crate) fn panicked(&self) -> Option<String> {
        match &self.lock().panic {
            Panic::None => None,
            Panic::At(panic) | Panic::Said(panic) | Panic::Over(panic) => Some(panic.clone()),
        }
    }

    /// Ends the invocation, and logs its unfinished lines.
    pub(crate) fn end(&self) {
        let mut lines = self.lock();
        lines.flush_all();
        lines.invocation = None;
    }

    fn append(&self, bytes: &[u8]) {
        let mut lines = self.lock();
        if lines.noted && matches!(self.stream, GuestStream::Stdout) {
            return;
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in part.chunks(MAX_LINE) {
                let line = lines.line(self.stream);
                line.extend_from_slice(piece);
                let ends = piece.ends_with(b"\n");
                if !ends && line.len() < MAX_LINE {
                    continue;
                }
                let level = Level::prefix(line).to_owned();
                lines.flush(self.stream);
                if !ends {
                    // The rest of a broken line has the level of its beginning.
                    lines.line(self.stream).extend(level);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, GuestLines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GuestLines {
    fn line(&mut self, stream: GuestStream) -> &mut Vec<u8> {
        match stream {
            GuestStream::Stdout => &mut self.stdout,
            GuestStream::Stderr => &mut self.stderr,
        }
    }

    fn flush_all(&mut self) {
        self.flush(GuestStream::Stdout);
        self.flush(GuestStream::Stderr);
        if let Panic::At(panic) = &self.panic
            && self.budget > 0
        {
            self.log(Level::Warn, panic);
        }
        self.panic = Panic::None;
    }

    fn flush(&mut self, stream: GuestStream) {
        let line = std::mem::take(self.line(stream));
        if line.is_empty() {
            return;
        }
        let room = self.budget;
        // The overhead counts too: many short lines would fill the log.
        self.budget = room.saturating_sub(line.len() + LINE_OVERHEAD);
        let (level, content) = Level::split(&line);
        // A panic is noted even without budget: the log line on the call's end names it.
        let text = match (stream, level) {
            (GuestStream::Stderr, None) => self.panic.take_line(printable(content)),
            (GuestStream::Stdout, None) | (_, Some(_)) => Some(printable(content)),
        };
        let level = level.unwrap_or(match stream {
            GuestStream::Stdout => Level::Info,
            GuestStream::Stderr => Level::Warn,
        });
        if matches!((stream, &self.panic), (GuestStream::Stderr, Panic::At(_))) {
            // Output from before the panic is logged before it.
            self.flush(GuestStream::Stdout);
        }
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return;
        };
        if line.len() <= room {
            return self.log(level, &text);
        }
        let fits = &text[..text.floor_char_boundary(room)];
        if !fits.is_empty() {
            self.log(level, fits);
        }
        self.note_the_rest(level);
    }

    /// Notes once that the rest of this invocation is left out.
    fn note_the_rest(&mut self, level: Level) {
        if self.noted {
            return;
        }
        self.noted = true;
        let note = format!(
            "(the rest is over {} KiB, which is this plugin's limits.log_kib, each line counted as {LINE_OVERHEAD} bytes \
             more than it has, and left out)",
            self.max >> 10
        );
        self.log(level, &note);
    }

    fn log(&self, level: Level, line: &str) {
        let plugin = &*self.plugin;
        let Some(call) = &self.invocation else {
            return tracing::warn!(target: "guest", plugin, "{line}");
        };
        let client = call.connection.client.source_ip;
        let principal = call.connection.principal();
        let (connection, stage) = (call.connection.id, &call.scope);
        let (route, request_id) = (&*call.route_key, call.request_id);
        let (trace_id, span_id) = call.trace_ids();
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(target: "guest", plugin, %client, %connection, principal, %stage, route, %request_id, trace_id, span_id, "{line}")
            };
        }
        match level {
            Level::Error => log!(error),
            Level::Warn => log!(warn),
            Level::Info => log!(info),
            Level::Debug => log!(debug),
        }
    }
}

impl Level {
    /// The level that a line begins with, as it is written.
    fn prefix(line: &[u8]) -> &[u8] {
        let (level, content) = Self::split(line);
        match level {
            Some(_) => line.strip_suffix(content).unwrap_or_default(),
            None => &[],
        }
    }

    /// Splits a line that begins with a level, `<0>` to `<7>`, from it.
    fn split(line: &[u8]) -> (Option<Self>, &[u8]) {
        let level = match line {
            [b'<', b'0'..=b'3', b'>', ..] => Self::Error,
            [b'<', b'4', b'>', ..] => Self::Warn,
            [b'<', b'5' | b'6', b'>', ..] => Self::Info,
            [b'<', b'7', b'>', ..] => Self::Debug,
            _ => return (None, line),
        };
        (Some(level), line.get(3..).unwrap_or_default())
    }
}

impl Panic {
    /// Takes a line of standard error and gives the line to log. A panic becomes one line with place and reason; the
    /// advice to set a variable, which a guest does not have, is dropped.
    fn take_line(&mut self, line: String) -> Option<String> {
        if let Self::At(panic) = self {
            let panic = format!("{panic} {line}");
            *self = Self::Said(panic.clone());
            return Some(panic);
        }
        if line.starts_with("note: run with `RUST_BACKTRACE=1`") {
            if let Self::Said(panic) = self {
                *self = Self::Over(std::mem::take(panic));
            }
            return None;
        }
        if matches!(self, Self::Said(_)) {
            return Some(line);
        }
        if line.starts_with(ADAPTER_EXIT.0) && line.ends_with(ADAPTER_EXIT.1) {
            return Some(EXITED.to_owned());
        }
        if let Some((thread, place)) = line.split_once(" panicked at ")
            && thread.starts_with("thread '")
            && place.ends_with(':')
        {
            *self = Self::At(format!("panicked at {place}"));
            return None;
        }
        Some(line)
    }
}

/// Logs the rest when an instance ends: its call was cut short, or it was only tested.
impl Drop for GuestLines {
    fn drop(&mut self) {
        self.flush_all();
    }
}

/// The text of a line, with all characters escaped that a terminal would obey.
pub(crate) fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line.trim_ascii_end());
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\t' {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_LINE)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

impl AsyncWrite for GuestOutput {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::{EXITED, Level, Panic, printable};

    #[test]
    fn level_is_split_from_the_line_that_begins_with_it() {
        for (line, level, text) in [
            ("<3>no room\n", Some(Level::Error), "no room\n"),
            ("<4>", Some(Level::Warn), ""),
            ("<6><3>", Some(Level::Info), "<3>"),
            ("<7>detail", Some(Level::Debug), "detail"),
            ("<8>", None, "<8>"),
            ("<33>", None, "<33>"),
            (" <3>", None, " <3>"),
            ("", None, ""),
        ] {
            assert_eq!(
                Level::split(line.as_bytes()),
                (level, text.as_bytes()),
                "{line}"
            );
        }
    }

    #[test]
    fn panic_is_one_line_without_advice() {
        let mut panic = Panic::None;
        let said = [
            "before",
            "thread '<unnamed>' (1) panicked at src/lib.rs:7:9:",
            "no such room",
            "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
            "after",
        ];
        let logged: Vec<_> = said
            .iter()
            .filter_map(|line| panic.take_line((*line).to_owned()))
            .collect();
        assert_eq!(
            logged,
            [
                "before",
                "panicked at src/lib.rs:7:9: no such room",
                "after"
            ]
        );
        assert!(matches!(panic, Panic::Over(text) if text == logged[1]));
    }

    #[test]
    fn exit_of_a_program_is_told_in_words() {
        let said = "unreachable executed at adapter line 2362: no other implementation available in proxy world";
        let logged = Panic::None.take_line(said.to_owned());
        assert_eq!(logged.as_deref(), Some(EXITED));
        let other = "unreachable executed at adapter line 2362: other";
        assert_eq!(
            Panic::None.take_line(other.to_owned()).as_deref(),
            Some(other)
        );
    }

    #[test]
    fn text_of_a_panic_does_not_replace_its_place() {
        let mut panic = Panic::None;
        for line in [
            "thread 'main' (1) panicked at src/lib.rs:7:9:",
            "no such room:",
            "thread 'main' (1) panicked at elsewhere.rs:1:1:",
            "nothing",
        ] {
            panic.take_line(line.to_owned());
        }
        assert!(
            matches!(panic, Panic::Said(text) if text == "panicked at src/lib.rs:7:9: no such room:")
        );
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable(b"plain \xc3\xa4\n"), "plain ä");
        assert_eq!(printable(b"\x1b[2Jgone\x07\r\n"), "\\u{1b}[2Jgone\\u{7}");
        assert_eq!(printable(b"a\rb\xff"), "a\\rb\u{fffd}");
    }
}
