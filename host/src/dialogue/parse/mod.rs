//! The text of a dialogue → its steps. Every mistake names its line and its remedy.

mod check;
mod message;
mod step;
#[cfg(test)]
mod tests;

use super::script::{Script, Step};

/// Mistakes of one file that are listed.
const MAX_MISTAKES: usize = 20;

/// A mistake in a dialogue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) line: usize,
    pub(crate) message: String,
    pub(crate) remedy: String,
}

/// What is wrong, and what corrects it.
type Wrong = (String, String);

/// Parses a dialogue, or lists its mistakes.
pub(crate) fn parse(text: &str) -> Result<Script, Vec<Mistake>> {
    let mut lines = Lines {
        text,
        at: 0,
        line: 0,
    };
    let (mut script, mut mistakes) = (Script::default(), Vec::new());
    while let Some(line) = lines.next() {
        let (number, start) = (lines.line, lines.line_start(line));
        let written = line.trim();
        if written.is_empty() || written.starts_with('#') {
            continue;
        }
        let read = if line.starts_with([' ', '\t']) {
            Err((
                "an indented line belongs to the step above, and that one takes none".to_owned(),
                "begin a step at the start of its line; only headers below `connects` are indented"
                    .to_owned(),
            ))
        } else {
            step::read(written, start, &mut lines, &mut script)
        };
        match read {
            Ok(Some(action)) => script.steps.push(Step {
                line: number,
                written: written.to_owned(),
                action,
            }),
            Ok(None) => {}
            Err((message, remedy)) => {
                let line = lines.line.max(number);
                mistakes.push(Mistake {
                    line,
                    message,
                    remedy,
                });
                if mistakes.len() >= MAX_MISTAKES {
                    return Err(mistakes);
                }
                lines.skip_to_step();
            }
        }
    }
    if mistakes.is_empty() {
        check::check(&script, &mut mistakes);
    }
    if mistakes.is_empty() {
        Ok(script)
    } else {
        Err(mistakes)
    }
}

/// The lines of a text, and the place in it.
struct Lines<'a> {
    text: &'a str,
    /// The start of the next line.
    at: usize,
    /// The number of the last line that was read, from 1.
    line: usize,
}

impl<'a> Lines<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<&'a str> {
        let rest = self.rest();
        let line = rest.split_once('\n').map_or(rest, |(line, _)| line);
        (!rest.is_empty()).then(|| line.strip_suffix('\r').unwrap_or(line))
    }

    fn next(&mut self) -> Option<&'a str> {
        let line = self.peek()?;
        let rest = self.rest();
        self.at += rest.find('\n').map_or(rest.len(), |end| end + 1);
        self.line += 1;
        Some(line)
    }

    /// The place of a line that was just read, behind its indentation.
    fn line_start(&self, line: &str) -> usize {
        let before = self.text.get(..self.at).unwrap_or_default();
        let before = before.strip_suffix('\n').unwrap_or(before);
        let before = before.strip_suffix('\r').unwrap_or(before);
        before.len() - line.trim_start().len()
    }

    /// The next line, without its indentation, if it is indented and no comment.
    fn next_indented(&mut self) -> Option<&'a str> {
        let line = self.peek().filter(|line| line.starts_with([' ', '\t']))?;
        let line = line.trim();
        if line.is_empty() {
            return None;
        }
        self.next();
        Some(line)
    }

    /// Goes on behind this place, and gives the rest of its line.
    fn go_to(&mut self, place: usize) -> &'a str {
        while self.at <= place && self.next().is_some() {}
        let end = self.text.get(..self.at).unwrap_or_default().len();
        self.text.get(place..end).unwrap_or_default().trim()
    }

    /// Leaves out the lines that seem to belong to a step with a mistake.
    fn skip_to_step(&mut self) {
        let begins_step = |line: &str| line.starts_with(|first: char| first.is_alphanumeric());
        while let Some(line) = self.peek() {
            if line.trim().is_empty() || begins_step(line) {
                return;
            }
            self.next();
        }
    }
}
