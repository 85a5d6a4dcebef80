//! The calls that wait for an instance, in two lines that take turns: neither starves the other.

use std::collections::VecDeque;

use super::permit::Permit;
use super::sync::oneshot;

/// Capacity that an empty line keeps: a burst leaves no memory behind.
const KEPT: usize = 64;

/// The line that a call waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// At most `limits.waiting` long: a later call fails as busy.
    Bounded,
    /// Unbounded, for events that happen at most once a connection.
    Unbounded,
}

#[derive(Default)]
pub(super) struct Waiting {
    bounded: VecDeque<oneshot::Sender<Permit>>,
    unbounded: VecDeque<oneshot::Sender<Permit>>,
    /// Whether the unbounded line is next.
    unbounded_next: bool,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.bounded.is_empty() && self.unbounded.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.bounded.len() + self.unbounded.len()
    }

    /// Whether `max` calls wait in the bounded line. A call that has given up does not count.
    pub(super) fn is_full(&mut self, max: u32) -> bool {
        let max = max as usize;
        if self.bounded.len() >= max {
            self.bounded.retain(|waiting| !waiting.is_closed());
        }
        self.bounded.len() >= max
    }

    pub(super) fn push(&mut self, line: Line, waiting: oneshot::Sender<Permit>) {
        match line {
            Line::Bounded => self.bounded.push_back(waiting),
            Line::Unbounded => self.unbounded.push_back(waiting),
        }
    }

    /// The call that has waited longest, in one line and then in the other.
    pub(super) fn next(&mut self) -> Option<oneshot::Sender<Permit>> {
        self.unbounded_next = !self.unbounded_next;
        let (first, second) = if self.unbounded_next {
            (&mut self.unbounded, &mut self.bounded)
        } else {
            (&mut self.bounded, &mut self.unbounded)
        };
        let next = first.pop_front().or_else(|| second.pop_front());
        for line in [first, second] {
            if line.is_empty() && line.capacity() > KEPT {
                *line = VecDeque::new();
            }
        }
        next
    }
}
