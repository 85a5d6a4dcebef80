//! The output of a running gateway, line by line.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use tokio::sync::watch;

use crate::{PATIENCE, within};

/// The lines so far, with a way to wait for a later one.
#[derive(Clone)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    grown: watch::Receiver<Progress>,
    reading: Arc<Mutex<()>>,
}

/// Stops reading an output for as long as it lives.
pub struct ReadingPause<'log> {
    _reading: MutexGuard<'log, ()>,
}

/// The state of the reader.
#[derive(Clone, Copy, Default)]
struct Progress {
    lines: usize,
    ended: bool,
}

impl Log {
    /// Collects the lines of `output` on a thread that ends with it.
    pub(crate) fn of(output: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (growth, grown) = watch::channel(Progress::default());
        let collected = Arc::clone(&lines);
        let reading = Arc::new(Mutex::new(()));
        let may_read = Arc::clone(&reading);
        thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut line = Vec::new();
            while reader
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                let text = String::from_utf8_lossy(&line)
                    .trim_end_matches('\n')
                    .to_owned();
                line.clear();
                {
                    let mut collected = collected.lock().unwrap();
                    collected.push(text);
                    growth.send_modify(|state| state.lines = collected.len());
                }
                drop(may_read.lock().unwrap());
            }
            growth.send_modify(|state| state.ended = true);
        });
        Self {
            lines,
            grown,
            reading,
        }
    }

    /// Stops reading the output, after one more line at most, for as long as the guard lives.
    ///
    /// # Panics
    ///
    /// When the reading thread has panicked.
    #[must_use]
    pub fn hold(&self) -> ReadingPause<'_> {
        ReadingPause {
            _reading: self.reading.lock().unwrap(),
        }
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The whole output, once it has ended.
    pub async fn whole(&self) -> String {
        let mut grown = self.grown.clone();
        // The sender is dropped with the thread, after the last line.
        let _ = within("the end of the output", grown.wait_for(|state| state.ended)).await;
        self.lines()
            .iter()
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// Whether a line so far contains all of `parts`.
    #[must_use]
    pub fn contains(&self, parts: &[&str]) -> bool {
        self.lines
            .lock()
            .unwrap()
            .iter()
            .any(|line| has(line, parts))
    }

    /// Waits for the first line that contains all of `parts`.
    ///
    /// # Panics
    ///
    /// When there is none in time, or the output ends without it.
    pub async fn line(&self, parts: &[&str]) -> String {
        self.wait(PATIENCE, 0, parts).await
    }

    /// As [`Self::line`], with another deadline.
    pub async fn line_within(&self, patience: Duration, parts: &[&str]) -> String {
        self.wait(patience, 0, parts).await
    }

    /// Waits for the line number `place`, counted from 0, of those that contain all of `parts`.
    ///
    /// # Panics
    ///
    /// When there is none in time, or the output ends without it.
    pub async fn nth_line(&self, place: usize, parts: &[&str]) -> String {
        self.wait(PATIENCE, place, parts).await
    }

    /// As [`Self::nth_line`], with another deadline.
    pub async fn nth_line_within(
        &self,
        patience: Duration,
        place: usize,
        parts: &[&str],
    ) -> String {
        self.wait(patience, place, parts).await
    }

    async fn wait(&self, patience: Duration, place: usize, parts: &[&str]) -> String {
        let mut grown = self.grown.clone();
        let found = async {
            loop {
                let state = *grown.borrow_and_update();
                let line = self
                    .lines
                    .lock()
                    .unwrap()
                    .iter()
                    .filter(|line| has(line, parts))
                    .nth(place)
                    .cloned();
                if line.is_some() || state.ended {
                    return line;
                }
                if grown.changed().await.is_err() {
                    return None;
                }
            }
        };
        match tokio::time::timeout(patience, found).await {
            Ok(Some(line)) => line,
            Err(_) => panic!("no line with {parts:?}, number {place}, within {patience:?}"),
            Ok(None) => panic!(
                "the output ended without a line with {parts:?}:\n{}",
                self.lines().join("\n")
            ),
        }
    }
}

fn has(line: &str, parts: &[&str]) -> bool {
    parts.iter().all(|part| line.contains(part))
}
