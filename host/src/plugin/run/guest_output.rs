//! A guest's standard output and error: each line becomes a line of the gateway's log.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::invocation::Invocation;

/// Bytes of the longest line; what is longer is broken.
const MAX_LINE: usize = 8 << 10;

/// Bytes that a line counts for, beside its own: the time, the plugin, the connection, the request id.
const LINE_OVERHEAD: usize = 128;

/// One of the two streams of an instance.
#[derive(Clone)]
pub(crate) struct GuestOutput {
    stream: Stream,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Clone, Copy, Debug)]
enum Stream {
    Stdout,
    Stderr,
}

/// What the two streams of an instance have in common.
struct Shared {
    plugin: Arc<str>,
    invocation: Option<Arc<Invocation>>,
    /// Unfinished lines.
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Bytes that an invocation may write.
    most: usize,
    /// Bytes that the invocation may still write.
    left: usize,
    /// It has been said that no more is written.
    cut: bool,
    panic: Panic,
}

/// What a Rust guest has said of a panic: where on a line of its own, and what on the next.
#[derive(Default)]
enum Panic {
    #[default]
    None,
    At(String),
    /// Its text may have further lines, which may look like anything.
    Said(String),
    /// The advice that stands behind the text has come.
    Over(String),
}

impl GuestOutput {
    /// Standard output and standard error.
    ///
    /// What is written before the first invocation, when an instance is made or tested, is logged too.
    pub(crate) fn pair(plugin: &Arc<str>, log_bytes: usize) -> [Self; 2] {
        let shared = Arc::new(Mutex::new(Shared {
            plugin: Arc::clone(plugin),
            invocation: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            most: log_bytes,
            left: log_bytes,
            cut: false,
            panic: Panic::None,
        }));
        [Stream::Stdout, Stream::Stderr].map(|stream| Self {
            stream,
            shared: Arc::clone(&shared),
        })
    }

    /// What is written from now on, to either stream, belongs to `invocation`.
    pub(crate) fn begin(&self, invocation: &Arc<Invocation>) {
        let mut shared = self.lock();
        shared.invocation = Some(Arc::clone(invocation));
        shared.left = shared.most;
        shared.cut = false;
    }

    pub(crate) fn plugin(&self) -> Arc<str> {
        Arc::clone(&self.lock().plugin)
    }

    /// The panic that the guest has spoken of, if it is a Rust guest and did.
    pub(crate) fn panicked(&self) -> Option<String> {
        match &self.lock().panic {
            Panic::None => None,
            Panic::At(panic) | Panic::Said(panic) | Panic::Over(panic) => Some(panic.clone()),
        }
    }

    /// The invocation is over: an unfinished line is a line.
    pub(crate) fn end(&self) {
        let mut shared = self.lock();
        shared.flush_all();
        shared.invocation = None;
    }

    fn append(&self, bytes: &[u8]) {
        let mut shared = self.lock();
        if shared.cut && matches!(self.stream, Stream::Stdout) {
            return;
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in part.chunks(MAX_LINE) {
                let line = shared.line(self.stream);
                line.extend_from_slice(piece);
                if piece.ends_with(b"\n") || line.len() >= MAX_LINE {
                    shared.flush(self.stream);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn line(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn flush_all(&mut self) {
        self.flush(Stream::Stdout);
        self.flush(Stream::Stderr);
        if let Panic::At(panic) = &self.panic
            && self.left > 0
        {
            self.log(Stream::Stderr, panic);
        }
        self.panic = Panic::None;
    }

    fn flush(&mut self, stream: Stream) {
        let line = std::mem::take(self.line(stream));
        if line.is_empty() {
            return;
        }
        let room = self.left;
        // A line costs what stands around it too, or many short ones would fill the log.
        self.left = room.saturating_sub(line.len() + LINE_OVERHEAD);
        // A panic is heard when there is no room for it too: what is said of the call's end names it.
        let text = match stream {
            Stream::Stdout => Some(printable(&line)),
            Stream::Stderr => self.panic.hear(printable(&line)),
        };
        if matches!((stream, &self.panic), (Stream::Stderr, Panic::At(_))) {
            // What was printed before the panic is logged before it.
            self.flush(Stream::Stdout);
        }
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return;
        };
        if line.len() <= room {
            return self.log(stream, &text);
        }
        let fits = &text[..text.floor_char_boundary(room)];
        if !fits.is_empty() {
            self.log(stream, fits);
        }
        self.cut_off(stream);
    }

    /// No more is written in this invocation; said once.
    fn cut_off(&mut self, stream: Stream) {
        if self.cut {
            return;
        }
        self.cut = true;
        let note = format!(
            "(the rest is over {} KiB, which is this plugin's limits.log_kib, each line counted as {LINE_OVERHEAD} bytes \
             more than it has, and left out)",
            self.most >> 10
        );
        self.log(stream, &note);
    }

    fn log(&self, stream: Stream, line: &str) {
        let plugin = &*self.plugin;
        let Some(call) = &self.invocation else {
            return tracing::warn!(target: "guest", plugin, "{line}");
        };
        let client = call.connection.client.source_ip;
        let (connection, stage) = (call.connection.id, &call.scope);
        let (route, request_id) = (&*call.route_key, call.request_id);
        match stream {
            Stream::Stdout => {
                tracing::info!(target: "guest", plugin, %client, %connection, %stage, route, %request_id, "{line}");
            }
            Stream::Stderr => {
                tracing::warn!(target: "guest", plugin, %client, %connection, %stage, route, %request_id, "{line}");
            }
        }
    }
}

impl Panic {
    /// Takes a line of standard error, and gives what is to be logged: of a panic one line that says where and what,
    /// and not the advice to set a variable that a guest has not.
    fn hear(&mut self, line: String) -> Option<String> {
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

/// What an instance has written when its call is cut short, or its test, is whole as it is.
impl Drop for Shared {
    fn drop(&mut self) {
        self.flush_all();
    }
}

/// The text of a line, with everything escaped that a terminal would obey.
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
    use super::{Panic, printable};

    #[test]
    fn a_panic_is_one_line_without_advice() {
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
            .filter_map(|line| panic.hear((*line).to_owned()))
            .collect();
        assert_eq!(
            logged,
            [
                "before",
                "panicked at src/lib.rs:7:9: no such room",
                "after"
            ]
        );
        assert!(matches!(panic, Panic::Over(what) if what == logged[1]));
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
            panic.hear(line.to_owned());
        }
        assert!(
            matches!(panic, Panic::Said(what) if what == "panicked at src/lib.rs:7:9: no such room:")
        );
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(printable(b"plain \xc3\xa4\n"), "plain ä");
        assert_eq!(printable(b"\x1b[2Jgone\x07\r\n"), "\\u{1b}[2Jgone\\u{7}");
        assert_eq!(printable(b"a\rb\xff"), "a\\rb\u{fffd}");
    }
}
