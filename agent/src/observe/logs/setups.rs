//! How long sandboxes took: the line that says that one is asked for, and the line that says how it ended.
//!
//! Lines may be read twice (a log whose process started anew is read from its beginning) and be lost: a pair is only what
//! belongs together by the runtime's own marks, and all of it is bounded. CRI-O leaves failures to kubelet's log: where that
//! is read earlier than CRI-O's own, or not at all, they are not counted, and only the last try of a pod is said to wait.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::{SignedDuration, Timestamp};

use super::event::{Attempt, Teller};
use crate::view::setup::{Ended, SPANS, Setups, span};

/// What ended longer ago is over.
pub(super) const KEPT: SignedDuration = SPANS[SPANS.len() - 1];

/// Ends that are kept: a node of 250 pods that are all made anew four times in the hour.
const ENDS: usize = 1024;

/// Sandboxes under way that are followed: twice what a node may have pods.
const UNDER_WAY: usize = 512;

/// One that was asked for longer ago has no end in this log: kubelet itself gives up after 4 minutes (twice its
/// runtimeRequestTimeout), and a runtime that goes on alone ends by its plugins' own limits.
const GIVEN_UP: SignedDuration = SignedDuration::from_mins(15);

/// One that is asked for so long is waiting: where nothing is wrong it takes a second or two.
const WAITING: SignedDuration = SignedDuration::from_secs(30);

/// Lines are read up to some seconds after the look began. What lies further ahead was written before the clock was
/// set back, and nobody can say how long ago.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);

/// procfs counts a process's start from a boot time in whole seconds.
const STARTED: SignedDuration = SignedDuration::from_secs(2);

/// What the lines come to.
#[derive(Debug, Default)]
pub(super) struct SetupTally {
    /// In the order in which they were read.
    under_way: VecDeque<UnderWay>,
    /// By when they ended, and by what tells two of that moment apart.
    ended: BTreeMap<(Timestamp, u64), Ended>,
    since: Option<Timestamp>,
}

#[derive(Debug)]
struct UnderWay {
    at: Timestamp,
    attempt: Attempt,
}

impl SetupTally {
    /// The runtime's log is read from then on.
    pub(super) fn begins(&mut self, at: Timestamp) {
        self.since.get_or_insert(at);
    }

    /// Lines were lost: what is under way may have ended in them.
    pub(super) fn gap(&mut self) {
        self.under_way.clear();
        self.since = None;
    }

    /// The runtime started then: what it was asked for before has no end.
    pub(super) fn restarted(&mut self, by: Teller, at: Timestamp) {
        let at = at.saturating_sub(STARTED).unwrap_or(Timestamp::MIN);
        self.under_way.retain(|one| one.attempt.by != by || one.at >= at);
    }

    /// A sandbox is asked for.
    pub(super) fn started(&mut self, at: Timestamp, attempt: Attempt) {
        let again = |one: &UnderWay| one.at == at && one.attempt == attempt;
        if self.under_way.iter().any(again) {
            return;
        }
        if self.under_way.len() >= UNDER_WAY {
            self.under_way.pop_front();
        }
        self.under_way.push_back(UnderWay { at, attempt });
    }

    /// It was made.
    pub(super) fn made(&mut self, at: Timestamp, attempt: &Attempt) {
        // The first of several holds the sandbox's name: it is the one that can succeed.
        let mine = self
            .under_way
            .iter()
            .position(|one| one.at <= at && one.attempt == *attempt);
        self.end(at, attempt, mine, true);
    }

    /// It failed.
    pub(super) fn failed(&mut self, at: Timestamp, attempt: &Attempt) {
        // And the last of several is the one that fails, at once: the name is taken.
        let mut latest = self.under_way.iter().enumerate().rev();
        let mine = match attempt.by {
            // CRI-O leaves it to kubelet to tell a failure, which names the pod and not the attempt. Of containerd's
            // kubelet only repeats what containerd said.
            Teller::Kubelet => {
                latest.find(|(_, one)| one.at <= at && one.attempt.by == Teller::Crio && one.attempt.pod == attempt.pod)
            }
            _ => latest.find(|(_, one)| one.at <= at && one.attempt == *attempt),
        };
        let mine = mine.map(|(index, _)| index);
        if mine.is_some() || attempt.by != Teller::Kubelet {
            self.end(at, attempt, mine, false);
        }
    }

    fn end(&mut self, at: Timestamp, attempt: &Attempt, mine: Option<usize>, made: bool) {
        let begun = mine.and_then(|index| self.under_way.remove(index));
        let took = begun.and_then(|begun| {
            let took = at.duration_since(begun.at);
            // Longer: the clock was set meanwhile, or the two do not belong together.
            (took <= GIVEN_UP).then(|| took.unsigned_abs())
        });
        let mut hasher = DefaultHasher::new();
        attempt.hash(&mut hasher);
        let ended = self.ended.entry((at, hasher.finish())).or_insert(Ended { made, took });
        ended.took = ended.took.or(took);
        if self.ended.len() > ENDS
            && let Some(((oldest, _), _)) = self.ended.pop_first()
        {
            self.since = self.since.map(|since| since.max(oldest));
        }
    }

    /// Forgets what is over.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let lately = |at: Timestamp, kept| (-AHEAD..=kept).contains(&now.duration_since(at));
        self.under_way.retain(|one| lately(one.at, GIVEN_UP));
        self.ended.retain(|(at, _), _| lately(*at, KEPT));
    }

    /// What is known; `None`: the log tells of no beginning. Where its level hides them, it hides what goes well too.
    pub(super) fn setups(&self, now: Timestamp) -> Option<Setups> {
        let within = |length: SignedDuration| {
            let all = self.ended.iter();
            all.filter(move |((at, _), _)| now.duration_since(*at) <= length)
                .map(|(_, ended)| *ended)
        };
        // kubelet asks again for a pod only once it was answered, or has given up: an earlier try has ended, unheard.
        let again = |one: &&UnderWay| {
            let later = |other: &UnderWay| {
                other.at > one.at && other.attempt.by == one.attempt.by && other.attempt.pod == one.attempt.pod
            };
            self.under_way.iter().any(later)
        };
        let waiting: Vec<Timestamp> = self
            .under_way
            .iter()
            .filter(|one| !again(one))
            .map(|one| one.at)
            .filter(|at| now.duration_since(*at) >= WAITING)
            .collect();
        let tells = !self.under_way.is_empty() || self.ended.values().any(|ended| ended.took.is_some());
        tells.then(|| Setups {
            // Since when it is read is not known after a gap.
            since: self
                .since
                .map(|since| now.saturating_sub(KEPT).map_or(since, |kept| since.max(kept))),
            spans: SPANS.map(|length| span(length, within(length))).to_vec(),
            waiting: u32::try_from(waiting.len()).unwrap_or(u32::MAX),
            waiting_since: waiting.iter().min().copied(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cidrift_proto::facts::SetupSpan;
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn attempt(by: Teller, pod: &str, mark: &str) -> Attempt {
        Attempt {
            by,
            pod: format!("ns/{pod}"),
            mark: mark.to_owned(),
        }
    }

    fn containerd(pod: &str) -> Attempt {
        attempt(Teller::Containerd, pod, "uid/0")
    }

    fn last_hour(tally: &SetupTally, now: i64) -> SetupSpan {
        tally.setups(at(now)).unwrap().spans[1]
    }

    const fn took(seconds: u32) -> Option<u32> {
        Some(seconds * 1000)
    }

    #[test]
    fn a_beginning_and_its_end_are_a_time() {
        let mut tally = SetupTally::default();
        tally.begins(at(-100));
        tally.started(at(0), containerd("a"));
        tally.started(at(1), containerd("b"));
        tally.made(at(3), &containerd("b"));
        tally.failed(at(41), &containerd("a"));
        let span = last_hour(&tally, 50);
        assert_eq!((span.made, span.failed), (1, 1));
        assert_eq!((span.slowest_ms, span.slowest_failed_ms), (took(2), took(41)));
        assert_eq!(tally.setups(at(50)).unwrap().since, Some(at(-100)));
        let later = tally.setups(at(640)).unwrap();
        assert_eq!(
            (later.spans[0].made, later.spans[0].failed),
            (0, 1),
            "the last ten minutes"
        );
        assert_eq!((later.spans[1].made, later.spans[1].failed), (1, 1));
    }

    #[test]
    fn after_a_gap_nobody_says_since_when_it_is_read() {
        let mut tally = SetupTally::default();
        tally.begins(at(-100));
        tally.gap();
        tally.started(at(0), containerd("a"));
        tally.made(at(2), &containerd("a"));
        assert_eq!(tally.setups(at(5)).unwrap().since, None);
        // More than are kept of: the oldest one is no beginning either.
        for second in 0..=i64::try_from(ENDS).unwrap() {
            tally.made(at(second), &containerd("b"));
        }
        assert_eq!(tally.setups(at(5000)).unwrap().since, None);
    }

    #[test]
    fn of_a_pods_tries_whose_ends_are_not_heard_only_the_last_one_waits() {
        let mut tally = SetupTally::default();
        for (second, mark) in [(0, "id-1"), (60, "id-2"), (120, "id-3")] {
            tally.started(at(second), attempt(Teller::Crio, "a", mark));
        }
        tally.started(at(30), attempt(Teller::Crio, "b", "id-4"));
        let setups = tally.setups(at(170)).unwrap();
        assert_eq!((setups.waiting, setups.waiting_since), (2, Some(at(30))));
    }

    #[test]
    fn of_two_tries_of_one_name_the_first_succeeds_and_the_last_fails() {
        let mut tally = SetupTally::default();
        // kubelet gave up after 240 s and asked again; the name is taken, and the first one comes in the end.
        tally.started(at(0), containerd("a"));
        tally.started(at(240), containerd("a"));
        tally.failed(at(241), &containerd("a"));
        tally.made(at(300), &containerd("a"));
        let span = last_hour(&tally, 300);
        assert_eq!((span.slowest_failed_ms, span.slowest_ms), (took(1), took(300)));
    }

    #[test]
    fn a_failure_that_cri_o_leaves_to_kubelet_ends_the_try_before_it() {
        let mut tally = SetupTally::default();
        let crio = |mark| attempt(Teller::Crio, "a", mark);
        // Its log is read first, then kubelet's, which tells each failure in three lines.
        tally.started(at(0), crio("1"));
        tally.started(at(15), crio("2"));
        tally.started(at(30), crio("3"));
        tally.made(at(31), &crio("3"));
        for second in [4, 4, 5, 18, 19] {
            tally.failed(at(second), &attempt(Teller::Kubelet, "a", ""));
        }
        let span = last_hour(&tally, 40);
        assert_eq!((span.made, span.failed, span.slowest_ms), (1, 2, took(1)));
        assert_eq!(span.slowest_failed_ms, took(4));
        // Of containerd's it tells nothing new.
        tally.started(at(50), containerd("b"));
        tally.failed(at(60), &attempt(Teller::Kubelet, "b", ""));
        assert_eq!(last_hour(&tally, 60).failed, 2);
    }

    #[test]
    fn a_log_that_is_read_twice_counts_once() {
        let mut tally = SetupTally::default();
        for _ in 0..2 {
            tally.started(at(0), containerd("a"));
            tally.started(at(0), containerd("b"));
            tally.made(at(2), &containerd("a"));
            tally.failed(at(2), &containerd("b"));
        }
        let span = last_hour(&tally, 3);
        assert_eq!((span.made, span.failed), (1, 1));
        assert_eq!((span.slowest_ms, span.slowest_failed_ms), (took(2), took(2)));
    }

    #[test]
    fn what_never_returns_waits_and_is_given_up() {
        let mut tally = SetupTally::default();
        tally.started(at(0), containerd("a"));
        tally.started(at(5), containerd("b"));
        let waiting = |tally: &SetupTally, now| {
            let setups = tally.setups(at(now))?;
            Some((setups.waiting, setups.waiting_since))
        };
        assert_eq!(waiting(&tally, 29), Some((0, None)));
        assert_eq!(waiting(&tally, 40), Some((2, Some(at(0)))));
        tally.expire(at(903));
        assert_eq!(waiting(&tally, 903), Some((1, Some(at(5)))));
        tally.restarted(Teller::Containerd, at(8));
        assert_eq!(waiting(&tally, 903), None, "the runtime started anew");
    }

    #[test]
    fn an_end_without_its_beginning_has_no_time() {
        let mut tally = SetupTally::default();
        tally.made(at(2), &containerd("a"));
        assert_eq!(
            tally.setups(at(3)),
            None,
            "nothing shows that the log tells of beginnings"
        );
        tally.started(at(5), containerd("b"));
        tally.gap();
        tally.made(at(9), &containerd("b"));
        tally.started(at(10), containerd("c"));
        tally.made(at(11), &containerd("c"));
        let span = last_hour(&tally, 12);
        assert_eq!((span.made, span.slowest_ms), (3, took(1)));
    }

    #[test]
    fn a_clock_that_jumps_makes_no_time() {
        let mut tally = SetupTally::default();
        tally.started(at(7200), containerd("a"));
        // Set back by two hours.
        tally.made(at(1), &containerd("a"));
        tally.expire(at(2));
        tally.started(at(3), containerd("b"));
        // Set forward by an hour.
        tally.made(at(3600), &containerd("b"));
        assert_eq!(tally.ended.len(), 2);
        assert!(tally.ended.values().all(|ended| ended.took.is_none()));
        assert_eq!(tally.setups(at(3600)), None);
    }

    #[test]
    fn a_flood_is_bounded_and_says_since_when_it_is_known() {
        let mut tally = SetupTally::default();
        tally.begins(at(-5000));
        for number in 0..3000 {
            tally.started(at(number), containerd(&format!("p{number}")));
            tally.started(at(number), containerd(&format!("never{number}")));
            tally.made(at(number + 1), &containerd(&format!("p{number}")));
        }
        assert_eq!(tally.ended.len(), ENDS);
        assert!(tally.under_way.len() <= UNDER_WAY);
        let setups = tally.setups(at(3000)).unwrap();
        assert_eq!(setups.since, Some(at(3000 - 1024)));
        assert_eq!(setups.spans[1].made, 1024);
    }

    proptest! {
        #[test]
        fn whatever_is_told_in_whatever_order_is_bounded_and_no_time_is_too_long(
            told in prop::collection::vec((0..4u8, 0i64..4000, 0..3u8, 0..2u8, 0..3u8), 0..300), now in 0i64..8000,
        ) {
            let mut tally = SetupTally::default();
            for (what, second, by, pod, mark) in told {
                let by = [Teller::Containerd, Teller::Crio, Teller::Kubelet][usize::from(by)];
                let attempt = attempt(by, &format!("p{pod}"), &format!("{mark}"));
                match what {
                    0 => tally.started(at(second), attempt),
                    1 => tally.made(at(second), &attempt),
                    2 => tally.failed(at(second), &attempt),
                    _ => tally.expire(at(second)),
                }
            }
            prop_assert!(tally.ended.values().all(|ended| ended.took.is_none_or(|took| took <= Duration::from_secs(900))));
            tally.expire(at(now));
            if let Some(setups) = tally.setups(at(now)) {
                prop_assert!(setups.spans[0].made <= setups.spans[1].made);
                for span in setups.spans {
                    prop_assert!(span.median_ms <= span.slowest_ms);
                }
            }
        }
    }
}
