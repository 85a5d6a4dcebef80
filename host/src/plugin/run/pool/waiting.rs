//! Who waits for an instance: two lines that take turns, so that neither starves the other.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::Place;

/// Room for so many is kept in a line that is empty: a burst leaves no memory behind.
const KEPT: usize = 64;

/// Which line an event waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// `limits.waiting` long: who comes later is told that all is busy.
    Bounded,
    /// Everyone waits, whatever comes: for what happens once at most for each connection.
    Everyone,
}

#[derive(Default)]
pub(super) struct Waiting {
    bounded: VecDeque<oneshot::Sender<Place>>,
    everyone: VecDeque<oneshot::Sender<Place>>,
    /// The other line is next.
    others_turn: bool,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.bounded.is_empty() && self.everyone.is_empty()
    }

    /// Whether so many wait in the bounded line. Who has given up is not in the way of others.
    pub(super) fn is_full(&mut self, most: u32) -> bool {
        let most = most as usize;
        if self.bounded.len() >= most {
            self.bounded.retain(|waiting| !waiting.is_closed());
        }
        self.bounded.len() >= most
    }

    pub(super) fn push(&mut self, line: Line, waiting: oneshot::Sender<Place>) {
        match line {
            Line::Bounded => self.bounded.push_back(waiting),
            Line::Everyone => self.everyone.push_back(waiting),
        }
    }

    /// Who has waited longest, of one line and then of the other.
    pub(super) fn next(&mut self) -> Option<oneshot::Sender<Place>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_take_turns() {
        let mut waiting = Waiting::default();
        let mut waits = Vec::new();
        for _ in 0..3 {
            let (offer, turn) = oneshot::channel();
            waiting.push(Line::Everyone, offer);
            waits.push(turn);
        }
        for _ in 0..2 {
            // Told from the others by having given up.
            waiting.push(Line::Bounded, oneshot::channel().0);
        }
        let turns: Vec<_> = std::iter::from_fn(|| waiting.next())
            .map(|next| {
                if next.is_closed() {
                    Line::Bounded
                } else {
                    Line::Everyone
                }
            })
            .collect();
        let (bounded, everyone) = (Line::Bounded, Line::Everyone);
        assert_eq!(turns, [everyone, bounded, everyone, bounded, everyone]);
    }
}
