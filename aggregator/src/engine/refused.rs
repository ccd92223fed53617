//! Reports under another node's name: who tried it, until it has not been tried for a while.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::State;
use super::expect::STRANGERS;
use crate::cluster::{Refusals, RefusedReport};
use crate::correlate::refused;
use crate::ledger::Group;

/// A refused agent tries again every 15 s at most: after so long without it, it was mended, or it is gone.
pub(super) const QUIET: SignedDuration = SignedDuration::from_mins(10);

/// Another name or address is news at most this often: whoever makes up names does not make news of each.
const CALM: SignedDuration = SignedDuration::from_secs(10);

/// By the node whose token was shown.
#[derive(Debug, Default)]
pub(super) struct Refused {
    by_node: BTreeMap<String, Refusals>,
    /// When the first of them may be forgotten; no later than that.
    due: Option<Timestamp>,
}

impl Refused {
    /// Takes note; there are no more of them than Nodes and some that are just gone. False: there is no room.
    fn note(&mut self, node: &str, report: RefusedReport, room: usize, now: Timestamp) -> bool {
        let known = self.by_node.get(node);
        if known.is_none() && self.by_node.len() >= room {
            return false;
        }
        let refusals = match known {
            Some(known) if known.last == report || now.duration_since(known.since) < CALM => Refusals {
                at: now,
                ..known.clone()
            },
            _ => Refusals {
                last: report,
                since: now,
                at: now,
            },
        };
        self.by_node.insert(node.to_owned(), refusals);
        self.due
            .get_or_insert(now.saturating_add(QUIET).unwrap_or(Timestamp::MAX));
        true
    }

    /// Forgets what was long ago; gives the nodes.
    fn forget(&mut self, now: Timestamp) -> Vec<String> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        let mut gone = Vec::new();
        self.by_node.retain(|node, refusals| {
            let stays = now.duration_since(refusals.at) < QUIET;
            if !stays {
                gone.push(node.clone());
            }
            stays
        });
        let next = self.by_node.values().map(|refusals| refusals.at).min();
        self.due = next.map(|at| at.saturating_add(QUIET).unwrap_or(Timestamp::MAX));
        gone
    }

    /// What is remembered of a node.
    pub(super) fn of(&self, node: &str) -> Option<&Refusals> {
        self.by_node.get(node)
    }
}

impl State {
    pub(super) fn report_refused(&mut self, node: &str, report: RefusedReport, now: Timestamp) {
        let room = self.plane.nodes.len().saturating_add(STRANGERS);
        if self.refused.note(node, report, room, now) {
            self.claim_refused(node, now);
        }
    }

    /// Lets time pass.
    pub(super) fn forget_refused(&mut self, now: Timestamp) {
        for node in self.refused.forget(now) {
            self.claim_refused(&node, now);
        }
    }

    pub(super) fn claim_refused(&mut self, name: &str, now: Timestamp) {
        let known = self.plane.nodes.contains_key(name);
        let claim = self
            .refused
            .of(name)
            .filter(|_| known)
            .map(|refusals| refused::claim(name, refusals));
        self.replace(Group::Refused(name.to_owned()), claim.into_iter().collect(), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn report(named: &str) -> RefusedReport {
        RefusedReport {
            named: named.to_owned(),
            from: None,
        }
    }

    #[test]
    fn an_attempt_is_forgotten_ten_minutes_after_the_last_one_like_it() {
        let mut refused = Refused::default();
        assert!(refused.note("a", report("b"), 10, at(0)));
        assert!(refused.note("a", report("b"), 10, at(300)));
        assert_eq!(
            refused.of("a").map(|refusals| (refusals.since, refusals.at)),
            Some((at(0), at(300)))
        );
        assert!(refused.forget(at(899)).is_empty());
        assert_eq!(refused.forget(at(900)), ["a"]);
        assert!(refused.of("a").is_none() && refused.due.is_none());
    }

    #[test]
    fn another_name_is_told_in_its_time_and_room_is_bounded() {
        let mut refused = Refused::default();
        assert!(refused.note("a", report("b"), 1, at(0)));
        for second in 1..10 {
            assert!(refused.note("a", report(&format!("made-up-{second}")), 1, at(second)));
        }
        let first = refused.of("a").unwrap();
        assert_eq!((first.last.named.as_str(), first.since, first.at), ("b", at(0), at(9)));
        assert!(refused.note("a", report("c"), 1, at(10)));
        let next = refused.of("a").unwrap();
        assert_eq!((next.last.named.as_str(), next.since), ("c", at(10)));
        assert!(!refused.note("z", report("c"), 1, at(5)));
        assert!(refused.of("z").is_none());
    }
}
