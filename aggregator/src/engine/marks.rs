//! One source's standings, one a slot of the book, counted as they change.

use cidrift_proto::verdict::Standing;

use crate::correlate::book::Move;
use crate::summary::Tally;

/// Standings by position.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    of: Vec<Standing>,
    tally: Tally,
}

impl Marks {
    /// The standing of this slot; `None`: there is none, which says as much as unknown.
    pub(super) fn get(&self, at: usize) -> Option<Standing> {
        self.of.get(at).copied()
    }

    /// Sets the standing of a slot that is there; gives the one before.
    pub(super) fn set(&mut self, at: usize, standing: Standing) -> Standing {
        let before = std::mem::replace(&mut self.of[at], standing);
        if before != standing {
            self.count(before, false);
            self.count(standing, true);
        }
        before
    }

    /// Makes it as many as the book has slots; new ones are unknown.
    pub(super) fn resize(&mut self, slots: usize) {
        while self.of.len() > slots {
            self.step(&[Move::Gone(self.of.len() - 1)]);
        }
        let more = slots - self.of.len();
        self.of.resize(slots, Standing::Unknown);
        self.tally.unknown += more as u64;
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Follows the steps of a change of the book.
    pub(super) fn step(&mut self, moves: &[Move]) {
        for step in moves {
            match *step {
                Move::New => {
                    self.of.push(Standing::Unknown);
                    self.tally.unknown += 1;
                }
                Move::Gone(at) if at < self.of.len() => {
                    let gone = self.of.swap_remove(at);
                    self.count(gone, false);
                }
                Move::Gone(_) => {}
            }
        }
    }

    /// Those of a new book, in which slot `i` was at `from[i]` before.
    pub(super) fn from(&self, from: &[Option<usize>]) -> Self {
        let mark = |at: &Option<usize>| at.and_then(|at| self.get(at)).unwrap_or(Standing::Unknown);
        let mut new = Self {
            of: from.iter().map(mark).collect(),
            tally: Tally::default(),
        };
        for at in 0..new.of.len() {
            new.count(new.of[at], true);
        }
        new
    }

    /// How many there are of each.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    fn count(&mut self, standing: Standing, more: bool) {
        let counter = match standing {
            Standing::Delivered => &mut self.tally.delivered,
            Standing::Broken => &mut self.tally.broken,
            Standing::Unknown => &mut self.tally.unknown,
            Standing::Idle => return,
        };
        *counter = if more { *counter + 1 } else { counter.saturating_sub(1) };
    }
}
