//! The calls that wait for an instance: two lines that take turns, so that neither starves the other.

use std::collections::VecDeque;

use super::permit::Permit;
use super::sync::oneshot;

/// Capacity that an empty line keeps: a burst leaves no memory behind.
const KEPT: usize = 64;

/// Which line an event waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// `limits.waiting` long: a later event is told that all instances are busy.
    Bounded,
    /// Unbounded, for events that happen once at most for each connection.
    Everyone,
}

#[derive(Default)]
pub(super) struct Waiting {
    bounded: VecDeque<oneshot::Sender<Permit>>,
    everyone: VecDeque<oneshot::Sender<Permit>>,
    /// The other line is next.
    others_turn: bool,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.bounded.is_empty() && self.everyone.is_empty()
    }

    /// Whether so many wait in the bounded line. A call that has given up does not count.
    pub(super) fn is_full(&mut self, most: u32) -> bool {
        let most = most as usize;
        if self.bounded.len() >= most {
            self.bounded.retain(|waiting| !waiting.is_closed());
        }
        self.bounded.len() >= most
    }

    pub(super) fn push(&mut self, line: Line, waiting: oneshot::Sender<Permit>) {
        match line {
            Line::Bounded => self.bounded.push_back(waiting),
            Line::Everyone => self.everyone.push_back(waiting),
        }
    }

    /// The call that has waited longest, of one line and then of the other.
    pub(super) fn next(&mut self) -> Option<oneshot::Sender<Permit>> {
        self.others_turn = !self.others_turn;
        let (first, second) = if self.others_turn {
            (&mut self.everyone, &mut self.bounded)
        } else {
            (&mut self.bounded, &mut self.everyone)
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
