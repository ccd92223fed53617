//! Nodes that came and went within an hour. Bounded.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::cluster::{ControlPlane, NodeRecord};
use crate::fix::run::MARK;

/// How far back is looked: an hour, as long as the API server keeps events by default.
pub const WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// The longest gap between two looks after which what is missing can still be said to have gone just now:
/// the API server ends every watch within 10 minutes at most, half of that is one missed renewal.
const GAP: SignedDuration = SignedDuration::from_mins(5);

/// Lives kept: an hour in which 4,096 Nodes come and go is far beyond what any threshold asks.
const LIVES: usize = 4_096;

/// How long what a Node leaves behind may stay: Calico gives it up a quarter of an hour after its Node is gone
/// (leakGracePeriod), Cilium's operator looks every 5 minutes; this is twice the longer of them.
pub const GRACE: SignedDuration = SignedDuration::from_mins(30);

/// A Node object that lived for less than [`WINDOW`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortLife {
    /// The node.
    pub node: String,
    /// How long it lived.
    pub lived: SignedDuration,
    /// When it was seen to be gone, aggregator's clock.
    pub until: Timestamp,
    /// A Node of the same name came after it.
    pub again: bool,
}

/// Short lives of the last [`WINDOW`], oldest first.
#[derive(Debug, Clone, Default)]
pub struct Churn {
    lives: VecDeque<ShortLife>,
    /// Since when Nodes have been followed.
    since: Option<Timestamp>,
    /// When Nodes that are gone were seen to go, by name: those of the last [`GRACE`].
    gone: BTreeMap<String, Timestamp>,
}

impl Churn {
    /// Takes note of Nodes that are in `old` and not in `new`, or there with another UID.
    pub fn note(&mut self, old: &ControlPlane, new: &ControlPlane, now: Timestamp) {
        for (name, before) in &old.nodes {
            self.note_node(name, Some(before), new.nodes.get(name), old.observed_at, now);
        }
        for (name, after) in new.nodes.iter().filter(|(name, _)| !old.nodes.contains_key(*name)) {
            self.note_node(name, None, Some(after), old.observed_at, now);
        }
    }

    /// The same for one Node that came, changed or went; `seen` is when Nodes were last known to be as they were.
    pub fn note_node(
        &mut self,
        name: &str,
        old: Option<&NodeRecord>,
        new: Option<&NodeRecord>,
        seen: Option<Timestamp>,
        now: Timestamp,
    ) {
        self.since.get_or_insert(now);
        if new.is_some() {
            self.gone.remove(name);
        } else if old.is_some() {
            self.gone.retain(|_, went| now.duration_since(*went) < GRACE);
            if self.gone.len() < LIVES {
                self.gone.insert(name.to_owned(), now);
            }
        }
        // What went while nobody looked went at some time that is not known.
        if seen.is_none_or(|seen| now.duration_since(seen) > GAP) {
            return;
        }
        match (old, new) {
            (Some(before), after) if after.is_none_or(|after| after.uid != before.uid) => {
                // One that a fix makes anew is nobody's churn.
                let fixed = before.annotations.contains_key(MARK);
                let lived = before
                    .created_at
                    .map(|made| now.duration_since(made))
                    .filter(|_| !fixed);
                if let Some(lived) = lived.filter(|lived| *lived < WINDOW && !lived.is_negative()) {
                    self.lives.push_back(ShortLife {
                        node: name.to_owned(),
                        lived,
                        until: now,
                        again: after.is_some(),
                    });
                }
            }
            (None, Some(_)) => {
                for life in self.lives.iter_mut().filter(|life| life.node == name) {
                    life.again = true;
                }
            }
            _ => return,
        }
        let old = |life: &ShortLife| now.duration_since(life.until) > WINDOW;
        while self.lives.len() > LIVES || self.lives.front().is_some_and(old) {
            self.lives.pop_front();
        }
    }

    /// Short lives that ended within [`WINDOW`] before `now`, oldest first.
    pub fn recent(&self, now: Timestamp) -> impl Iterator<Item = &ShortLife> {
        let recent = move |life: &&ShortLife| now.duration_since(life.until) < WINDOW;
        self.lives.iter().filter(recent)
    }

    /// When this Node, which is not there, has been gone for [`GRACE`]: one that was never seen has been gone since before
    /// Nodes were followed.
    pub fn grace_ends(&self, node: &str, now: Timestamp) -> Timestamp {
        let went = self.gone.get(node).copied().or(self.since).unwrap_or(now);
        went.checked_add(GRACE).unwrap_or(now)
    }

    /// When the oldest of them is forgotten.
    pub fn ripens(&self, now: Timestamp) -> Option<Timestamp> {
        self.recent(now)
            .next()
            .and_then(|life| life.until.checked_add(WINDOW).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn plane(seen: i64, nodes: &[(&str, &str, i64)]) -> ControlPlane {
        let record = |name: &str, uid: &str, made: i64| NodeRecord {
            name: name.to_owned(),
            uid: uid.to_owned(),
            created_at: Some(at(made)),
            ..NodeRecord::default()
        };
        let nodes = nodes
            .iter()
            .map(|(name, uid, made)| ((*name).to_owned(), record(name, uid, *made)));
        ControlPlane {
            observed_at: Some(at(seen)),
            nodes: nodes.collect(),
            ..ControlPlane::default()
        }
    }

    #[test]
    fn a_first_list_and_long_lives_are_no_churn() {
        let mut churn = Churn::default();
        churn.note(&ControlPlane::default(), &plane(10, &[("a", "1", 0)]), at(10));
        churn.note(&plane(9_990, &[("a", "1", 0)]), &plane(10_000, &[]), at(10_000));
        assert_eq!(churn.recent(at(10_000)).count(), 0);
    }

    #[test]
    fn what_went_while_nobody_looked_is_not_counted() {
        let mut churn = Churn::default();
        churn.note(&plane(100, &[("a", "1", 50)]), &plane(1_000, &[]), at(1_000));
        assert_eq!(churn.recent(at(1_000)).count(), 0);
    }

    #[test]
    fn a_name_that_comes_again_is_marked_and_all_is_forgotten_in_time() {
        let mut churn = Churn::default();
        churn.note(&plane(100, &[("a", "1", 50)]), &plane(101, &[]), at(101));
        assert!(!churn.recent(at(101)).next().unwrap().again);
        churn.note(&plane(102, &[]), &plane(103, &[("a", "2", 103)]), at(103));
        assert!(churn.recent(at(103)).next().unwrap().again);
        assert_eq!(churn.ripens(at(103)), Some(at(3_701)));
        assert_eq!(churn.recent(at(3_701)).count(), 0);
    }

    #[test]
    fn a_node_that_a_fix_makes_anew_is_not_counted() {
        let mut churn = Churn::default();
        let (mut old, new) = (plane(100, &[("a", "1", 50)]), plane(101, &[("a", "2", 101)]));
        let node = old.nodes.get_mut("a").unwrap();
        node.annotations.insert(MARK.to_owned(), "f1".to_owned());
        churn.note(&old, &new, at(101));
        assert_eq!(churn.recent(at(101)).count(), 0);
        // The next one is, whose mark is gone.
        churn.note(&new, &plane(200, &[("a", "3", 200)]), at(200));
        assert_eq!(churn.recent(at(200)).count(), 1);
    }

    #[test]
    fn a_node_is_long_gone_half_an_hour_after_it_went_or_after_the_start() {
        let mut churn = Churn::default();
        churn.note(
            &ControlPlane::default(),
            &plane(0, &[("a", "1", 0), ("b", "1", 0)]),
            at(0),
        );
        churn.note(
            &plane(600, &[("a", "1", 0), ("b", "1", 0)]),
            &plane(600, &[("b", "1", 0)]),
            at(600),
        );
        assert_eq!(churn.grace_ends("a", at(700)), at(2_400));
        assert_eq!(churn.grace_ends("z", at(700)), at(1_800), "never seen");
    }

    #[test]
    fn it_is_bounded() {
        let mut churn = Churn::default();
        for life in 0..5_000 {
            let uid = life.to_string();
            churn.note(&plane(100, &[("a", &uid, 50)]), &plane(101, &[]), at(101));
        }
        assert_eq!(churn.recent(at(101)).count(), LIVES);
    }
}
