//! Log lines that a stranger can cause at will: the first of a kind from an address at once, then a count a minute.
//! Time is handed in, of the monotonic clock.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Between two words on the same address and kind. Agents try again every few seconds.
pub(crate) const AGAIN: Duration = Duration::from_secs(60);

/// Addresses and kinds that are told apart; what comes beyond is counted together.
const KINDS: usize = 1_024;

/// What is said together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// Where it came from; `None`: unknown, or many.
    pub(crate) from: Option<IpAddr>,
    /// What it was.
    pub(crate) what: &'static str,
}

#[derive(Debug)]
struct Line {
    /// When it was last spoken of.
    said: Instant,
    /// So many since.
    more: u64,
}

/// Lines that were said a short while ago.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    lines: HashMap<Kind, Line>,
    /// Those that there was no room for, and since when.
    beyond: Option<Line>,
}

impl Folded {
    /// Takes note of one. True: it is to be said now.
    pub(crate) fn note(&mut self, kind: Kind, now: Instant) -> bool {
        if let Some(line) = self.lines.get_mut(&kind) {
            line.more += 1;
            return false;
        }
        if self.lines.len() >= KINDS {
            self.beyond.get_or_insert(Line { said: now, more: 0 }).more += 1;
            return false;
        }
        self.lines.insert(kind, Line { said: now, more: 0 });
        true
    }

    /// What was kept back for a minute: how many more there were. What did not happen again is forgotten.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<(Option<Kind>, u64)> {
        let over = |line: &Line| now.duration_since(line.said) >= AGAIN;
        let mut told = Vec::new();
        self.lines.retain(|kind, line| {
            if !over(line) {
                return true;
            }
            let more = std::mem::take(&mut line.more);
            line.said = now;
            if more > 0 {
                told.push((Some(*kind), more));
            }
            more > 0
        });
        told.sort_unstable();
        if let Some(beyond) = self.beyond.take_if(|line| over(line)) {
            told.push((None, beyond.more));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(host: u32, what: &'static str) -> Kind {
        Kind {
            from: Some(IpAddr::from(host.to_be_bytes())),
            what,
        }
    }

    #[test]
    fn the_first_of_a_kind_is_said_and_the_others_are_counted_once_a_minute() {
        let (mut folded, start) = (Folded::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(folded.note(kind(1, "token"), at(0)));
        for second in 0..30 {
            assert!(!folded.note(kind(1, "token"), at(second)));
        }
        assert!(folded.note(kind(1, "audience"), at(30)), "another kind");
        assert!(folded.note(kind(2, "token"), at(30)), "another address");
        assert_eq!(folded.due(at(59)), []);
        assert_eq!(folded.due(at(60)), [(Some(kind(1, "token")), 30)]);
        assert!(!folded.note(kind(1, "token"), at(61)));
        assert_eq!(folded.due(at(120)), [(Some(kind(1, "token")), 1)]);
        // A minute without it, and it is news again.
        assert_eq!(folded.due(at(180)), []);
        assert!(folded.note(kind(1, "token"), at(181)));
    }

    #[test]
    fn room_is_bounded_and_what_is_beyond_is_counted_together() {
        let (mut folded, now) = (Folded::default(), Instant::now());
        let said = (0..5_000).filter(|n| folded.note(kind(*n, "token"), now)).count();
        assert_eq!((said, folded.lines.len()), (KINDS, KINDS));
        let more = u64::try_from(5_000 - KINDS).unwrap();
        assert_eq!(folded.due(now + AGAIN), [(None, more)]);
        assert!(folded.lines.is_empty() && folded.beyond.is_none());
    }
}
